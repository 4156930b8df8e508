"""A recipe that extends others says what it changes, and nothing is passed on by accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog.errors import UsageError
from catalog.recipes import read_recipe
from catalog.recipes.extends import read_document

LOWER: dict[str, Any] = {
    "name": "lower",
    "title": "The lower one",
    "archive": "sandbox",
    "area": {"bbox": [11, 47, 12, 48]},
    "period": {"start": "2021-01-01", "end": "2021-12-31"},
    "products": {"sentinel-2-l2a": {}},
    "locations": {"strategy": "cities", "size_m": 480, "max_count": 5, "spread_m": 900},
    "pretrain": [
        {
            "encoder": f"lower-{number}",
            "method": "moco-v2",
            "products": ["sentinel-2-l2a"],
            "input_size_px": 32,
            "steps": 100,
            "batch_size": 8,
            "optimiser": {"name": "sgd", "learning_rate": 0.03, "momentum": 0.8},
            "options": {"queue_size": 64, "temperature": 0.1},
        }
        for number in range(2)
    ],
}


def write(folder: Path, stem: str, **document: Any) -> Path:
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(document | {"name": stem}), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "lower", **LOWER)
    return tmp_path


def test_a_key_stands_in_place_of_the_lower_one_whole(folder: Path) -> None:
    path = write(folder, "upper", extends="lower", locations={"size_m": 960})
    read = read_recipe(path)
    assert (read.name, read.title) == ("upper", "")
    assert (read.locations.strategy, read.locations.size_m) == ("grid", 960)
    assert read.archive == "sandbox"
    assert [item.encoder for item in read.pretrain] == ["lower-0", "lower-1"]


def test_a_pretraining_without_a_method_is_laid_over_the_one_at_its_place(folder: Path) -> None:
    over = {"encoder": "mine", "steps": 3, "optimiser": {"learning_rate": 1.0}, "options": {"queue_size": 8}}
    (item,) = read_recipe(write(folder, "upper", extends="lower", pretrain=[over])).pretrain
    assert (item.encoder, item.method, item.steps, item.batch_size) == ("mine", "moco-v2", 3, 8)
    assert (item.optimiser.name, item.optimiser.learning_rate, item.optimiser.momentum) == ("sgd", 1.0, 0.8)
    assert item.options == {"queue_size": 8, "temperature": 0.1}


def test_a_pretraining_with_a_method_stands_for_itself(folder: Path) -> None:
    own = LOWER["pretrain"][0] | {"encoder": "own", "method": "byol", "options": {}}
    (item,) = read_recipe(write(folder, "upper", extends="lower", pretrain=[own])).pretrain
    assert (item.method, item.options) == ("byol", {})


def test_of_several_the_later_come_on_top(folder: Path) -> None:
    write(folder, "elsewhere", archive="sandbox-all", period=LOWER["period"])
    read = read_recipe(write(folder, "upper", extends=["lower", "elsewhere"]))
    assert read.archive == "sandbox-all"
    assert len(read.pretrain) == 2


def test_extending_goes_through_several_files_and_the_command_line_comes_last(folder: Path) -> None:
    write(folder, "middle", extends="lower", archive="sandbox-all")
    path = write(folder, "upper", extends="middle", pretrain=[{"steps": 7}, {"steps": 8}])
    read = read_recipe(path, ("pretrain.1.steps=9",))
    assert read.archive == "sandbox-all"
    assert [item.steps for item in read.pretrain] == [7, 9]


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        ({"upper": {"extends": "nobody"}}, "recipe-not-found", "nobody.yaml"),
        ({"upper": {"extends": "upper"}}, "invalid-recipe", "extends itself"),
        ({"upper": {"extends": "b"}, "b": {"extends": "upper"}}, "invalid-recipe", "extends itself"),
        ({"upper": {"extends": "../lower"}}, "invalid-recipe", "no name of a recipe beside it"),
        ({"upper": {"extends": ["lower", 3]}}, "invalid-recipe", "no name of a recipe beside it"),
        ({"upper": {"extends": "lower", "stride": 3}}, "invalid-recipe", "unknown key"),
    ],
)
def test_what_cannot_be_extended_is_refused(
    folder: Path, files: dict[str, dict[str, Any]], code: str, said: str
) -> None:
    for name, document in files.items():
        write(folder, name, **document)
    with pytest.raises(UsageError, match=said) as refusal:
        read_recipe(folder / "upper.yaml")
    assert refusal.value.code == code


def test_a_recipe_that_extends_must_name_itself(folder: Path) -> None:
    (folder / "upper.yaml").write_text("extends: lower\n", encoding="utf-8")
    with pytest.raises(UsageError, match="name"):
        read_recipe(folder / "upper.yaml")


def test_a_file_without_extends_is_read_as_it_is(folder: Path) -> None:
    assert read_document(folder / "lower.yaml") == LOWER
