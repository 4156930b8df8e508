"""Opens the archive a recipe names; the sandbox and real scenes in a folder are served while needed."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from catalog.archives import Archive, load_archive
from catalog.archives.registry import read_archive
from catalog.errors import UsageError
from catalog.recipes import Recipe
from catalog.settings import Settings
from flows.progress import Progress

LOCAL_ARCHIVES = Path(__file__).resolve().parent.parent / "deployments" / "archives"
SANDBOX = "sandbox"
SANDBOX_PORT = 8651
SANDBOX_ALL = "sandbox-all"
SANDBOXES = (SANDBOX, SANDBOX_ALL)
"""Four products over the whole landscape, and every product over a small part of it."""


def local_archive_names() -> list[str]:
    """Folders of real scenes that come with a description."""
    return sorted(path.parent.name for path in LOCAL_ARCHIVES.glob("*/archive.yaml"))


def port_of(name: str) -> int:
    """The port of a local archive: the same every time, so that the hrefs a cube records stay valid."""
    return SANDBOX_PORT if name == SANDBOX else 8700 + zlib.crc32(name.encode()) % 200


@contextlib.contextmanager
def open_archive(
    recipe: Recipe, settings: Settings, *, progress: Progress | None = None
) -> Iterator[Archive]:
    """Yield the archive of a recipe: built in, an address, the sandbox, or a described local folder.

    A described folder's scenes lie below ``SWATH_SCENES``.

    Raises
    ------
    UsageError: ``unknown-archive``, ``scenes-folder-missing``.
    """
    name = recipe.archive
    if name not in SANDBOXES and name not in local_archive_names():
        yield load_archive(name).with_hosts(recipe.hosts)
        return
    folder = local_folder(name, settings, progress=progress)
    with served(folder, port_of(name)) as url:
        yield archive_at(folder, name, url).with_hosts(recipe.hosts)


def archive_at(folder: Path, name: str, url: str) -> Archive:
    """Description of a local archive that is served at ``url``."""
    if name in SANDBOXES:
        return load_archive(name, url=url)
    return read_archive(folder / "archive.yaml").model_copy(update={"url": url})


def local_folder(
    name: str, settings: Settings, *, scenes: Path | None = None, progress: Progress | None = None
) -> Path:
    """The archive folder of the sandbox, or of a description over a folder of real scenes.

    ``name`` is ``sandbox``, ``sandbox-all``, a built-in description, or the path of an ``archive.yaml``. Made
    once, kept in ``SWATH_HOME/archives``, and made anew when the description or the scenes change.
    """
    if name in SANDBOXES:
        from deployments.sandbox import EVERY_PRODUCT, make_sandbox

        folder = settings.home / "archives" / name
        options = EVERY_PRODUCT if name == SANDBOX_ALL else {}
        if progress is None:
            make_sandbox(folder, **options)
        else:
            shown = progress
            make_sandbox(
                folder, progress=lambda done, total, _: shown("simulate scenes", done, total), **options
            )
        return folder
    from deployments.stac_server import prepare_folder

    description = LOCAL_ARCHIVES / name / "archive.yaml" if name in local_archive_names() else Path(name)
    root = scenes or (Path(os.environ["SWATH_SCENES"]) if os.environ.get("SWATH_SCENES") else None)
    if root is None:
        raise UsageError(
            "scenes-folder-missing",
            f"the archive {name!r} lies in a folder of yours",
            subject=name,
            next_step="pass --scenes DIR, or set SWATH_SCENES",
        )
    if not root.is_dir():
        raise UsageError(
            "scenes-folder-missing", f"there is no folder {root}", subject=name, next_step="correct --scenes"
        )
    into = settings.home / "archives" / description.resolve().parent.name
    return prepare_folder(root.resolve(), description, into)


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """Address of a server over ``folder``: one that already serves it at ``port``, or a new one.

    Where something else holds the port, a free one is taken.
    """
    from deployments.stac_server import serve_archive, serves

    url = f"http://127.0.0.1:{port}"
    if serves(url, folder):
        yield url
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serve_archive(folder, port=port))
        except UsageError:
            server = stack.enter_context(serve_archive(folder))
        yield server.url
