"""Cubes: versioned, transactional Zarr of samples, one Icechunk repository each."""

from catalog.cubes.compact import Compacted
from catalog.cubes.cube import Cube, open_cube
from catalog.cubes.expire import Expired
from catalog.cubes.history import Version
from catalog.cubes.place import list_cubes
from catalog.cubes.writer import CubeWriter, WriteResult

__all__ = ["Compacted", "Cube", "CubeWriter", "Expired", "Version", "WriteResult", "list_cubes", "open_cube"]
