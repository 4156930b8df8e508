"""Read tokens: one per container for the whole process, asked for before the last one ends.

A storage token says itself when it ends (``se``, Azure's shared access signature). Services have been seen to
give tokens that had ended a day before (microsoft/PlanetaryComputer#463) and to refuse whoever asks often, so
all threads share one token, one of them asks, and a service that failed is left alone for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx

from catalog.errors import ArchiveError
from tasks.readers.http_limits import LONGEST_WAIT_S, retry_after

ATTEMPTS = 6
PAUSE_S = 0.8
TIMEOUT_S = 20.0
UNKNOWN_LIFE_S = 600.0
"""Life of a token that does not say when it ends."""
DOUBTFUL_LIFE_S = 60.0
"""Of one that had ended already: it is tried all the same, this machine's clock may be the wrong one."""
LONGEST_LIFE_S = 86_400.0
"""A token said to live longer is asked for anew after this."""
SILENT_FOR_S = 30.0
"""How long a service that failed is not asked again; what needs it fails at once."""


@dataclass(frozen=True)
class Token:
    """A secret and how long it is good for; its text never shows the secret."""

    secret: str = field(repr=False)
    life_s: float


@dataclass
class _Kept:
    """What is known of one token; ``lock`` is held while it is being asked for."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    secret: str = field(default="", repr=False)
    renew_at: float = 0.0
    failure: ArchiveError | None = None
    failed_until: float = 0.0


_kept: dict[str, _Kept] = {}
_lock = threading.Lock()


def shared_token(name: str, ask: Callable[[], Token], *, not_this: str | None = None) -> str:
    """The token kept under ``name``; ``ask`` gets a new one where there is none, or where it is about to end.

    Parameters
    ----------
    not_this: a token that was just refused; a newer one that another thread has fetched since is taken

    Raises
    ------
    ArchiveError: whatever ``ask`` raised, now or a moment ago.
    """
    with _lock:
        kept = _kept.setdefault(name, _Kept())
    with kept.lock:
        now = time.monotonic()
        if kept.secret and now < kept.renew_at and kept.secret != not_this:
            return kept.secret
        if kept.failure is not None and now < kept.failed_until:
            raise kept.failure
        try:
            token = ask()
        except ArchiveError as error:
            kept.failure, kept.failed_until = error, time.monotonic() + SILENT_FOR_S
            raise
        kept.failure = None
        kept.secret = token.secret
        # Before it ends: a request that is under way with it must be over by then.
        kept.renew_at = time.monotonic() + token.life_s - min(300.0, token.life_s / 5)
        return kept.secret


def forget_tokens() -> None:
    """Forget every token, and every failure to get one."""
    with _lock:
        _kept.clear()


def ask_for_sas(address: str, headers: dict[str, str], archive: str) -> Token:
    """Ask a token service of the Planetary Computer's kind: ``{"token": "se=…&sig=…", "msft:expiry": …}``.

    Raises
    ------
    ArchiveError: ``signing-failed``.
    """
    token = _sas(_ask(address, headers, None, archive), address, archive)
    if token.life_s <= 0:
        # Seen in practice; the next one may be good.
        token = _sas(_ask(address, headers, None, archive), address, archive)
    if token.life_s <= 0:
        return Token(token.secret, DOUBTFUL_LIFE_S)
    return Token(token.secret, min(token.life_s, LONGEST_LIFE_S))


def ask_for_bearer(address: str, form: dict[str, str], archive: str) -> Token:
    """Log in at an OpenID Connect token endpoint (RFC 6749, section 4.3).

    Raises
    ------
    ArchiveError: ``signing-failed``.
    """
    answer = _ask(address, {}, form, archive)
    secret, life = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(secret, str) or not secret:
        raise _failed(address, "its answer holds no token", archive)
    known = isinstance(life, (int, float)) and 0 < life < LONGEST_LIFE_S
    return Token(secret, float(life) if known and isinstance(life, (int, float)) else UNKNOWN_LIFE_S)


def sas_ends(token: str) -> datetime | None:
    """When a shared access signature ends by its own ``se``; None where it does not say."""
    stated = parse_qs(token).get("se", [""])[0]
    return _time(stated)


def _sas(answer: dict[str, object], address: str, archive: str) -> Token:
    secret = answer.get("token")
    if not isinstance(secret, str) or not secret:
        raise _failed(address, "its answer holds no token", archive)
    stated = [sas_ends(secret), _time(str(answer.get("msft:expiry") or ""))]
    # The signature's own word counts; what stands beside it only where there is none.
    ends = next((when for when in stated if when is not None), None)
    life = (ends - datetime.now(UTC)).total_seconds() if ends else UNKNOWN_LIFE_S
    return Token(secret.lstrip("?"), life)


def _time(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _ask(
    address: str, headers: dict[str, str], form: dict[str, str] | None, archive: str
) -> dict[str, object]:
    """One answer of a token service, with pauses where it asks for them."""
    problem = ""
    for attempt in range(1, ATTEMPTS + 1):
        wait: float | None = None
        try:
            with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
                answer = client.request(
                    "POST" if form else "GET", address, headers=headers, data=form or None
                )
            if answer.status_code == 200:
                document = answer.json()
                if isinstance(document, dict):
                    return document
                raise _failed(address, "its answer is no JSON object", archive)
            problem = f"HTTP {answer.status_code}"
            if answer.status_code not in {408, 425, 429, 500, 502, 503, 504}:
                break
            wait = retry_after(answer.headers)
        except httpx.HTTPError as error:
            problem = type(error).__name__  # its text may hold what was sent
        except ValueError:
            problem = "its answer is no JSON"
        if (wait or 0.0) > LONGEST_WAIT_S:
            problem += f", asks to wait {wait:.0f} s"
            break
        if attempt < ATTEMPTS:
            time.sleep(wait if wait is not None else min(PAUSE_S * 2 ** (attempt - 1), 30.0))
    raise _failed(address, problem, archive)


def _failed(address: str, problem: str, archive: str) -> ArchiveError:
    return ArchiveError(
        "signing-failed",
        f"no read token from {address.split('?')[0]}: {problem}",
        subject=archive,
        next_step="check the network and the account, then run again: what was read is kept",
    )
