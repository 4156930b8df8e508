"""``swath run refresh`` with a million known scenes and none new: time beyond the archive's answer, memory.

The ledger knows every scene of seven years; the recipe looks back 30 days, as a nightly refresh does, and
the archive answers with everything sensed in them. Prefect's server is started before; the archive is a
process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from catalog.settings import load_settings
from tests.benchmarks.many_items import COLLECTION, DAYS, START, ManyItems, served
from tests.benchmarks.table import arguments, show, spread

if TYPE_CHECKING:
    from catalog.ledger import Ledger

KNOWN = 1_000_000
CUBE = "many"
RECIPE = f"""\
name: {CUBE}
archive: many
area: {{bbox: [9, 46, 13, 50]}}
period: {{start: {START:%Y-%m-%d}, end: PERIOD_END}}
look_back_days: 30
products: {{sentinel-2-l2a: {{}}}}
locations: {{strategy: grid, size_m: 960, spacing_m: 9600, max_count: 100}}
"""
ARCHIVE = """\
name: many
url: URL
filter: cql2-json
sort: true
page_size: 250
hosts: ["127.0.0.1"]
"""
MEASURED = """
import resource, runpy, sys
sys.argv = ["swath", *sys.argv[1:]]
try:
    runpy.run_module("flows.cli", run_name="__main__", alter_sys=True)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "torch" in sys.modules, file=sys.stderr)
"""


def main(argv: Sequence[str] | None = None, *, known: int = KNOWN) -> list[dict[str, Any]]:
    options = arguments(__doc__, argv)
    items = ManyItems(known)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(archive_process(known))
        environment = stack.enter_context(installation(home, url))
        fill(items)
        rows = measure(home, url, environment, options.runs or 5)
    show(
        f"refresh with {known:,} known scenes",
        rows,
        ("prefect", "sqlalchemy", "pystac-client"),
        as_json=options.json,
    )
    return rows


@contextlib.contextmanager
def archive_process(count: int) -> Iterator[str]:
    """The archive in a process of its own: it must not share an interpreter with what is measured."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.refresh", "--serve", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def installation(home: Path, url: str) -> Iterator[dict[str, str]]:
    """A new home with the archive described, and a Prefect server; yields the environment of commands."""
    from flows.prefect_server import prefect_server

    (home / "archives").mkdir(parents=True)
    (home / "archives" / "many.yaml").write_text(ARCHIVE.replace("URL", url), encoding="utf-8")
    end = (START + timedelta(days=DAYS - 1)).date()
    (home / "many.yaml").write_text(RECIPE.replace("PERIOD_END", str(end)), encoding="utf-8")
    os.environ.update(SWATH_HOME=str(home), PREFECT_HOME=str(home / "prefect"))
    os.environ.pop("PREFECT_API_URL", None)
    with prefect_server(load_settings()) as api:
        yield {**os.environ, "PREFECT_API_URL": api}


def fill(items: ManyItems) -> None:
    """A ledger that has cubed every item, as a refresh that took them all would leave it."""
    from sqlalchemy import text

    from catalog.archives import load_archive
    from catalog.cubes import open_cube
    from catalog.database import open_database, write
    from catalog.ledger import Ledger
    from catalog.normalise import normalise_item
    from catalog.normalise.digest import item_digest
    from catalog.products import load_product

    settings = load_settings()
    engine = open_database(settings)
    ledger, archive, product = Ledger(engine), load_archive("many"), load_product(COLLECTION)
    cube = open_cube(CUBE, settings, create=True, products=[product])
    pattern = normalise_item(items.item(0), archive, product)
    portion = 20_000
    for first in range(0, items.count, portion):
        scenes, digests = [], {}
        for number in range(first, min(first + portion, items.count)):
            item = items.item(number)
            # One observation each; only what the ledger keeps beside the record differs.
            own = {"id": item["id"], "sensed": items.sensed(number), "tile": str(number)}
            scenes.append(replace(pattern, **own))
            digests[item["id"]] = item_digest(item)
        ledger.upsert(scenes, CUBE, digests)
    with write(engine) as connection:
        connection.execute(
            text("UPDATE scenes SET state = 'cubed', own_state = 'cubed', snapshot = :snapshot"),
            {"snapshot": cube.snapshot()},
        )
    leave_notes(ledger, cube.snapshot())


def leave_notes(ledger: Ledger, snapshot: str) -> None:
    """What a refresh remembers: places, plan, search, snapshot."""
    from sqlalchemy import text

    from catalog.archives import load_archive
    from catalog.database import write
    from flows.session import open_session
    from flows.steps import acquire

    session = open_session(str(load_settings().home / "many.yaml"))
    (product,) = session.products.values()
    acquire.sample_places.fn(session)
    with write(ledger.engine) as connection:
        connection.execute(
            text("UPDATE scenes SET plan = :plan"), {"plan": acquire.plans(session)[product.id]}
        )
    ledger.note(CUBE, "snapshot", snapshot)
    period, request = session.recipe.period, acquire.search_request(session, load_archive("many"), product)
    now = datetime.now(UTC)
    ledger.searches.note(CUBE, product.id, request, start=period.start, whole=period, now=now)


def measure(home: Path, url: str, environment: dict[str, str], runs: int) -> list[dict[str, Any]]:
    """One row of medians; every run must have found all it was told of in the ledger."""
    end = (START + timedelta(days=DAYS - 1)).date()
    window = (f"{end - timedelta(days=30)}T00:00:00Z", f"{end}T23:59:59.999Z")
    command = [
        sys.executable,
        "-c",
        MEASURED,
        "run",
        "refresh",
        "--recipe",
        str(home / "many.yaml"),
        "--json",
    ]
    total, answer, beyond, memory = [], [], [], []
    for _ in range(runs):
        answered, count = ask(url, *window)
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        found = json.loads(done.stdout)["products"]["sentinel-2-l2a"]
        assert (found["new"], found["cubed"], found["assets_read"]) == (0, 0, 0), found
        assert found["known"] == found["matched"] == count, (found, count)
        peak_kb, torch = done.stderr.strip().splitlines()[-1].split()
        assert torch == "False", "refresh imported torch"
        total.append(seconds)
        answer.append(answered)
        beyond.append(seconds - answered)
        memory.append(int(peak_kb) / 1000)
    return [
        {
            "items answered": count,
            "archive alone, s": spread(answer),
            "refresh, s": spread(total),
            "beyond the archive, s": spread(beyond),
            "peak memory, MB": spread(memory),
        }
    ]


def ask(url: str, start: str, end: str) -> tuple[float, int]:
    """Seconds the archive needs to give its pages, and how many items there are; only the link is parsed."""
    began, body, count = time.perf_counter(), {"datetime": f"{start}/{end}", "limit": 250}, 0
    with httpx.Client(timeout=60) as client:
        while True:
            text = client.post(f"{url}/search", json=body).content
            tail = json.loads(text[text.rindex(b'"links": ') + len(b'"links": ') : -1])
            count += int(
                text[text.index(b'"numberReturned": ') + len(b'"numberReturned": ') :].split(b",")[0]
            )
            if not tail:
                return time.perf_counter() - began, count
            body = tail[0]["body"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        with served(ManyItems(int(sys.argv[2]))) as (address, _):
            print(address, flush=True)
            sys.stdin.read()
    else:
        main()
