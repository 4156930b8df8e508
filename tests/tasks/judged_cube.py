"""A small real cube whose places have classes, its label set, and small encoders to be judged on it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.cubes import Cube, open_cube
from catalog.products.model import Band, GridConvention, Product, QualityLayer, Radiometry
from catalog.samples import Location, Sample
from catalog.scenes import Scene

EPSG, WEST, NORTH = 32633, 500_000.0, 5_400_000.0
PIXEL_M, SIDE_PX = 10.0, 16
SIZE_M = PIXEL_M * SIDE_PX
COLUMNS, ROWS = 10, 8
CLASSES = {1: "meadow", 2: "forest", 3: "lake"}
CHANGED = {1: "unchanged", 2: "changed"}
SPECTRA = np.array([[0.08, 0.06, 0.32, 0.25], [0.05, 0.04, 0.30, 0.14], [0.07, 0.05, 0.03, 0.02]])
START = datetime(2024, 2, 1, 10, 30, tzinfo=UTC)

PRODUCT = Product(
    id="toy-optical",
    title="Made up",
    sensor="toy",
    level="l2a",
    dtype="uint16",
    nodata=0,
    bands=tuple(
        Band(name=name, gsd_m=PIXEL_M, quantity="reflectance", common_name=common, center_nm=nm, fwhm_nm=30)
        for name, common, nm in (
            ("b1", "green", 560), ("b2", "red", 665), ("b3", "nir", 842), ("b4", "swir16", 1610),
        )
    ),
    radiometry=Radiometry(rule="linear", scale=1e-4),
    grid=GridConvention(crs="utm"),
    qa=QualityLayer(kind="classes", gsd_m=PIXEL_M),
)  # fmt: skip


def places(split_of: Callable[[int, int], str] | None = None) -> list[Location]:
    """Squares side by side in blocks of two by two; a third of the blocks for each split."""

    def by_block(column: int, row: int) -> str:
        return ("pretrain", "probe", "test")[(column // 2 + row // 2) % 3]

    return [
        Location(
            id=f"p{column:02d}{row:02d}",
            epsg=EPSG,
            x=WEST + (column + 0.5) * SIZE_M,
            y=NORTH - (row + 0.5) * SIZE_M,
            size_m=SIZE_M,
            longitude=15.0 + column * 0.002,
            latitude=48.7 - row * 0.0015,
            split=(split_of or by_block)(column, row),
            block=f"k{column // 2}-{row // 2}",
        )
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]


def truth() -> np.ndarray[Any, Any]:
    """Class of every pixel of the whole ground: one that prevails per place, spots of the others."""
    rng = np.random.default_rng(11)
    own = rng.integers(0, 3, (ROWS, COLUMNS))
    ground = own.repeat(SIDE_PX, 0).repeat(SIDE_PX, 1)
    spots = rng.random((ROWS * 4, COLUMNS * 4)).repeat(4, 0).repeat(4, 1) < 0.25
    return np.where(spots, rng.integers(0, 3, ground.shape), ground) + 1


def changes() -> np.ndarray[Any, Any]:
    """2 where the ground changes between the dates: half of some places."""
    rng = np.random.default_rng(12)
    changed = rng.random((ROWS, COLUMNS)) < 0.4
    ground = changed.repeat(SIDE_PX, 0).repeat(SIDE_PX, 1)
    ground[np.arange(len(ground)) % SIDE_PX < SIDE_PX // 2] = False
    return np.where(ground, 2, 1)


def scenes(count: int, origin: str = "observed") -> list[Scene]:
    return [
        Scene(
            id=f"toy-{number}",
            product=PRODUCT.id,
            archive="made-up",
            collection="toy",
            platform="toy-1",
            sensed=START + timedelta(days=60 * number),
            tile="33TOY",
            geometry={"type": "Point", "coordinates": [15.0, 48.7]},
            bbox=(14.9, 48.6, 15.1, 48.8),
            assets={},
            epsg=EPSG,
            licence="CC0-1.0",
            attribution="made up",
            origin=origin,
        )
        for number in range(count)
    ]


def sample(place: Location, number: int) -> Sample:
    """Class spectra with a brightness of the place's own and noise; what changes turns bright by date."""
    column, row = int(place.id[1:3]), int(place.id[3:5])
    rng = np.random.default_rng([column, row, number])
    window = (
        slice(row * SIDE_PX, (row + 1) * SIDE_PX),
        slice(column * SIDE_PX, (column + 1) * SIDE_PX),
    )
    brightness = np.random.default_rng([column, row]).uniform(0.7, 1.3, (4, 1, 1))
    image = np.moveaxis(SPECTRA[truth()[window] - 1], 2, 0) * brightness
    image = image + 0.2 * number * (changes()[window] == 2) + rng.normal(0, 0.01, image.shape)
    return Sample(
        product=PRODUCT.id,
        scene=f"toy-{number}",
        location=place.id,
        sensed=START + timedelta(days=60 * number),
        epsg=EPSG,
        pixels={PIXEL_M: np.clip(np.round(image / 1e-4), 1, 20_000).astype(np.uint16)},
        affines={PIXEL_M: (PIXEL_M, 0.0, place.x - SIZE_M / 2, 0.0, -PIXEL_M, place.y + SIZE_M / 2)},
        quality=np.zeros((SIDE_PX, SIDE_PX), np.uint8),
        scale=np.full(4, 1e-4),
        offset=np.zeros(4),
        nodata_fraction=0.0,
        cloud_fraction=0.0,
    )


