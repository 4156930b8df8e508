"""Methods are listed without torch and described with their options."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from catalog.errors import UsageError
from flows.commands.methods import app
from models.methods import METHODS, describe_method, describe_methods, load_method


def test_listing_methods_imports_no_torch() -> None:
    code = (
        "import sys, json, models.methods as m;"
        "print(json.dumps([len(m.describe_methods()), 'torch' in sys.modules, 'lightly' in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == [len(METHODS), False, False]


def test_every_method_loads_under_its_name_and_documents_its_options() -> None:
    for card in describe_methods():
        assert load_method(card["name"]).name == card["name"]
        described = json.loads(json.dumps(describe_method(card["name"])))
        assert described["options"]
        assert card["reference"] and card["skeleton"] and card["products"] and card["recipe"]
        assert set(card["products"]) <= {"optical", "radar", "hyperspectral"}


def test_the_list_says_of_each_method_what_it_takes_and_where_it_comes_from() -> None:
    answer = CliRunner().invoke(app, ["list", "--json"])
    listed = {card["name"]: card for card in json.loads(answer.stdout)}
    assert listed.keys() == METHODS.keys()
    for card in listed.values():
        assert {"skeleton", "products", "recipe", "reference"} <= card.keys()
    assert listed["hsi-paws"]["recipe"] == "hsi-paws"
    assert "2306.10955" in listed["hsi-paws"]["reference"]
    assert "radar" not in listed["pixel-barlow-twins"]["products"]


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"known: moco-v2, .*mae") as refusal:
        load_method("mocco")
    assert refusal.value.exit_code == 2
