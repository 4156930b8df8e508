"""Answers that real archives gave, replayed and counted; the recordings lie outside the project."""
