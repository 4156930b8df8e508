"""Runs a command with no network but loopback: ``python -m tests.loopback_only COMMAND …``.

A network namespace of its own stops every process and native library. Where namespaces are not allowed, dead
proxies stop what honours them, and the first line says so.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x1 | 0x40
DEAD_PROXY = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


def enter_loopback_namespace() -> None:
    """Move this process to a new network namespace whose only interface is ``lo``, up."""
    uid, gid = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))


def main() -> None:
    command = sys.argv[1:]
    if not command:
        raise SystemExit("usage: python -m tests.loopback_only COMMAND …")
    # Nothing goes through a proxy: not every native client lets loopback past one.
    for name in PROXIES:
        os.environ.pop(name, None)
    try:
        enter_loopback_namespace()
    except OSError as error:
        print(f"network: namespaces are not allowed here ({error}); dead proxies instead", file=sys.stderr)
        os.environ |= dict.fromkeys(PROXIES, DEAD_PROXY)
        os.environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1,::1")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
