"""Band statistics of a snapshot: computed once, streaming, and kept for every run that asks for the same.

They lie under ``SWATH_HOME/statistics``, not in the cube: they can always be computed again, a cube may be
read-only or in an object store, and a snapshot never changes, so that nothing has to be invalidated. Each run
keeps a copy in its own folder, and the encoder holds the numbers for good.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from catalog.settings import Settings, load_settings
from models.normalisation import Normalisation, statistics_of
from models.physical_pixels import physical_pixels
from models.sample_pool import Rows
from models.sample_reader import SampleReader

MOST_SAMPLES = 2048
BATCH = 32
VERSION = 1
"""Raised whenever the same pixels would give other numbers."""


def snapshot_statistics(
    reader: SampleReader,
    rows: Rows,
    *,
    mask_cloud: bool,
    most: int = MOST_SAMPLES,
    settings: Settings | None = None,
) -> Normalisation:
    """Mean and deviation per band over the valid pixels of ``rows``; computed where no earlier run has.

    Of at most ``most`` samples, evenly spread over ``rows``; the same numbers whoever computes them.
    """
    path = statistics_file(reader, rows, mask_cloud=mask_cloud, most=most, settings=settings)
    kept = _read(path, len(reader.choice.names))
    if kept is not None:
        return kept
    batches = statistics_batches(reader, rows, mask_cloud=mask_cloud, most=most)
    made = statistics_of(batches, len(reader.choice.names))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(made.to_dict(), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return made


def statistics_file(
    reader: SampleReader,
    rows: Rows,
    *,
    mask_cloud: bool,
    most: int = MOST_SAMPLES,
    settings: Settings | None = None,
) -> Path:
    """Where the statistics of these samples lie; the name says everything they depend on."""
    choice = reader.choice
    depends_on = {
        "version": VERSION,
        "cube": reader.cube.name,
        "snapshot": reader.snapshot,
        "product": choice.product.id,
        "bands": choice.names,
        "gsd_m": choice.gsd_m,
        "mask_cloud": mask_cloud,
        "most": most,
        "rows": hashlib.sha256(np.sort(rows).astype("<i8").tobytes()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return (settings or load_settings()).home / "statistics" / f"{key[:32]}.json"


def statistics_batches(
    reader: Any, rows: Rows, *, mask_cloud: bool, most: int = MOST_SAMPLES, size: int = BATCH
) -> Iterator[tuple[Tensor, Tensor]]:
    """Physical batches of at most ``most`` samples, evenly spread over ``rows``, in the cube's order."""
    rows = np.sort(rows)
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64))]
    for start in range(0, len(chosen), size):
        raw = reader.read(chosen[start : start + size])
        yield physical_pixels(raw, reader.choice, mask_cloud=mask_cloud)


def _read(path: Path, bands: int) -> Normalisation | None:
    """What an earlier run left; None where there is nothing, or nothing whole."""
    try:
        kept = Normalisation.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if len(kept.mean) == len(kept.std) == bands else None
