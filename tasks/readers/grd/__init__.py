"""Sentinel-1 ground-range detected scenes: calibrated, denoised and geocoded by their own annotation."""

from tasks.readers.grd.overview import decimated_sigma0
from tasks.readers.grd.windows import is_ground_range, read_ground_range

__all__ = ["decimated_sigma0", "is_ground_range", "read_ground_range"]
