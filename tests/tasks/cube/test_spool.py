"""The spool of one scene's samples."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from catalog.samples import Sample
from tasks.cube.spool import SceneSpool


def sample(name: str, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        product="p",
        scene="s",
        location=name,
        sensed=datetime(2022, 1, 1, tzinfo=UTC),
        epsg=32632,
        pixels={
            10.0: rng.integers(0, 9000, (3, 6, 6)).astype(np.uint16),
            60.0: rng.normal(size=(2, 1, 1)).astype(np.float32),
        },
        affines={10.0: (10, 0, 0, 0, -10, 0), 60.0: (60, 0, 0, 0, -60, 0)},
        quality=rng.integers(0, 9, (3, 3)).astype(np.uint8),
        scale=np.ones(5),
        offset=np.zeros(5),
        nodata_fraction=0.1,
        cloud_fraction=0.2,
    )


@pytest.mark.parametrize("in_memory_bytes", [1, 2**20])
def test_samples_come_back_as_they_were_from_memory_and_from_disk(in_memory_bytes: int) -> None:
    samples = [sample(str(seed), seed) for seed in range(5)]
    with SceneSpool(in_memory_bytes) as spool:
        for item in samples:
            spool.add(item)
        assert len(spool) == 5
        for _ in range(2):
            for before, after in zip(samples, spool, strict=True):
                assert after.id == before.id and after.sha256 == before.sha256
                np.testing.assert_array_equal(after.quality, before.quality, strict=True)
                for gsd, values in before.pixels.items():
                    np.testing.assert_array_equal(after.pixels[gsd], values, strict=True)
    assert len(spool) == 0
