"""Signatures live for one reading and appear nowhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planetary_computer.settings import Settings

from catalog.archives import Archive, load_archive
from catalog.errors import ArchiveError, UsageError
from catalog.scenes import SceneAsset
from tasks import signing
from tasks.readers import ReadFailure
from tasks.readers.assets import OpenAsset
from tasks.signing import auth_headers, can_sign_again, redact, sign_href, unsigned
from tasks.tokens import forget_tokens
from tests.tasks.range_server import Request, serve_ranges

BLOB = "https://account.blob.core.windows.net/container/tile/B02.tif"


@dataclass
class TokenService:
    """A token service on the loopback, and what was asked of it."""

    asked: list[str] = field(default_factory=list)
    life_s: float = 3600.0
    stumbles: list[tuple[int, str]] = field(default_factory=list)
    """(status, Retry-After) of the answers that come first."""
    keys: list[str] = field(default_factory=list)
    """Subscription keys that came along."""


@pytest.fixture
def token_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenService]:
    """A real token service, found through the settings of Planetary Computer's own library."""
    service = TokenService()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked.append(self.path)
            service.keys.append(self.headers.get("Ocp-Apim-Subscription-Key", ""))
            if service.stumbles:
                status, wait = service.stumbles.pop(0)
                self.send_response(status)
                if wait:
                    self.send_header("Retry-After", wait)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            expiry = (datetime.now(UTC) + timedelta(seconds=service.life_s)).isoformat().replace("+", "%2B")
            token = f"se={expiry}&sig=secret{len(service.asked)}"
            body = json.dumps({"token": token}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    monkeypatch.setenv("PC_SDK_SAS_URL", f"http://127.0.0.1:{http.server_address[1]}/token")
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "subscription")
    Settings.get.cache_clear()
    forget_tokens()
    yield service
    Settings.get.cache_clear()
    forget_tokens()
    http.shutdown()
    http.server_close()
    thread.join()


def test_an_anonymous_href_is_read_as_it_is() -> None:
    assert sign_href(BLOB, load_archive("sandbox")) == BLOB
    assert not can_sign_again(load_archive("sandbox"))


def signature(href: str) -> str:
    return parse_qs(urlsplit(href).query)["sig"][0]


def test_one_token_serves_many_files_and_many_threads(token_service: TokenService) -> None:
    archive = load_archive("planetary-computer")
    with ThreadPoolExecutor(16) as pool:
        signed = list(pool.map(lambda n: sign_href(f"{BLOB}?x={n}", archive), range(64)))
    assert {signature(href) for href in signed} == {"secret1"}
    assert {unsigned(href) for href in signed} == {BLOB}
    assert token_service.asked == ["/token/account/container"]
    assert token_service.keys == ["subscription"]


def test_each_container_has_its_own_token(token_service: TokenService) -> None:
    archive = load_archive("planetary-computer")
    one, other = sign_href(BLOB, archive), sign_href(BLOB.replace("container", "other"), archive)
    assert (signature(one), signature(other)) == ("secret1", "secret2")
    assert sorted(token_service.asked) == ["/token/account/container", "/token/account/other"]


def test_a_host_without_a_container_gets_no_token(token_service: TokenService) -> None:
    href = "https://elsewhere.example/container/B02.tif"
    assert sign_href(href, load_archive("planetary-computer")) == href
    assert not token_service.asked


def test_a_stale_signature_is_stripped_and_replaced(token_service: TokenService) -> None:
    archive = load_archive("planetary-computer")
    stale = sign_href(BLOB, archive)
    fresh = sign_href(stale, archive, fresh=True)
    assert (unsigned(fresh), signature(fresh)) == (BLOB, "secret2")


def test_threads_that_hold_the_same_stale_token_share_the_new_one(token_service: TokenService) -> None:
    archive = load_archive("planetary-computer")
    stale = sign_href(BLOB, archive)
    with ThreadPoolExecutor(16) as pool:
        fresh = list(pool.map(lambda _: sign_href(stale, archive, fresh=True), range(32)))
    assert {signature(href) for href in fresh} == {"secret2"}
    assert len(token_service.asked) == 2


def test_a_token_is_asked_for_anew_before_it_ends(token_service: TokenService) -> None:
    archive = load_archive("planetary-computer")
    token_service.life_s = 1.0
    first = signature(sign_href(BLOB, archive))
    assert signature(sign_href(BLOB, archive)) == first
    time.sleep(0.85)  # four fifths of its life
    assert signature(sign_href(BLOB, archive)) != first


def test_a_token_that_ended_yesterday_is_asked_for_once_more_and_then_tried(
    token_service: TokenService,
) -> None:
    token_service.life_s = -86_400.0
    archive = load_archive("planetary-computer")
    assert signature(sign_href(BLOB, archive)) == "secret2"
    for _ in range(5):
        sign_href(BLOB, archive)
    assert len(token_service.asked) == 2, "the service is not asked for each file"


@pytest.mark.parametrize("status", [429, 503])
def test_a_token_service_that_asks_to_wait_is_waited_for(token_service: TokenService, status: int) -> None:
    token_service.stumbles = [(status, "1")]
    began = time.monotonic()
    assert signature(sign_href(BLOB, load_archive("planetary-computer"))) == "secret2"
    assert 1.0 <= time.monotonic() - began < 5


def test_a_token_service_that_wants_an_hour_is_left_alone(token_service: TokenService) -> None:
    token_service.stumbles = [(429, "3600")]
    archive = load_archive("planetary-computer")
    for _ in range(3):
        with pytest.raises(ArchiveError) as caught:
            sign_href(BLOB, archive)
        assert caught.value.code == "signing-failed"
    assert len(token_service.asked) == 1


def test_without_a_token_the_file_may_come_another_time(token_service: TokenService) -> None:
    token_service.stumbles = [(403, "")]
    asset = SceneAsset("B02", BLOB, ("B02",))
    with pytest.raises(ReadFailure) as caught:
        OpenAsset("scene", asset, "B02", load_archive("planetary-computer")).use(lambda d: d.count)
    assert (caught.value.code, caught.value.may_pass) == ("signing-failed", True)


def test_a_login_goes_to_its_host_alone_and_never_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine download.geoservice.dlr.de login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    archive = load_archive("dlr-eoc")
    address = "https://download.geoservice.dlr.de/ENMAP/a.tif"
    assert auth_headers(address, archive) == {"Authorization": "Basic bWU6aHVudGVyMg=="}
    assert auth_headers(address.replace("https", "http"), archive) == {}
    assert auth_headers("https://elsewhere.example/a.tif", archive) == {}


def test_a_bearer_token_comes_from_the_environment_or_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = load_archive("cdse").model_copy(update={"access": "oidc", "token_url": None})
    address = "https://eodata/a.tif"
    monkeypatch.setenv("NETRC", "/nowhere")
    with pytest.raises(ArchiveError):
        auth_headers(address, archive)
    monkeypatch.setenv("SWATH_TOKEN_CDSE", "a-long-secret")
    assert auth_headers(address, archive) == {"Authorization": "Bearer a-long-secret"}


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

    def signer(href: str, archive: Archive, fresh: bool) -> str:
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
        assert asked.count(True) <= 2 and not asked[0]
        file.close()

        asked.clear()
        server.fault = lambda request: 403
        with pytest.raises(ReadFailure) as caught:
            OpenAsset("scene", asset, "B02", archive, pause_s=0.01).use(lambda dataset: dataset.count)
        assert asked == [False, True]
        assert caught.value.status == 403
        assert "secret" not in str(caught.value)
        assert urlsplit(caught.value.href).query == ""
