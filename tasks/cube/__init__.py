"""Chooses which scene is read where, reads it, and adds the samples to a cube."""
