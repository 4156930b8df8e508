"""One trial: kill a run at a random moment, perhaps its rerun too, run to the end, and compare."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.kills.forked import Ended, Kill, run
from tests.faults.kills.scenarios import Scenario, copied

SHARES = {"first": 3, "grow": 6, "portions": 3, "places": 3, "settings": 2, "compact": 2, "expire": 2}
"""Trials of each scenario, in proportion."""
ANYTIME = 0.35
"""Share of the kills that are uniform over the run; the others are uniform over its phases, then within."""
TWICE = 0.35
"""Share of the trials whose rerun is killed too."""
RECOVERY = (("sweep", 1, 0.01), ("collect", 1, 0.02), ("swept", 1, 0.01))
"""Phases that only a run after a kill has."""
TRIES = 6
MOST_TOLD = 8


@dataclass(frozen=True)
class Trial:
    """What came of one."""

    number: int
    scenario: str
    planned: tuple[str, ...]
    phases: tuple[str, ...]
    """Where each kill found the run."""
    violations: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def trial(number: int, seed: int, scenarios: Sequence[Scenario], folder: Path) -> Trial:
    """Trial ``number`` of a seed: always the same plan; its moments are as exact as the clock."""
    chance = random.Random(f"{seed}/{number}")
    scenario = chance.choices(scenarios, [SHARES[item.name] for item in scenarios])[0]
    into = folder / f"trial-{number}"
    log = into / "log"
    planned, phases, seconds = [], [], 0.0
    kill = _moment(scenario, chance)
    for _ in range(TRIES):
        home = copied(scenario.base, into)
        ended = run(partial(scenario.work, home), log, kill)
        seconds += ended.seconds
        if ended.status != 0:
            break
        kill = Kill(kill.after_s / 2, kill.phase, kill.nth)  # it had ended before
    planned.append(str(kill))
    violations = _said(ended, "killed run", may_be_killed=True)
    if ended.killed:
        phases.append(ended.phase)
    if chance.random() < TWICE:
        kill = _moment(scenario, chance, recovers=True)
        ended = run(partial(scenario.rerun, home), log, kill)
        seconds += ended.seconds
        planned.append(str(kill))
        violations += _said(ended, "killed rerun", may_be_killed=True)
        if ended.killed:
            phases.append(ended.phase)
    ended = run(partial(scenario.rerun, home), log)
    violations += _said(ended, "rerun")
    seconds += ended.seconds
    looked = run(partial(scenario.look, home), log)
    seconds += looked.seconds
    violations += _said(looked, "look")
    if looked.answer is not None:
        violations += compare(scenario, looked.answer)
    if not violations:
        shutil.rmtree(into)
    return Trial(number, scenario.name, tuple(planned), tuple(phases), tuple(violations[:MOST_TOLD]), seconds)


def compare(scenario: Scenario, found: dict[str, Any]) -> list[str]:
    """What is not as in an undisturbed run."""
    differences = min((differ(end, found["content"]) for end in scenario.contents), key=len)
    if scenario.order is not None:
        differences += differ(scenario.order, found["order"])
    return [*found["wrong"], *differences]


def differ(expected: Any, found: Any, where: str = "") -> list[str]:
    """Where two documents differ, one line each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{where}/{key}: missing" for key in expected.keys() - found.keys()]
        lines += [f"{where}/{key}: too many" for key in found.keys() - expected.keys()]
        for key in sorted(expected.keys() & found.keys()):
            lines += differ(expected[key], found[key], f"{where}/{key}")
        return lines
    if expected == found:
        return []
    if isinstance(expected, list) and isinstance(found, list):
        lost = [item for item in expected if item not in found]
        more = [item for item in found if item not in expected]
        if not lost and not more:
            return [f"{where}: another order, or not as often"]
        return [f"{where}: lost {lost[:2]}"[:600]] * bool(lost) + [
            f"{where}: too many {more[:2]}"[:600]
        ] * bool(more)
    return [f"{where}: {found!r} instead of {expected!r}"[:600]]


def _moment(scenario: Scenario, chance: random.Random, *, recovers: bool = False) -> Kill:
    if chance.random() < ANYTIME:
        return Kill(chance.uniform(0, 0.97 * scenario.seconds))
    phases = scenario.phases + (RECOVERY if recovers and chance.random() < 0.5 else ())
    name, nth, seconds = chance.choice(phases)
    return Kill(chance.uniform(0, seconds), name, nth)


def _said(ended: Ended, what: str, *, may_be_killed: bool = False) -> list[str]:
    if ended.status == 0 or (may_be_killed and ended.killed):
        return []
    last = [line for line in ended.log.splitlines() if line.strip()][-1:] or ["nothing said"]
    return [f"{what}: ended with {ended.status} after {ended.seconds:.1f} s: {last[0]}"[:600]]
