"""Frozen features are judged at places nothing was learnt from, beside what costs nothing."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.errors import EncoderError, UsageError
from models.baselines import BASELINES
from tasks.evaluate.encoder import EvaluationResult, evaluate_encoder
from tasks.evaluate.evaluation_set import evaluation_set, spread_over
from tasks.evaluate.leakage import footprint, leaks, read_draws
from tasks.evaluate.probes import folds_of
from tests.tasks import judged_cube
from tests.tasks.judged_cube import PRODUCT, Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with judged_cube.workshop(tmp_path_factory.mktemp("home")) as made:
        yield made


def _evaluate(shop: Workshop, encoder: Path | None = None, **evaluation: Any) -> EvaluationResult:
    options = {
        key: evaluation.pop(key)
        for key in ("seeds", "ancestors", "transductive", "published", "cube")
        if key in evaluation
    }
    recipe = judged_cube.recipe(
        evaluation,
        transductive=options.pop("transductive", False),
        published=options.pop("published", True),
    )
    cube = options.pop("cube", shop.cube)
    return evaluate_encoder(
        encoder or shop.encoder,
        recipe.evaluate[0],
        recipe,
        cube,
        cube.snapshot(),
        shop.changes if evaluation.get("kind") == "change" else shop.labels,
        name="toy-vit",
        **options,
    )


def _units(shop: Workshop, **evaluation: Any) -> Any:
    recipe = judged_cube.recipe(evaluation)
    labels = shop.changes if evaluation.get("kind") == "change" else shop.labels
    cube = shop.cube
    return evaluation_set(
        recipe.evaluate[0], cube, cube.snapshot(), labels, cube.products()[PRODUCT.id], 10.0
    )


@pytest.fixture(scope="module")
def cover(shop: Workshop) -> EvaluationResult:
    return _evaluate(shop)


def test_patches_are_scored_beside_every_baseline_with_both_probes(cover: EvaluationResult) -> None:
    assert list(cover.scores) == ["encoder", *BASELINES]
    for source in cover.scores.values():
        assert set(source) == {"neighbours", "logistic"}
        assert {"macro_f1", "micro_accuracy", "macro_accuracy", "micro_iou", "macro_iou"} <= set(
            source["logistic"]
        )
    assert cover.headline > 0.8
    assert [difference.baseline for difference in cover.differences] == list(BASELINES)


def test_a_place_gives_one_value_and_few_places_give_no_interval(cover: EvaluationResult) -> None:
    assert cover.places == len(cover.per_place["encoder"]) == 6
    for difference in cover.differences:
        assert set(difference.values) == set(cover.per_place["encoder"])
        assert difference.interval is None
    assert "%" not in json.dumps(cover.to_dict()["differences"])
    assert any("too few for an interval" in note for note in cover.notes)


def test_three_seeds_tell_their_spread(cover: EvaluationResult) -> None:
    assert cover.seeds == (0, 1, 2)
    spreads = [source["logistic"]["macro_f1"]["std"] for source in cover.scores.values()]
    assert any(spread is not None and spread > 0 for spread in spreads)
    assert all(len(values) == 3 for values in cover.chosen_c.values())


def test_the_same_evaluation_gives_the_same_scores(shop: Workshop, cover: EvaluationResult) -> None:
    again = _evaluate(shop)
    assert replace(again, seconds=0.0) == replace(cover, seconds=0.0)


def test_a_score_is_published_only_with_three_seeds_of_observed_scenes(
    shop: Workshop, cover: EvaluationResult
) -> None:
    assert cover.published
    assert not _evaluate(shop, seeds=[0]).published
    assert not _evaluate(shop, published=False, seeds=[0]).published
    simulated = judged_cube.make_cube("simulated", origin="simulated")
    result = _evaluate(shop, cube=simulated)
    assert not result.published
    assert any("simulated" in note for note in result.notes)


def test_pixels_are_scored_from_dense_features(shop: Workshop) -> None:
    result = _evaluate(shop, kind="pixel-classes", max_samples=500, seeds=[0])
    assert result.test_samples + result.train_samples <= 500
    assert result.scores["raw-spectrum"]["logistic"]["macro_f1"]["mean"] > 0.8
    assert result.headline > 0.6
    assert set(result.classes) == set(judged_cube.CLASSES.values())


def test_dense_features_are_read_at_the_pixel_they_belong_to() -> None:
    import torch

    from tasks.evaluate.features import _at_pixels

    rows, columns = np.mgrid[0:16, 0:16]
    coarse = torch.from_numpy(np.stack([rows, columns]).reshape(2, 4, 4, 4, 4).mean((2, 4))[None]).float()
    y, x = np.array([5, 9, 2]), np.array([3, 10, 13])
    found = _at_pixels(coarse, np.zeros(3, int), y, x, (16, 16))
    assert np.allclose(found, np.stack([y, x], 1), atol=1e-5)


def test_change_is_ranked_by_average_precision_of_first_and_last_date(shop: Workshop) -> None:
    result = _evaluate(shop, kind="change", min_change_fraction=0.2, label_set="toy-change", seeds=[0])
    assert result.metric == result.place_metric == "average_precision"
    assert set(result.scores["encoder"]) == {"neighbours", "logistic", "logistic-concat"}
    assert result.headline > 0.8
    assert set(result.classes) == {"changed", "unchanged"}
    assert any("of one class only" in note for note in result.notes)


def test_half_of_a_sample_must_change_where_half_is_asked_for(shop: Workshop) -> None:
    kind = {"kind": "change", "label_set": "toy-change"}
    few = _units(shop, **kind, min_change_fraction=0.4).labels.sum()
    none = _units(shop, **kind, min_change_fraction=0.6).labels.sum()
    assert few > 0 == none


def test_a_label_set_without_a_changed_class_is_refused(shop: Workshop) -> None:
    recipe = judged_cube.recipe({"kind": "change"})
    with pytest.raises(UsageError) as refusal:
        evaluation_set(recipe.evaluate[0], shop.cube, shop.cube.snapshot(), shop.labels, PRODUCT, 10.0)
    assert refusal.value.code == "no-change-class"


def test_leaving_one_place_out_judges_every_place_that_is_not_for_pretraining(shop: Workshop) -> None:
    result = _evaluate(shop, protocol="leave-one-place-out", seeds=[0], max_samples=80)
    outside = {place.block for place in shop.cube.locations() if place.split != "pretrain"}
    assert set(result.per_place["encoder"]) == outside
    assert len(result.chosen_c["encoder"]) == len(outside)


@pytest.mark.parametrize("protocol", ["holdout", "leave-one-place-out"])
@pytest.mark.parametrize("place", ["block", "location", "tile"])
def test_no_place_and_no_ground_is_both_learnt_from_and_judged_on(
    shop: Workshop, protocol: str, place: str
) -> None:
    units = _units(shop, place=place)
    known = {location.id: footprint(location) for location in shop.cube.locations()}
    used = {name: known[name] for name in set(units.locations.tolist())}
    folds = list(folds_of(protocol, units, used))
    if (protocol, place) == ("leave-one-place-out", "tile"):
        assert not folds, "there is one tile only: nothing would be left to learn from"
        return
    for train, test in folds:
        assert not set(units.locations[train]) & set(units.locations[test])
        if place != "tile":
            assert not set(units.places[train]) & set(units.places[test])
        assert "pretrain" not in units.splits


def test_training_places_that_overlap_a_judged_one_are_left_out(shop: Workshop) -> None:
    units = _units(shop)
    known = {location.id: footprint(location) for location in shop.cube.locations()}
    used = {name: known[name] for name in set(units.locations.tolist())}
    ((plain, test),) = folds_of("holdout", units, used)
    grown = {name: replace(part, size_m=1.5 * part.size_m) for name, part in used.items()}
    ((fewer, same),) = folds_of("holdout", units, grown)
    assert len(fewer) < len(plain)
    assert np.array_equal(test, same)


def _with_draws(shop: Workshop, folder: Path, location: str) -> Path:
    """The encoder with one more sample among those it says it has drawn."""
    shutil.copytree(shop.encoder, folder)
    with gzip.open(folder / "samples.jsonl.gz", "at", encoding="utf-8") as lines:
        lines.write(json.dumps({"sample": "x", "product": PRODUCT.id, "location": location}) + "\n")
    return folder


def test_an_encoder_that_drew_a_judged_place_is_refused(shop: Workshop, tmp_path: Path) -> None:
    judged = judged_cube.drawn_places(shop.cube, "test")[0]
    leaky = _with_draws(shop, tmp_path / "leaky", judged)
    with pytest.raises(EncoderError) as refusal:
        _evaluate(shop, leaky)
    assert refusal.value.code == "evaluation-leaks"
    assert judged in str(refusal.value)


def test_what_an_ancestor_drew_counts_too(shop: Workshop, tmp_path: Path) -> None:
    ancestor = _with_draws(shop, tmp_path / "older", judged_cube.drawn_places(shop.cube, "probe")[0])
    with pytest.raises(EncoderError, match="evaluation-leaks"):
        _evaluate(shop, ancestors=[ancestor])


def test_a_drawn_place_that_overlaps_a_judged_one_in_metres_is_refused(
    shop: Workshop, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(shop.encoder, folder)
    judged = next(place for place in shop.cube.locations() if place.split == "test")
    moved = {"location": "elsewhere", "epsg": judged.epsg, "x": judged.x + 100, "y": judged.y,
             "size_m": judged.size_m, "split": "pretrain"}  # fmt: skip
    with gzip.open(folder / "places.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.write(json.dumps(moved) + "\n")
    with pytest.raises(EncoderError, match="overlaps elsewhere"):
        _evaluate(shop, folder)


def test_the_transductive_setting_is_allowed_and_says_so(
    shop: Workshop, cover: EvaluationResult, tmp_path: Path
) -> None:
    leaky = _with_draws(shop, tmp_path / "leaky", judged_cube.drawn_places(shop.cube, "test")[0])
    result = _evaluate(shop, leaky, transductive=True, seeds=[0])
    assert result.transductive and result.to_dict()["transductive"]
    assert not cover.transductive


def test_an_encoder_whose_draws_are_not_on_record_is_not_published(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(shop.encoder, folder, ignore=shutil.ignore_patterns("samples.jsonl.gz"))
    result = _evaluate(shop, folder)
    assert not result.draws_known and not result.published
    assert any("not on record" in note for note in result.notes)


def test_the_pretrain_places_of_the_cube_are_never_judged(shop: Workshop) -> None:
    units = _units(shop)
    judged = [place for place in shop.cube.locations() if place.id in set(units.locations.tolist())]
    assert leaks(judged, read_draws([shop.encoder], shop.cube.locations())) == {}
    assert {place.split for place in judged} == {"probe", "test"}


def test_a_cube_without_places_to_judge_is_refused_by_name(shop: Workshop) -> None:
    only = judged_cube.make_cube("only", locations=judged_cube.places(lambda *_: "pretrain")[:4])
    with pytest.raises(UsageError) as refusal:
        _evaluate(shop, cube=only)
    assert refusal.value.code == "nothing-to-evaluate"


def test_an_encoder_of_another_product_is_refused(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(shop.encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"product": "other", "products": ["other"]}))
    with pytest.raises(EncoderError, match="wrong-product"):
        _evaluate(shop, folder)


def test_too_many_units_are_thinned_evenly_over_places() -> None:
    places = np.array(["a"] * 90 + ["b"] * 9 + ["c"])
    kept = spread_over(places, 21)
    names, counts = np.unique(places[kept], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"a": 11, "b": 9, "c": 1}
    assert np.array_equal(spread_over(places, 1000), np.arange(100))


def test_tags_of_locations_label_patches(shop: Workshop, tmp_path: Path) -> None:
    from catalog.labels import read_label_set

    places = [place.id for place in shop.cube.locations() if place.split != "pretrain"]
    rows = [f"{place},{1 + index % 2}" for index, place in enumerate(places)] + [f"{places[0]},3"]
    (tmp_path / "tags.csv").write_text("\n".join(["id,class", *rows]))
    (tmp_path / "tags.yaml").write_text(
        "name: tags\nkind: tags\npath: tags.csv\nclasses: {1: even, 2: odd, 3: third}\nlicence: CC0-1.0\n"
    )
    recipe = judged_cube.recipe({})
    found = evaluation_set(
        recipe.evaluate[0],
        shop.cube,
        shop.cube.snapshot(),
        read_label_set(tmp_path / "tags.yaml"),
        PRODUCT,
        10.0,
    )
    tagged = dict(zip(found.locations.tolist(), found.labels.tolist(), strict=True))
    assert places[0] not in tagged, "two tags are no single class"
    assert {place: 1 + index % 2 for index, place in enumerate(places)} | tagged == {
        place: 1 + index % 2 for index, place in enumerate(places)
    }
    assert found.left_out["samples without a label"] == 2
