"""Tests of area cubes."""
