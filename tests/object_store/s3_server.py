"""A real S3 server on loopback, in a process of its own: some calls of Icechunk hold the interpreter lock."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""

KEY_ID, SECRET = "AKIAOBJECTSTORETESTS", "wJalrXUtnFEMI-object-store-tests-secret"


@dataclass(frozen=True)
class S3Server:
    """Where it answers."""

    endpoint: str

    def client(self) -> Any:
        """A client of its own, past whatever a test puts between."""
        import boto3

        return boto3.session.Session(KEY_ID, SECRET, region_name="us-east-1").client(
            "s3", endpoint_url=self.endpoint
        )

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"swath-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys of all objects below a prefix, sorted."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start it, and end it with the block (or with this process, whose pipe it reads)."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield S3Server(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()
