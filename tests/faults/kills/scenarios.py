"""What is interrupted: a small archive, installations at several stages, and their undisturbed runs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from deployments.stac_server import serve_archive
from deployments.stac_server.folder_changes import put_in, take_out
from tests.faults.kills import work
from tests.faults.kills.forked import Ended, Kill, run
from tests.faults.kills.phases import Mark
from tests.faults.kills.state import look

SCENARIOS = ("first", "grow", "portions", "places", "settings", "compact", "expire")
PRODUCTS = ("sentinel-1-rtc", "sentinel-2-l2a")
Work = Callable[[Path, Mark], Any]
"""Called with ``SWATH_HOME`` and what marks phases."""


@dataclass(frozen=True)
class Scenario:
    """Work that is interrupted, what is done afterwards, and what must come of it."""

    name: str
    base: Path
    """Folder whose ``home`` is copied for each trial."""
    work: Work
    rerun: Work
    look: Work
    contents: tuple[Any, ...]
    """What cube and ledger may hold in the end: of one undisturbed run, or of either of two."""
    order: Any
    """Order of rows, and the commits; None where it depends on the moment of the kill."""
    seconds: float
    """How long the undisturbed run takes."""
    phases: tuple[tuple[str, int, float], ...]
    """Its phases: name, which of that name, and how long."""


def copied(base: Path, into: Path) -> Path:
    """A fresh copy of an installation; returns its ``SWATH_HOME``."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(base / "home", into / "home")
    return into / "home"


