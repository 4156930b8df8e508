"""Scores frozen features on places that were never learnt from, beside four baselines."""
