"""A real S3 server for the session, a bucket for each test, and a proxy that fails as told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.object_store.faulty_proxy import FaultyProxy, faulty_proxy
from tests.object_store.s3_server import KEY_ID, SECRET, S3Server, s3_server

CHAIN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def proxies(s3: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def empty_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without credentials; its user's home folder."""
    for name in CHAIN:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return home


@pytest.fixture
def credentials(empty_chain: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The variables that a user of an S3 of one's own sets."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def bucket(credentials: S3Server) -> str:
    return credentials.new_bucket()


@pytest.fixture
def swath_home(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose store is in the bucket; under the name that imported tests ask for."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWATH_STORE", f"s3://{bucket}/team")
    monkeypatch.delenv("SWATH_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def proxy(swath_home: Path, proxies: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """What the installation's requests go through: nothing fails until told."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxies.endpoint)
    monkeypatch.setattr("catalog.cubes.object_storage.FIRST_PAUSE_MS", 10)
    monkeypatch.setattr("catalog.cubes.object_storage.LONGEST_PAUSE_MS", 50)
    monkeypatch.setattr("catalog.cubes.object_storage.CUT_ANSWER_PAUSE_S", 0.01)
    monkeypatch.setattr("catalog.cubes.writer.LONGEST_PAUSE_S", 0.2)
    with ExitStack() as stack:
        stack.callback(proxies.come_back)
        proxies.come_back()
        yield proxies