@contextmanager
def prepared(folder: Path, only: Collection[str] = SCENARIOS) -> Iterator[tuple[Scenario, ...]]:
    """Make and serve an archive, bring installations to their stages, and run each once undisturbed."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "archive"
    made = _done(run(lambda mark: _make(archive), folder / "sandbox.log"))
    # What comes late: of each product the newer version of an observation, and the last ordinary scene.
    late = [take_out(archive, scene) for scene in made["late"]]
    with serve_archive(archive, log=folder / "server.log") as server:
        recipes = _recipes(folder, made, server.url)
        stages = _Stages(folder, server.url, recipes)
        nothing = stages.empty()
        some = stages.after("some", nothing, stages.refresh())
        for item in late:
            put_in(archive, item)
        judged = stages.after("judged", some, partial(_until, "fetch", stages.refresh()))
        radar = partial(stages.refresh, only=PRODUCTS[:1])
        fewer = stages.after("fewer", nothing, radar("locations.max_count=3"))
        two = stages.after("two", judged, stages.refresh())
        tagged = stages.after("tagged", two, work.tag_oldest)
        three = stages.after("three", tagged, work.compact)
        grown = stages.refresh()
        made_of: dict[str, Callable[[], Scenario]] = {
            "first": lambda: stages.scenario("first", nothing, radar()),
            "grow": lambda: stages.scenario("grow", judged, grown),
            "portions": lambda: stages.scenario(
                "portions", judged, stages.refresh(run=work.refresh_in_portions), portions=True
            ),
            "places": lambda: stages.scenario("places", fewer, radar("locations.max_count=6")),
            "settings": lambda: stages.scenario(
                "settings", judged, radar("locations.max_count=6"), then=radar("locations.max_count=5")
            ),
            "compact": lambda: stages.scenario("compact", two, work.compact, then=_both(work.compact, grown)),
            "expire": lambda: stages.scenario(
                "expire", three, work.expire, then=_both(work.expire, grown), expired=True
            ),
        }
        yield tuple(made_of[name]() for name in SCENARIOS if name in only)


def _make(archive: Path) -> dict[str, Any]:
    from deployments.sandbox import make_sandbox

    info = make_sandbox(archive, size_m=960, dates=1, products=PRODUCTS)
    late = []
    for product in PRODUCTS:
        special = {*info.superseded[product], info.refused[product]}
        late += [info.superseded[product][1], [s for s in info.scenes[product] if s not in special][-1]]
    return {"late": late, "bbox": info.bbox, "start": str(info.start), "end": str(info.end)}


def _recipes(folder: Path, made: dict[str, Any], url: str) -> dict[tuple[str, ...], Path]:
    """Recipe files by the products they ask for."""
    lenient = {"max_cloud_fraction": 1, "max_nodata_fraction": 1, "max_saturated_fraction": 1}
    wish = {"sample_max_nodata_fraction": 1, "sample_max_cloud_fraction": 1, "gate": lenient}
    files = {}
    for products in (PRODUCTS, PRODUCTS[:1]):
        recipe = {
            "name": work.CUBE,
            "archive": work.CUBE,
            "area": {"bbox": list(made["bbox"])},
            "period": {"start": made["start"], "end": made["end"]},
            "products": dict.fromkeys(products, wish),
            "locations": {"size_m": 480, "max_count": 4, "split": {"block_m": 960}},
        }
        files[products] = folder / f"recipe-{len(products)}.yaml"
        files[products].write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return files


class _Stages:
    """Installations, each made from another by one undisturbed piece of work."""

    def __init__(self, folder: Path, url: str, recipes: dict[tuple[str, ...], Path]) -> None:
        self._folder = folder
        self._url = url
        self._recipes = recipes

    def empty(self) -> Path:
        """Nothing but the archive's description: what it can do need not be tried out each time."""
        from catalog.archives.registry import load_archive

        description = load_archive("sandbox").model_dump(mode="json", exclude_defaults=True)
        base = self._folder / "bases" / "nothing"
        (base / "home" / "archives").mkdir(parents=True)
        text = yaml.safe_dump(description | {"name": work.CUBE, "url": self._url})
        (base / "home" / "archives" / f"{work.CUBE}.yaml").write_text(text, encoding="utf-8")
        return base

    def refresh(
        self, *overrides: str, only: Sequence[str] = PRODUCTS, run: Callable[..., Any] = work.refresh
    ) -> Work:
        return lambda home, mark: run(home, self._recipes[tuple(only)], overrides, mark)

    def after(self, name: str, base: Path, what: Work) -> Path:
        into = self._folder / "bases" / name
        home = copied(base, into)
        ended = run(partial(what, home), into / "log")
        assert ended.status == 0 or ended.killed, ended.log
        return into

    def scenario(
        self,
        name: str,
        base: Path,
        what: Work,
        *,
        then: Work | None = None,
        expired: bool = False,
        portions: bool = False,
    ) -> Scenario:
        """The undisturbed run and what it comes to; with ``then``, both ways an interrupted one may end."""
        watch = partial(look, expired=expired, portions=portions)
        folder = self._folder / "undisturbed" / name
        home = copied(base, folder)
        timed = run(partial(what, home), folder / "log")
        _done(timed)
        if then is not None:
            _done(run(partial(then, home), folder / "log"))
        ends = [_done(run(partial(watch, home), folder / "log"))]
        if then is not None:
            home = copied(base, folder)
            _done(run(partial(then, home), folder / "log"))
            ends.append(_done(run(partial(watch, home), folder / "log")))
        for end in ends:
            assert end["wrong"] == [], end["wrong"]
        same = all(end["order"] == ends[0]["order"] for end in ends)
        return Scenario(
            name,
            base,
            what,
            then or what,
            watch,
            tuple(end["content"] for end in ends),
            ends[0]["order"] if same and not portions else None,
            timed.seconds,
            _durations(timed),
        )


def _both(first: Work, second: Work) -> Work:
    def both(home: Path, mark: Mark) -> None:
        first(home, mark)
        second(home, mark)

    return both


def _until(phase: str, what: Work, home: Path, mark: Mark) -> None:
    """Work that dies as it enters a phase."""

    def die(entered: str) -> None:
        if entered == phase:
            os.kill(os.getpid(), signal.SIGKILL)

    what(home, die)


def _durations(ended: Ended) -> tuple[tuple[str, int, float], ...]:
    entered = [("start", 0.0), *ended.entered]
    ends = [when for _, when in entered[1:]] + [ended.seconds]
    counts: dict[str, int] = {}
    phases = []
    for (name, began), end in zip(entered, ends, strict=True):
        counts[name] = counts.get(name, 0) + 1
        phases.append((name, counts[name], end - began))
    return tuple(phases)


def _done(ended: Ended) -> Any:
    assert ended.status == 0, f"status {ended.status}\n{ended.log}"
    return ended.answer


__all__ = ["Kill", "Scenario", "copied", "prepared"]
