"""``swath archive``: serve the sandbox archive, or one over a folder of real GeoTIFFs."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output import say

app = typer.Typer(no_args_is_help=True)


@app.command("serve")
def serve(
    scenes: Annotated[
        Path | None, typer.Option("--scenes", help="Folder of real GeoTIFFs; the sandbox unless given.")
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option("--archive", help="A built-in description of that folder, or a path of archive.yaml."),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port on loopback.")] = None,
) -> None:
    """Serve a STAC API with HTTP-range assets on loopback until interrupted.

    A folder of real scenes needs a description: ``archive.yaml`` in it, or one named with ``--archive``.
    """
    from flows.archives import SANDBOX, local_folder, port_of
    from flows.environment import prepare_environment
    from flows.progress import bars

    settings = prepare_environment()
    with bars() as progress:
        name = archive or (str(scenes / "archive.yaml") if scenes else SANDBOX)
        folder = local_folder(name, settings, scenes=scenes, progress=progress)
    from deployments.stac_server import serve_archive

    with serve_archive(folder, port=port if port is not None else port_of(folder.name)) as server:
        say(f"serving {folder.name} at {server.url} (STAC API; assets under /assets). Ctrl-C ends it.")
        typer.echo(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
