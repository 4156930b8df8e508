"""A cube is what a plain model says, whatever is done to it in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from catalog.cubes import Cube, compact, open_cube
from catalog.cubes import writer as writer_module
from catalog.errors import CubeError
from catalog.products.model import Product
from catalog.samples import Sample
from catalog.settings import Settings
from tests.catalog.cubes.made_up import location, product, sample, scene

PRODUCTS = {made.id: made for made in (product(), product("toy-radar", dtype="float32", gsds=(20.0,)))}
SCENES, PLACES = 5, 5

Samples = dict[str, tuple[str, str]]
"""Sample id → SHA-256 of its pixels, and the scene that supersedes its own."""
State = dict[str, Samples]
"""By product."""

numbers = st.lists(st.tuples(st.integers(0, SCENES - 1), st.integers(0, PLACES - 1)), min_size=1, max_size=5)
parts = st.dictionaries(st.sampled_from(sorted(PRODUCTS)), numbers, min_size=1)
pairs = st.tuples(st.integers(0, SCENES - 1), st.integers(0, SCENES - 1)).filter(
    lambda pair: pair[0] != pair[1]
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


def name(number: int) -> str:
    return f"scene-{number:03d}"


def made(of: Product, wanted: list[tuple[int, int]]) -> list[Sample]:
    return [sample(of, number, place) for number, place in wanted]


class CubeMachine(RuleBasedStateMachine):
    """Drives a cube on a local disk, and keeps in plain dictionaries what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.settings = Settings(self.home, "", str(self.home / "store"))
        self.cube: Cube = open_cube("demo", self.settings, create=True, chunk_samples=3)
        self.live: dict[str, State] = {}
        """Snapshots that must be readable, oldest first."""
        self.written: dict[str, datetime] = {}
        self.tags: dict[str, str] = {}
        self.gone: set[str] = set()
        self.expired = False

    def teardown(self) -> None:
        for snapshot in self.live:
            assert self.cube.verify(snapshot) == []
            self.is_as_the_model_says(open_cube("demo", self.settings), snapshot)
        shutil.rmtree(self.home)

    # ------------------------------------------------------------------ what is done to it

    @property
    def newest(self) -> State:
        return self.live[self.cube.snapshot()] if self.live else {}

    def note(self, snapshot: str, state: State) -> None:
        self.live[snapshot] = state
        self.written[snapshot] = datetime.now(UTC)

    def write(self, wanted: dict[str, list[tuple[int, int]]], superseded: list[tuple[int, int]]) -> Any:
        with self.cube.write("a refresh") as writer:
            writer.add_locations(location(i) for i in range(PLACES))
            for product_id, of_product in wanted.items():
                own = PRODUCTS[product_id]
                writer.append(own, made(own, of_product), [scene(i, own) for i in range(SCENES)])
                for old, new in superseded:
                    writer.supersede(name(old), name(new), product_id)
        return writer.result

    def after(self, wanted: dict[str, list[tuple[int, int]]], superseded: list[tuple[int, int]]) -> State:
        """What the model holds after such a write."""
        state = {product_id: dict(samples) for product_id, samples in self.newest.items()}
        for product_id, of_product in wanted.items():
            held = state.setdefault(product_id, {})
            for item in made(PRODUCTS[product_id], of_product):
                held.setdefault(item.id, (item.sha256, ""))
            for old, new in dict(superseded).items():
                for sample_id, (sha256, _) in held.items():
                    if sample_id.split("/")[1] == name(old):
                        held[sample_id] = (sha256, name(new))
        return state

    @initialize(wanted=parts)
    def begin(self, wanted: dict[str, list[tuple[int, int]]]) -> None:
        self.refresh(wanted, [])

    @rule(wanted=parts, superseded=st.lists(pairs, max_size=2, unique_by=lambda pair: pair[0]))
    def refresh(self, wanted: dict[str, list[tuple[int, int]]], superseded: list[tuple[int, int]]) -> None:
        before, after = self.newest, self.after(wanted, superseded)
        history = len(self.cube.history())
        result = self.write(wanted, superseded)
        assert result.committed == (after != before)
        assert result.snapshot == self.cube.snapshot()
        assert len(self.cube.history()) == history + result.committed
        if result.committed:
            added = {p: len(after[p]) - len(before.get(p, {})) for p in after}
            assert dict(result.appended) == {p: count for p, count in added.items() if count}
            self.note(result.snapshot, after)

    @rule(wanted=parts)
    def a_refresh_fails(self, wanted: dict[str, list[tuple[int, int]]]) -> None:
        def broken(of: Product) -> Any:
            yield from made(of, wanted[of.id])
            raise OSError("the archive went away")

        with pytest.raises(OSError, match="went away"), self.cube.write("fails") as writer:
            writer.add_locations(location(i) for i in range(PLACES))
            for product_id in wanted:
                own = PRODUCTS[product_id]
                writer.append(own, broken(own), [scene(i, own) for i in range(SCENES)])

    def killed_at(self, module: Any, function: str, act: Callable[[], Any]) -> None:
        def die(*_: Any, **__: Any) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, function, die)
            with pytest.raises(Killed):
                act()
        assert self.cube.place.journal_file.exists()

    @rule(wanted=parts, moment=st.sampled_from(["write_columns", "publish"]), reopened=st.booleans())
    def a_refresh_is_killed(
        self, wanted: dict[str, list[tuple[int, int]]], moment: str, reopened: bool
    ) -> None:
        if self.after(wanted, []) == self.newest:
            return
        self.killed_at(writer_module, moment, lambda: self.write(wanted, []))
        if reopened:
            self.reopen()

    @precondition(lambda self: self.live)
    @rule(killed=st.booleans())
    def compact(self, killed: bool) -> None:
        state, before = self.newest, self.cube.snapshot()
        if killed:
            try:
                self.killed_at(compact, "publish", self.cube.compact)
            except pytest.fail.Exception:
                assert self.cube.snapshot() == before, "in order already: nothing was to be published"
            return
        done = self.cube.compact()
        assert done.committed == (done.snapshot != before)
        if done.committed:
            self.note(done.snapshot, state)
        places = {item.id: (item.block, item.id) for item in self.cube.locations()}
        for product_id in self.cube.products():
            columns = self.cube.columns(product_id)
            order = [(*places[row.location], row.time) for row in columns.itertuples()]
            assert order == sorted(order)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), label=st.sampled_from(["one", "two", "three"]))
    def tag(self, data: st.DataObject, label: str) -> None:
        snapshot = data.draw(st.sampled_from(list(self.live)))
        if self.tags.get(label, snapshot) != snapshot:
            with pytest.raises(CubeError, match="tag-taken"):
                self.cube.tag(label, snapshot)
            return
        self.cube.tag(label, snapshot)
        self.tags[label] = snapshot

    @precondition(lambda self: len(self.live) > 1)
    @rule(data=st.data(), dry_run=st.booleans())
    def expire(self, data: st.DataObject, dry_run: bool) -> None:
        limit = self.written[data.draw(st.sampled_from(list(self.live)))] + timedelta(microseconds=1)
        keep = data.draw(st.sets(st.sampled_from(list(self.live)), max_size=2))
        protected = {*self.tags.values(), *keep, self.cube.snapshot()}
        old = {snapshot for snapshot in self.live if self.written[snapshot] < limit}
        done = self.cube.expire(limit, keep=keep, dry_run=dry_run)
        assert set(done.snapshots) == old - protected
        assert set(done.kept) == old & protected
        if not dry_run:
            self.expired = True
            for snapshot in old - protected:
                del self.live[snapshot]
                self.gone.add(snapshot)

    @rule()
    def reopen(self) -> None:
        self.cube = open_cube("demo", self.settings, chunk_samples=3)

    # ------------------------------------------------------------------ what always holds

    @precondition(lambda self: self.live)
    @rule(data=st.data(), fresh=st.booleans())
    def read(self, data: st.DataObject, fresh: bool) -> None:
        cube = open_cube("demo", self.settings) if fresh else self.cube
        self.is_as_the_model_says(cube, data.draw(st.sampled_from(list(self.live))))

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def read_what_expired(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(sorted(self.gone)))
        with pytest.raises(CubeError):
            self.cube.columns(sorted(PRODUCTS)[0], gone)

    def is_as_the_model_says(self, cube: Cube, snapshot: str) -> None:
        state = self.live[snapshot]
        assert set(cube.products(snapshot)) == set(state)
        for product_id, samples in state.items():
            columns = cube.columns(product_id, snapshot)
            assert columns["sample"].is_unique
            told = zip(columns["sha256"], columns["superseded_by"], strict=True)
            assert dict(zip(columns["sample"], told, strict=True)) == samples
            own = PRODUCTS[product_id]
            for gsd in own.resolutions_m:
                values = cube.read(product_id, gsd, columns["row"], snapshot)
                for sample_id, pixels in zip(columns["sample"], values, strict=True):
                    _, which, where = sample_id.split("/")
                    written = sample(own, int(which[-3:]), int(where[-3:])).pixels[gsd]
                    assert pixels.tobytes() == written.tobytes()

    @invariant()
    def the_newest_is_as_the_model_says(self) -> None:
        if self.live:
            newest = list(self.live)[-1]
            assert self.cube.snapshot() == newest
            for product_id, samples in self.live[newest].items():
                columns = self.cube.columns(product_id)
                assert set(columns["sample"]) == set(samples)

    @invariant()
    def history_and_tags_lead_to_what_is_live(self) -> None:
        ids = [version.id for version in self.cube.history()]
        assert len(ids) == len(set(ids))
        order = list(self.live)
        if not self.expired:
            assert ids == order[::-1]
        assert [snapshot for snapshot in order[::-1] if snapshot in ids] == ids
        for label, snapshot in self.tags.items():
            assert self.cube.snapshot(label) == snapshot


QUICK = settings(
    max_examples=6,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestCube = CubeMachine.TestCase
TestCube.settings = QUICK


@pytest.mark.long
@pytest.mark.timeout(1200)
class TestCubeForLong(CubeMachine.TestCase):
    settings = settings(QUICK, max_examples=60, stateful_step_count=40)
