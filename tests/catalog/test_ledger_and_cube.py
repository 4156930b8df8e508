"""Ledger and cube stay one story: refreshes that run, die at any point or come late end in the same place."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from catalog.cubes import open_cube
from catalog.database import open_database
from catalog.ledger import Ledger, State
from catalog.scenes import Scene
from catalog.settings import Settings
from tests.catalog.cubes.made_up import location, product, sample
from tests.catalog.cubes.made_up import scene as first_version

CUBE, OPTICAL = "demo", product()
OBSERVATIONS, VERSIONS = 3, 3

ids = st.tuples(st.integers(0, OBSERVATIONS - 1), st.integers(0, VERSIONS - 1))
some = st.lists(ids, min_size=1, max_size=4, unique=True)


def scene(observation: int, version: int) -> Scene:
    """One of the versions of an observation."""
    return replace(
        first_version(observation, OPTICAL),
        id=f"scene-{observation:03d}-v{version}",
        baseline=f"05.{version:02d}",
        generated=datetime(2024, 6, 1, tzinfo=UTC) + timedelta(days=version),
    )


EVERY = {scene(o, v).id: scene(o, v) for o in range(OBSERVATIONS) for v in range(VERSIONS)}


@cache
def empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "swath.db"
        open_database(Settings(Path(folder), f"sqlite:///{path}", folder)).dispose()
        return path.read_bytes()


class Died(BaseException):
    """Stands for SIGKILL."""


class RefreshMachine(RuleBasedStateMachine):
    """Drives ledger and cube as ``refresh`` does; the model is what each scene has reached by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.settings = Settings(self.home, f"sqlite:///{self.home / 'swath.db'}", str(self.home / "store"))
        self.cube = open_cube(CUBE, self.settings, create=True, products=[OPTICAL], chunk_samples=2)
        self.own: dict[str, State] = {}
        self.in_cube: set[str] = set()
        self.open_ledger()

    def open_ledger(self) -> None:
        (self.home / "swath.db").write_bytes(empty_database())
        self.ledger = Ledger(open_database(self.settings))

    def teardown(self) -> None:
        self.everything_is_done_at_last()
        self.ledger.engine.dispose()
        shutil.rmtree(self.home)

    # ------------------------------------------------------------------ the model

    def better(self, scene_id: str) -> list[str]:
        """Versions of the same observation that come before this one, the best first."""
        mine = EVERY[scene_id]
        others = [EVERY[i] for i in self.own if EVERY[i].key == mine.key and EVERY[i].version > mine.version]
        others = [other for other in others if self.own[other.id] is not State.QUARANTINED]
        return [other.id for other in sorted(others, key=lambda other: other.version, reverse=True)]

    def state(self, scene_id: str) -> State:
        """What holds for a scene beside its other versions."""
        own, better = self.own[scene_id], self.better(scene_id)
        if not better:
            return own
        stands_in = own is State.CUBED and not any(self.own[other] is State.CUBED for other in better)
        return State.CUBED if stands_in else State.SUPERSEDED

    def of_state(self, *states: State) -> list[str]:
        return sorted(scene_id for scene_id in self.own if self.state(scene_id) in states)

    def agrees(self) -> None:
        """The ledger says what the model says."""
        rows = {row.scene_id: row for row in self.ledger.rows(cube=CUBE)}
        assert {i: row.state for i, row in rows.items()} == {i: self.state(i) for i in self.own}
        pending = [found.id for found in self.ledger.pending(CUBE, OPTICAL.id)]
        assert sorted(pending) == self.of_state(State.ACCEPTED)
        assert [EVERY[i].sensed for i in pending] == sorted(EVERY[i].sensed for i in pending)
        for scene_id, row in rows.items():
            assert (row.superseded_by is None) == (not self.better(scene_id))
            assert bool(row.reasons) == (self.own[scene_id] is State.QUARANTINED)

    # ------------------------------------------------------------------ what a refresh does

    @rule(found=some)
    def search(self, found: list[tuple[int, int]]) -> None:
        scenes = [scene(*which) for which in found]
        result = self.ledger.upsert(scenes, CUBE)
        assert set(result.new) == {item.id for item in scenes} - self.own.keys()
        for item in scenes:
            self.own.setdefault(item.id, State.SEEN)
        self.agrees()

    @precondition(lambda self: self.of_state(State.SEEN))
    @rule(data=st.data())
    def judge(self, data: st.DataObject) -> None:
        seen = self.of_state(State.SEEN)
        good = set(data.draw(st.lists(st.sampled_from(seen), unique=True)))
        where = {"cube": CUBE, "product": OPTICAL.id}
        self.ledger.quarantine({i: ["cloudy"] for i in seen if i not in good}, **where)
        self.ledger.accept(sorted(good), **where)
        self.own |= {i: State.ACCEPTED if i in good else State.QUARANTINED for i in seen}
        self.agrees()

    def reconcile(self) -> None:
        """How each refresh begins."""
        snapshot = self.cube.snapshot()
        agreed = self.in_cube == {i for i, own in self.own.items() if own is State.CUBED}
        if self.ledger.noted(CUBE, "snapshot") == snapshot:
            assert agreed, "the ledger need not look where it has noted this very snapshot"
            return
        listed = self.cube.scenes(OPTICAL.id, snapshot)
        assert set(listed) == self.in_cube
        self.ledger.reconcile(CUBE, {OPTICAL.id: listed}, snapshot)
        for scene_id in self.own:
            if self.own[scene_id] is State.CUBED and scene_id not in self.in_cube:
                self.own[scene_id] = State.ACCEPTED
        self.own |= dict.fromkeys(self.in_cube, State.CUBED)
        self.agrees()

    def take(self, dies: str = "") -> None:
        """Cube what is pending; die where told."""
        self.reconcile()
        pending = self.ledger.pending(CUBE, OPTICAL.id)
        if not pending:
            return
        held = self.cube.scenes(OPTICAL.id)
        with self.cube.write("refresh") as writer:
            writer.add_locations([location(0)])
            for new in pending:
                made = replace(sample(OPTICAL, int(new.id[6:9]), 0), scene=new.id)
                writer.append(OPTICAL, [made], [new])
                for old in held.values():
                    if old.key == new.key and old.version < new.version:
                        writer.supersede(old.id, new.id, OPTICAL.id)
            if dies == "before the commit":
                raise Died
        self.in_cube |= {new.id for new in pending}
        if dies == "after the commit":
            raise Died
        cubed, where = [new.id for new in pending], {"cube": CUBE, "product": OPTICAL.id}
        for scene_id in cubed[:1] if dies == "between two notes" else cubed:
            self.ledger.cubed([scene_id], writer.result.snapshot, **where)
            self.own[scene_id] = State.CUBED
        if dies:
            raise Died
        self.ledger.note(CUBE, "snapshot", writer.result.snapshot)
        self.agrees()

    @rule()
    def refresh(self) -> None:
        self.take()
        assert self.ledger.pending(CUBE, OPTICAL.id) == []
        assert {i for i, own in self.own.items() if own is State.CUBED} == self.in_cube

    @rule(
        moment=st.sampled_from(
            ["before the commit", "after the commit", "between two notes", "before it ends"]
        )
    )
    def a_refresh_dies(self, moment: str) -> None:
        self.reconcile()
        if self.of_state(State.ACCEPTED):
            with pytest.raises(Died):
                self.take(moment)

    @precondition(lambda self: self.of_state(State.QUARANTINED))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        scene_id = data.draw(st.sampled_from(self.of_state(State.QUARANTINED)))
        self.ledger.replay([scene_id], cube=CUBE, product=OPTICAL.id)
        self.own[scene_id] = State.SEEN
        self.agrees()

    @rule()
    def the_ledger_is_lost(self) -> None:
        self.ledger.engine.dispose()
        self.open_ledger()
        self.own = {}
        self.reconcile()
        assert set(self.own) == self.in_cube

    @precondition(lambda self: len(self.cube.history()) > 1)
    @rule(data=st.data())
    def the_cube_is_rolled_back(self, data: st.DataObject) -> None:
        earlier = data.draw(st.sampled_from([version.id for version in self.cube.history()][1:]))
        self.cube.repository.reset_branch("main", earlier)
        self.in_cube = set(self.cube.scenes(OPTICAL.id))
        self.reconcile()

    # ------------------------------------------------------------------ how it ends

    def everything_is_done_at_last(self) -> None:
        """A refresh that goes well leaves nothing pending, and one story."""
        self.reconcile()
        self.ledger.accept(self.of_state(State.SEEN), cube=CUBE, product=OPTICAL.id)
        self.own |= dict.fromkeys(self.of_state(State.SEEN), State.ACCEPTED)
        self.refresh()
        before = self.cube.snapshot()
        self.refresh()
        assert self.cube.snapshot() == before
        assert not self.of_state(State.SEEN, State.ACCEPTED)
        assert set(self.cube.scenes(OPTICAL.id)) == self.in_cube
        assert self.cube.verify() == []
        columns = self.cube.columns(OPTICAL.id)
        assert columns["sample"].is_unique
        assert set(columns["scene"]) == self.in_cube


QUICK = settings(
    max_examples=8,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRefreshes = RefreshMachine.TestCase
TestRefreshes.settings = QUICK


@pytest.mark.long
@pytest.mark.timeout(1200)
class TestRefreshesForLong(RefreshMachine.TestCase):
    settings = settings(QUICK, max_examples=40, stateful_step_count=40)