def make_cube(
    name: str = "judged", *, locations: Sequence[Location] | None = None, origin: str = "observed"
) -> Cube:
    """A cube under ``SWATH_HOME`` with two dates of every place."""
    cube = open_cube(name, create=True, chunk_samples=32)
    chosen = places() if locations is None else locations
    with cube.write("made up") as writer:
        writer.add_locations(chosen)
        writer.append(
            PRODUCT, (sample(place, number) for place in chosen for number in range(2)), scenes(2, origin)
        )
    return cube


def write_label_set(folder: Path, name: str = "toy-cover", *, change: bool = False) -> Path:
    """A label raster over the whole ground, and the YAML file that describes it."""
    import rasterio
    import yaml

    values = changes() if change else truth()
    profile = {
        "driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": "uint8",
        "crs": f"EPSG:{EPSG}", "transform": rasterio.transform.from_origin(WEST, NORTH, PIXEL_M, PIXEL_M),
    }  # fmt: skip
    with rasterio.open(folder / f"{name}.tif", "w", **profile) as target:
        target.write(values.astype(np.uint8), 1)
    path = folder / f"{name}.yaml"
    document = {
        "name": name,
        "kind": "raster",
        "path": f"{name}.tif",
        "classes": CHANGED if change else CLASSES,
        "ignore": [0],
        "licence": "CC0-1.0",
        "attribution": "made up",
        "lineage": "drawn by the test",
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def make_encoder(folder: Path, cube: Cube, drawn: Sequence[str], *, seed: int = 0, steps: int = 25) -> Path:
    """An encoder folder as a training leaves it, with the weights it began with beside it.

    A tiny Vision Transformer that learns to find the other date of a place; ``drawn`` are location ids.
    """
    import torch
    from torch import nn

    from models.backbones import Encoder, describe_architecture
    from models.encoder_files import describe_encoder, save_encoder, save_weights
    from models.features import physical_batches
    from models.normalisation import statistics_of
    from models.physical_pixels import choose_bands

    snapshot = cube.snapshot()
    choice = choose_bands(cube.products(snapshot)[PRODUCT.id])
    table = cube.columns(PRODUCT.id, snapshot)
    table = table[table["location"].isin(drawn)].sort_values(["location", "time"])
    ((values, valid),) = physical_batches(
        cube, snapshot, choice, table["row"].to_numpy(np.int64), batch_size=10_000
    )
    normalisation = statistics_of([(values, valid)], len(choice.names))
    architecture = describe_architecture(
        "vit_tiny_patch16_224",
        {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2},
        bands=len(choice.names),
        input_size_px=SIDE_PX,
    )
    torch.set_num_threads(1)  # threads cost more than such small layers
    torch.manual_seed(seed)
    encoder = Encoder(architecture)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder.with_name(f"{folder.name}-initial.safetensors"), encoder)
    head = nn.Linear(32, 32)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3)
    inputs = normalisation.apply(values, valid)
    for _ in range(steps):
        first, second = (
            nn.functional.normalize(head(encoder(part)), dim=1) for part in (inputs[0::2], inputs[1::2])
        )
        loss = nn.functional.cross_entropy(first @ second.T / 0.2, torch.arange(len(first)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    config = describe_encoder(
        architecture,
        choice,
        normalisation,
        method="two-dates",
        products=[PRODUCT.id],
        input_size_px=SIDE_PX,
        feature_dim=encoder.feature_dim,
    )
    save_encoder(folder, encoder.eval(), config)
    with gzip.open(folder / "samples.jsonl.gz", "wt", encoding="utf-8") as target:
        for row in table.itertuples():
            line = {name: getattr(row, name) for name in ("sample", "scene", "location", "sha256")}
            target.write(json.dumps({"product": PRODUCT.id, **line}) + "\n")
    return folder


@dataclass(frozen=True)
class Workshop:
    """A cube with everything that judging needs."""

    home: Path
    cube: Cube
    encoder: Path
    initial_weights: Path
    labels: Any
    changes: Any


@contextmanager
def workshop(home: Path) -> Iterator[Workshop]:
    """``SWATH_HOME`` at ``home``, with the cube, an encoder of its pretrain places, and both label sets."""
    from catalog.labels import read_label_set

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(home))
        for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
            patch.delenv(name, raising=False)
        cube = make_cube()
        encoder = make_encoder(home / "run" / "encoder", cube, drawn_places(cube))
        yield Workshop(
            home,
            cube,
            encoder,
            encoder.with_name("encoder-initial.safetensors"),
            read_label_set(write_label_set(home)),
            read_label_set(write_label_set(home, "toy-change", change=True)),
        )


def drawn_places(cube: Cube, split: str = "pretrain") -> list[str]:
    return [location.id for location in cube.locations() if location.split == split]


def recipe(*evaluations: dict[str, Any], transductive: bool = False, published: bool = True) -> Any:
    """A recipe that pretrains ``toy-vit`` and evaluates it."""
    from catalog.recipes import parse_recipe

    return parse_recipe(
        {
            "name": "judged",
            "archive": "made-up",
            "area": {"bbox": [14.9, 48.6, 15.1, 48.8]},
            "period": {"start": "2024-01-01", "end": "2024-12-31"},
            "products": {PRODUCT.id: {}},
            "locations": {"size_m": SIZE_M},
            "published": published,
            "pretrain": [
                {
                    "encoder": "toy-vit",
                    "method": "two-dates",
                    "products": [PRODUCT.id],
                    "input_size_px": SIDE_PX,
                    "steps": 25,
                    "batch_size": 40,
                    "optimiser": {"learning_rate": 2e-3},
                    "transductive": transductive,
                }
            ],
            "evaluate": [
                {"name": "cover", "label_set": "toy-cover", "kind": "patch-classes", "product": PRODUCT.id}
                | evaluation
                for evaluation in evaluations
            ],
        }
    )
