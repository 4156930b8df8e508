"""Object storage of cubes: where it answers, how long it is waited for, and how its failures are told."""

from __future__ import annotations

import configparser
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import icechunk

from catalog.errors import CubeError, UsageError

CONNECT_TIMEOUT_MS = 10_000
ANSWER_TIMEOUT_MS = 60_000
"""For the first byte of an answer; a body that stalls for as long is given up by Icechunk itself."""

OPENING_TRIES = 5
"""Requests that open a cube: an address that is wrong is told after a second or two."""
WORKING_TRIES = 12
"""Requests of a cube that was open already: about one minute of outage costs no more than that minute."""
FIRST_PAUSE_MS = 100
LONGEST_PAUSE_MS = 20_000
"""Pauses double from the first to the longest, each shortened at random."""

CUT_ANSWER_TRIES = 4
"""For a body that ends too early; those Icechunk does not ask for again."""
CUT_ANSWER_PAUSE_S = 0.1

MISSING = icechunk.ErrorKind.OBJECT_NOT_FOUND
DISK = icechunk.ErrorKind.IO


def s3_storage(url: str) -> icechunk.Storage:
    """Icechunk's storage of ``s3://bucket/prefix``.

    Credentials come from the usual chain: ``AWS_*`` variables, the profile's files, the machine's role. None
    of them is kept in the storage's ``repr``.

    Raises
    ------
    UsageError: ``unsupported-store``.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(
            "unsupported-store",
            f"cubes lie on a local disk or in s3://BUCKET/PREFIX, not in {parts.scheme}://{parts.netloc}",
            subject=url,
            next_step="set SWATH_STORE to a folder or to s3://bucket/prefix",
        )
    endpoint, region = endpoint_and_region()
    return icechunk.s3_storage(
        bucket=parts.netloc,
        prefix=parts.path.strip("/") or None,
        region=region,
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        # Stores of one's own seldom have a host name for each bucket.
        force_path_style=endpoint is not None,
        from_env=True,
    )


def endpoint_and_region() -> tuple[str | None, str]:
    """Where S3 answers (None: AWS itself) and its region, from ``AWS_*`` variables or the profile's file."""
    profile = _profile()
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or profile.get("region")
    return endpoint, region or "us-east-1"


def patience(tries: int) -> icechunk.StorageSettings:
    """How often a request is repeated that was refused, throttled, dropped or failed inside the store.

    A request that the store has carried out, though its answer was lost, is repeated too: Icechunk
    recognises what it has written itself.
    """
    return icechunk.StorageSettings(
        retries=icechunk.StorageRetriesSettings(
            max_tries=tries, initial_backoff_ms=FIRST_PAUSE_MS, max_backoff_ms=LONGEST_PAUSE_MS
        ),
        timeouts=icechunk.StorageTimeoutSettings(
            connect_timeout_ms=CONNECT_TIMEOUT_MS, read_timeout_ms=ANSWER_TIMEOUT_MS
        ),
    )


def is_unreachable(error: BaseException) -> bool:
    """Whether the store failed, and not what lies in it: asked again later it may answer."""
    if not isinstance(error, icechunk.StorageError) or error.kind == MISSING:
        return False
    return error.kind != DISK or _is_cut_answer(error)


def patiently[T](read: Callable[[], T]) -> T:
    """The result of reading, repeated where an answer was cut off."""
    for attempt in range(1, CUT_ANSWER_TRIES):
        try:
            return read()
        except icechunk.StorageError as error:
            if not _is_cut_answer(error):
                raise
            time.sleep(CUT_ANSWER_PAUSE_S * attempt)
    return read()


def unreachable(error: BaseException, subject: str) -> CubeError:
    """``store-unreachable`` with the first line of what Icechunk says."""
    return CubeError(
        "store-unreachable",
        (str(error).splitlines() or [type(error).__name__])[0],
        subject=subject,
        next_step="check SWATH_STORE and, for S3, the AWS_* variables; if they are right, rerun when the "
        "store answers: what was committed is not done again",
    )


@contextmanager
def told(subject: str) -> Iterator[None]:
    """Tell a store's failure in one line.

    Raises
    ------
    CubeError: ``store-unreachable``.
    """
    try:
        yield
    except icechunk.StorageError as error:
        if is_unreachable(error):
            raise unreachable(error, subject) from error
        raise


def was_cut_off(error: CubeError) -> bool:
    """Whether work on a cube ended because an answer was cut off: the store is there, so try again."""
    return isinstance(error.__cause__, icechunk.StorageError) and _is_cut_answer(error.__cause__)


def _is_cut_answer(error: icechunk.StorageError) -> bool:
    return error.kind == DISK and "streaming error" in str(error)


def _profile() -> dict[str, str]:
    """Region and endpoint of the profile in use, from the file that AWS' own tools read."""
    name = os.environ.get("AWS_PROFILE") or "default"
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}  # the library that looks for credentials there says what is wrong
    section = "default" if name == "default" else f"profile {name}"
    return dict(parser[section]) if parser.has_section(section) else {}
