"""An embedding is what the encoder says of the window around it, wherever blocks and edges happen to lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from catalog.area_cubes import AreaCube, layout
from catalog.quality import CLOUDY
from catalog.recipes import Embedding
from models.encoder_files import load_encoder
from models.physical_pixels import physical_pixels
from tasks.area import embed as embedding
from tasks.area.embed import EmbeddingPlan, embed, missing_steps, plan_embedding
from tasks.area.picture import draw_embedding
from tests.tasks.area.pass_archive import PassArchive, open_cube
from tests.tasks.area.tiny_encoder import INPUT_PX, write_encoder
from tests.tasks.range_server import serve_ranges

S2, NAME = "sentinel-2-l2a", "tiny@1"
REQUEST = Embedding(encoder=NAME, stride_px=6, dtype="float32")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PassArchive]:
    with serve_ranges(tmp_path_factory.mktemp("archive")) as server:
        made = PassArchive(server)
        made.add("west-1", day=0, empty_columns=0.25)
        made.add("east-1", day=0.001, east=True)
        made.add("west-2", day=10)
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_encoder(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


@pytest.fixture
def cube(archive: PassArchive) -> AreaCube:
    cube = open_cube()
    archive.build(cube, [archive.files[name].scene for name in ("west-1", "east-1")])
    return cube


def run(cube: AreaCube, model: Any, request: Embedding = REQUEST) -> EmbeddingPlan:
    plan = plan_embedding(cube, model, NAME, request)
    with cube.write("embed") as writer:
        steps = cube.steps(S2, writer.snapshot)
        embed(writer, plan, model, steps, lineage={"snapshot": writer.snapshot})
    return plan


def held(cube: AreaCube) -> np.ndarray[Any, Any]:
    root = cube.root()
    assert root is not None
    return np.asarray(layout.array(root, f"embeddings/{NAME}/embedding")[:])


def test_each_embedding_is_the_encoder_applied_to_its_window(cube: AreaCube, model: Any) -> None:
    plan = run(cube, model)
    found = held(cube)[0]
    height, width = plan.area.shape
    root = cube.root()
    assert root is not None
    # The whole area at once, as one square sample; then each window by itself.
    side = -(-max(height, width) // plan.nests_px) * plan.nests_px
    raw = embedding._raw_block(root, plan, 0, 0, 0, side)
    values, valid = physical_pixels(raw, plan.choice, mask_cloud=True)
    seen = 0
    for row in range(1, plan.grid.shape[0] - 1, 5):
        for col in range(1, plan.grid.shape[1] - 1, 5):
            top, left = (index * 6 + plan.offset_px for index in (row, col))
            window = np.s_[:, :, top : top + INPUT_PX, left : left + INPUT_PX]
            if valid[window].float().mean() < 0.5:
                assert np.isnan(found[:, row, col]).all()
                continue
            with torch.inference_mode():
                expected = model(values[window], valid[window])[0].numpy()
            np.testing.assert_allclose(found[:, row, col], expected, atol=2e-5)
            seen += 1
    assert seen > 20
    assert np.isnan(found).any()


def test_where_blocks_meet_there_is_no_seam(
    cube: AreaCube, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cube, model)
    whole = held(cube)
    monkeypatch.setattr(embedding, "BLOCK_PX", 60)
    # Another share, so that all of them are made anew.
    run(cube, model, REQUEST.model_copy(update={"min_valid_fraction": 0.49999, "batch_size": 7}))
    in_blocks = held(cube)
    both = np.isfinite(whole) & np.isfinite(in_blocks)
    assert both.sum() > 0.9 * np.isfinite(whole).sum()
    np.testing.assert_allclose(in_blocks[both], whole[both], atol=2e-5)


def test_the_same_encoder_again_has_nothing_to_do_until_there_is_a_new_pass(
    cube: AreaCube, model: Any, archive: PassArchive
) -> None:
    assert [step.ids for step in missing_steps(cube, plan_embedding(cube, model, NAME, REQUEST))] == [
        ("west-1", "east-1")
    ]
    plan = run(cube, model)
    assert missing_steps(cube, plan) == []
    first = held(cube)
    archive.build(cube, [archive.files[name].scene for name in archive.files])
    assert [step.ids for step in missing_steps(cube, plan)] == [("west-2",)]
    run(cube, model)
    assert missing_steps(cube, plan) == []
    np.testing.assert_array_equal(held(cube)[0], first[0])
    assert held(cube).shape[0] == 2


def test_what_it_was_made_from_lies_beside_it(cube: AreaCube, model: Any) -> None:
    before = cube.snapshot()
    plan = run(cube, model)
    dataset = xr.open_zarr(cube.store(), group=f"embeddings/{NAME}", consolidated=False)
    assert dataset.embedding.dims == ("time", "feature", "y", "x")
    assert dataset.attrs["parameters"]["weights_sha256"] == model.config["weights_sha256"]
    assert dataset.attrs["lineage"]["snapshot"] == before
    assert dataset.scenes.values.tolist() == ["west-1 east-1"]
    # An embedding lies at the middle of its window.
    west = plan.area.affine[2]
    assert dataset.x.values[0] == west + 10 * (plan.offset_px + INPUT_PX / 2)


def test_invalid_pixels_move_no_embedding(cube: AreaCube, model: Any) -> None:
    run(cube, model)
    before = held(cube)
    with cube.write("scribble under the clouds") as writer:
        pixels = layout.array(writer.root, f"{S2}/r10m/pixels")
        flags = np.asarray(layout.array(writer.root, f"{S2}/r20m/quality")[0])
        cloudy = ((flags & CLOUDY) != 0).repeat(2, 0).repeat(2, 1)
        values = np.asarray(pixels[0])
        assert cloudy.any() and (values[:, cloudy] != 9999).any()
        values[:, cloudy] = 9999
        pixels[0] = values
        writer.note_change("scribble", 1)
    # Another share, so that all of them are made anew.
    run(cube, model, REQUEST.model_copy(update={"min_valid_fraction": 0.49999}))
    after = held(cube)
    both = np.isfinite(before) & np.isfinite(after)
    assert both.any()
    np.testing.assert_array_equal(after[both], before[both])


def test_the_picture_is_drawn(cube: AreaCube, model: Any, archive: PassArchive, tmp_path: Path) -> None:
    from matplotlib.image import imread

    run(cube, model)
    picture = imread(draw_embedding(cube, NAME, archive.product, tmp_path / "a" / "picture.png"))
    assert min(picture.shape[:2]) > 400
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 1000
