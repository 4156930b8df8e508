"""Readers: from the files of one scene to the raw pixels at many places, behind one Protocol."""

from tasks.readers.contract import Reader, ReadFailure, WindowPixels, WindowRequest

__all__ = ["ReadFailure", "Reader", "WindowPixels", "WindowRequest"]
