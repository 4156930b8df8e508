"""Signatures live for one reading and appear nowhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planetary_computer import sas
from planetary_computer.settings import Settings

from catalog.archives import Archive, load_archive
from catalog.errors import ArchiveError, UsageError
from catalog.scenes import SceneAsset
from tasks import signing
from tasks.readers import ReadFailure
from tasks.readers.assets import OpenAsset
from tasks.signing import can_sign_again, redact, sign_href, unsigned
from tests.tasks.range_server import Request, serve_ranges

BLOB = "https://account.blob.core.windows.net/container/tile/B02.tif"


@pytest.fixture
def token_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A real token service on the loopback; the list holds what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            expiry = datetime.now(UTC) + timedelta(hours=1)
            answer = {"msft:expiry": expiry.isoformat(), "token": f"se=soon&sig=secret{len(asked)}"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{http.server_address[1]}/token"
    monkeypatch.setattr(Settings, "get", staticmethod(lambda: Settings(sas_url=address)))
    sas.TOKEN_CACHE.clear()
    yield asked
    sas.TOKEN_CACHE.clear()
    http.shutdown()
    http.server_close()
    thread.join()


def test_an_anonymous_href_is_read_as_it_is() -> None:
    assert sign_href(BLOB, load_archive("sandbox")) == BLOB
    assert not can_sign_again(load_archive("sandbox"))


def test_one_token_serves_many_files_and_many_threads(token_service: list[str]) -> None:
    archive = load_archive("planetary-computer")
    signed: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: signed.append(sign_href(f"{BLOB}?x={n}", archive)))  # type: ignore[misc]
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(signed) == {f"{BLOB}?se=soon&sig=secret1"}
    assert token_service == ["/token/account/container"]


def test_a_stale_signature_is_stripped_and_replaced(token_service: list[str]) -> None:
    archive = load_archive("planetary-computer")
    stale = sign_href(BLOB, archive)
    fresh = sign_href(stale, archive, fresh=True)
    assert fresh == f"{BLOB}?se=soon&sig=secret2"
    assert len(token_service) == 2


def test_a_silent_token_service_is_an_archive_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sas.TOKEN_CACHE.clear()
    monkeypatch.setattr(sas, "get_token", lambda *args: sas.SASToken.model_validate({"error": "down"}))
    with pytest.raises(ArchiveError) as caught:
        sign_href(BLOB, load_archive("planetary-computer"))
    assert caught.value.code == "signing-failed"


def test_an_access_that_nobody_wrote_is_named() -> None:
    archive = Archive(name="x", url="http://127.0.0.1").model_copy(update={"access": "carrier-pigeon"})
    with pytest.raises(UsageError) as caught:
        sign_href(BLOB, archive)
    assert caught.value.code == "unknown-access"


@given(
    st.sampled_from(["sig", "se", "X-Amz-Signature", "token", "api_key", "Signature"]),
    st.text("abcdefXYZ0123456789%+/", min_size=3, max_size=40),
)
def test_no_signature_survives_redaction(name: str, secret: str) -> None:
    text = f"GET https://host/a.tif?keep=1&{name}={secret}&last=2 failed"
    clean = redact(text)
    assert f"={secret}&" not in clean
    assert "https://host/a.tif?keep=1" in clean and clean.endswith("&last=2 failed")


def test_logins_and_bearers_are_redacted() -> None:
    clean = redact("https://me:pass@host/x Authorization: Bearer abcdefghij")
    assert "pass" not in clean and "abcdefghij" not in clean


def test_an_unsigned_href_has_no_query() -> None:
    assert unsigned(f"{BLOB}?sig=x#y") == BLOB


def test_after_a_403_the_file_is_signed_again_exactly_once(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    import numpy as np

    from tests.tasks.scene_files import archive_at, grid_at, write_cog

    folder = Path(str(tmp_path))
    write_cog(folder / "a.tif", np.ones((1, 384, 384), np.uint16), grid_at(10), 0)
    asked: list[bool] = []

    def signer(href: str, fresh: bool) -> str:
        asked.append(fresh)
        return f"{unsigned(href)}?sig=secret{len(asked)}"

    monkeypatch.setitem(signing.SIGNERS, "anonymous", signer)
    monkeypatch.setattr(signing, "RENEWABLE", {"anonymous"})
    with serve_ranges(folder) as server:
        archive = archive_at(server.url)
        asset = SceneAsset("a", f"{server.url}/a.tif", ("B02",))

        def only_the_second(request: Request) -> int | None:
            return None if "secret2" in request.query else 403

        server.fault = only_the_second
        file = OpenAsset("scene", asset, "B02", archive, pause_s=0.01)
        assert file.use(lambda dataset: int(dataset.read(1).sum())) == 384 * 384
        assert asked == [False, True]
        file.close()

        asked.clear()
        server.fault = lambda request: 403
        with pytest.raises(ReadFailure) as caught:
            OpenAsset("scene", asset, "B02", archive, pause_s=0.01).use(lambda dataset: dataset.count)
        assert asked == [False, True]
        assert caught.value.status == 403
        assert "secret" not in str(caught.value)
        assert urlsplit(caught.value.href).query == ""
