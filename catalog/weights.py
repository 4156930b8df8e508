"""Where encoder folders lie: a local folder or an object store; a folder is published whole or not at all.

A folder becomes part of the catalog by its row in the database, never by being there:

- *local*: files are copied to ``encoders/.incoming-…`` and synced; inside the registering transaction the
  folder is renamed to ``encoders/NAME/VERSION``. What a killed process leaves — a temporary folder, or a
  version folder without a row — is removed by the next registration.
- *object store*: there is no rename, so files go to a prefix of their own, ``encoders/NAME/TOKEN``; without a
  row nothing refers to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from catalog.errors import EncoderError
from catalog.settings import Settings

FOLDER = "encoders"
_BLOCK = 1 << 20
_TEMPORARY = ".incoming-"


@dataclass(frozen=True)
class Staged:
    """Files copied to the store that nobody can see yet."""

    place: str
    """Where they are: a temporary path, or the final prefix of an object store."""
    files: Mapping[str, dict[str, Any]]
    """Relative POSIX path → ``{"sha256": …, "size": bytes}``."""


class WeightStore(Protocol):
    """Keeps encoder folders."""

    def stage(self, folder: Path, name: str) -> AbstractContextManager[Staged]:
        """Copy a folder's files into the store, unseen; what is not published is removed at the end."""
        ...

    def publish(self, staged: Staged, name: str, version: int, documents: Mapping[str, bytes]) -> str:
        """Add documents (file name → bytes) and give the folder its final place, which is returned.

        To be called inside the transaction that writes the encoder's row, so that versions are told apart.
        """
        ...

    def open(self, place: str, file: str) -> BinaryIO:
        """A file of a published folder, for reading; ``FileNotFoundError`` where it is missing."""
        ...

    def files(self, place: str) -> set[str]:
        """Relative POSIX paths in a published folder."""
        ...

    def local_folder(self, place: str) -> Path | None:
        """The published folder itself where it is on this machine, else None."""
        ...


def open_store(settings: Settings) -> WeightStore:
    """The store that ``SWATH_STORE`` names."""
    if settings.store_is_local:
        return LocalStore(settings.store_path)
    return RemoteStore(settings.store)


