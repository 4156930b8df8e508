"""Each place gets the dates the recipe asks for, and no file is opened twice for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.cubes import Cube, open_cube
from catalog.grids import north_up
from catalog.locations import sample_locations
from catalog.recipes import Area, DateRequest, LocationRequest, Recipe, SplitRule
from catalog.samples import Location
from catalog.scenes import Scene
from deployments.sandbox import make_sandbox
from deployments.stac_server import ArchiveServer, serve_archive
from tasks.cube.choose_scenes import Choice, Served, choose_scenes, day_of
from tasks.cube.footprints import PlaceIndex
from tasks.cube.held_scenes import held_scenes
from tasks.cube.scenes import CubeResult, cube_scenes, plan_identity
from tasks.readers.registry import load_reader
from tasks.search.scenes import search_scenes
from tests.catalog.made_up import scene_on
from tests.tasks.sandbox_archive import Sandbox, load_archive
from tests.tasks.scene_files import built_in

S2 = "sentinel-2-l2a"
LIMIT = 0.3
"""Of a sample's cloud, in the tests on the sandbox."""


@dataclass(frozen=True)
class Year:
    """Two years of Sentinel-2 over two UTM zones, and what is to be seen of every scene at every place."""

    sandbox: Sandbox
    scenes: tuple[Scene, ...]
    """All but the one that the gate refuses and the older version of the reprocessed one."""
    versions: tuple[Scene, Scene]
    locations: list[Location]
    seen: pd.DataFrame
    """One row for each scene and place: day, cloud and nodata fraction by the QA layer."""

    def recipe(self, **dates: object) -> Recipe:
        limits = {"sample_max_cloud_fraction": LIMIT, "sample_max_nodata_fraction": 0.4}
        return self.sandbox.recipe(sentinel_2_l2a=limits | {"dates": dates})

    def cube(
        self, name: str, scenes: Sequence[Scene] | None = None, **dates: object
    ) -> tuple[Cube, CubeResult]:
        cube = open_cube(name, create=True, products=[built_in(S2)])
        return cube, self.add(cube, self.scenes if scenes is None else scenes, **dates)

    def add(
        self,
        cube: Cube,
        scenes: Sequence[Scene],
        locations: Sequence[Location] | None = None,
        **dates: object,
    ) -> CubeResult:
        return cube_scenes(
            self.recipe(**dates),
            built_in(S2),
            scenes,
            self.locations if locations is None else locations,
            cube,
            load_reader(),
            self.sandbox.archive,
        )

    def passing(self) -> pd.DataFrame:
        return self.seen[(self.seen["cloud_fraction"] <= LIMIT) & (self.seen["nodata_fraction"] <= 0.4)]


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    folder = tmp_path_factory.mktemp("dates")
    info = make_sandbox(folder / "archive", size_m=1920, dates=7, products=(S2,))
    with serve_archive(info.folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(folder / "home"))
        sandbox = Sandbox(info, server, load_archive("sandbox", url=server.url))
        found = search_scenes(sandbox.archive, built_in(S2), sandbox.area, sandbox.period)
        by_id = {scene.id: scene for scene in found.scenes}
        old, new = info.superseded[S2]
        scenes = tuple(s for s in found.scenes if s.id not in (info.refused[S2], old))
        locations = sample_locations(sandbox.recipe().locations, sandbox.area, [built_in(S2)], list(scenes))
        everything = sandbox.recipe(
            sentinel_2_l2a={"sample_max_cloud_fraction": 1.0, "sample_max_nodata_fraction": 1.0}
        )
        cube = open_cube("everything", create=True, products=[built_in(S2)])
        cube_scenes(everything, built_in(S2), scenes, locations, cube, load_reader(), sandbox.archive)
        yield Year(sandbox, scenes, (by_id[old], by_id[new]), locations, cube.columns(S2))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))


