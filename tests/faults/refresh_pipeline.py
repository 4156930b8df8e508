"""Refresh after refresh over an archive that changes: the steps of ``flows.refresh``, without its engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.archives import Archive, load_archive
from catalog.cubes import Cube
from catalog.ledger import Ledger
from catalog.products import Product
from catalog.recipes import Period, Recipe, parse_recipe
from catalog.scenes import Scene
from catalog.settings import Settings, load_settings
from deployments.sandbox import SandboxInfo
from deployments.stac_server import ArchiveServer, serve_archive
from deployments.stac_server.folder_changes import take_out
from tasks.cube.scenes import CubeResult
from tests.tasks.scene_files import built_in

if TYPE_CHECKING:
    from flows.session import Session
    from tasks.gate.result import GateResult

CUBE = "following"
Samples = dict[tuple[str, str], list[NDArray[Any]]]
"""(scene, location) → raw pixels of each resolution, and the quality flags."""


@dataclass(frozen=True)
class Listed:
    """A scene of the archive."""

    id: str
    sensed: date


@dataclass(frozen=True)
class Round:
    """What one refresh came to."""

    new: int
    """Scenes that the ledger took in."""
    known: int
    searched: Period
    refused: dict[str, str]
    """Item id → why no scene could be made of it."""
    gate: GateResult | None
    """None where there was nothing to judge."""
    result: CubeResult | None
    """None where there was nothing to cube."""
    read: set[str]
    """Scenes of the product whose files were asked for."""
    snapshot: str
    changed: bool

    @property
    def did_nothing(self) -> bool:
        """No asset read, nothing committed."""
        return not self.read and not self.changed and self.result is None


@dataclass(frozen=True)
class Whole:
    """What one refresh makes of an archive that does not change."""

    run: Round
    samples: Samples
    scenes: dict[str, Scene]
    """Of the cube, by id."""


@dataclass
class Follower:
    """An installation that follows one product of an archive: a ledger and a cube below ``SWATH_HOME``."""

    info: SandboxInfo
    server: ArchiveServer
    archive: Archive
    product: Product
    settings: Settings
    scenes: tuple[Listed, ...]
    """All that the archive lists at first, oldest first: one version of each observation."""
    versions: tuple[str, str]
    """Two versions of one observation: the older, which is not listed, and the newer, which is."""
    older: dict[str, Any]
    """The item of the older one."""

    @property
    def folder(self) -> Path:
        """What the archive's server serves."""
        return self.server.folder

    def recipe(self, **wishes: Any) -> Recipe:
        lenient = {"max_cloud_fraction": 1, "max_saturated_fraction": 1, "max_refused_share": 1}
        request = {
            "sample_max_nodata_fraction": 1,
            "sample_max_cloud_fraction": 1,
            "gate": {"max_nodata_fraction": 1, **lenient},
        }
        return parse_recipe(
            {
                "name": CUBE,
                "archive": "sandbox",
                "area": {"bbox": self.info.bbox},
                "period": {"start": self.info.start, "end": self.info.end},
                "products": {self.product.id: request},
                "locations": {"size_m": 480, "split": {"block_m": 960}},
                **wishes,
            }
        )

    def session(self, **wishes: Any) -> Session:
        from flows.session import Session

        return Session(self.recipe(**wishes), {self.product.id: self.product}, self.settings)

    def refresh(
        self,
        *,
        before_gate: Callable[[], None] | None = None,
        before_cube: Callable[[], None] | None = None,
        **wishes: Any,
    ) -> Round:
        """One refresh, as the flow does it; ``before_…`` is called in mid-run, when an archive may change."""
        from flows.steps import acquire
        from flows.steps import gate as gate_steps

        session = self.session(**wishes)
        ledger, product, name = session.ledger, self.product, session.recipe.cube_name
        self.server.reset_requests()
        try:
            searched = acquire.search.fn(session, self.archive, product)
            before = acquire.reconcile.fn(session)
            found = acquire.note.fn(session, searched)
            seen = [row.scene() for row in ledger.rows(state="seen", product=product.id, cube=name)]
            if before_gate is not None:
                before_gate()
            judged = self._judge(session, gate_steps, seen) if seen else None
            accepted = judged is not None and bool(judged.accepted)
            if ledger.noted(name, "places") != acquire.places_request(session) or (
                accepted and acquire.places_follow_scenes(session)
            ):
                acquire.sample_places.fn(session)
            plan = acquire.plans(session)
            pending = ledger.pending(name, product.id, plan[product.id])
            if before_cube is not None:
                before_cube()
            written = {}
            if pending:
                written = acquire.cube.fn(session, self.archive, {product.id: pending}, plan, _silent)
            snapshot = session.cube.snapshot()
        finally:
            session.engine.dispose()
        assert found.result.period is not None
        return Round(
            found.new,
            found.known,
            found.result.period,
            dict(found.result.refusals),
            judged,
            written.get(product.id),
            self._read(),
            snapshot,
            snapshot != before,
        )

    def _judge(self, session: Session, gate_steps: Any, seen: list[Scene]) -> GateResult:
        """The gate; what it would show in Prefect's interface is what it found."""
        shown: list[GateResult] = []
        interface, gate_steps.gate_artifact = gate_steps.gate_artifact, shown.append
        try:
            folder, witnesses = session.folder("refresh"), gate_steps.Witnesses()
            gate_steps.gate.fn(session, self.archive, self.product, seen, witnesses, folder, _silent)
        finally:
            gate_steps.gate_artifact = interface
        return shown[0]

    def _read(self) -> set[str]:
        collection = self.archive.collection(self.product)
        paths = [path.split("/") for _, path, _, _ in self.server.requests()["recent"]]
        return {p[3] for p in paths if p[1] == "assets" and p[2] == collection}

    @property
    def cube(self) -> Cube:
        return self.session().cube

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        session = self.session()
        try:
            yield session.ledger
        finally:
            session.engine.dispose()

    def states(self) -> dict[str, str]:
        """Scene id → state."""
        with self.ledger() as ledger:
            return {row.scene_id: str(row.state) for row in ledger.rows(cube=CUBE)}

    def samples(self, snapshot: str | None = None) -> Samples:
        """Every pixel of a snapshot; the newest unless given."""
        cube, product = self.cube, self.product
        columns = cube.columns(product.id, snapshot)
        rows = columns["row"].to_numpy()
        if not len(rows):
            return {}
        parts = [cube.read(product.id, gsd, rows, snapshot) for gsd in product.resolutions_m]
        parts.append(cube.read_quality(product.id, rows, snapshot))
        keys = zip(columns["scene"], columns["location"], strict=True)
        return {key: [part[place] for part in parts] for place, key in enumerate(keys)}

    def successors(self, snapshot: str | None = None) -> dict[str, str]:
        """Scene in a snapshot → the one that its samples say replaces it, or nothing."""
        columns = self.cube.columns(self.product.id, snapshot)
        pairs = set(zip(columns["scene"], columns["superseded_by"], strict=True))
        assert len(pairs) == len({scene for scene, _ in pairs}), "all samples of a scene say the same"
        return dict(pairs)


