"""Decides whether an encoder is trained again, and trains it in processes of its own."""