def openings(server: ArchiveServer) -> Counter[str]:
    """How often the first bytes of each file were asked for."""
    requests = server.requests()
    assert requests["asset"] < 1000, "the server remembers no more"
    return Counter(
        path
        for method, path, wanted, _ in requests["recent"]
        if "/assets/" in path and wanted.startswith("bytes=0-")
    )


def expected_seasons(
    year: Year, window: int, seasons: Sequence[str], without: str = ""
) -> dict[tuple[str, str], str]:
    """(place, season) → scene, worked out from everything that is to be seen there."""
    scene = {one.id: one for one in year.scenes if one.id != without}
    best: dict[tuple[str, str], str] = {}
    order = sorted(scene.values(), key=lambda s: (s.cloud_cover_percent, -s.sensed.timestamp(), s.id))
    passing = set(zip(year.passing()["scene"], year.passing()["location"], strict=True))
    for one in order:
        day = one.sensed.date()
        near = {
            season: min(abs((date.fromisoformat(f"{y}-{season}") - day).days) for y in range(2020, 2025))
            for season in seasons
        }
        season = min(near, key=lambda name: near[name])
        for place in year.locations:
            if near[season] <= window and (one.id, place.id) in passing:
                best.setdefault((place.id, season), one.id)
    return best


def test_each_place_gets_for_each_season_the_first_scene_that_is_clear_there(year: Year) -> None:
    year.sandbox.server.reset_requests()
    cube, done = year.cube("seasons", strategy="seasons", window_days=40)
    opened = openings(year.sandbox.server)
    expected = expected_seasons(year, 40, ("03-20", "06-21", "09-22", "12-21"))
    columns = cube.columns(S2)
    assert set(zip(columns["location"], columns["scene"], strict=True)) == {
        (place, scene) for (place, _), scene in expected.items()
    }
    assert len(columns) == len(expected) > len(year.locations)
    # The choice differs from place to place: that is what the QA layers are read for.
    assert len({scene for (_, season), scene in expected.items() if season == "06-21"}) > 1
    assert set(opened.values()) == {1}
    assert done.cubed.keys() | done.passed_over.keys() == {scene.id for scene in year.scenes}
    assert not done.failures


def test_scenes_that_no_place_needs_are_passed_over_unopened(year: Year) -> None:
    year.sandbox.server.reset_requests()
    _, done = year.cube("winter", strategy="seasons", seasons=["01-10"], window_days=25)
    opened = {path.split("/assets/")[1] for path in openings(year.sandbox.server)}
    inside = [
        s.id for s in year.scenes
        if min(abs((date(y, 1, 10) - s.sensed.date()).days) for y in (2022, 2023)) <= 25
    ]  # fmt: skip
    files = {
        asset.href.split("/assets/")[1]
        for scene in year.scenes if scene.id in inside
        for asset in scene.assets.values()
    }  # fmt: skip
    assert opened and opened <= files
    reasons = [done.passed_over[scene.id] for scene in year.scenes if scene.id not in inside]
    assert reasons and all("no reference date is within 25 days" in reason for reason in reasons)


def test_a_refresh_reads_new_scenes_only_where_a_season_is_open(year: Year) -> None:
    dates = {"strategy": "seasons", "seasons": ["06-21"], "window_days": 60, "choose": "most-recent"}
    ordered = sorted(year.scenes, key=lambda scene: scene.sensed)
    late = next(s for s in reversed(ordered) if abs((date(2022, 6, 21) - s.sensed.date()).days) <= 60)
    early = [scene for scene in ordered if scene.sensed < late.sensed]
    cube, first = year.cube("later", early, **dates)
    served = set(cube.columns(S2)["location"])
    year.sandbox.server.reset_requests()
    done = year.add(cube, [late], **dates)
    footprint = {year.locations[row].id for row in PlaceIndex(year.locations).touched(late)}
    if footprint <= served:
        assert not openings(year.sandbox.server)
        assert "have another scene of the season" in done.passed_over[late.id]
    else:
        assert len(openings(year.sandbox.server)) == done.assets_read == 13
    columns = cube.columns(S2)
    assert not columns["location"].duplicated().any(), "one scene of the season for each place"
    # Nothing new: nothing is read, and the cube stays as it is.
    year.sandbox.server.reset_requests()
    again = year.add(cube, [scene for scene in ordered if scene.id in first.cubed | done.cubed], **dates)
    assert year.sandbox.server.requests()["asset"] == 0
    assert again.snapshot == cube.snapshot() and again.samples_written == 0


