"""``python -m deployments.stac_server --folder F``: serve an archive folder until stopped."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from pathlib import Path

from catalog.errors import SwathError

GRACE_S = 2.0
LOOK_EVERY_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deployments.stac_server", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="an archive folder: items/, collections/, assets/"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; this machine only unless given"
    )
    parser.add_argument("--port", type=int, default=8081, help="0 takes a free one")
    parser.add_argument("--title", default="Swath archive")
    parser.add_argument("--fd", type=int, help="a socket that already listens; instead of --host and --port")
    parser.add_argument(
        "--parent", type=int, help="stop when the process with this id is no longer the parent"
    )
    options = parser.parse_args()
    try:
        serve(options)
    except SwathError as error:
        raise SystemExit(f"{error}") from error


def serve(options: argparse.Namespace) -> None:
    import uvicorn
    from starlette.middleware import Middleware

    from deployments.stac_server.api import make_app
    from deployments.stac_server.faults import Faults, with_transport
    from deployments.stac_server.folder import ArchiveFolder

    listening = _listening_socket(options)
    archive = ArchiveFolder(options.folder)
    app = make_app(
        archive.refresh,
        title=options.title,
        description=f"STAC API over {archive.folder.name}",
        asset=archive.asset,
        middleware=[Middleware(Faults)],
    )
    config = uvicorn.Config(with_transport(app), log_level="info", timeout_graceful_shutdown=int(GRACE_S))
    server = uvicorn.Server(config)
    if options.parent is not None:
        threading.Thread(target=_follow_parent, args=(server, options.parent), daemon=True).start()
    host, port = listening.getsockname()[:2]
    print(f"serving {len(archive.catalog)} items at http://{host}:{port}", file=sys.stderr, flush=True)
    server.run(sockets=[listening])


def _listening_socket(options: argparse.Namespace) -> socket.socket:
    if options.fd is not None:
        return socket.socket(fileno=options.fd)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as error:
        raise SystemExit(f"cannot listen on {options.host}:{options.port}: {error.strerror}") from error
    return listening


def _follow_parent(server: object, parent: int) -> None:
    """An orphan stops: a parent that was killed outright cannot stop its children."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    server.should_exit = True  # type: ignore[attr-defined]
    time.sleep(GRACE_S)
    os._exit(0)


if __name__ == "__main__":
    main()
