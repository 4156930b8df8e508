"""Chooses which scenes serve which places: every date, one for each season, or two.

Scenes are tried in one order for all places, so that each is opened at most once: at its turn a scene is read
at the places that still need it. What a place needs depends on the samples it has, in the cube or from scenes
tried before; a sample beyond the recipe's limits at that place serves nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.recipes import DateRequest
from catalog.scenes import Scene
from tasks.cube.footprints import PlaceIndex, Rows

YEARS = range(1970, 2101)
"""In which a reference date without a year recurs."""
NOBODY = -1


@dataclass(frozen=True)
class Served:
    """A scene that places have a sample of already."""

    scene: Scene
    rows: Rows
    """The places, as rows of the index."""


class Choice(Protocol):
    """Which places need a scene, at its turn."""

    def order(self, scenes: Sequence[Scene]) -> list[Scene]:
        """The scenes in the order in which they are tried."""
        ...

    def needed(self, scene: Scene, touched: Rows) -> Rows:
        """Those of the touched places that need the scene now."""
        ...

    def took(self, scene: Scene, rows: Rows) -> None:
        """The scene was read, and these places have a sample of it."""
        ...

    def why_not(self, scene: Scene, touched: Rows) -> str:
        """Why no place needs the scene."""
        ...

    @property
    def independent(self) -> bool:
        """Whether what one scene gives decides nothing about another."""
        ...


def choose_scenes(
    dates: DateRequest,
    places: PlaceIndex,
    held: Iterable[Served] = (),
    judged: Mapping[str, frozenset[str]] | None = None,
) -> Choice:
    """The choice that a recipe asks for, given what the cube holds.

    Parameters
    ----------
    held:   only samples that count: of the newest version of their scene, within the recipe's limits
    judged: scene id → locations at which it was looked at before, and which it can serve no more
    """
    choice: _Seasons | _Pairs
    if dates.strategy == "all":
        return _Everything()
    if dates.strategy == "seasons":
        choice = _Seasons(dates, places)
    else:
        choice = _Pairs(dates, places, judged or {})
    for served in sorted(held, key=lambda one: (one.scene.sensed, one.scene.id)):
        choice.took(served.scene, served.rows)
    return choice


def day_of(scene: Scene) -> int:
    """The UTC day of sensing, as a count of days."""
    return scene.sensed.astimezone(UTC).date().toordinal()


def in_order(scenes: Sequence[Scene], choose: str, distance: Mapping[str, int] | None = None) -> list[Scene]:
    """Scenes by preference; versions of one observation together, the newest of them first.

    ``least-cloud`` goes by the catalogue's cloud cover (unknown last), ``nearest`` by ``distance`` (days by
    scene id); equal ones, and ``most-recent``, by date from the latest.
    """

    def preference(scene: Scene) -> tuple[float, float, str]:
        cloud = scene.cloud_cover_percent
        first = {
            "least-cloud": 101.0 if cloud is None else cloud,
            "most-recent": 0.0,
            "nearest": float((distance or {}).get(scene.id, 0)),
        }[choose]
        return first, -scene.sensed.timestamp(), scene.id

    newest: dict[str, Scene] = {}
    for scene in scenes:
        other = newest.get(scene.key)
        if other is None or scene.version > other.version:
            newest[scene.key] = scene
    by_version = sorted(scenes, key=lambda scene: (scene.version, scene.id), reverse=True)
    return sorted(by_version, key=lambda scene: preference(newest[scene.key]))


class _Everything:
    independent = True

    def order(self, scenes: Sequence[Scene]) -> list[Scene]:
        return list(scenes)

    def needed(self, scene: Scene, touched: Rows) -> Rows:
        return touched

    def took(self, scene: Scene, rows: Rows) -> None:
        pass

    def why_not(self, scene: Scene, touched: Rows) -> str:
        return "no location lies in its footprint"


class _Versions:
    """Scenes by observation, to know which of them a reprocessed one replaces."""

    def __init__(self) -> None:
        self._of: dict[str, list[Scene]] = {}

    def add(self, scene: Scene) -> None:
        self._of.setdefault(scene.key, []).append(scene)

    def older(self, scene: Scene) -> list[Scene]:
        return [other for other in self._of.get(scene.key, ()) if other.version < scene.version]

    def newer(self, scene: Scene) -> list[Scene]:
        return [other for other in self._of.get(scene.key, ()) if other.version > scene.version]


class _Seasons:
    """One sample for each place and reference date."""

    independent = False

    def __init__(self, dates: DateRequest, places: PlaceIndex) -> None:
        self._dates = dates
        self._references = _references(dates)
        self._shift = _shifts(dates, places)
        self._server: dict[int, NDArray[np.int32]] = {}
        """Season → for each place the number of the scene that serves it."""
        self._numbers: dict[str, int] = {}
        self._versions = _Versions()

    def order(self, scenes: Sequence[Scene]) -> list[Scene]:
        days, _ = self._references
        distance: dict[str, int] = {}
        if self._dates.choose == "nearest":
            distance = {scene.id: int(np.abs(days - day_of(scene)).min()) for scene in scenes}
        return in_order(scenes, self._dates.choose, distance)

    def needed(self, scene: Scene, touched: Rows) -> Rows:
        if self._versions.newer(scene):
            return touched[:0]
        season = self._season(scene, touched)
        replaceable = [NOBODY, *(self._numbers[other.id] for other in self._versions.older(scene))]
        free = np.zeros(len(touched), np.bool_)
        for one in np.unique(season[season >= 0]).tolist():
            here = season == one
            free[here] = np.isin(self._of(one)[touched[here]], replaceable)
        return touched[free]

    def took(self, scene: Scene, rows: Rows) -> None:
        if len(rows) == 0:
            return
        replaced = [self._numbers[other.id] for other in self._versions.older(scene)]
        if replaced:
            for server in self._server.values():
                server[np.isin(server, replaced)] = NOBODY
        number = self._numbers.setdefault(scene.id, len(self._numbers))
        self._versions.add(scene)
        season = self._season(scene, rows)
        for one in np.unique(season[season >= 0]).tolist():
            server, mine = self._of(one), rows[season == one]
            server[mine[server[mine] == NOBODY]] = number

    def why_not(self, scene: Scene, touched: Rows) -> str:
        if len(touched) == 0:
            return "no location lies in its footprint"
        if self._versions.newer(scene):
            return "a newer version of it was taken"
        outside = int((self._season(scene, touched) < 0).sum())
        parts = [
            outside and f"{outside} for which no reference date is within {self._dates.window_days} days",
            len(touched) - outside and f"{len(touched) - outside} that have another scene of the season",
        ]
        return f"of the {len(touched)} places in its footprint: {', '.join(part for part in parts if part)}"

    def _of(self, season: int) -> NDArray[np.int32]:
        if season not in self._server:
            self._server[season] = np.full(len(self._shift), NOBODY, np.int32)
        return self._server[season]

    def _season(self, scene: Scene, rows: Rows) -> NDArray[np.int64]:
        """The season that a scene belongs to at each place, by the nearest reference date; -1 for none."""
        days, seasons = self._references
        day = day_of(scene) + self._shift[rows]
        after = np.clip(np.searchsorted(days, day), 1, max(1, len(days) - 1))
        before = after - 1
        after = np.minimum(after, len(days) - 1)
        nearest = np.where(np.abs(days[after] - day) < np.abs(day - days[before]), after, before)
        near = np.abs(days[nearest] - day) <= self._dates.window_days
        return np.where(near, seasons[nearest], -1)


def _references(dates: DateRequest) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Days of all reference dates, ascending, and the number of the season each belongs to."""
    found: list[tuple[int, int]] = []
    count = len(dates.seasons)
    for place, season in enumerate(dates.seasons):
        if len(season) > 5:
            found.append((date.fromisoformat(season).toordinal(), place))
            continue
        for year in YEARS:
            number = place + count * (year - YEARS.start + 1) if dates.every_year else place
            found.append((date.fromisoformat(f"{year}-{season}").toordinal(), number))
    days, seasons = np.asarray(sorted(found), np.int64).T
    return days, seasons