def test_new_places_are_served_by_scenes_that_were_passed_over(year: Year) -> None:
    dates = {"strategy": "seasons", "seasons": ["06-21"], "window_days": 60}
    few = year.locations[::3]
    cube = open_cube("grown", create=True, products=[built_in(S2)])
    year.add(cube, year.scenes, few, **dates)
    old = set(zip(cube.columns(S2)["location"], cube.columns(S2)["scene"], strict=True))
    year.sandbox.server.reset_requests()
    year.add(cube, year.scenes, year.locations, **dates)
    assert set(openings(year.sandbox.server).values()) == {1}
    new = set(zip(cube.columns(S2)["location"], cube.columns(S2)["scene"], strict=True))
    assert old < new
    assert {place for place, _ in new} == {place for place, _ in expected_seasons(year, 60, ["06-21"])}


def test_a_scene_that_cannot_be_read_leaves_its_places_to_the_next(year: Year) -> None:
    expected = expected_seasons(year, 60, ["06-21"])
    lost = Counter(expected.values()).most_common(1)[0][0]
    scenes = [
        replace(scene, assets={key: replace(a, href=f"{a.href}.gone") for key, a in scene.assets.items()})
        if scene.id == lost
        else scene
        for scene in year.scenes
    ]
    cube, done = year.cube("lost", scenes, strategy="seasons", seasons=["06-21"], window_days=60)
    assert set(done.failures) == {lost}
    left = expected_seasons(year, 60, ["06-21"], without=lost)
    columns = cube.columns(S2)
    assert set(zip(columns["location"], columns["scene"], strict=True)) == {
        (place, scene) for (place, _), scene in left.items()
    }


def test_samples_beyond_limits_that_were_lowered_serve_nobody(year: Year) -> None:
    cube, _ = year.cube("lowered", year.scenes[:6])
    held = held_scenes(cube, S2, [])
    index = PlaceIndex(year.locations)
    request = year.recipe().products[S2].model_copy(update={"sample_max_cloud_fraction": 0.05})
    columns = cube.columns(S2)
    clear = columns[columns["cloud_fraction"] <= 0.05]
    assert 0 < len(clear) < len(columns)
    assert {
        (one.scene.id, year.locations[row].id)
        for one in held.served(index, request)
        for row in one.rows.tolist()
    } == set(zip(clear["scene"], clear["location"], strict=True))


def test_a_reprocessed_scene_takes_the_place_of_the_one_it_replaces(year: Year) -> None:
    old, new = year.versions
    dates = {"strategy": "seasons", "seasons": ["06-21"], "window_days": 60}
    cube, _ = year.cube("reprocessed", [old], **dates)
    before = set(cube.columns(S2)["location"])
    assert before
    done = year.add(cube, [new], **dates)
    columns = cube.columns(S2)
    assert done.superseded == {old.id: new.id}
    assert set(columns[columns["scene"] == new.id]["location"]) == before
    assert set(columns[columns["scene"] == old.id]["superseded_by"]) == {new.id}
    # Offered together, the newer one is tried first and the older one not at all.
    both, together = year.cube("both", [old, new], **dates)
    assert set(both.columns(S2)["scene"]) == {new.id}
    assert together.passed_over == {old.id: "a newer version of it was taken"}


