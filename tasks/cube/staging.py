"""A staging area: where workers leave the samples of scenes until they are written into chunks.

It lies beside the cubes, ``STORE/staging/CUBE/RUN/``, so that every worker that can write the cube can
reach it. One object holds the samples of one reading of one scene. Names are never used twice: a scene that
is read again, because a worker died, gets a new object, and what the dead one left goes with the area.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from numpy.typing import NDArray

from catalog.cubes.object_storage import endpoint_and_region
from catalog.cubes.place import Place
from catalog.cubes.spool import Describer, Spooled
from catalog.samples import Sample

if TYPE_CHECKING:
    from obstore.store import ObjectStore

logger = logging.getLogger(__name__)

STALE = timedelta(days=2)
"""An area in S3 that nothing was added to for so long belongs to a run that was killed."""
REQUESTS_IN_FLIGHT = 8
"""Of one chunk's task; a place's dates come from as many objects as there are scenes."""


class StagedSamples:
    """A scene's samples without their pixels."""

    def __init__(self, samples: Sequence[Spooled]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Spooled]:
        return iter(self._samples)

    def close(self) -> None:
        """The pixels go with the staging area."""


@dataclass(frozen=True)
class Staging:
    """One run's area, as it travels to workers."""

    url: str
    """Absolute folder, or ``s3://bucket/prefix``."""

    def put(self, samples: Iterable[Sample]) -> StagedSamples:
        """Store samples in one object, sample by sample."""
        import obstore

        source, staged, end = uuid.uuid4().hex, [], 0
        describer = Describer()
        with obstore.open_writer(self._store(), source) as writer:
            for sample in samples:
                described, arrays = describer.describe(sample, end, source)
                for values in arrays:
                    writer.write(values.tobytes())
                end += described.nbytes
                staged.append(described)
        return StagedSamples(staged)

    def fetch(self, samples: Sequence[Spooled]) -> FetchedPixels:
        """The pixels of samples, all of an object's in one go; no more than a chunk's should be asked for."""
        import obstore

        store = self._store()
        by_source: dict[str, list[Spooled]] = defaultdict(list)
        for sample in samples:
            by_source[sample.source].append(sample)

        def of_source(source: str) -> list[Any]:
            starts = [sample.offset for sample in by_source[source]]
            ends = [sample.offset + sample.nbytes for sample in by_source[source]]
            return list(obstore.get_ranges(store, source, starts=starts, ends=ends))

        found: dict[str, memoryview] = {}
        with ThreadPoolExecutor(REQUESTS_IN_FLIGHT, thread_name_prefix="swath-staged") as pool:
            for source, parts in zip(by_source, pool.map(of_source, by_source), strict=True):
                for sample, part in zip(by_source[source], parts, strict=True):
                    found[sample.id] = memoryview(part)
        return FetchedPixels(found)

    def drop(self, sources: Iterable[str]) -> None:
        """Remove objects that are needed no more."""
        import obstore

        if names := sorted(set(sources)):
            obstore.delete(self._store(), names)

    def remove(self) -> None:
        """Remove the whole area."""
        _remove(self.url)

    def _store(self) -> ObjectStore:
        return _store_at(self.url)


@dataclass(frozen=True)
class FetchedPixels:
    """Pixels of some staged samples, in memory."""

    parts: dict[str, memoryview]
    """Sample id → all its bytes."""

    def read(self, sample: Spooled, gsd_m: float | None) -> NDArray[Any]:
        """Raw pixels ``(band, y, x)`` of one resolution, or the flags ``(y, x)`` for None."""
        return sample.pixels(self.parts[sample.id], gsd_m)


@contextmanager
def staging_area(place: Place) -> Iterator[Staging]:
    """A new area for one run on a cube, gone at the end; what killed runs left is removed first."""
    root = place.url.removesuffix(f"/cubes/{place.name}") + f"/staging/{place.name}"
    staging = Staging(f"{root}/{uuid.uuid4().hex}")
    with _held(root, staging) if place.is_local else _swept(root):
        try:
            yield staging
        finally:
            try:
                staging.remove()
            except Exception:
                # The samples are committed, or another error is on its way; the next run sweeps.
                logger.warning(
                    "%s could not be removed; the next run tries again", staging.url, exc_info=True
                )


@contextmanager
def _held(root: str, staging: Staging) -> Iterator[None]:
    """On a local disk a run holds a lock for as long as it lives; an area without one is a dead run's."""
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    own = FileLock(f"{staging.url}.lock")
    with FileLock(folder / "sweep.lock"):
        for left in [path for path in folder.iterdir() if path.is_dir()]:
            lock = FileLock(f"{left}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            shutil.rmtree(left, ignore_errors=True)
            lock.release()
            Path(f"{left}.lock").unlink(missing_ok=True)
        own.acquire()
    Path(staging.url).mkdir()
    try:
        yield
    finally:
        own.release()
        Path(f"{staging.url}.lock").unlink(missing_ok=True)


@contextmanager
def _swept(root: str) -> Iterator[None]:
    """In S3 age tells: a run adds an object for every scene."""
    import obstore

    newest: dict[str, datetime] = {}
    for batch in obstore.list(_store_at(root)):
        for item in batch:
            area = item["path"].split("/")[0]
            newest[area] = max(item["last_modified"], newest.get(area, item["last_modified"]))
    for area, when in newest.items():
        if datetime.now(UTC) - when > STALE:
            _remove(f"{root}/{area}")
    yield


def _remove(url: str) -> None:
    import obstore

    if "://" not in url:
        shutil.rmtree(url, ignore_errors=True)
        return
    store = _store_at(url)
    for batch in obstore.list(store):
        obstore.delete(store, [item["path"] for item in batch])


def _store_at(url: str) -> ObjectStore:
    """Credentials of S3 come from ``AWS_*`` variables or the machine's role."""
    from obstore.store import LocalStore, S3Store

    if "://" not in url:
        return LocalStore(url, mkdir=True)
    parts = urlsplit(url)
    endpoint, region = endpoint_and_region()
    options: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/"),
        region=region,
        virtual_hosted_style_request=endpoint is None,
        client_options={"allow_http": bool(endpoint and endpoint.startswith("http://"))},
        **options,
    )
