"""Tests of ``models.methods``."""