def test_pairs_are_so_many_days_apart(year: Year) -> None:
    dates = {"strategy": "pairs", "min_days_apart": 40, "max_days_apart": 120}
    year.sandbox.server.reset_requests()
    cube, _ = year.cube("pairs", **dates)
    assert set(openings(year.sandbox.server).values()) == {1}
    columns = cube.columns(S2)
    complete = 0
    for _, rows in columns.groupby("location"):
        complete += has_pair(rows)
        assert len(rows) <= 4
    possible = sum(has_pair(rows) for _, rows in year.passing().groupby("location"))
    # A scene that turns out cloudy at a place cannot be foretold, and none is opened a second time for it.
    assert 0.8 * possible <= complete <= possible and possible > 20
    assert (columns["cloud_fraction"] <= LIMIT).all()
    # A pair that arrives scene by scene is found too.
    ordered = sorted(year.scenes, key=lambda scene: scene.sensed)
    stepwise = open_cube("stepwise", create=True, products=[built_in(S2)])
    for scene in [scene for scene in ordered if scene.tile == ordered[0].tile][:4]:
        year.add(stepwise, [scene], **dates)
    assert any(has_pair(rows) for _, rows in stepwise.columns(S2).groupby("location"))


def has_pair(rows: pd.DataFrame) -> bool:
    days = [time.date().toordinal() for time in rows["time"]]
    return any(40 <= b - a <= 120 for a in days for b in days)


def test_the_plan_has_one_name_until_something_in_it_changes(year: Year) -> None:
    product, request = built_in(S2), year.recipe().products[S2]
    name = plan_identity(request, product, year.locations)
    assert name == plan_identity(request, product, year.locations[::-1])
    others = [
        plan_identity(year.recipe(strategy="seasons").products[S2], product, year.locations),
        plan_identity(year.recipe(strategy="seasons", window_days=5).products[S2], product, year.locations),
        plan_identity(request.model_copy(update={"sample_max_cloud_fraction": 0.9}), product, year.locations),
        plan_identity(request, product, year.locations[1:]),
        plan_identity(request, built_in("sentinel-2-l1c"), year.locations),
    ]
    assert len({name, *others}) == 6
    stricter = request.gate.model_copy(update={"max_cloud_percent": 1})
    assert plan_identity(request.model_copy(update={"gate": stricter}), product, year.locations) == name


# Without pixels: which scene is asked for at which place.


PLACES = sample_locations(
    LocationRequest(size_m=960, split=SplitRule(block_m=960, shares={"pretrain": 1.0})),
    Area(bbox=(9.0, 48.0, 9.06, 48.04)),
    [built_in(S2)],
)[:12]
INDEX = PlaceIndex(PLACES)


def made_scene(name: str, day: date, cloud: float | None) -> Scene:
    first = PLACES[0]
    grid = north_up(first.epsg, first.x - 20_000, first.y + 20_000, 10, (4000, 4000))
    scene = scene_on(built_in(S2), grid, name)
    sensed = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
    return replace(scene, sensed=sensed, cloud_cover_percent=cloud)


def play(choice: Choice, scenes: Sequence[Scene], clear: dict[str, set[int]]) -> list[tuple[str, int, bool]]:
    """Try scenes as ``cube_scenes`` does: (scene, place, whether a sample came of it), in order."""
    tried = []
    for scene in choice.order(scenes):
        needed = choice.needed(scene, INDEX.touched(scene))
        passed = [row for row in needed.tolist() if row in clear[scene.id]]
        tried += [(scene.id, row, row in passed) for row in needed.tolist()]
        choice.took(scene, np.asarray(passed, np.int64))
    return tried


archives = st.lists(
    st.tuples(
        st.integers(0, 800),
        st.none() | st.integers(0, 100),
        st.sets(st.integers(0, len(PLACES) - 1)),
    ),
    min_size=1,
    max_size=14,
)


