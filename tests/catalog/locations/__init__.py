"""Tests of where samples lie."""
