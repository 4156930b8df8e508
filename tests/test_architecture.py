"""The house holds: imports go down the floors, nothing is named for nothing, and querying stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"catalog": 1, "models": 2, "tasks": 3, "flows": 4}
SOURCES = sorted(path for floor in (*FLOORS, "deployments") for path in (ROOT / floor).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_import_only_goes_down(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    imported = imported_packages(path)
    if floor == "deployments":
        assert not imported & {"models", "tasks", "flows"}
    else:
        above = {name for name, level in FLOORS.items() if level > FLOORS[floor]}
        assert not imported & above
        if floor != "flows":
            assert "deployments" not in imported


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_module_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring and len(docstring.splitlines()[0]) > 15


def test_no_module_is_called_utils() -> None:
    nameless = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert not [path for path in SOURCES if path.stem in nameless or set(path.parts) & nameless]


def test_lightning_is_imported_by_its_new_name_only() -> None:
    assert not [path for path in SOURCES if "pytorch_lightning" in imported_packages(path)]


@pytest.mark.parametrize("module", ["catalog", "catalog.encoders", "catalog.ledger", "flows.cli"])
def test_querying_imports_neither_torch_nor_prefect_nor_alembic(module: str) -> None:
    heavy = ["torch", "prefect", "alembic", "great_expectations", "lightning", "pandas", "rasterio", "zarr"]
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == "[]"


def test_the_lock_holds_versions_and_no_addresses() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith(("#", " "))]
    assert pinned
    assert all("==" in line for line in pinned)
    assert not [line for line in lines if "://" in line]
