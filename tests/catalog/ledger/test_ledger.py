"""The ledger: what was seen, what became of it, and which version of an observation stands."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text

from catalog.database import open_database
from catalog.errors import LedgerError
from catalog.grids import Grid
from catalog.ledger import Ledger
from catalog.ledger.supersession import State, Version, settle, version_order
from catalog.samples import Location
from catalog.scenes import Scene, SceneAsset
from catalog.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2024, 5, 30, 17, 49, 9, tzinfo=UTC)
PRODUCT = "sentinel-2-l2a"
HERE: dict[str, Any] = {"cube": "c", "product": PRODUCT}


def scene(scene_id: str, place: int = 0, baseline: str | None = "05.10", **more: Any) -> Scene:
    """Scenes with the same ``place`` are versions of one observation."""
    values: dict[str, Any] = {
        "id": scene_id,
        "product": PRODUCT,
        "archive": "sandbox",
        "collection": PRODUCT,
        "platform": "sentinel-2a",
        "sensed": START + timedelta(hours=place),
        "tile": "13TDE",
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
        "bbox": (0.0, 0.0, 1.0, 1.0),
        "assets": {
            "B02": SceneAsset(
                "B02",
                "https://example.org/B02.tif",
                ("B02",),
                Grid(32613, (10.0, 0.0, 500000.0, 0.0, -10.0, 4500000.0), (100, 100)),
                size_bytes=4711,
            )
        },
        "epsg": 32613,
        "baseline": baseline,
        "generated": START + timedelta(hours=6),
    }
    return Scene(**values | more)


def location(location_id: str, **more: Any) -> Location:
    values: dict[str, Any] = {
        "id": location_id,
        "epsg": 32633,
        "x": 400000.0,
        "y": 5800000.0,
        "size_m": 1920.0,
        "longitude": 13.5,
        "latitude": 52.4,
        "split": "pretrain",
        "block": "b1",
    }
    return Location(**values | more)


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)


def states(ledger: Ledger, **where: Any) -> dict[str, str]:
    return {row.scene_id: str(row.state) for row in ledger.rows(**where)}


def cube_them(ledger: Ledger, *ids: str, snapshot: str = "S1") -> None:
    ledger.accept(ids, **HERE)
    ledger.cubed(ids, snapshot, **HERE)


# ---------------------------------------------------------------------- what was found


def test_a_found_scene_is_seen_and_comes_back_whole(ledger: Ledger) -> None:
    found = scene("a")
    result = ledger.upsert([found], "c")
    assert (result.new, result.known, result.superseded) == (("a",), 0, ())
    row = ledger.row("a")
    assert row.state is State.SEEN
    assert row.scene() == found
    assert row.sensed == found.sensed
    assert row.summary()["scene"] == "a"


def test_what_is_known_is_not_new_again(ledger: Ledger) -> None:
    scenes = [scene(f"s{i}", i) for i in range(20)]
    ledger.upsert(scenes, "c")
    before = ledger.rows()
    result = ledger.upsert((item for item in scenes), "c")
    assert (result.new, result.known, result.renewed, result.changed) == ((), 20, (), ())
    assert ledger.rows() == before


def test_one_scene_in_two_cubes_has_two_lives(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    assert ledger.upsert([scene("a")], "d").new == ("a",)
    ledger.accept(["a"], **HERE)
    assert states(ledger, cube="d") == {"a": "seen"}
    with pytest.raises(LedgerError, match="c/sentinel-2-l2a, d/sentinel-2-l2a") as caught:
        ledger.row("a")
    assert caught.value.code == "ambiguous-scene"
    assert ledger.row("a", cube="c").state is State.ACCEPTED


def test_one_id_in_two_products_is_two_scenes(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("a", product="sentinel-2-l1c")], "c")
    ledger.quarantine({"a": ["cloudy"]}, **HERE)
    assert states(ledger, product="sentinel-2-l1c") == {"a": "seen"}


def test_ids_with_odd_characters_are_known_again(ledger: Ledger) -> None:
    scenes = [
        scene(odd, i) for i, odd in enumerate(('say "a"', "back\\slash", "ä ö", "tab\t", "o'clock", "%_"))
    ]
    ledger.upsert(scenes, "c")
    assert ledger.upsert(scenes, "c").known == len(scenes)


def test_a_duplicate_within_one_search_is_one_scene(ledger: Ledger) -> None:
    result = ledger.upsert([scene("a", baseline="05.10"), scene("a", baseline="05.11"), scene("a")], "c")
    assert result.new == ("a",)
    assert ledger.row("a").scene().baseline == "05.11"


def test_a_better_version_under_the_same_id_is_judged_again(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c")
    ledger.quarantine({"a": ["dark"]}, **HERE)
    result = ledger.upsert([scene("a", baseline="05.11"), scene("b", 1)], "c")
    assert (result.renewed, result.known) == (("a",), 1)
    row = ledger.row("a")
    assert (row.state, row.reasons, row.scene().baseline) == (State.SEEN, (), "05.11")
    assert ledger.upsert([scene("a", baseline="05.09")], "c").known == 1
    assert ledger.row("a").scene().baseline == "05.11"


def test_a_better_version_under_the_id_of_a_cubed_scene_becomes_a_scene_of_its_own(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    cube_them(ledger, "a")
    better = scene("a", baseline="05.11")
    result = ledger.upsert([better], "c")
    assert result.changed == ("a",)
    (own,) = result.new
    assert own.startswith("a~")
    assert ledger.row("a").superseded_by == own
    assert ledger.row(own).scene() == replace(better, id=own)
    assert ledger.upsert([better], "c").new == ()
    cube_them(ledger, own)
    assert states(ledger) == {"a": "superseded", own: "cubed"}


# ---------------------------------------------------------------------- items that were looked at before


def test_an_item_that_did_not_change_is_known_by_its_digest(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c", {"a": "1", "b": "2"})
    assert ledger.known_items("c", PRODUCT, {"a": "1", "b": "3", "z": "1"}) == {"a"}
    assert ledger.known_items("other", PRODUCT, {"a": "1"}) == set()


def test_a_changed_item_of_the_same_version_renews_the_record_and_is_judged_again(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1), scene("q", 2)], "c", {"a": "1", "b": "1", "q": "1"})
    ledger.accept(["a"], **HERE)
    ledger.quarantine({"q": ["dark"]}, **HERE)
    moved = replace(scene("a"), cloud_cover_percent=3.5)
    result = ledger.upsert(
        [moved, scene("b", 1), replace(scene("q", 2), cloud_cover_percent=4.5)],
        "c",
        {"a": "2", "b": "1", "q": "2"},
    )
    assert (result.touched, result.known) == (("a", "q"), 3)
    assert states(ledger) == {"a": "seen", "b": "seen", "q": "quarantined"}
    assert ledger.row("a").scene() == moved
    assert ledger.row("q").scene().cloud_cover_percent == 4.5
    assert ledger.known_items("c", PRODUCT, {"a": "2", "q": "2"}) == {"a", "q"}


def test_a_changed_item_of_a_cubed_scene_leaves_the_record_its_samples_came_from(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c", {"a": "1"})
    cube_them(ledger, "a")
    before = ledger.row("a")
    ledger.upsert([replace(scene("a"), cloud_cover_percent=3.5)], "c", {"a": "2"})
    assert ledger.row("a") == before
    assert ledger.known_items("c", PRODUCT, {"a": "2"}) == {"a"}


def test_what_an_item_points_to_is_added_to_its_record(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    whole = replace(scene("a"), radiometry={"mtl": {"sun_elevation_deg": 40.0}})
    ledger.complete([whole], "c")
    assert ledger.row("a").scene() == whole


# ---------------------------------------------------------------------- what became of them


def test_a_scene_goes_from_seen_to_accepted_to_cubed(ledger: Ledger) -> None:
    ledger.upsert([scene("late", 1), scene("early", 0), scene("other", 2)], "c")
    ledger.accept(["late", "early"], **HERE)
    assert [item.id for item in ledger.pending("c", PRODUCT)] == ["early", "late"]
    ledger.cubed(["early"], "S1", **HERE)
    assert [item.id for item in ledger.pending("c", PRODUCT)] == ["late"]
    assert ledger.row("early").snapshot == "S1"
    assert ledger.counts() == {
        ("c", PRODUCT, State.ACCEPTED): 1,
        ("c", PRODUCT, State.CUBED): 1,
        ("c", PRODUCT, State.SEEN): 1,
    }


def test_a_quarantined_scene_keeps_its_reasons_until_it_is_replayed(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    ledger.quarantine({"a": ["cloud 97 %", "sun too low"]}, **HERE)
    assert ledger.row("a").reasons == ("cloud 97 %", "sun too low")
    ledger.replay(["a"], **HERE)
    assert (ledger.row("a").state, ledger.row("a").reasons) == (State.SEEN, ())


def test_an_accepted_scene_may_turn_out_unreadable(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    ledger.accept(["a"], **HERE)
    ledger.quarantine({"a": ["B02 is truncated"]}, **HERE)
    assert states(ledger) == {"a": "quarantined"}
    assert ledger.pending("c", PRODUCT) == []


def test_repeating_a_change_changes_nothing(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    ledger.accept(["a"], **HERE)
    ledger.accept(["a"], **HERE)
    ledger.cubed(["a"], "S1", **HERE)
    before = ledger.row("a")
    ledger.cubed(["a"], "S2", **HERE)
    assert ledger.row("a") == before


Change = Callable[[Ledger], None]
ACCEPT: Change = lambda ledger: ledger.accept(["a", "b"], **HERE)
QUARANTINE: Change = lambda ledger: ledger.quarantine({"a": ["why"], "b": ["why"]}, **HERE)
CUBED: Change = lambda ledger: ledger.cubed(["a", "b"], "S1", **HERE)
REPLAY: Change = lambda ledger: ledger.replay(["a", "b"], **HERE)


@pytest.mark.parametrize(
    ("before", "change", "state"),
    [
        ([], CUBED, "seen"),
        ([ACCEPT], REPLAY, "accepted"),
        ([QUARANTINE], ACCEPT, "quarantined"),
        ([QUARANTINE], CUBED, "quarantined"),
        ([ACCEPT, CUBED], ACCEPT, "cubed"),
        ([ACCEPT, CUBED], QUARANTINE, "cubed"),
        ([ACCEPT, CUBED], REPLAY, "cubed"),
    ],
)
def test_a_change_that_cannot_be_is_refused_whole(
    ledger: Ledger, before: list[Change], change: Change, state: str
) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c")
    for earlier in before:
        earlier(ledger)
    rows = ledger.rows()
    with pytest.raises(LedgerError, match=f"it is {state}") as caught:
        change(ledger)
    assert caught.value.code == "illegal-transition"
    assert caught.value.subject == "a"
    assert ledger.rows() == rows


def test_one_unknown_scene_stops_the_whole_change(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    with pytest.raises(LedgerError, match="ghost") as caught:
        ledger.accept(["a", "ghost"], **HERE)
    assert caught.value.code == "unknown-scene"
    assert states(ledger) == {"a": "seen"}
    with pytest.raises(LedgerError):
        ledger.row("ghost")


@pytest.mark.parametrize("reasons", ["one string", []])
def test_a_quarantine_needs_a_list_of_reasons(ledger: Ledger, reasons: Any) -> None:
    ledger.upsert([scene("a")], "c")
    with pytest.raises(ValueError, match="reasons"):
        ledger.quarantine({"a": reasons}, **HERE)


def test_an_unknown_state_is_refused_with_those_that_exist(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="superseded"):
        ledger.rows(state="lost")


# ---------------------------------------------------------------------- versions of one observation


OLD, NEW = scene("old", baseline="02.14"), scene("new", baseline="05.00")


def test_the_better_version_of_one_search_stands(ledger: Ledger) -> None:
    result = ledger.upsert([NEW, OLD], "c")
    assert result.superseded == (("old", "new"),)
    assert states(ledger) == {"old": "superseded", "new": "seen"}
    assert ledger.row("old").superseded_by == "new"


def test_a_loser_that_is_not_cubed_is_superseded_at_once(ledger: Ledger) -> None:
    ledger.upsert([OLD], "c")
    ledger.accept(["old"], **HERE)
    assert ledger.upsert([NEW], "c").superseded == (("old", "new"),)
    assert states(ledger) == {"old": "superseded", "new": "seen"}
    assert ledger.pending("c", PRODUCT) == []


def test_a_cubed_loser_stands_in_until_the_winner_is_cubed(ledger: Ledger) -> None:
    ledger.upsert([OLD], "c")
    cube_them(ledger, "old")
    assert ledger.upsert([NEW], "c").superseded == (("old", "new"),)
    assert states(ledger) == {"old": "cubed", "new": "seen"}
    assert ledger.row("old").superseded_by == "new"
    assert ledger.replacements("c", PRODUCT) == {}
    ledger.accept(["new"], **HERE)
    assert ledger.replacements("c", PRODUCT) == {"old": "new"}
    ledger.cubed(["new"], "S2", **HERE)
    assert states(ledger) == {"old": "superseded", "new": "cubed"}
    assert ledger.replacements("c", PRODUCT) == {}
    assert ledger.row("old").snapshot == "S1"


def test_if_the_winner_is_quarantined_a_cubed_loser_stays_cubed(ledger: Ledger) -> None:
    ledger.upsert([OLD], "c")
    cube_them(ledger, "old")
    ledger.upsert([NEW], "c")
    ledger.quarantine({"new": ["dark"]}, **HERE)
    assert states(ledger) == {"old": "cubed", "new": "quarantined"}
    assert ledger.row("old").superseded_by is None


@pytest.mark.parametrize("reached", ["seen", "accepted", "quarantined"])
def test_if_the_winner_is_quarantined_an_uncubed_loser_is_what_it_was(ledger: Ledger, reached: str) -> None:
    ledger.upsert([OLD], "c")
    if reached == "accepted":
        ledger.accept(["old"], **HERE)
    if reached == "quarantined":
        ledger.quarantine({"old": ["cloudy"]}, **HERE)
    before = ledger.row("old")
    ledger.upsert([NEW], "c")
    assert states(ledger)["old"] == "superseded"
    ledger.quarantine({"new": ["dark"]}, **HERE)
    assert dataclasses.replace(ledger.row("old"), changed_at=before.changed_at) == before


def test_a_winner_given_another_chance_supersedes_again(ledger: Ledger) -> None:
    ledger.upsert([OLD, NEW], "c")
    ledger.quarantine({"new": ["dark"]}, **HERE)
    ledger.replay(["new"], **HERE)
    assert states(ledger) == {"old": "superseded", "new": "seen"}


def test_an_old_version_that_arrives_late_is_no_work(ledger: Ledger) -> None:
    ledger.upsert([NEW], "c")
    cube_them(ledger, "new")
    assert ledger.upsert([OLD], "c").superseded == (("old", "new"),)
    assert states(ledger) == {"old": "superseded", "new": "cubed"}
    with pytest.raises(LedgerError, match="superseded"):
        ledger.accept(["old"], **HERE)


def test_a_scene_cubed_while_its_better_version_was_found_is_in_the_cube(ledger: Ledger) -> None:
    ledger.upsert([OLD], "c")
    ledger.accept(["old"], **HERE)
    ledger.upsert([NEW], "c")
    ledger.cubed(["old"], "S1", **HERE)
    assert states(ledger) == {"old": "cubed", "new": "seen"}
    assert ledger.row("old").superseded_by == "new"


def test_three_versions_form_a_chain_of_what_stood(ledger: Ledger) -> None:
    ledger.upsert([scene("v1", baseline="01.00")], "c")
    cube_them(ledger, "v1")
    ledger.upsert([scene("v2", baseline="02.00")], "c")
    cube_them(ledger, "v2", snapshot="S2")
    ledger.upsert([scene("v3", baseline="03.00")], "c")
    assert states(ledger) == {"v1": "superseded", "v2": "cubed", "v3": "seen"}
    cube_them(ledger, "v3", snapshot="S3")
    assert {row.scene_id: row.superseded_by for row in ledger.rows()} == {"v1": "v2", "v2": "v3", "v3": None}


def test_an_exact_copy_sets_off_no_work(ledger: Ledger) -> None:
    ledger.upsert([scene("first")], "c")
    cube_them(ledger, "first")
    ledger.upsert([scene("a-copy")], "c")
    assert states(ledger) == {"first": "cubed", "a-copy": "superseded"}


def test_the_same_second_of_another_product_is_another_observation(ledger: Ledger) -> None:
    ledger.upsert([OLD, scene("new", baseline="05.00", product="sentinel-2-l1c")], "c")
    assert set(states(ledger).values()) == {"seen"}


VERSIONS = st.tuples(
    st.sampled_from([None, "1", "02.14", "05.00", "05.10", "5.9", "10.00", "01.05.02", "V1.2"]),
    st.none() | st.datetimes(timezones=st.sampled_from([UTC])) | st.just(START.replace(microsecond=5)),
)


@given(VERSIONS, VERSIONS)
def test_the_stored_order_is_the_order_of_versions(first: Any, second: Any) -> None:
    a, b = (scene("x", baseline=baseline, generated=made) for baseline, made in (first, second))
    assert (version_order(a) < version_order(b)) == (a.version < b.version)
    assert (version_order(a) == version_order(b)) == (a.version == b.version)


OWN = st.sampled_from([State.SEEN, State.ACCEPTED, State.QUARANTINED, State.CUBED])


@given(st.lists(st.tuples(st.sampled_from("abc"), OWN), min_size=1, max_size=4), st.randoms())
def test_what_holds_does_not_depend_on_the_order_of_arrival_in_a_list(drawn: Any, random: Any) -> None:
    versions = [Version(f"s{i}", order, START, own) for i, (order, own) in enumerate(drawn)]
    shuffled = versions.copy()
    random.shuffle(shuffled)
    assert settle(shuffled) == settle(versions)


# ---------------------------------------------------------------------- the ledger against a model of it


class Observations(RuleBasedStateMachine):
    """Three observations with up to four versions each, moved at random."""

    engine: Engine
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.cube = f"cube{next(self.numbers)}"
        self.where = {"cube": self.cube, "product": PRODUCT}
        self.ledger = Ledger(self.engine)
        self.own: dict[str, str] = {}
        self.versions = {f"p{p}v{v}": scene(f"p{p}v{v}", p, f"0{v}.00") for p in range(3) for v in range(4)}

    known = precondition(lambda self: self.own)

    @rule(ids=st.sets(st.sampled_from([f"p{p}v{v}" for p in range(3) for v in range(4)]), min_size=1))
    def find(self, ids: set[str]) -> None:
        result = self.ledger.upsert([self.versions[i] for i in sorted(ids)], self.cube)
        assert set(result.new) == ids - self.own.keys()
        assert result.known == len(ids & self.own.keys())
        self.own |= dict.fromkeys(result.new, "seen")

    @known
    @rule(data=st.data(), to=st.sampled_from(["accepted", "quarantined", "cubed", "seen"]))
    def move(self, data: st.DataObject, to: str) -> None:
        scene_id = data.draw(st.sampled_from(sorted(self.own)))
        before = self.ledger.rows(cube=self.cube)
        state = next(str(row.state) for row in before if row.scene_id == scene_id)
        own = self.own[scene_id]
        allowed = {
            "accepted": {"seen", "accepted"},
            "quarantined": {"seen", "accepted", "quarantined"},
            "cubed": {"accepted", "cubed"},
            "seen": {"quarantined", "seen"},
        }[to]
        try:
            if to == "accepted":
                self.ledger.accept([scene_id], **self.where)
            elif to == "quarantined":
                self.ledger.quarantine({scene_id: ["why"]}, **self.where)
            elif to == "cubed":
                self.ledger.cubed([scene_id], "S", **self.where)
            else:
                self.ledger.replay([scene_id], **self.where)
        except LedgerError:
            assert (own if to == "cubed" and state == "superseded" else state) not in allowed
            assert self.ledger.rows(cube=self.cube) == before
        else:
            assert (own if to == "cubed" and state == "superseded" else state) in allowed
            self.own[scene_id] = to

    @known
    @rule(kept=st.sets(st.sampled_from([f"p{p}v{v}" for p in range(3) for v in range(4)])))
    def reconcile(self, kept: set[str]) -> None:
        inside = {i for i in self.own if i in kept}
        self.ledger.reconcile(self.cube, {PRODUCT: inside}, "S")
        for i, own in self.own.items():
            self.own[i] = "cubed" if i in inside else "accepted" if own == "cubed" else own

    @invariant()
    def what_stands_is_the_best_and_nothing_is_lost(self) -> None:
        rows = {row.scene_id: row for row in self.ledger.rows(cube=self.cube)}
        assert rows.keys() == self.own.keys()
        for place in ("p0", "p1", "p2"):
            family = sorted(i for i in rows if i.startswith(place))
            able = [i for i in family if self.own[i] != "quarantined"]
            cubed = [i for i in family if self.own[i] == "cubed"]
            standing = [i for i in family if rows[i].state not in (State.SUPERSEDED, State.QUARANTINED)]
            stand_in = [cubed[-1]] if cubed and cubed[-1] != able[-1] else []
            assert standing == [*stand_in, *able[-1:]]
            for i in family:
                assert (rows[i].snapshot is not None) == (self.own[i] == "cubed")
                assert bool(rows[i].reasons) == (self.own[i] == "quarantined")
                if rows[i].state is not State.SUPERSEDED:
                    assert rows[i].state == self.own[i]
                by = rows[i].superseded_by
                assert (by is not None) == (rows[i].state is State.SUPERSEDED or i in stand_in)
                if by is not None:
                    assert by > i
                    assert self.own[by] != "quarantined"


def test_whatever_happens_the_best_version_stands(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Observations.engine = open_database(
        Settings(home=home, database_url=f"sqlite:///{home / 'swath.db'}", store=str(home / "store"))
    )
    run_state_machine_as_test(
        Observations, settings=hypothesis_settings(max_examples=25, stateful_step_count=12, deadline=None)
    )


# ---------------------------------------------------------------------- the cube is the authority


def test_an_accepted_scene_without_use_is_passed_over_until_the_plan_changes(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c")
    ledger.accept(["a", "b"], **HERE)
    ledger.planned(["a"], "plan 1", why={"a": "no location in its footprint"}, **HERE)
    assert [item.id for item in ledger.pending("c", PRODUCT, "plan 1")] == ["b"]
    assert [item.id for item in ledger.pending("c", PRODUCT, "plan 2")] == ["a", "b"]
    row = ledger.row("a")
    assert (row.state, row.passed_over) == (State.ACCEPTED, "no location in its footprint")


def test_a_cubed_scene_is_looked_at_again_when_the_plan_changes(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    cube_them(ledger, "a")
    ledger.planned(["a"], "plan 1", **HERE)
    assert ledger.pending("c", PRODUCT, "plan 1") == []
    assert [item.id for item in ledger.pending("c", PRODUCT, "plan 2")] == ["a"]
    assert ledger.pending("c", PRODUCT) == []


def test_a_scene_that_is_not_accepted_is_in_no_plan(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c")
    ledger.planned(["a", "b"], "plan", why={"a": "why"}, **HERE)
    assert ledger.row("a").passed_over is None
    assert ledger.pending("c", PRODUCT, "another") == []


def test_the_ledger_notes_the_snapshot_it_was_reconciled_with(ledger: Ledger) -> None:
    assert ledger.noted("c", "snapshot") is None
    ledger.reconcile("c", {}, "S1")
    assert ledger.noted("c", "snapshot") == "S1"
    ledger.note("c", "snapshot", "S2")
    assert ledger.noted("c", "snapshot") == "S2"
    assert ledger.noted("d", "snapshot") is None


def test_a_scene_that_a_killed_run_committed_becomes_cubed(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c")
    ledger.accept(["a", "b"], **HERE)
    told = ledger.reconcile("c", {PRODUCT: {"a"}}, "S7")
    assert told.cubed == ((PRODUCT, "a"),)
    assert states(ledger) == {"a": "cubed", "b": "accepted"}
    assert ledger.row("a").snapshot == "S7"


def test_a_scene_that_the_cube_lost_is_accepted_again(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    cube_them(ledger, "a")
    assert ledger.reconcile("c", {}, "S0").returned == ((PRODUCT, "a"),)
    assert [item.id for item in ledger.pending("c", PRODUCT)] == ["a"]


def test_reconciling_with_a_cube_that_agrees_changes_nothing(ledger: Ledger) -> None:
    ledger.upsert([OLD], "c")
    cube_them(ledger, "old")
    ledger.upsert([NEW], "c")
    cube_them(ledger, "new", snapshot="S2")
    before = ledger.rows()
    told = ledger.reconcile("c", {PRODUCT: {"old", "new"}}, "S2")
    assert (told.cubed, told.returned, told.unknown) == ((), (), ())
    assert ledger.rows() == before


def test_a_lost_ledger_is_rebuilt_from_the_scenes_in_the_cube(ledger: Ledger) -> None:
    told = ledger.reconcile("c", {PRODUCT: {"old": OLD, "new": NEW}}, "S2")
    assert set(told.cubed) == {(PRODUCT, "old"), (PRODUCT, "new")}
    assert states(ledger) == {"old": "superseded", "new": "cubed"}
    assert ledger.upsert([OLD, NEW], "c").new == ()
    assert ledger.row("new").scene() == NEW


def test_scenes_the_ledger_cannot_know_are_told(ledger: Ledger) -> None:
    assert ledger.reconcile("c", {PRODUCT: {"ghost"}}, "S2").unknown == ((PRODUCT, "ghost"),)
    assert ledger.rows() == []


def test_another_cube_is_left_alone(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    cube_them(ledger, "a")
    ledger.reconcile("d", {}, "S0")
    assert states(ledger) == {"a": "cubed"}


# ---------------------------------------------------------------------- failures


def test_failures_of_an_asset_add_up_and_hold_no_signature(ledger: Ledger) -> None:
    ledger.upsert([scene("a")], "c")
    href = "https://user:pass@host.example/path/B02.tif?se=2026&sig=SECRET#x"
    ledger.record_failure(scene("a"), "B02", href, 503, 3, "Service Unavailable", cube="c")
    ledger.record_failure(scene("a"), "B02", href, None, 2, "timed out", cube="c")
    ledger.record_failure(scene("a"), "B03", href, 404, 1, "Not Found", cube="c")
    first, second = sorted(ledger.failures("c", PRODUCT), key=lambda failure: failure.band)
    assert (first.band, first.attempts, first.status, first.message) == ("B02", 5, None, "timed out")
    assert first.href == "https://host.example/path/B02.tif"
    assert second.status == 404
    assert ledger.failures("d") == []


def test_an_item_that_is_no_scene_is_a_row_with_its_reasons_and_stays_one(ledger: Ledger) -> None:
    ledger.refuse("c", PRODUCT, {"item-1": "it has no B02"})
    ledger.refuse("c", PRODUCT, {"item-1": "it has no B02", "item-2": "no time"})
    rows = ledger.failures("c")
    assert [(row.scene_id, row.band, row.message, row.attempts) for row in rows] == [
        ("item-1", "item", "it has no B02", 1),
        ("item-2", "item", "no time", 1),
    ]
    ledger.refuse("c", PRODUCT, {"item-1": "no geometry"})
    assert {row.scene_id: row.message for row in ledger.failures("c")}["item-1"] == "no geometry"


def test_failures_are_forgotten_once_the_scene_is_cubed(ledger: Ledger) -> None:
    ledger.upsert([scene("a"), scene("b", 1)], "c")
    for name in ("a", "b"):
        ledger.record_failure(scene(name), "B02", "https://h/x", 503, 1, "busy", cube="c")
    cube_them(ledger, "a")
    assert [failure.scene_id for failure in ledger.failures()] == ["b"]


# ---------------------------------------------------------------------- locations


def test_locations_come_back_as_they_were_and_in_order(ledger: Ledger) -> None:
    places = [location(f"l{i}", x=400000.0 + i / 3, y=5800000.1) for i in (3, 1, 2)]
    assert ledger.save_locations("c", places) == places
    ledger.save_locations("c", [*places, location("l0")])
    assert ledger.locations("c") == [*places, location("l0")]
    assert ledger.locations("d") == []


def test_a_known_location_keeps_its_split_whatever_a_new_sampling_says(ledger: Ledger) -> None:
    ledger.save_locations("c", [location("l1", split="test", block="b1")])
    again = location("l1", split="pretrain", block="b9")
    assert ledger.save_locations("c", [again]) == [location("l1", split="test", block="b1")]
    assert ledger.locations("c") == [location("l1", split="test", block="b1")]


@pytest.mark.parametrize("change", [{"x": 400010.0}, {"y": 0.0}, {"epsg": 32634}, {"size_m": 960.0}])
def test_an_id_cannot_move_to_another_place(ledger: Ledger, change: dict[str, Any]) -> None:
    ledger.save_locations("c", [location("l1")])
    with pytest.raises(LedgerError, match="l1") as caught:
        ledger.save_locations("c", [location("l2"), location("l1", **change)])
    assert caught.value.code == "location-moved"
    assert ledger.locations("c") == [location("l1")]


def test_a_split_that_does_not_exist_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="split"):
        ledger.save_locations("c", [location("l1", split="validation")])


# ---------------------------------------------------------------------- many


def many(count: int) -> Iterator[Scene]:
    return (scene(f"S2A_MSIL2A_20240530T174909_R141_T13TDE_{i:08d}", i) for i in range(count))


def test_known_scenes_are_looked_up_and_nothing_is_written(ledger: Ledger) -> None:
    ledger.upsert(many(100), "c")
    before = _write_mark(ledger)
    assert ledger.upsert(many(100), "c").known == 100
    assert _write_mark(ledger) == before
    ledger.upsert([scene("one-more")], "c")
    assert _write_mark(ledger) != before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scenes SET state = 'seen' WHERE cube = 'c' AND product = 'p' AND scene_id = 's'",
        "SELECT version FROM scenes WHERE cube = 'c' AND product = 'p' AND scene_id = 's'",
    ],
)
def test_a_scene_is_reached_by_its_primary_key_even_in_a_table_without_statistics(
    ledger: Ledger, statement: str
) -> None:
    ledger.upsert(many(3_000), "c")
    with ledger.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        explain = text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{statement}")
        plan = " ".join(str(row[-1]) for row in connection.execute(explain))
    assert (
        "USING PRIMARY KEY (cube=? AND product=? AND scene_id=?)" if sqlite else "using pk_scenes"
    ) in plan


def test_thousands_of_scenes_take_seconds_and_knowing_them_a_moment(ledger: Ledger) -> None:
    scenes = list(many(4_000))
    ids = [item.id for item in scenes]
    started = time.process_time()
    ledger.upsert(scenes, "c")
    taken_in = time.process_time()
    assert ledger.upsert(scenes, "c").known == 4_000
    known = time.process_time()
    cube_them(ledger, *ids)
    cubed = time.process_time()
    assert ledger.counts() == {("c", PRODUCT, State.CUBED): 4_000}
    assert taken_in - started < 3
    assert known - taken_in < 0.2
    assert cubed - known < 3


def test_two_processes_that_find_the_same_scenes_take_each_in_once(settings: Settings) -> None:
    open_database(settings).dispose()
    code = (
        "from catalog.database import open_database; from catalog.ledger import Ledger;"
        "from tests.catalog.ledger.test_ledger import many;"
        "print(len(Ledger(open_database()).upsert(many(800), 'c').new))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    counts = [int(process.communicate()[0]) for process in started]
    assert sum(counts) == 800
    assert len(Ledger(open_database(settings)).rows()) == 800


def _write_mark(ledger: Ledger) -> Any:
    """Something that every committed write changes."""
    with ledger.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            return Path(f"{ledger.engine.url.database}-wal").read_bytes()
        return connection.execute(text("SELECT txid_snapshot_xmax(txid_current_snapshot())")).scalar()
