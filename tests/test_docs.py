"""The pages keep up with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from pydantic import BaseModel

from catalog import recipes

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "SwathError",
    "UsageError",
    "ArchiveError",
    "SceneError",
    "CubeError",
    "LedgerError",
    "EncoderError",
    "TrainingError",
    "ReadFailure",
    "Diagnosis",
}


def error_codes() -> set[str]:
    codes = set()
    for floor in ("catalog", "models", "tasks", "flows", "deployments"):
        for path in (ROOT / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in KINDS
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    codes.add(str(node.args[0].value))
    return codes


def test_every_error_code_is_explained() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    codes = error_codes()
    assert len(codes) > 100
    assert {code for code in codes if f"`{code}`" not in page} == set()


def test_every_key_of_a_recipe_is_explained() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    models = [
        item
        for item in vars(recipes).values()
        if isinstance(item, type) and issubclass(item, BaseModel) and item.model_fields
    ]
    keys = {key for model in models for key in model.model_fields}
    assert len(keys) > 40
    assert {key for key in keys if f"| `{key}` |" not in page} == set()


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_built_in_recipes_are_valid() -> None:
    built_in = sorted((ROOT / "deployments" / "recipes").glob("*.yaml"))
    assert {path.stem for path in built_in} >= {"sandbox", "oscd", "enmap-potsdam"}
    for path in built_in:
        assert recipes.read_recipe(path).name == path.stem
