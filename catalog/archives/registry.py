"""Finds archive descriptions: built-in ones beside this module, the user's in ``SWATH_HOME/archives``."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from catalog.archives.model import Archive
from catalog.errors import UsageError
from catalog.settings import load_settings


def load_archives() -> dict[str, Archive]:
    """Every described archive by name; the user's override the built-in ones."""
    archives: dict[str, Archive] = {}
    for folder in (Path(__file__).parent, load_settings().home / "archives"):
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            archive = read_archive(path)
            archives[archive.name] = archive
    return archives


def archive_names() -> list[str]:
    """Names of the described archives."""
    return sorted(load_archives())


def load_archive(name_or_url: str, url: str | None = None) -> Archive:
    """An archive by name, or one at an address.

    An address of a described archive gives that archive. Of an unknown one nothing is assumed: properties are
    filtered on this side until ``tasks.search.probe`` has asked it. ``url`` says where a local archive (the
    sandbox) is being served.

    Raises
    ------
    UsageError: ``unknown-archive``, naming those that exist; ``bad-archive-address``.
    """
    archives = load_archives()
    if "://" in name_or_url:
        address = _address(name_or_url)
        for archive in archives.values():
            if archive.url and archive.url.rstrip("/") == address:
                return archive
        return Archive(name=_name_of(address), title=address, url=address, described=False)
    if name_or_url not in archives:
        raise UsageError(
            "unknown-archive",
            f"there is no archive {name_or_url!r}; known: {', '.join(sorted(archives))}",
            subject=name_or_url,
            next_step="correct the name, or give the address of a STAC API",
        )
    archive = archives[name_or_url]
    if url is None:
        return archive
    return archive.model_copy(update={"url": _address(url)})


def read_archive(path: Path) -> Archive:
    """Read and validate one archive description; once per process, as long as it does not change."""
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> Archive:
    try:
        return Archive.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise UsageError(
            "invalid-archive-file",
            str(error).replace("\n", " "),
            subject=path.name,
            next_step="correct the file; the schema is catalog/archives/model.py",
        ) from error


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "bad-archive-address",
            "an archive's address is http:// or https://",
            subject=url,
            next_step="give the landing page of a STAC API",
        )
    return url.rstrip("/")


def _name_of(address: str) -> str:
    """A name from an address: host, port and path in lower case."""
    parts = urlsplit(address)
    return re.sub(r"[^a-z0-9.]+", "-", f"{parts.netloc}{parts.path}".lower()).strip("-.")
