"""Small files beside a scene's pixels (MTL, annotation), fetched whole."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from catalog.errors import ArchiveError, SceneError
from catalog.scenes import SceneAsset
from tasks.readers.contract import ReadFailure
from tasks.readers.http_ranges import ATTEMPTS, FetchFailed, fetch_whole
from tasks.signing import redact, unsigned

if TYPE_CHECKING:
    from catalog.archives import Archive

LIMIT_BYTES = 4 * 2**20
"""MTL files have some 20 kB."""


def fetch_text(
    asset: SceneAsset,
    scene_id: str,
    archive: Archive,
    *,
    limit_bytes: int = LIMIT_BYTES,
    attempts: int = ATTEMPTS,
    pause_s: float = 0.5,
) -> bytes:
    """A small file of a scene, whole: signed, within the archive's hosts, retried, and no page of HTML.

    Raises
    ------
    ReadFailure: it did not come, with address, status and attempts. Addresses in object storage (``s3://``)
        are not read: ``side-file-in-object-storage``.
    SceneError:  ``href-not-allowed``.
    """
    href = unsigned(asset.href)

    def failure(code: str, message: str, next_step: str, status: int | None, tries: int) -> ReadFailure:
        again = f" after {tries} attempts" if tries > 1 else ""
        return ReadFailure(
            code,
            f"{asset.key}: {message}{again} ({href})",
            subject=scene_id,
            next_step=next_step,
            band=asset.key,
            href=href,
            status=status,
            attempts=tries,
        )

    if urlsplit(asset.href).scheme == "s3":
        raise failure(
            "side-file-in-object-storage",
            "a text file in object storage is not read",
            "take the scene from an archive that gives it over https, or serve its folder yourself",
            None,
            1,
        )
    try:
        return fetch_whole(asset.href, archive, limit_bytes=limit_bytes, attempts=attempts, pause_s=pause_s)
    except FetchFailed as failed:
        found = failed.diagnosis
        raise failure(found.code, found.message, found.next_step, found.status, failed.attempts) from None
    except ArchiveError as error:  # of the token service
        raise failure(error.code, redact(error.message), error.next_step, None, 1) from None
    except SceneError as error:
        raise SceneError(error.code, error.message, subject=scene_id, next_step=error.next_step) from None
