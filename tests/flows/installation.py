"""One Swath installation in its own folder, used through the ``swath`` command in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.cubes import Cube, open_cube
from catalog.ledger import Ledger
from catalog.settings import Settings
from deployments.stac_server import ArchiveServer
from tests.conftest import REPOSITORY

CHEAP = (
    # Few dates; of each product an observation in two versions, of all but Sentinel-2 one that is refused.
    "period.start=2022-06-01",
    "period.end=2023-01-31",
    "locations.max_count=128",
    "pretrain.0.steps=6",
    "pretrain.0.batch_size=16",
    "pretrain.1.steps=8",
    "pretrain.1.backbone_options={front_end: spectral-adapter, patch_size: 4, depth: 2}",
    "evaluate.0.max_samples=100",
    "evaluate.0.seeds=1",
    "evaluate.1.max_samples=100",
    "evaluate.1.seeds=1",
)
"""Overrides of the sandbox recipe that keep it whole (four products, two methods) and small."""
ENCODERS = {"s2-moco-resnet18": "moco-v2", "enmap-mae-vit": "mae"}
"""Encoders of the sandbox recipe and their methods."""
OURS = ("SWATH_", "PREFECT_", "DO_NOT_TRACK", "GX_ANALYTICS", "COLUMNS", "TMPDIR")


@dataclass(frozen=True)
class Installation:
    """Where it lies, and how to call it."""

    home: Path
    """``SWATH_HOME``."""
    api_url: str
    """A Prefect server of its own."""
    archive: ArchiveServer
    """The sandbox archive, served where the flows expect it."""
    elsewhere: Path
    """The folder that commands are called in; nothing may appear there."""
    temporary: Path
    """``TMPDIR`` of every process."""

    @property
    def settings(self) -> Settings:
        return Settings(self.home, f"sqlite:///{self.home / 'swath.db'}", str(self.home / "store"))

    @property
    def environment(self) -> dict[str, str]:
        """What a user's shell would hold: nothing of ours but where the installation and the server are."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return clean | {
            "SWATH_HOME": str(self.home),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.home / "prefect"),
            "TMPDIR": str(self.temporary),
            "NO_COLOR": "1",
        }

    def swath(
        self, *arguments: str, timeout: float = 240, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """``swath ARGUMENTS`` to its end, whatever that is."""
        return subprocess.run(
            command(*arguments),
            env=self.environment | variables,
            cwd=self.elsewhere,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """The one JSON document that a command prints on stdout."""
        done = self.swath(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, flow: str, *overrides: str, recipe: str = "sandbox") -> Any:
        """Summary of a flow over the cheap recipe."""
        return self.json("run", flow, "--recipe", recipe, *settings_of(CHEAP + overrides))

    def cube(self, name: str = "sandbox") -> Cube:
        return open_cube(name, self.settings)

    def ledger(self) -> Ledger:
        from catalog.database import open_database

        return Ledger(open_database(self.settings))

    def what_is_there(self) -> dict[str, Any]:
        """All that a refused command must leave as it was."""
        from catalog.cubes import list_cubes
        from catalog.encoders import open_catalog

        catalog = open_catalog(self.settings)
        return {
            "cubes": {name: [v.id for v in self.cube(name).history()] for name in list_cubes(self.settings)},
            "encoders": [(item.ref, item.aliases) for item in catalog.search(limit=1000)],
            "encoder folders": sorted(map(str, (self.home / "store" / "encoders").rglob("*"))),
            "ledger": [(row.cube, row.scene_id, row.state) for row in self.ledger().rows()],
            "temporary files": sorted(map(str, self.temporary.rglob("*"))),
            "called from": sorted(map(str, self.elsewhere.iterdir())),
        }


def command(*arguments: str) -> list[str]:
    """The console script of this environment."""
    return [str(Path(sys.executable).parent / "swath"), *arguments]


def settings_of(overrides: tuple[str, ...]) -> list[str]:
    """``--set`` flags."""
    return [part for override in overrides for part in ("--set", override)]


def prefect(*arguments: str) -> list[str]:
    """The ``prefect`` command of this environment."""
    return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]


__all__ = ["CHEAP", "ENCODERS", "REPOSITORY", "Installation", "command", "prefect", "settings_of"]
