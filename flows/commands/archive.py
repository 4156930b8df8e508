"""``swath archive``: serve the sandbox or a folder of real GeoTIFFs; ask an archive what it can do."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output import Json, print_json, say

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
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="Misbehave: KIND:PATTERN[:TIMES], e.g. http-503:*B02.tif:2."),
    ] = None,
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
    from deployments.stac_server.faults import parse_fault

    faults = [parse_fault(text) for text in fault or ()]
    with serve_archive(folder, port=port if port is not None else port_of(folder.name)) as server:
        server.set_faults(faults)
        say(f"serving {folder.name} at {server.url} (STAC API; assets under /assets). Ctrl-C ends it.")
        typer.echo(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM})


@app.command("probe")
def probe(
    archive: Annotated[str, typer.Argument(help="Name of an archive, or the address of a STAC API.")],
    collection: Annotated[
        str | None, typer.Option("--collection", help="Which collection to ask for; its first unless given.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask an archive what it can do: filters, sorting, methods, page size, counts, paging."""
    from catalog.archives import load_archive
    from tasks.search.probe import probe_archive

    found = probe_archive(load_archive(archive), collection=collection)
    if json:
        print_json(found.to_dict())
        return
    for line in found.lines():
        typer.echo(line)