def _shifts(dates: DateRequest, places: PlaceIndex) -> NDArray[np.int64]:
    """How many days earlier each place's references lie; by its id, so the same for every product."""
    if dates.shift_days == 0:
        return np.zeros(len(places), np.int64)
    return np.asarray(
        [
            int.from_bytes(hashlib.sha256(f"shift|{dates.seed}|{place.id}".encode()).digest()[:8], "big")
            % (dates.shift_days + 1)
            for place in places.locations
        ],
        np.int64,
    )


class _Pairs:
    """Two samples for each place, so many days apart.

    A place without a sample takes one that another scene at hand can complete, or the first at all where
    none can. A place with one takes only what completes it, until nothing at hand can any more; then it takes
    the first of another pair at hand, or one so late that no scene can complete both.
    """

    independent = False

    def __init__(self, dates: DateRequest, places: PlaceIndex, judged: Mapping[str, frozenset[str]]) -> None:
        self._dates = dates
        self._places = places
        self._judged = judged
        self._held: dict[int, dict[str, int]] = {}
        """Place → scene → day, of its samples."""
        self._turns: dict[str, int] = {}
        """Scene → its place in the order."""
        self._starts = np.zeros(len(places) + 1, np.int64)
        self._days = self._turn = np.empty(0, np.int64)
        """Day and turn of each scene that a place may be served by; place by place, from its start on."""
        self._versions = _Versions()

    def order(self, scenes: Sequence[Scene]) -> list[Scene]:
        ordered = in_order(scenes, self._dates.choose)
        shown = [self._open_to(scene) for scene in ordered]
        counts = [len(rows) for rows in shown]
        rows = np.concatenate([np.empty(0, np.int64), *shown])
        by_place = np.argsort(rows, kind="stable")
        self._turn = np.repeat(np.arange(len(ordered)), counts)[by_place]
        self._days = np.repeat(np.asarray([day_of(scene) for scene in ordered], np.int64), counts)[by_place]
        self._starts = np.searchsorted(rows[by_place], np.arange(len(self._places) + 1))
        self._turns = {scene.id: turn for turn, scene in enumerate(ordered)}
        return ordered

    def needed(self, scene: Scene, touched: Rows) -> Rows:
        if self._versions.newer(scene):
            return touched[:0]
        older = {other.id for other in self._versions.older(scene)}
        return np.asarray([row for row in touched.tolist() if self._needs(row, scene, older)], np.int64)

    def took(self, scene: Scene, rows: Rows) -> None:
        if len(rows) == 0:
            return
        for other in self._versions.older(scene):
            for held in self._held.values():
                held.pop(other.id, None)
        self._versions.add(scene)
        for row in rows.tolist():
            self._held.setdefault(row, {})[scene.id] = day_of(scene)

    def why_not(self, scene: Scene, touched: Rows) -> str:
        if len(touched) == 0:
            return "no location lies in its footprint"
        if self._versions.newer(scene):
            return "a newer version of it was taken"
        paired = sum(self._has_pair(self._held.get(row, {}).values()) for row in touched.tolist())
        parts = [
            paired and f"{paired} that have a pair",
            len(touched) - paired and f"{len(touched) - paired} whose first date it does not complete",
        ]
        return f"of the {len(touched)} places in its footprint: {', '.join(part for part in parts if part)}"

    def _open_to(self, scene: Scene) -> Rows:
        touched, judged = self._places.touched(scene), self._judged.get(scene.id)
        if not judged:
            return touched
        rows = [row for row in touched.tolist() if self._places.locations[row].id not in judged]
        return np.asarray(rows, np.int64)

    def _later(self, row: int, turn: int) -> list[int]:
        """Days of the scenes that are still to be tried at a place."""
        mine = slice(self._starts[row], self._starts[row + 1])
        days: list[int] = self._days[mine][self._turn[mine] > turn].tolist()
        return days

    def _needs(self, row: int, scene: Scene, older: set[str]) -> bool:
        held = self._held.get(row, {})
        if older & held.keys():
            return True
        days, day = list(held.values()), day_of(scene)
        if self._has_pair(days):
            return False
        if any(self._apart(day, other) for other in days):
            return True
        later = self._later(row, self._turns[scene.id])
        if any(self._apart(one, other) for one in days for other in later):
            return False
        if any(self._apart(day, other) for other in later):
            return True
        # Scenes come roughly in order of time: what lies so far back will hardly be completed any more.
        expired = all(day - held_day > self._dates.max_days_apart for held_day in days)
        return expired and not self._has_pair(later)

    def _apart(self, one: int, other: int) -> bool:
        return self._dates.min_days_apart <= abs(one - other) <= self._dates.max_days_apart

    def _has_pair(self, days: Iterable[int]) -> bool:
        ordered = sorted(days)
        return any(
            self._apart(one, other) for place, one in enumerate(ordered) for other in ordered[place + 1 :]
        )
