"""Applies an encoder to an area cube in sliding windows: an embedding for every pixel of a coarser grid.

Pixels become physical, and invalid ones are masked, by the function that training and evaluation use. A block
of the area is brought to the encoder's grid with a margin, so that no seam shows where blocks meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from catalog.area_cubes import AreaCube, Step, layout
from catalog.area_cubes.arrange import arrange, grow
from catalog.area_cubes.cube import AreaCubeWriter
from catalog.errors import UsageError
from catalog.grids import Grid, north_up
from catalog.products import Product
from catalog.products.model import array_name
from catalog.quality import FLAGS
from catalog.recipes import Embedding
from catalog.windows import lattice_m

if TYPE_CHECKING:
    from torch import Tensor

    from models.encoder_files import PhysicalEncoder
    from models.physical_pixels import BandChoice, RawSamples

Progress = Callable[[str, int, int], None]
BLOCK_PX = 512
"""Side of what is brought to the encoder's grid at a time, without its margin."""


@dataclass(frozen=True)
class EmbeddingPlan:
    """Where the windows of an encoder lie in an area cube."""

    reference: str
    """``NAME@VERSION``."""
    product: Product
    choice: BandChoice
    grids: dict[float, Grid]
    """Ground sampling → the area's grid."""
    window_px: int
    stride_px: int
    input_px: int
    """Side of the encoder's input; windows of another size are brought to it."""
    weights_sha256: str
    request: Embedding

    @cached_property
    def area(self) -> Grid:
        """The area on the encoder's grid."""
        finest = self.grids[min(self.grids)]
        west, south, east, north = finest.bounds
        gsd = self.choice.gsd_m
        shape = math.ceil((north - south) / gsd - 1e-6), math.ceil((east - west) / gsd - 1e-6)
        return north_up(finest.epsg, west, north, gsd, shape)

    @cached_property
    def grid(self) -> Grid:
        """The embeddings' grid: one pixel per window, at its centre."""
        height, width = self.area.shape
        _, _, west, _, _, north = self.area.affine
        shape = math.ceil(height / self.stride_px), math.ceil(width / self.stride_px)
        return north_up(self.area.epsg, west, north, self.stride_px * self.choice.gsd_m, shape)

    @property
    def offset_px(self) -> int:
        """From the corner of an embedding's pixel to that of its window, pixels of the encoder's grid."""
        return (self.stride_px - self.window_px) // 2

    @cached_property
    def nests_px(self) -> int:
        """Where all native grids have edges: at multiples of this, pixels of the encoder's grid."""
        gsds = {band.gsd_m for band in self.choice.bands} | {layout.quality_gsd_m(self.product)}
        step = math.lcm(*(round(gsd * 1000) for gsd in (*gsds, self.choice.gsd_m))) / 1000
        return round(max(step, lattice_m([self.product])) / self.choice.gsd_m)

    @property
    def parameters(self) -> dict[str, Any]:
        """All that decides the numbers, beside the pixels."""
        return {
            "encoder": self.reference,
            "weights_sha256": self.weights_sha256,
            "product": self.product.id,
            "bands": list(self.choice.names),
            "gsd_m": self.choice.gsd_m,
            "window_px": self.window_px,
            "stride_px": self.stride_px,
            "input_px": self.input_px,
            "mask_cloud": self.request.mask_cloud,
            "min_valid_fraction": self.request.min_valid_fraction,
            "dtype": self.request.dtype,
            "grid": layout.grid_document(self.grid),
        }


