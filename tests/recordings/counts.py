"""Counts, archive by archive, what became of every real item that was saved or recorded.

``python -m tests.recordings.counts [FOLDER]`` prints the table of ``docs/archives.md``; FOLDER is the folder
of real scenes (``SWATH_REALDATA``, or ``shared/data`` beside the repository).
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from catalog.archives import load_archive
from catalog.normalise import RefusedScene, normalise_item
from catalog.normalise.inspection import candidates, guess_archive
from tests.recordings.library import recorded_items, saved_items

USABLE = "usable"
NOWHERE = "(a file)"
"""Items that a tool wrote on somebody's disk and no archive served."""
HEADER = (
    "| archive | collection | product | items | usable | refused | why |",
    "|---|---|---|---|---|---|---|",
)


def outcomes(realdata: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """(archive, collection, id, product, ``usable`` or the reason) of every distinct item.

    The same id in the same collection of one archive is one item: it was recorded again and again.
    """
    seen: set[tuple[str, str, str, str]] = set()
    for archive, item in _all(realdata):
        collection, item_id = str(item.get("collection")), str(item.get("id"))
        # The same item with fields left out of the answer, or in an older shape, is another item to read.
        shape = f"{item.get('stac_version')} {bool(item.get('assets'))}"
        if (archive, collection, item_id, shape) in seen:
            continue
        seen.add((archive, collection, item_id, shape))
        product, why = judged(archive, item)
        yield archive, collection, item_id, product, why


def judged(archive: str, item: dict[str, Any]) -> tuple[str, str]:
    """(product, ``usable`` or the first reason) of one item; ``none`` where several would refuse it."""
    source = guess_archive(item) if archive == NOWHERE else load_archive(archive)
    reasons: dict[str, list[str]] = {}
    for product in candidates(item, source):
        try:
            normalise_item(item, source, product)
        except RefusedScene as refusal:
            reasons[product.id] = [_in_general(reason) for reason in refusal.reasons]
        else:
            return product.id, USABLE
    first = next(iter(reasons.values()))
    if len(reasons) == 1:
        return next(iter(reasons)), first[0]
    shared = [reason for reason in first if all(reason in others for others in reasons.values())]
    return "none", f"of no known product{f': {shared[0]}' if shared else ''}"


def table(realdata: Path) -> list[str]:
    """The markdown table, line by line."""
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for archive, collection, _, product, why in outcomes(realdata):
        groups.setdefault((archive, collection, product), Counter())[why] += 1
    lines = list(HEADER)
    for (archive, collection, product), counts in sorted(groups.items()):
        usable = counts[USABLE]
        why = "; ".join(f"{n} {reason}" for reason, n in sorted(counts.items()) if reason != USABLE)
        total = counts.total()
        lines.append(
            f"| {archive} | {collection} | {product} | {total} | {usable} | {total - usable} | {why} |"
        )
    total = sum(counts.total() for counts in groups.values())
    usable = sum(counts[USABLE] for counts in groups.values())
    lines.append(f"| all | | | {total} | {usable} | {total - usable} | |")
    return lines


def _all(realdata: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    yield from recorded_items(realdata)
    for archive, item in saved_items(realdata):
        yield archive or NOWHERE, item


def _in_general(reason: str) -> str:
    """A reason without what differs from item to item."""
    return re.sub(r"^assets? [^:]+: ", "", reason).replace("|", "\\|")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SWATH_REALDATA")
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    print("\n".join(table(Path(given) if given else beside)))