class LocalStore:
    """Encoder folders on a local disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def stage(self, folder: Path, name: str) -> Iterator[Staged]:
        base = self.root / FOLDER
        base.mkdir(parents=True, exist_ok=True)
        with _sweeping(base):
            temporary = base / f"{_TEMPORARY}{uuid.uuid4().hex}"
            temporary.mkdir()
            try:
                files = {
                    relative: _copy(source, temporary / relative) for relative, source in _sources(folder)
                }
                for path in sorted({(temporary / relative).parent for relative in files}):
                    _sync_folder(path)
                yield Staged(str(temporary), files)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def publish(self, staged: Staged, name: str, version: int, documents: Mapping[str, bytes]) -> str:
        temporary = Path(staged.place)
        for file, content in documents.items():
            with (temporary / file).open("wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
        _sync_folder(temporary)
        final = self.root / FOLDER / name / str(version)
        if final.exists():
            # The version has no row (the caller holds the lock that writes it): a killed process left it.
            shutil.rmtree(final)
        final.parent.mkdir(exist_ok=True)
        temporary.rename(final)
        _sync_folder(final.parent)
        _sync_folder(final.parent.parent)
        return f"{FOLDER}/{name}/{version}"

    def open(self, place: str, file: str) -> BinaryIO:
        return (self.root / place / file).open("rb")

    def files(self, place: str) -> set[str]:
        folder = self.root / place
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def local_folder(self, place: str) -> Path | None:
        return self.root / place


class RemoteStore:
    """Encoder folders in an object store, through fsspec (``s3://`` needs the extra ``s3``).

    Whatever it is asked for raises ``EncoderError`` ``store-unreachable`` where the store fails.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def stage(self, folder: Path, name: str) -> Iterator[Staged]:
        system, root = self._system()
        place = f"{FOLDER}/{name}/{uuid.uuid4().hex}"
        published: list[bool] = []
        try:
            with self._told():
                files = {}
                for relative, source in _sources(folder):
                    with system.open(f"{root}/{place}/{relative}", "wb") as target:
                        files[relative] = _pour(source, target)
                self._check_sizes(system, f"{root}/{place}", files)
            yield _RemoteStaged(place, files, published)
        finally:
            if not published:
                # What cannot be removed now is in nobody's way: no row refers to it.
                with suppress(EncoderError), self._told(), _ignoring_missing():
                    system.rm(f"{root}/{place}", recursive=True)

    def publish(self, staged: Staged, name: str, version: int, documents: Mapping[str, bytes]) -> str:
        system, root = self._system()
        with self._told():
            for file, content in documents.items():
                system.pipe_file(f"{root}/{staged.place}/{file}", content)
            written = {file: {"size": len(content)} for file, content in documents.items()}
            self._check_sizes(system, f"{root}/{staged.place}", {**staged.files, **written})
        if isinstance(staged, _RemoteStaged):
            staged.published.append(True)
        return staged.place

    def open(self, place: str, file: str) -> BinaryIO:
        system, root = self._system()
        with self._told():
            source = system.open(f"{root}/{place}/{file}", "rb")
        return io.BufferedReader(_RemoteFile(source, self._told), _BLOCK)

    def files(self, place: str) -> set[str]:
        system, root = self._system()
        with self._told(), _ignoring_missing():
            return {path.partition(f"{place}/")[2] for path in system.find(f"{root}/{place}")}
        return set()

    def local_folder(self, place: str) -> Path | None:
        return None

    def _system(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            system, root = url_to_fs(self.url)
        except ImportError as error:
            raise EncoderError(
                "store-unsupported",
                f"{self.url.partition('://')[0]} stores need a package that is missing: {error}",
                subject=self.url,
                next_step="pip install swath[s3], or set SWATH_STORE to a folder",
            ) from error
        system.invalidate_cache()
        return system, root.rstrip("/")

    def _check_sizes(self, system: Any, folder: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse a folder of which not every byte arrived."""
        system.invalidate_cache()
        held = {path: entry["size"] for path, entry in system.find(folder, detail=True).items()}
        short = [file for file, entry in files.items() if held.get(f"{folder}/{file}") != entry["size"]]
        if short:
            raise OSError(f"{short[0]} did not arrive whole")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell a failure of the store in one line; a file that is missing stays ``FileNotFoundError``."""
        try:
            yield
        except Exception as error:
            missing = isinstance(error, FileNotFoundError) and "bucket" not in str(error)
            if missing or not _of_the_store(error):
                raise
            raise EncoderError(
                "store-unreachable",
                (str(error).splitlines() or [type(error).__name__])[0],
                subject=self.url,
                next_step="check SWATH_STORE and, for S3, the AWS_* variables; if they are right, rerun when "
                "the store answers",
            ) from error


class _RemoteFile(io.RawIOBase):
    """A file of an object store whose failures are told, also those in mid-file."""

    def __init__(self, source: Any, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._source, self._told = source, told

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._told():
            content = self._source.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._source.close()
        super().close()


@dataclass(frozen=True)
class _RemoteStaged(Staged):
    published: list[bool]


def copy_verified(store: WeightStore, place: str, file: str, sha256: str, target: Path) -> bool:
    """Copy one file out of the store; it gets its name only if its content has this SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        with store.open(place, file) as source, temporary.open("wb") as copy:
            found = _pour(source, copy)["sha256"]
        if found != sha256:
            return False
        temporary.replace(target)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(source: BinaryIO) -> str:
    """SHA-256 of what is left to read."""
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as source:
        return sha256_of(source)


def _sources(folder: Path) -> list[tuple[str, Path]]:
    return [
        (path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file()
    ]


def _copy(source: Path, target: Path) -> dict[str, Any]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as copy:
        described = _pour(source, copy)
        copy.flush()
        os.fsync(copy.fileno())
    return described


def _pour(source: Path | BinaryIO, target: BinaryIO) -> dict[str, Any]:
    if isinstance(source, Path):
        with source.open("rb") as opened:
            return _pour(opened, target)
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        digest.update(block)
        size += len(block)
        target.write(block)
    return {"sha256": digest.hexdigest(), "size": size}


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _sweeping(base: Path) -> Iterator[None]:
    """Hold a share of the staging lock; whoever finds nobody else staging first removes what was left behind.

    The lock belongs to the process: a kill gives it back.
    """
    with (base / ".staging.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            for leftover in base.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(leftover, ignore_errors=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _of_the_store(error: Exception) -> bool:
    """Whether an error is one of the client libraries', or of the system below them."""
    origin = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or origin in ("botocore", "aiobotocore", "aiohttp")


@contextmanager
def _ignoring_missing() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return