def plan_embedding(
    cube: AreaCube, model: PhysicalEncoder, reference: str, request: Embedding
) -> EmbeddingPlan:
    """How an encoder is applied to an area cube.

    Raises
    ------
    UsageError: ``gsd-does-not-nest``, ``unknown-band``. CubeError: ``product-not-in-cube``.
    """
    from models.features import band_choice

    name = request.product or str(model.config["product"])
    cube.group(name)
    product = cube.products()[name]
    choice = band_choice(model, product)
    ratios = [max(band.gsd_m, choice.gsd_m) / min(band.gsd_m, choice.gsd_m) for band in choice.bands]
    if any(not math.isclose(ratio, round(ratio)) for ratio in ratios):
        raise UsageError(
            "gsd-does-not-nest",
            f"the encoder's grid of {choice.gsd_m:g} m does not nest with the bands of {name}",
            subject=reference,
            next_step="apply an encoder whose `gsd_m` is a multiple or a part of its bands' sampling",
        )
    window = request.window_px or int(model.config["input_size_px"])
    stride = request.stride_px or max(1, window // 4)
    return EmbeddingPlan(
        reference,
        product,
        choice,
        cube.grids(name),
        window,
        stride,
        int(model.config["input_size_px"]),
        str(model.config["weights_sha256"]),
        request,
    )


def missing_steps(cube: AreaCube, plan: EmbeddingPlan) -> list[Step]:
    """Time steps of the cube that this plan has no embeddings of."""
    group = _held(cube.root(), plan)
    have = set() if group is None else set(_sources(group))
    return [step for step in cube.steps(plan.product.id) if step.digest not in have]


def embed(
    writer: AreaCubeWriter,
    plan: EmbeddingPlan,
    model: PhysicalEncoder,
    steps: Sequence[Step],
    *,
    lineage: dict[str, Any],
    progress: Progress | None = None,
) -> None:
    """Write the embeddings of the cube's time steps that are not there yet.

    Embeddings of time steps that were replaced go; those of an encoder applied in another way are made anew.

    Parameters
    ----------
    steps:   all of the product's time steps, in the cube's order
    lineage: what else is to be kept with the embeddings
    """
    root = writer.root
    group = _held(root, plan)
    if group is None:
        if plan.reference in root.require_group(layout.EMBEDDINGS):
            del layout.subgroup(root, layout.EMBEDDINGS)[plan.reference]
        attributes = {"Conventions": "CF-1.10", "parameters": plan.parameters}
        chunk = max(1, round(2048 / plan.stride_px))
        group = layout.create_embedding(
            root, plan.reference, plan.grid, model.feature_dim, plan.request.dtype, chunk, attributes
        )
    held = _sources(group)
    wanted = {step.digest: (number, step) for number, step in enumerate(steps)}
    new = [digest for digest in wanted if digest not in held]
    blocks = list(_blocks(plan))
    what = f"{plan.reference}: embed"
    for count, digest in enumerate(new):
        number, step = wanted[digest]
        index = len(held) + count
        grow(group, index + 1)
        for done, (rows, cols) in enumerate(blocks):
            if progress:
                progress(what, count * len(blocks) + done, len(new) * len(blocks))
            found = _embed_block(root, plan, model, number, rows, cols)
            layout.array(group, "embedding")[index, :, rows, cols] = found
        layout.array(group, "time")[index] = round(step.time.timestamp() * 1e6)
        layout.array(group, "scenes")[index] = " ".join(step.ids)
        layout.array(group, "source")[index] = digest
    if progress and new:
        progress(what, len(new) * len(blocks), len(new) * len(blocks))
    everything = [*held, *new]
    arrange(writer.session, group, [everything.index(digest) for digest in wanted])
    group.update_attributes({"lineage": lineage})
    writer.note_change(f"{layout.EMBEDDINGS}/{plan.reference}", len(new))


def _sources(group: zarr.Group) -> list[str]:
    """What each time step of the embeddings was made of."""
    return [str(source) for source in np.asarray(layout.array(group, "source")[:])]


def _held(root: zarr.Group | None, plan: EmbeddingPlan) -> zarr.Group | None:
    """The group of embeddings made in this very way; None where there is none."""
    path = f"{layout.EMBEDDINGS}/{plan.reference}"
    if root is None or path not in root:
        return None
    group = layout.subgroup(root, path)
    return group if group.attrs.get("parameters") == plan.parameters else None


def _blocks(plan: EmbeddingPlan) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of embeddings that are made together."""
    side = max(1, BLOCK_PX // plan.stride_px)
    height, width = plan.grid.shape
    for row in range(0, height, side):
        for col in range(0, width, side):
            yield slice(row, min(row + side, height)), slice(col, min(col + side, width))


def _embed_block(
    root: zarr.Group, plan: EmbeddingPlan, model: PhysicalEncoder, number: int, rows: slice, cols: slice
) -> NDArray[Any]:
    """Embeddings ``(feature, y, x)`` of one block of windows at time step ``number``."""
    import torch

    from models.physical_pixels import on_grid, physical_pixels

    request, stride, window = plan.request, plan.stride_px, plan.window_px
    top, left = (part.start * stride + plan.offset_px for part in (rows, cols))
    count_y, count_x = rows.stop - rows.start, cols.stop - cols.start
    start_y, start_x, side = _square(plan, top, left, max(count_y, count_x))
    raw = _raw_block(root, plan, number, start_y, start_x, side)
    values, valid = physical_pixels(raw, plan.choice, mask_cloud=request.mask_cloud)

    def windows(image: Tensor) -> Tensor:
        """``(band, y, x)`` as ``(row, column, band, window, window)``."""
        part = image[:, top - start_y :, left - start_x :]
        part = part.unfold(1, window, stride).unfold(2, window, stride)
        return part[:, :count_y, :count_x].permute(1, 2, 0, 3, 4)

    seen, known = windows(values[0]), windows(valid[0])
    share = known.to(torch.float32).mean((2, 3, 4))
    found = np.full((model.feature_dim, count_y, count_x), np.nan, request.dtype)
    taken = np.argwhere((share >= request.min_valid_fraction).numpy())
    with torch.inference_mode():
        for start in range(0, len(taken), request.batch_size):
            row, col = taken[start : start + request.batch_size].T
            batch = on_grid(seen[row, col], known[row, col], plan.input_px)
            found[:, row, col] = model(*batch).float().numpy().T
    return found


def _square(plan: EmbeddingPlan, top: int, left: int, windows: int) -> tuple[int, int, int]:
    """(top, left, side) of what is read for a block: with a margin, from edge to edge of all grids."""
    nests = plan.nests_px
    start_y, start_x = ((math.floor(edge / nests) - 1) * nests for edge in (top, left))
    reach = (windows - 1) * plan.stride_px + plan.window_px
    side = max(top - start_y, left - start_x) + reach + nests
    return start_y, start_x, math.ceil(side / nests) * nests


def _raw_block(
    root: zarr.Group, plan: EmbeddingPlan, number: int, top: int, left: int, side: int
) -> RawSamples:
    """Raw pixels of a square of the area as one sample; what lies outside the area is nodata."""
    from models.physical_pixels import RawSamples

    product, choice = plan.product, plan.choice
    group = layout.subgroup(root, product.id)
    pixels: dict[float, NDArray[Any]] = {}
    calibration = {name: np.full((1, len(choice.names)), np.nan) for name in layout.CALIBRATION}
    for gsd, columns in choice.columns.items():
        own = layout.subgroup(group, array_name(gsd))
        held = layout.array(own, "pixels")
        values, inside, place = _frame(held, plan, gsd, top, left, side)
        blank = np.full((held.shape[1], *values), held.fill_value, held.dtype)
        if place is not None:
            blank[:, *inside] = held[number, :, *place]
        pixels[gsd] = blank[columns][None]
        for name in layout.CALIBRATION:
            if name in own:
                numbers = np.asarray(layout.array(own, name)[number])
                calibration[name][0, choice.by_resolution[gsd]] = numbers[columns]
    gsd = layout.quality_gsd_m(product)
    held = layout.array(group, f"{array_name(gsd)}/quality")
    shape, inside, place = _frame(held, plan, gsd, top, left, side)
    quality = np.full(shape, FLAGS["nodata"], np.uint8)
    if place is not None:
        quality[inside] = held[number, *place]
    return RawSamples(np.zeros(1, np.int64), pixels, quality[None], calibration)


Slices = tuple[slice, slice]


def _frame(
    held: Any, plan: EmbeddingPlan, gsd: float, top: int, left: int, side: int
) -> tuple[tuple[int, int], Slices, Slices | None]:
    """Shape of a square on a native grid, and which part of it is where in the cube; None where none is."""
    scale = plan.choice.gsd_m / gsd
    first_y, first_x, size = round(top * scale), round(left * scale), round(side * scale)
    height, width = held.shape[-2:]
    y0, y1 = max(first_y, 0), min(first_y + size, height)
    x0, x1 = max(first_x, 0), min(first_x + size, width)
    if y0 >= y1 or x0 >= x1:
        return (size, size), (slice(0), slice(0)), None
    inside = slice(y0 - first_y, y1 - first_y), slice(x0 - first_x, x1 - first_x)
    return (size, size), inside, (slice(y0, y1), slice(x0, x1))
