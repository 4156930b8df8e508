"""No signature, token or password is left behind by a run that succeeds or by one that fails."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import SwathError
from deployments.stac_server.faults import Fault
from deployments.stac_server.folder_changes import put_in, take_out
from tasks.readers import ReadFailure
from tasks.readers.assets import OpenAsset
from tests.faults.conftest import Tiny, signed
from tests.faults.pipeline import run
from tests.faults.refresh_pipeline import Follower
from tests.faults.test_fault_matrix import victim_of

ONE = "sentinel-2-l2a"
PASSWORD, BEARER = "hunter2-password-42", "eyJ-bearer-secret-42"
SIGNATURE = re.compile(r"sig=[A-Za-z0-9_%-]{20}")


def everything(home: Path, caplog: pytest.LogCaptureFixture, *errors: BaseException) -> str:
    """All that a run leaves: files, log lines, errors with their chains, and what they show of themselves."""
    texts = [path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file()]
    texts += [record.getMessage() for record in caplog.records] + [caplog.text]
    for error in errors:
        texts += traceback.format_exception(error)
        texts += [repr(error), str(error), repr(vars(error)), json.dumps(vars(error), default=repr)]
    return "\n".join(texts)


def secrets_in(text: str) -> list[str]:
    return [secret for secret in (PASSWORD, BEARER) if secret in text] + SIGNATURE.findall(text)


def test_a_secret_would_be_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leak = "https://host/a.tif?se=1&sig=CCCCCCCCCCCCCCCCCCCCCCCCCC"
    assert secrets_in(everything(tmp_path, caplog, RuntimeError(leak)))
    (tmp_path / "ledger.db").write_bytes(b"\0" + PASSWORD.encode())
    assert secrets_in(everything(tmp_path, caplog)) == [PASSWORD]


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (Fault("http-503", "/assets/*B02.tif"),),
        (Fault("http-403", "/assets/*B02.tif"),),
        (Fault("reset", "/assets/*B02.tif"),),
        (
            Fault(
                "redirect", "/assets/*B02.tif", to="http://10.0.0.1{path}?sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            ),
        ),
        (Fault("http-500", "/_tokens/*"),),
    ],
    ids=["nothing", "503", "403", "reset", "redirect", "token service"],
)
def test_a_signed_run_leaves_no_signature(
    faults: tuple[Fault, ...],
    tiny_of: Callable[[str], Tiny],
    home: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.tokens.PAUSE_S", 0.01)
    caplog.set_level(logging.DEBUG)
    tiny = tiny_of(ONE)
    tiny.server.set_faults([*faults, Fault("token")])
    outcome = run(tiny.info, tiny.signed, ONE, "signed")
    assert bool(outcome.failures) == bool(faults)
    assert any(fault["applied"] for fault in tiny.server.faults())
    assert secrets_in(everything(home, caplog, *outcome.failures.values())) == []


@pytest.fixture
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password and a bearer token for the archive, where users keep theirs."""
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("SWATH_TOKEN_SANDBOX", BEARER)


@pytest.mark.usefixtures("logins")
@pytest.mark.parametrize("access", ["login", "oidc"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_login_leaves_no_password(
    access: str,
    fails: bool,
    tiny_of: Callable[[str], Tiny],
    home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    tiny = tiny_of(ONE)
    tiny.server.set_faults([Fault("http-401")] if fails else [])
    outcome = run(tiny.info, tiny.archive.model_copy(update={"access": access}), ONE, "login")
    assert bool(outcome.failures) == fails
    assert secrets_in(everything(home, caplog, *outcome.failures.values())) == []


def test_an_item_that_carries_a_signature_is_reported_without(
    tiny_of: Callable[[str], Tiny], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tiny = tiny_of(ONE)
    _, asset = victim_of(tiny)
    signed = replace(asset, href=f"{asset.href}?se=2030&sig=BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB")
    tiny.server.set_faults([Fault("missing")])
    caught: list[BaseException] = []
    elsewhere = tiny.archive.model_copy(update={"hosts": ("b.example",), "url": ""})
    for archive in (tiny.archive, tiny.signed, elsewhere):
        with pytest.raises(SwathError) as error:
            OpenAsset("scene", signed, "B02", archive).use(lambda dataset: dataset.count)
        caught.append(error.value)
    assert isinstance(caught[0], ReadFailure)
    assert secrets_in(everything(home, caplog, *caught)) == []


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (Fault("http-403", "/assets/*B02.tif"),),
        (Fault("redirect", "/assets/*B02.tif", to="http://10.0.0.1{path}?sig=DDDDDDDDDDDDDDDDDDDDDDDDDDDD"),),
        (Fault("http-500", "/_tokens/*"),),
    ],
    ids=["nothing", "403", "redirect", "token service"],
)
def test_a_refresh_leaves_no_signature_in_ledger_report_or_artifact(
    faults: tuple[Fault, ...],
    follow: Callable[..., Follower],
    home: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.tokens.PAUSE_S", 0.01)
    caplog.set_level(logging.DEBUG)
    follower = follow(ONE)
    follower.archive = signed(follower.archive)
    scene = follower.scenes[0].id
    put_in(follower.folder, with_signatures(take_out(follower.folder, scene)))
    follower.server.set_faults([*faults, Fault("token")])
    errors: list[BaseException] = []
    shown = ""
    try:
        refreshed = follower.refresh()
        shown = repr(refreshed)
        errors += refreshed.result.failures.values() if refreshed.result else ()
    except SwathError as error:
        errors.append(error)
    assert any(fault["applied"] for fault in follower.server.faults())
    with follower.ledger() as ledger:
        failures = ledger.failures()
    assert bool(failures) == bool(faults)
    assert not [failure for failure in failures if "?" in failure.href]
    assert scene.encode() in (home / "swath.db").read_bytes(), "the ledger is among the files looked at"
    assert list(home.rglob("gate-*.html")), "and so is the gate's report"
    assert secrets_in(shown + everything(home, caplog, *errors)) == []


@pytest.mark.usefixtures("logins")
@pytest.mark.parametrize("access", ["login", "oidc"])
def test_a_refresh_that_is_refused_leaves_no_password_in_the_ledger(
    access: str,
    follow: Callable[..., Follower],
    home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    follower = follow(ONE)
    follower.archive = follower.archive.model_copy(update={"access": access})
    follower.server.set_faults([Fault("http-401")])
    refreshed = follower.refresh()
    with follower.ledger() as ledger:
        assert {failure.status for failure in ledger.failures()} == {401}
    assert set(follower.states().values()) == {"quarantined"}
    assert secrets_in(repr(refreshed) + everything(home, caplog)) == []


def with_signatures(item: dict[str, Any]) -> dict[str, Any]:
    """The item as an archive gives it that signs its addresses."""
    signature = "?se=2030-01-01T00%3A00%3A00Z&sig=EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE"
    assets = {key: {**a, "href": a["href"] + signature} for key, a in item["assets"].items()}
    return {**item, "assets": assets}
