"""Finds scenes in an archive, page by page, and what their items only point to."""