@contextmanager
def following(info: SandboxInfo, product: str, copy: Path) -> Iterator[Follower]:
    """Serve a copy of an archive folder, which a test may change, and follow it from nothing."""
    shutil.copytree(info.folder, copy)
    take_out(copy, info.refused[product])
    older = take_out(copy, info.superseded[product][0])
    with serve_archive(copy) as server:
        archive = load_archive("sandbox", url=server.url).model_copy(update={"page_size": 2})
        known = built_in(product)
        yield Follower(
            info,
            server,
            archive,
            known,
            load_settings(),
            _listed(copy, archive.collection(known)),
            info.superseded[product],
            older,
        )


def _listed(folder: Path, collection: str) -> tuple[Listed, ...]:
    lines = (folder / "items" / f"{collection}.ndjson").read_text(encoding="utf-8").splitlines()
    found = [(datetime.fromisoformat(i["properties"]["datetime"]), i["id"]) for i in map(json.loads, lines)]
    return tuple(Listed(name, moment.date()) for moment, name in sorted(found))


def same(one: Samples, other: Samples) -> bool:
    """Whether the samples are the same, bit for bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(p.view(np.uint8), q.view(np.uint8))
        for key in one
        for p, q in zip(one[key], other[key], strict=True)
    )


def _silent(what: str, done: int, total: int) -> None:
    pass
