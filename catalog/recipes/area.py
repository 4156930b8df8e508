"""What a recipe says of area cubes: which products, on which grid, and which encoder is applied to them."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from catalog.recipes.strict import Strict

ReaderName = Literal["direct", "stackstac", "odc-stac"]
READERS: tuple[str, ...] = get_args(ReaderName)
"""Names that ``load_reader`` knows."""


class AreaCube(Strict):
    """A dense ``time × band × y × x`` cube over the recipe's area, per product on one grid."""

    name: str = Field("", pattern=r"^([a-z0-9][a-z0-9.-]*)?$", description="the recipe's name unless given")
    products: tuple[str, ...] = Field((), description="of the recipe's products; all of them if none")
    epsg: int | None = Field(
        None, description="a UTM zone; that of the area's centre if none (Landsat: always the northern one)"
    )
    reader: ReaderName = Field(
        "stackstac", description="what reads pixels; odc-stac takes over where stackstac cannot"
    )
    chunk_px: int = Field(512, ge=16, description="side of a chunk of the finest band, pixels, at most")
    pass_minutes: float = Field(
        20,
        gt=0,
        description="scenes of a platform no further apart than this are one pass: one time step",
    )

    @field_validator("epsg")
    @classmethod
    def _is_utm(cls, epsg: int | None) -> int | None:
        if epsg is not None and not (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760):
            raise ValueError(f"EPSG:{epsg} is no UTM zone (32601…32660, 32701…32760)")
        return epsg


class Embedding(Strict):
    """An encoder applied in sliding windows to every time step of an area cube."""

    encoder: str = Field(min_length=1, description="NAME@VERSION or NAME:ALIAS")
    area_cube: str = Field("", description="name of the area cube; the recipe's own unless given")
    product: str = Field("", description="product of the area cube; the encoder's own unless given")
    window_px: int | None = Field(
        None, gt=0, description="side of a window, pixels of the encoder's grid; its input size if none"
    )
    stride_px: int | None = Field(
        None,
        gt=0,
        description="distance of windows: the embeddings' pixel size; a quarter window if none",
    )
    dtype: Literal["float16", "float32"] = "float16"
    mask_cloud: bool = Field(True, description="treat what the QA calls cloud or shadow as invalid")
    min_valid_fraction: float = Field(
        0.5, gt=0, le=1, description="of a window's pixels; below it there is no embedding (NaN)"
    )
    batch_size: int = Field(64, gt=0)

    @model_validator(mode="after")
    def _windows_leave_no_gaps(self) -> Embedding:
        if self.window_px is not None and self.stride_px is not None and self.stride_px > self.window_px:
            raise ValueError("`stride_px` exceeds `window_px`: pixels in between would be seen by no window")
        return self