def simulated(entries: list[tuple[int, int | None, set[int]]]) -> tuple[list[Scene], dict[str, set[int]]]:
    scenes = [
        made_scene(
            f"s{number:02d}", date(2021, 1, 1) + timedelta(days), None if cloud is None else float(cloud)
        )
        for number, (days, cloud, _) in enumerate(entries)
    ]
    return scenes, {scene.id: clear for scene, (_, _, clear) in zip(scenes, entries, strict=True)}


@settings(max_examples=150, deadline=None)
@given(
    archives,
    st.sampled_from(["least-cloud", "most-recent", "nearest"]),
    st.integers(0, 60),
    st.booleans(),
    st.sampled_from([0, 364]),
)
def test_a_place_takes_the_first_clear_scene_of_a_season_and_tries_none_after_it(
    entries, choose, window, every_year, shift
) -> None:
    if choose == "nearest":
        shift = 0
    dates = DateRequest(
        strategy="seasons", choose=choose, window_days=window, every_year=every_year, shift_days=shift, seed=4
    )
    scenes, clear = simulated(entries)
    # Versions of one observation are another test's matter.
    scenes = list({scene.key: scene for scene in scenes}.values())
    tried = play(choose_scenes(dates, INDEX), scenes, clear)
    assert len({(scene, row) for scene, row, _ in tried}) == len(tried)
    by_id = {scene.id: scene for scene in scenes}
    order = [scene.id for scene in choose_scenes(dates, INDEX).order(scenes)]
    shifts = choose_scenes(dates, INDEX)._shift
    assert (shifts >= 0).all() and (shifts <= shift).all()

    def season_at(scene: Scene, row: int) -> object:
        moved = date.fromordinal(day_of(scene) + int(shifts[row]))
        options = [
            (abs((date(y, *md) - moved).days), date(y, *md), md if not every_year else (y, *md))
            for y in range(2019, 2026)
            for md in ((3, 20), (6, 21), (9, 22), (12, 21))
        ]
        distance, _, season = min(options)
        return season if distance <= window else None

    expected = []
    taken: set[tuple[int, object]] = set()
    for name in order:
        for row in INDEX.touched(by_id[name]).tolist():
            season = season_at(by_id[name], row)
            if season is None or (row, season) in taken:
                continue
            passed = row in clear[name]
            expected.append((name, row, passed))
            if passed:
                taken.add((row, season))
    assert tried == expected


@settings(max_examples=100, deadline=None)
@given(archives, st.integers(0, 13))
def test_seasons_do_not_depend_on_how_scenes_are_shared_out_as_long_as_each_place_is_served_once(
    entries, cut
) -> None:
    dates = DateRequest(strategy="seasons", window_days=45)
    scenes, clear = simulated(entries)
    scenes = list({scene.key: scene for scene in scenes}.values())
    at_once = play(choose_scenes(dates, INDEX), scenes, clear)
    first = play(choose_scenes(dates, INDEX), scenes[:cut], clear)
    held = [
        Served(scene, np.asarray([row for name, row, ok in first if ok and name == scene.id], np.int64))
        for scene in scenes[:cut]
    ]
    later = play(choose_scenes(dates, INDEX, held), scenes[cut:], clear)
    choice = choose_scenes(dates, INDEX)
    by_id = {scene.id: scene for scene in scenes}

    def served(tried: list[tuple[str, int, bool]]) -> list[tuple[int, int]]:
        return sorted(
            (row, int(choice._season(by_id[name], np.asarray([row]))[0])) for name, row, ok in tried if ok
        )

    # Which scene serves may differ (first come, first kept); that one does, and only one, may not.
    assert served(first + later) == served(at_once)
    assert len(set(served(first + later))) == len(served(first + later))


