"""Refreshing on a cluster: one made for the run, one at an address, and one that does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import distributed
import pytest

from catalog.errors import UsageError
from deployments.sandbox import SandboxInfo
from flows.cluster import Cluster
from tests.flows.growing_archive import GrowingArchive, growing_archive, items_of
from tests.flows.installation import Installation, settings_of

PRODUCT = "sentinel-2-l2a"


@dataclass(frozen=True)
class Place:
    """An archive of three scenes, and an installation that has not seen them."""

    archive: GrowingArchive
    own: Installation

    def arguments(self, cube: str, *more: str) -> tuple[str, ...]:
        overrides = (
            f"archive={self.archive.url}",
            f"cube={cube}",
            f"products={{{PRODUCT}: {{}}}}",
            "period.start=2021-01-01",
            "locations.max_count=12",
            "pretrain=[]",
            "evaluate=[]",
        )
        return ("run", "refresh", "--recipe", "sandbox", *settings_of(overrides), *more)

    def refresh(self, cube: str, *more: str) -> dict[str, Any]:
        summary: dict[str, Any] = self.own.json(*self.arguments(cube, *more))
        found: dict[str, Any] = summary["products"][PRODUCT]
        return found

    def samples(self, cube: str) -> list[tuple[str, str]]:
        """Id and checksum of each sample, row by row, after all was read again."""
        opened = self.own.cube(cube)
        assert opened.verify() == []
        columns = opened.columns(PRODUCT)
        return list(zip(columns["sample"], columns["sha256"], strict=True))


@pytest.fixture
def place(home: Installation, sandbox: SandboxInfo, tmp_path: Path) -> Iterator[Place]:
    refused = sandbox.refused[PRODUCT]
    items = [item for name, item in items_of(sandbox.folder).items() if name != refused]
    with growing_archive(sandbox.folder, tmp_path / "archive") as archive:
        archive.add(*items[:3])
        yield Place(archive, replace(home, home=tmp_path / "home"))


def test_a_refresh_on_workers_makes_what_a_refresh_without_them_makes(place: Place) -> None:
    alone = place.refresh("alone")
    assert alone["samples_written"] > 0
    assert place.refresh("on-workers", "--workers", "2") == alone
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        assert place.refresh("at-an-address", "--scheduler", cluster.scheduler_address) == alone
    assert place.samples("on-workers") == place.samples("at-an-address") == place.samples("alone")


def test_a_scheduler_that_does_not_answer_is_told_in_one_line(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = place.own.swath(*place.arguments("nowhere", "--scheduler", address))
    assert done.returncode == 1
    assert f"{address}: no Dask scheduler answers" in done.stderr
    assert "[scheduler-unreachable]" in done.stderr and "Traceback" not in done.stderr
    # The scenes wait for the next run.
    assert place.refresh("nowhere")["cubed"] == 3


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "two-clusters"),
        ({"workers": 0}, "no-workers-asked"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(asked: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        Cluster(**asked)
    assert refused.value.code == code
