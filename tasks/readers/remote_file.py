"""A file of an archive as GDAL sees it: bytes that were fetched, checked and kept on this side.

GDAL's own ``/vsicurl/`` cannot be told not to follow redirects, knows no ``Retry-After``, does not retry the
parallel ranges of one read, and says of a failed range only that the bytes did not come. So the bytes come
from ``http_ranges``, and GDAL decodes them: it asks a file object, through rasterio's bridge.

The bridge keeps what it knows in context variables, and changes a table of GDAL's whenever an opener is
registered, which is not safe beside other threads. Hence one registration for the life of the process, and
one context per handle, in which it is opened, used and closed, whichever thread does so.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import io
import itertools
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer

from tasks.readers.http_ranges import Fetched, changed

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

PAGE = 16 * 1024
"""Bytes are fetched and kept in whole pages, so that neighbouring tiles share what lies between them."""
FIRST = 2 * PAGE
"""Fetched at opening: the header of most COGs."""
PAGES_KEPT = 1024
"""Of one file: 16 MiB, the least recently used go first."""
AHEAD = 16
"""Pages, the most that is fetched beyond what was asked for."""
GAP = 2 * PAGE
"""Ranges of one read that lie no further apart are fetched as one."""
REQUEST = 4 * 2**20
"""Bytes of one request, at which ranges are no longer joined."""

Fetch = Callable[[int, int], Fetched]
"""``fetch(first, last)`` → these bytes of the file, both inclusive; fewer where it ends before."""

_names = itertools.count(1)
_files: dict[str, _Opening] = {}
_files_lock = threading.Lock()
_setting_up = threading.Lock()


class RemoteFile:
    """The bytes of one file, shared by every handle on it."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._ends: dict[int, int] = {}
        self._held: dict[int, bytes] = {}
        self._lock = threading.Lock()
        start = fetch(0, FIRST - 1)
        self.size = start.total
        self._etag = start.etag
        self._keep(0, start.data)

    @contextlib.contextmanager
    def held(self, spans: Iterable[tuple[int, int]]) -> Iterator[None]:
        """Hold (first byte, end) ranges whole while the block runs, fetched side by side.

        Raises
        ------
        FetchFailed: as ``read_at``.
        """
        with self._lock:
            known = {page for page in self._pages if page * PAGE < FIRST}
        runs = [
            run
            for run in _joined(spans, self.size)
            if not {*range(run[0] // PAGE, -(-run[1] // PAGE))} <= known
        ]
        fetched = _side_by_side(self._bytes, runs)
        ours = dict(zip((first for first, _ in runs), fetched, strict=True))
        with self._lock:
            self._held |= ours
        try:
            yield
        finally:
            with self._lock:
                for first in ours:
                    self._held.pop(first, None)

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; fewer at the end of the file.

        Raises
        ------
        FetchFailed: they did not come, or come from another file than the first ones.
        """
        return self.read_many([offset], [size])[0]

    def read_many(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        """Several ranges, those that are far apart at the same time. Raises like ``read_at``."""
        spans = [
            (max(0, offset), min(offset + size, self.size))
            for offset, size in zip(offsets, sizes, strict=True)
        ]
        found = [self._of_held(a, b) for a, b in spans]
        missing = [
            span for span, data in zip(spans, found, strict=True) if data is None and span[0] < span[1]
        ]
        wanted = sorted({p for a, b in missing for p in range(a // PAGE, (b - 1) // PAGE + 1)})
        pages = self._pages_of(wanted) if wanted else {}
        return [
            self._cut(pages, a, b) if data is None else data
            for (a, b), data in zip(spans, found, strict=True)
        ]

    def _of_held(self, start: int, end: int) -> bytes | None:
        """These bytes, if what is held covers them without a gap."""
        parts, position = [], start
        with self._lock:
            for first, data in sorted(self._held.items()) if len(self._held) > 1 else self._held.items():
                if first <= position < first + len(data):
                    parts.append(data[position - first : end - first])
                    position += len(parts[-1])
                    if position >= end:
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        return None

    def _pages_of(self, wanted: list[int]) -> dict[int, bytes]:
        with self._lock:
            found = {page: self._pages[page] for page in wanted if page in self._pages}
            for page in found:
                self._pages.move_to_end(page)
            runs = [self._ahead(*run) for run in _runs([page for page in wanted if page not in found])]
        answers = _side_by_side(self._get, runs)
        for (first, _), data in zip(runs, answers, strict=True):
            self._keep(first, data)
            for number in range(-(-len(data) // PAGE)):
                found[first + number] = data[number * PAGE : (number + 1) * PAGE]
        return found

    def _ahead(self, first: int, last: int) -> tuple[int, int]:
        """A run that goes on where another ended fetches twice as much; a reader that goes on will too."""
        before = self._ends.pop(first, 0)
        if before:
            last = min(max(last, min(first + 2 * before, first + AHEAD) - 1), (self.size - 1) // PAGE)
        self._ends[last + 1] = last + 1 - first
        return first, last

    def _get(self, first_page: int, last_page: int) -> bytes:
        return self._bytes(first_page * PAGE, min((last_page + 1) * PAGE, self.size))

    def _bytes(self, start: int, end: int) -> bytes:
        answer = self._fetch(start, end - 1)
        if answer.total != self.size or answer.etag != self._etag:
            raise changed(self.size, answer.total)
        return answer.data

    def _keep(self, first_page: int, data: bytes) -> None:
        with self._lock:
            for number in range(-(-len(data) // PAGE)):
                self._pages[first_page + number] = data[number * PAGE : (number + 1) * PAGE]
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)

    @staticmethod
    def _cut(pages: dict[int, bytes], start: int, end: int) -> bytes:
        if start >= end:
            return b""
        first = start // PAGE
        whole = b"".join(pages[page] for page in range(first, (end - 1) // PAGE + 1))
        return whole[start - first * PAGE : end - first * PAGE]


class Handle:
    """One open GDAL dataset over a remote file; used by one thread at a time."""

    def __init__(self, file: RemoteFile, label: str, driver: str) -> None:
        self._opening = _Opening(file)
        self._context = _base_context().copy()
        self._name = f"{next(_names)}/{label}"
        with _files_lock:
            _files[self._name] = self._opening
        try:
            self._dataset: DatasetReader = self._run(
                lambda: rasterio.open(f"{_prefix()}/{self._name}", sharing=False, driver=driver)
            )
        except BaseException:
            self._forget()
            raise

    def use[T](self, work: Callable[[DatasetReader], T]) -> T:
        """Run ``work`` with the dataset.

        Raises
        ------
        FetchFailed, ArchiveError: bytes did not come, whatever GDAL made of that.
        """
        return self._run(lambda: work(self._dataset))

    def close(self) -> None:
        self._context.run(self._dataset.close)
        self._forget()

    def _forget(self) -> None:
        with _files_lock:
            _files.pop(self._name, None)

    def _run[T](self, work: Callable[[], T]) -> T:
        try:
            result = self._context.run(work)
        except Exception as error:
            if self._opening.failure is not None:
                raise self._opening.failure from error
            raise
        # GDAL may have gone on with bytes that never came.
        if self._opening.failure is not None:
            raise self._opening.failure
        return result


class _Opening:
    """What the bridge's file objects of one handle share."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.failure: Exception | None = None


class _FileObject:
    """What rasterio's bridge asks for. It must never raise: GDAL would not hear of it."""

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening
        self._position = 0

    def __enter__(self) -> _FileObject:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held."""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = max(0, self._opening.file.size - self._position)
        data = self._many([self._position], [size])[0]
        self._position += len(data)
        return data

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        return self._many(offsets, sizes)

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._position, 2: self._opening.file.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def _many(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        if self._opening.failure is None:
            try:
                return self._opening.file.read_many(offsets, sizes)
            except Exception as failure:
                self._opening.failure = failure
        return [b"" for _ in offsets]


class _Files(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """The file system that GDAL sees: the openings there are now, by name."""

    def open(self, path: str, mode: str = "rb", **kwds: Any) -> Any:
        if path == _ANCHOR:
            return io.BytesIO(_one_pixel())
        with _files_lock:
            return _FileObject(_files[path])

    def isfile(self, path: str) -> bool:
        return path in _files or path == _ANCHOR

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return []

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)

    def size(self, path: str) -> int:
        if path == _ANCHOR:
            return len(_one_pixel())
        with _files_lock:
            return _files[path].file.size


_ANCHOR = "anchor/one-pixel.tif"
_state: dict[str, Any] = {}


def _base_context() -> contextvars.Context:
    """The context that knows the registration; the dataset that holds it stays open."""
    with _setting_up:
        if not _state:
            context = contextvars.Context()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it lies nowhere on Earth
                anchor = context.run(lambda: rasterio.open(_ANCHOR, driver="GTiff", opener=_Files()))
            atexit.register(context.run, anchor.close)
            _state.update(context=context, anchor=anchor, prefix=anchor.name.removesuffix(f"/{_ANCHOR}"))
    context = _state["context"]
    assert isinstance(context, contextvars.Context)
    return context


def _prefix() -> str:
    return str(_state["prefix"])


@cache
def _one_pixel() -> bytes:
    """The smallest TIFF: one byte, uncompressed (TIFF 6.0, section 3)."""
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little") for tag, value in tags
    )
    return b"II*\0\x0a\0\0\0\0\0" + len(tags).to_bytes(2, "little") + entries + b"\0\0\0\0"


@cache
def _pool() -> ThreadPoolExecutor:
    """Fetches the ranges of one read side by side; ``host_slot`` is what limits them."""
    return ThreadPoolExecutor(32, thread_name_prefix="swath-range")


def _side_by_side(get: Callable[[int, int], bytes], ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    if len(ranges) > 1:
        return list(_pool().map(lambda each: get(*each), ranges))
    return [get(*each) for each in ranges]


def _joined(spans: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Ranges within a file of ``size`` bytes in order; near ones as one, up to ``REQUEST`` bytes."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        end = min(end, size)
        if start >= end:
            continue
        if joined and start - joined[-1][1] <= GAP and end - joined[-1][0] <= REQUEST:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _runs(pages: list[int]) -> list[tuple[int, int]]:
    """Ascending pages as (first, last) runs, small gaps bridged."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and (page - runs[-1][1]) * PAGE <= GAP:
            runs[-1] = (runs[-1][0], page)
        else:
            runs.append((page, page))
    return runs
