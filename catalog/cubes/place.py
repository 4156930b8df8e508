"""Where cubes lie: ``STORE/cubes/NAME`` on a local disk or in S3, and how the repository there is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import icechunk
from filelock import FileLock, Timeout

from catalog.cubes import object_storage
from catalog.errors import CubeError, UsageError
from catalog.settings import Settings, load_settings

CHUNKS_PER_MANIFEST = 512
"""A commit writes the last manifest of an array again, 17 bytes per chunk, and names all others in the
snapshot, about 50 bytes each: cheap at both ends from thousands of chunks to millions."""

LOCK_TIMEOUT_S = 1800.0
"""How long a writer waits for another one to finish its commit."""


@dataclass(frozen=True)
class Place:
    """Where one cube lies."""

    name: str
    url: str
    """Absolute folder, or ``s3://bucket/prefix``."""

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    @property
    def folder(self) -> Path:
        """The repository's folder; only on a local disk."""
        if not self.is_local:
            raise ValueError(f"{self.url} is not a local folder")
        return Path(self.url)

    @property
    def lock_file(self) -> Path:
        """Held by the one process that may change the repository."""
        return self.folder.with_name(f"{self.name}.lock")

    @property
    def journal_file(self) -> Path:
        """Lies there while a commit is being made; found by the next writer if this one died."""
        return self.folder.with_name(f"{self.name}.writing")

    @contextmanager
    def locked(self, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Keep every other writer of a local cube out; does nothing in S3, which checks commits itself.

        Raises
        ------
        CubeError: ``cube-busy``, the lock was not to be had in ``timeout_s`` seconds.
        """
        if not self.is_local:
            yield
            return
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        # A new lock object each time: two threads of one process exclude each other as well.
        lock = FileLock(self.lock_file, timeout=timeout_s)
        try:
            lock.acquire()
        except Timeout as error:
            raise CubeError(
                "cube-busy",
                f"another process has been writing to it for more than {timeout_s:g} s",
                subject=self.name,
                next_step="wait for the other run to end, then rerun",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def storage(self) -> icechunk.Storage:
        """Icechunk's storage; S3 credentials, region and endpoint come from the usual ``AWS_*`` variables."""
        return storage_at(self.url)

    def exists(self) -> bool:
        """Whether a repository lies here."""
        quieten()
        patience = None if self.is_local else object_storage.patience(object_storage.OPENING_TRIES)
        return icechunk.Repository.exists(self.storage(), storage_settings=patience)


def place_of(name: str, settings: Settings | None = None) -> Place:
    """Where the cube of this name lies, or would.

    Raises
    ------
    UsageError: ``bad-cube-name``.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise UsageError(
            "bad-cube-name",
            "a cube's name is made of lower-case letters, digits, dots and hyphens",
            subject=name,
            next_step="choose another name",
        )
    return Place(name, f"{(settings or load_settings()).store}/cubes/{name}")


def list_cubes(settings: Settings | None = None) -> list[str]:
    """Names of the cubes in the store, sorted.

    In S3 this lists every object below ``cubes/``, which takes seconds per million of them.
    """
    settings = settings or load_settings()
    if settings.store_is_local:
        folder = settings.store_path / "cubes"
        return sorted(path.parent.name for path in folder.glob("*/repo"))
    quieten()
    with object_storage.told(settings.store):
        patience = object_storage.patience(object_storage.OPENING_TRIES)
        listed = storage_at(f"{settings.store}/cubes").list_objects_metadata(settings=patience)
        keys = (item.key for item in listed)
        return sorted(key.split("/")[0] for key in keys if re.fullmatch(r"[^/]+/repo", key))


def open_repository(place: Place, *, create: bool = False) -> icechunk.Repository:
    """Open the repository, or make it where there is none and ``create`` is set.

    Raises
    ------
    CubeError: ``cube-not-found``; ``store-unreachable``.
    """
    quieten()
    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(
        splitting=icechunk.ManifestSplittingConfig.from_dict(
            {
                icechunk.ManifestSplitCondition.AnyArray(): {
                    icechunk.ManifestSplitDimCondition.Axis(0): CHUNKS_PER_MANIFEST
                }
            }
        )
    )
    if not place.is_local:
        config.storage = object_storage.patience(object_storage.OPENING_TRIES)

    def opened() -> icechunk.Repository:
        return icechunk.Repository.open(place.storage(), config=config)

    try:
        if create and not place.exists():
            with place.locked():
                if not place.exists():
                    _create(place, config)
        repository = object_storage.patiently(opened)
    except icechunk.RepositoryNotFoundError as error:
        raise CubeError(
            "cube-not-found",
            "there is no cube of this name in the store",
            subject=place.name,
            next_step="see `swath cubes list`, or acquire it with `swath run refresh`",
        ) from error
    except icechunk.StorageError as error:
        raise object_storage.unreachable(error, place.url) from error
    if place.is_local:
        return repository
    # It is there: from now on a failure is an outage, which is worth waiting for.
    config.storage = object_storage.patience(object_storage.WORKING_TRIES)
    return repository.reopen(config=config)


def _create(place: Place, config: icechunk.RepositoryConfig) -> None:
    if place.is_local:
        place.folder.mkdir(parents=True, exist_ok=True)
        place.journal_file.touch()  # killed from here on, the first commit sweeps
    try:
        # The folder may hold what a writer left that died while creating the repository.
        icechunk.Repository.create(place.storage(), config=config, check_clean_root=False)
    except icechunk.AlreadyExistsError:
        return  # another process was first, in S3


def storage_at(url: str) -> icechunk.Storage:
    """Icechunk's storage of a folder or an ``s3://bucket/prefix``."""
    if "://" not in url:
        return icechunk.local_filesystem_storage(url)
    return object_storage.s3_storage(url)


def quieten() -> None:
    """Keep Icechunk's log off stdout, where ``--json`` prints; what it has to say it also raises."""
    icechunk.set_logs_filter("off")
