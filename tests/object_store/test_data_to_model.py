"""The whole way from archive to encoder by the ``swath`` command, with cubes and weights in a bucket."""

# ruff: noqa: F401, F811 - fixtures are imported by name

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catalog.encoders import open_catalog
from catalog.settings import Settings
from tests.flows.conftest import LIMIT_S, home, sandbox
from tests.flows.installation import ENCODERS, Installation
from tests.object_store.s3_server import KEY_ID, SECRET, S3Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(LIMIT_S)]


@dataclass(frozen=True)
class InBucket(Installation):
    """An installation that keeps cubes and encoders in a bucket."""

    store: str = ""
    endpoint: str = ""

    @property
    def settings(self) -> Settings:
        return Settings(self.home, f"sqlite:///{self.home / 'swath.db'}", self.store)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "SWATH_STORE": self.store,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def test_encoders_are_made_registered_and_pulled_from_a_bucket(
    home: Installation, credentials: S3Server, bucket: str, tmp_path: Path
) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    # The same archive: it is served already, and its label sets lie beside it.
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "archives").symlink_to(home.home / "archives")
    own = InBucket(
        tmp_path / "home",
        home.api_url,
        home.archive,
        home.elsewhere,
        home.temporary,
        store=f"s3://{bucket}/team",
        endpoint=credentials.endpoint,
    )
    made: dict[str, Any] = own.run("data-to-model")
    assert own.cube().verify() == []
    assert not (own.home / "store").exists(), "nothing of it is kept on the disk"

    catalog = open_catalog(own.settings)
    assert {encoder.name for encoder in catalog.search()} == set(ENCODERS)
    for encoder in catalog.search():
        assert catalog.verify(encoder.ref) == []
        told = own.json("encoders", "lineage", encoder.ref)
        assert told["samples"]
        own.swath("encoders", "pull", encoder.ref, "--to", str(tmp_path / encoder.name))
        assert (tmp_path / encoder.name / "model.safetensors").stat().st_size > 1000
    again = own.run("refresh")
    assert again["changed"] is False

    shown = json.dumps(made)
    shown += "".join(
        path.read_bytes().decode("latin-1")
        for path in own.home.rglob("*")
        if path.is_file() and "archives" not in path.parts
    )
    assert SECRET not in shown
