"""Credentials come from the usual chain, a lack of them is one line, and no secret is shown anywhere."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog.cubes import list_cubes, open_cube
from catalog.encoders import open_catalog
from catalog.errors import SwathError
from catalog.settings import load_settings
from tests.catalog.encoder_folders import encoder_folder
from tests.catalog.test_encoders import register
from tests.object_store.faulty_proxy import Fault, FaultyProxy
from tests.object_store.made_cube import contents, expected, new_cube
from tests.object_store.s3_server import KEY_ID, SECRET, S3Server

TOKEN = "FwoGZXIvYXdzE-session-token-of-these-tests"


@pytest.fixture
def installation(empty_chain: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with a store in a new bucket, on a machine that has no credentials yet."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWATH_STORE", f"s3://{s3.new_bucket()}/team")
    monkeypatch.delenv("SWATH_DATABASE_URL", raising=False)
    return empty_chain


def variables(s3: S3Server, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", s3.endpoint),
    ):
        monkeypatch.setenv(name, value)


def endpoint_of_s3_alone(s3: S3Server, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables(s3, user, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)


def default_profile(s3: S3Server, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = user / ".aws"
    folder.mkdir()
    keys = f"aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    (folder / "credentials").write_text(f"[default]\n{keys}")
    (folder / "config").write_text(f"[default]\nregion = eu-central-1\nendpoint_url = {s3.endpoint}\n")


def named_profile(s3: S3Server, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = f"aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    (user / "keys").write_text(f"[default]\naws_access_key_id = wrong\n[team]\n{keys}")
    (user / "settings").write_text(
        "[default]\nregion = nowhere-1\n"
        f"[profile team]\nregion = eu-central-1\nendpoint_url = {s3.endpoint}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(user / "keys"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(user / "settings"))


CHAIN = [
    variables,
    named_profile,
    pytest.param(endpoint_of_s3_alone, marks=pytest.mark.long),
    pytest.param(default_profile, marks=pytest.mark.long),
]


@pytest.mark.parametrize("link", CHAIN)
def test_cubes_and_weights_are_kept_with_any_link_of_the_chain(
    link: Callable[..., None],
    s3: S3Server,
    installation: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    link(s3, installation, monkeypatch)
    cube = new_cube(0)
    assert contents(open_cube("demo")) == expected(0)
    assert list_cubes() == ["demo"]
    catalog = open_catalog(load_settings())
    encoder = register(catalog, encoder_folder(tmp_path / "encoder"))
    assert catalog.verify(encoder.ref) == []

    shown = [caplog.text, *capfd.readouterr()]
    shown += [repr(value) for value in (cube, cube.place, cube.place.storage(), cube.repository, encoder)]
    shown += [str(cube.repository), str(cube.repository.config), json.dumps(encoder.manifest)]
    shown += [
        path.read_bytes().decode("latin-1") for path in (tmp_path / "home").rglob("*") if path.is_file()
    ]
    client, bucket = s3.client(), cube.place.url.split("/")[2]
    for key in s3.keys(bucket):
        shown.append(client.get_object(Bucket=bucket, Key=key)["Body"].read().decode("latin-1"))
    assert not [text for text in shown if SECRET in text or TOKEN in text or KEY_ID in text]


def every_use(tmp_path: Path) -> dict[str, Callable[[], Any]]:
    catalog = open_catalog(load_settings())
    made = encoder_folder(tmp_path / "encoder")
    return {
        "open": lambda: open_cube("demo"),
        "create": lambda: open_cube("new", create=True),
        "list": list_cubes,
        "register": lambda: register(catalog, made),
    }


def told(use: Callable[[], Any]) -> SwathError:
    with pytest.raises(SwathError) as caught:
        use()
    error = caught.value
    assert error.code == "store-unreachable"
    assert "AWS_*" in error.next_step
    assert "\n" not in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))
    assert KEY_ID not in str(error)
    return error


def test_missing_credentials_are_told_in_one_line(
    s3: S3Server, installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    for name, use in every_use(tmp_path).items():
        assert "credential" in told(use).message, name


def test_an_unknown_profile_is_told_in_one_line(
    s3: S3Server, installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    for use in every_use(tmp_path).values():
        message = told(use).message
        assert "nobody" in message or "credential" in message


def test_credentials_that_are_refused_are_told_in_one_line(
    s3: S3Server, proxies: FaultyProxy, installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables(s3, installation, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxies.endpoint)
    proxies.come_back()
    proxies.fail(Fault("403"))
    try:
        for use in every_use(tmp_path).values():
            told(use)
    finally:
        proxies.fail()


def test_a_bucket_that_does_not_exist_is_told_in_one_line(
    s3: S3Server, installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables(s3, installation, monkeypatch)
    monkeypatch.setenv("SWATH_STORE", "s3://no-bucket-of-this-name/team")
    uses = every_use(tmp_path)
    with pytest.raises(SwathError, match="cube-not-found"):
        uses.pop("open")()
    for use in uses.values():
        assert "bucket" in told(use).message.lower()


def test_a_store_of_another_kind_is_bad_usage(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("gs://bucket/team", "s3:///team"):
        monkeypatch.setenv("SWATH_STORE", url)
        with pytest.raises(SwathError, match="unsupported-store") as caught:
            open_cube("demo")
        assert caught.value.exit_code == 2
