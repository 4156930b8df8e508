"""Cubes: versioned, transactional Zarr of samples, one Icechunk repository each."""

from catalog.cubes.cube import Cube, open_cube
from catalog.cubes.history import Version
from catalog.cubes.place import list_cubes
from catalog.cubes.writer import CubeWriter, WriteResult

__all__ = ["Cube", "CubeWriter", "Version", "WriteResult", "list_cubes", "open_cube"]
