"""Decides whether an encoder lives and may be promoted, and registers it with its lineage."""