@settings(max_examples=150, deadline=None)
@given(archives, st.integers(0, 100), st.integers(0, 300))
def test_pairs_hold_and_a_place_with_a_pair_is_left_alone(entries, least, more) -> None:
    dates = DateRequest(strategy="pairs", min_days_apart=least, max_days_apart=least + more)
    scenes, clear = simulated(entries)
    scenes = list({scene.key: scene for scene in scenes}.values())
    tried = play(choose_scenes(dates, INDEX), scenes, clear)
    day = {scene.id: day_of(scene) for scene in scenes}
    for row in range(len(PLACES)):
        days: list[int] = []
        for name, place, passed in tried:
            if place != row:
                continue
            pairs = [1 for a in days for b in days if a < b and least <= b - a <= least + more]
            assert not pairs or least == 0, "nothing is tried at a place with a pair"
            if passed:
                days.append(day[name])
        # With clear skies everywhere a pair is found wherever there is one.
        if all(row in clear[scene.id] for scene in scenes):
            options = sorted(day.values())
            possible = any(
                least <= b - a <= least + more for n, a in enumerate(options) for b in options[n + 1 :]
            )
            found = any(
                least <= b - a <= least + more
                for n, a in enumerate(sorted(days))
                for b in sorted(days)[n + 1 :]
            )
            assert found == possible and len(days) >= 1
            assert len(days) == 2 or not possible


def test_a_first_date_is_given_up_once_nothing_can_complete_it_any_more() -> None:
    dates = DateRequest(strategy="pairs", min_days_apart=10, max_days_apart=100)
    held: list[Served] = []
    for days, taken in ((0, True), (5, False), (150, True), (155, False), (200, True), (220, False)):
        scene = made_scene(f"s{days}", date(2021, 1, 1) + timedelta(days), 0.0)
        choice = choose_scenes(dates, INDEX, held)
        tried = play(choice, [scene], {scene.id: set(range(len(PLACES)))})
        assert bool(tried) == taken, days
        held.append(Served(scene, np.asarray([row for _, row, _ in tried], np.int64)))


@pytest.mark.parametrize(
    ("dates", "word"),
    [
        ({"window_days": 5}, "`window_days` is for strategy seasons, not all"),
        ({"strategy": "seasons", "seasons": ["02-29"]}, "no date that every year has"),
        ({"strategy": "seasons", "seasons": ["spring"]}, "write MM-DD"),
        ({"strategy": "seasons", "seasons": []}, "at least 1"),
        ({"strategy": "seasons", "seasons": ["03-20", "03-20"]}, "twice"),
        ({"strategy": "seasons", "choose": "nearest", "shift_days": 30}, "no `shift_days`"),
        ({"strategy": "pairs", "min_days_apart": 9, "max_days_apart": 3}, "below"),
        ({"strategy": "pairs", "choose": "nearest"}, "no reference date"),
        ({"strategy": "all", "choose": "nearest"}, "for strategy seasons or pairs"),
    ],
)
def test_dates_that_make_no_sense_are_refused_in_one_line(dates: dict, word: str) -> None:
    from catalog.errors import UsageError
    from catalog.recipes import parse_recipe

    with pytest.raises(UsageError, match=word) as error:
        parse_recipe(
            {
                "name": "r",
                "archive": "sandbox",
                "area": {"bbox": [8, 47, 9, 48]},
                "period": {"start": "2022-01-01", "end": "2022-12-31"},
                "products": {S2: {"dates": dates}},
                "locations": {"size_m": 480},
            }
        )
    assert error.value.code == "invalid-recipe" and "\n" not in str(error.value)


def test_a_dated_reference_is_met_once_and_a_yearly_one_every_year() -> None:
    scenes = [made_scene(f"s{year}", date(year, 6, 20), 0.0) for year in (2021, 2022, 2023)]
    clear = {scene.id: set(range(len(PLACES))) for scene in scenes}

    def taken(**fields: object) -> set[str]:
        choice = choose_scenes(DateRequest(strategy="seasons", **fields), INDEX)
        return {name for name, _, _ in play(choice, scenes, clear)}

    assert taken(seasons=("2022-06-21",)) == {"s2022"}
    assert taken(seasons=("06-21",)) == {"s2023"}, "of equal ones the latest"
    assert taken(seasons=("06-21",), every_year=True) == {"s2021", "s2022", "s2023"}
