"""Runs: the same run is found again, a killed one is resumed, and only one of a kind is ever finished."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from catalog import runs as runs_module
from catalog.errors import LedgerError
from catalog.runs import Runs, code_version, lock_hash, run_identity, source_hash

ROOT = Path(__file__).resolve().parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def runs(engine: Engine) -> Runs:
    return Runs(engine)


def start(runs: Runs, run_id: str, identity: str | None = "abc", **more: Any) -> None:
    runs.start(run_id, kind="pretrain", flow="data-to-model", recipe="sandbox", identity=identity, **more)


def test_a_finished_run_is_found_by_its_identity(runs: Runs) -> None:
    start(runs, "one")
    assert runs.find("pretrain", "abc") is None
    finished = runs.finish("one", {"loss": 0.5})
    assert runs.find("pretrain", "abc") == finished
    assert finished.manifest == {"loss": 0.5}
    assert finished.ended is not None and finished.ended >= finished.started
    assert runs.find("refresh", "abc") is None
    assert runs.find("pretrain", "other") is None


def test_a_killed_run_is_found_and_resumed_under_its_id(runs: Runs) -> None:
    start(runs, "killed", manifest={"step": 1})
    found = runs.find_unfinished("pretrain", "abc")
    assert found is not None and found.run_id == "killed"
    start(runs, "killed")
    assert runs.get("killed").manifest == {"step": 1}
    runs.fail("killed", {"why": "out of memory"})
    start(runs, "killed")
    assert runs.get("killed").status == "running"
    assert runs.get("killed").ended is None
    runs.finish("killed")
    assert runs.find_unfinished("pretrain", "abc") is None


def test_of_two_runs_with_one_identity_the_first_to_finish_is_the_run(runs: Runs) -> None:
    start(runs, "slow")
    start(runs, "fast")
    runs.finish("fast")
    assert runs.finish("slow").run_id == "fast"
    assert runs.get("slow").status == "duplicate"
    assert runs.finish("fast").status == "finished"
    assert [run.run_id for run in runs.list(status="finished")] == ["fast"]


def test_runs_without_identity_may_all_finish(runs: Runs) -> None:
    for run_id in ("one", "two"):
        start(runs, run_id, identity=None)
        assert runs.finish(run_id).status == "finished"


def test_what_ended_well_does_not_fail_any_more(runs: Runs) -> None:
    start(runs, "one")
    runs.finish("one")
    with pytest.raises(LedgerError) as caught:
        runs.fail("one")
    assert caught.value.code == "run-finished"
    assert runs.get("one").status == "finished"


def test_a_finished_run_whose_outcome_was_lost_can_be_repeated(runs: Runs) -> None:
    start(runs, "one")
    runs.finish("one", {"loss": 1})
    start(runs, "one")
    assert runs.find("pretrain", "abc") is None
    assert runs.finish("one", {"loss": 2}).manifest == {"loss": 2}


def test_an_id_cannot_be_taken_over_by_another_run(runs: Runs) -> None:
    start(runs, "one")
    with pytest.raises(LedgerError, match="one") as caught:
        start(runs, "one", identity="other")
    assert caught.value.code == "run-id-taken"


def test_an_unknown_run_is_named(runs: Runs) -> None:
    with pytest.raises(LedgerError, match="nowhere") as caught:
        runs.get("nowhere")
    assert caught.value.code == "unknown-run"


def test_runs_are_listed_newest_first(runs: Runs) -> None:
    for run_id in ("a", "b", "c"):
        start(runs, run_id, identity=None)
    assert [run.run_id for run in runs.list(limit=2)] == ["c", "b"]
    assert runs.list(kind="evaluate") == []


@given(st.dictionaries(st.text(min_size=1).filter(str.isidentifier), JSON, max_size=4))
def test_an_identity_does_not_depend_on_order(parts: dict[str, Any]) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return tuple(map(turned, value)) if isinstance(value, list) else value

    assert run_identity(**parts) == run_identity(**turned(parts))


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"seed": "1"}, {"seed": None}, {"seed": 1, "lock": "x"}, {"sed": 1}]
)
def test_another_part_is_another_identity(other: dict[str, Any]) -> None:
    assert run_identity(seed=1) != run_identity(**other)


@pytest.mark.parametrize("part", [float("nan"), float("inf"), object(), Path("x")])
def test_what_has_no_canonical_form_has_no_identity(part: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        run_identity(part=part)


def test_the_source_hash_follows_the_code_and_not_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "docs").mkdir()
    code = tmp_path / "catalog" / "a.py"
    code.write_text("1")
    monkeypatch.setattr(runs_module, "_ROOT", tmp_path)
    compute = source_hash.__wrapped__
    first = compute()
    (tmp_path / "docs" / "page.py").write_text("hello")
    assert compute() == first
    code.write_text("2")
    changed = compute()
    assert changed != first
    code.rename(tmp_path / "catalog" / "b.py")
    assert compute() not in (first, changed)


def test_an_edited_checkout_has_a_version_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path), *arguments],
            check=True,
            capture_output=True,
        )

    (tmp_path / "catalog").mkdir()
    code = tmp_path / "catalog" / "a.py"
    code.write_text("1")
    monkeypatch.setattr(runs_module, "_ROOT", tmp_path)
    monkeypatch.setattr(runs_module, "source_hash", source_hash.__wrapped__)
    compute = code_version.__wrapped__
    without_git = compute()
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    clean = compute()
    code.write_text("2")
    first_edit = compute()
    code.write_text("3")
    second_edit = compute()
    (tmp_path / "catalog" / "untracked.py").write_text("4")
    assert len({without_git, clean, first_edit, second_edit, compute()}) == 5
    assert first_edit.startswith(f"{clean.partition('+')[0]}-dirty+")


def test_the_lock_hash_follows_the_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "_ROOT", tmp_path)
    compute = lock_hash.__wrapped__
    of_installed = compute()
    (tmp_path / "requirements.lock").write_text("numpy==2.5\n")
    locked = compute()
    (tmp_path / "requirements.lock").write_text("numpy==2.6\n")
    assert len({of_installed, locked, compute()}) == 3


def test_importing_runs_is_light() -> None:
    code = "import sys, catalog.runs; print([n for n in ('torch', 'alembic', 'prefect') if n in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
