"""Which snapshots of a cube encoders and runs still need, so that no expiry takes them."""

from __future__ import annotations

from sqlalchemy import select

from catalog import tables
from catalog.encoders import open_catalog
from catalog.runs import Runs
from catalog.settings import Settings, load_settings

ALL = 1_000_000


def needed_snapshots(cube: str, settings: Settings | None = None) -> dict[str, str]:
    """Snapshot id → who needs it.

    Every registered encoder needs the snapshots its manifest names, whether the cube has its tag or not; a
    training that can be resumed needs its own, and so does the last one of each encoder that has ended, for
    it may not have been judged yet. A run's record does not name the cube: ids of others may be among these.
    """
    catalog = open_catalog(settings or load_settings())
    needed: dict[str, str] = {}
    judged: set[str] = set()
    for run in Runs(catalog.engine).list(kind="pretrain", limit=ALL):
        snapshot, encoder = run.manifest.get("snapshot"), str(run.manifest.get("encoder"))
        resumable = run.status in ("running", "failed")
        if snapshot and (resumable or encoder not in judged):
            needed.setdefault(str(snapshot), f"run {run.run_id} ({run.status})")
        if not resumable:
            judged.add(encoder)
    table = tables.encoders
    query = select(table.c.name, table.c.version, table.c.manifest).order_by(table.c.name, table.c.version)
    with catalog.engine.connect() as connection:
        for name, version, manifest in connection.execute(query):
            snapshot = (manifest.get("snapshots") or {}).get(cube)
            if snapshot:
                needed[str(snapshot)] = f"encoder {name}@{version}"
    return needed
