"""Area cubes: dense ``time × band × y × x`` over one area, in an Icechunk repository of their own."""

from catalog.area_cubes.cube import AreaCube, Step, list_area_cubes, open_area_cube

__all__ = ["AreaCube", "Step", "list_area_cubes", "open_area_cube"]
