"""What a failed fetch means: a code, a sentence and the next step."""

from __future__ import annotations

from dataclasses import dataclass

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""Status of what may pass; so may every other one from 500 on."""


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong with a file, as far as it can be told from outside."""

    code: str
    message: str
    next_step: str
    status: int | None = None


def of_status(status: int) -> Diagnosis:
    """What an error status says of the file."""
    if status in {404, 410}:
        return Diagnosis(
            "asset-not-found", f"HTTP {status}, no such file", "report it to the archive", status
        )
    if status in {401, 403}:
        return Diagnosis(
            "asset-forbidden",
            f"HTTP {status}, the server refuses to give it",
            "check the archive's `access` and your account there",
            status,
        )
    if status in TRANSIENT or status >= 500:
        return Diagnosis(
            "asset-unreachable",
            f"HTTP {status}, the server does not give it now",
            "run again later; `swath scenes replay` takes the scene up again",
            status,
        )
    return Diagnosis(
        "asset-refused",
        f"HTTP {status}, the server does not give it",
        "report it to the archive",
        status,
    )


def strange(status: int, how: str = "to a request for bytes") -> Diagnosis:
    """An answer that no sound server gives."""
    return Diagnosis(
        "asset-corrupt", f"the server answers HTTP {status} {how}", "report it to the archive", status
    )


def unreachable(detail: str) -> Diagnosis:
    """No answer, or none that came to its end."""
    return Diagnosis(
        "asset-unreachable",
        f"the server cannot be reached: {detail}",
        "check the network; `swath scenes replay` takes the scene up again",
    )


def corrupt(detail: str, status: int | None = None) -> Diagnosis:
    """What was given is not the whole, sound file."""
    return Diagnosis(
        "asset-corrupt",
        f"the file is truncated or damaged: {detail}",
        "report it to the archive; `swath scenes replay` takes the scene up again once it is mended",
        status,
    )
