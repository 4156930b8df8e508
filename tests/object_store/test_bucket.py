"""A cube in a bucket: what is damaged there is found, and writers who race lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog.cubes import list_cubes, open_cube
from catalog.errors import CubeError
from tests.object_store.made_cube import OPTICAL, PLACES, append, contents, expected, new_cube
from tests.object_store.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("swath_home")

WRITER = """
import json, sys
from catalog.cubes import open_cube
from catalog.errors import CubeError
from tests.object_store.made_cube import append

first, rounds = map(int, sys.argv[1:])
cube = open_cube("demo")
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + rounds):
    lost = 0
    while True:
        try:
            snapshot = append(cube, number)
            break
        except CubeError as error:
            assert error.code == "main-moved", error
            cube, lost = open_cube("demo"), lost + 1
    print(json.dumps([number, snapshot, lost]), flush=True)
"""


def chunks(s3: S3Server, bucket: str) -> list[str]:
    return s3.keys(bucket, "team/cubes/demo/chunks/")


def test_cubes_are_listed_and_none_is_made_by_looking(bucket: str, s3: S3Server) -> None:
    assert list_cubes() == []
    with pytest.raises(CubeError, match="cube-not-found"):
        open_cube("demo")
    assert s3.keys(bucket) == []
    new_cube(0)
    assert list_cubes() == ["demo"]
    assert all(key.startswith("team/cubes/demo/") for key in s3.keys(bucket))


def test_a_flipped_bit_in_a_chunk_is_found(bucket: str, s3: S3Server) -> None:
    cube = new_cube(0)
    client, key = s3.client(), chunks(s3, bucket)[0]
    content = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    assert cube.verify() != []
    with pytest.raises(CubeError, match="unreadable-chunk"):
        contents(open_cube("demo"))


def test_a_lost_chunk_is_damage_and_no_outage(bucket: str, s3: S3Server) -> None:
    cube = new_cube(0)
    for key in chunks(s3, bucket):
        s3.client().delete_object(Bucket=bucket, Key=key)
    assert any("cannot be read" in line for line in cube.verify())
    with pytest.raises(CubeError, match="unreadable-chunk"):
        contents(open_cube("demo"))


def race(writers: int, rounds: int) -> list[tuple[int, str, int]]:
    """What each commit of racing processes came to: scene, snapshot, how often it had to be begun again."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(100 * (k + 1)), str(rounds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for k in range(writers)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [tuple(json.loads(line)) for p in started for line in p.communicate(timeout=600)[0].splitlines()]
    assert all(process.returncode == 0 for process in started)
    return told


@pytest.mark.parametrize(
    ("writers", "rounds"), [(2, 2), pytest.param(4, 10, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_processes_that_write_at_once_lose_nothing(writers: int, rounds: int) -> None:
    cube = new_cube(0)
    told = race(writers, rounds)
    assert len(told) == writers * rounds
    assert contents(cube) == expected(0, *(number for number, _, _ in told))
    assert len(cube.columns(OPTICAL.id)) == PLACES * (1 + writers * rounds)
    ids = [version.id for version in cube.history()]
    assert len(ids) == len(set(ids))
    assert set(ids) >= {snapshot for _, snapshot, _ in told}
    assert sum(sum(version.appended.values()) for version in cube.history()) == len(contents(cube))
    assert cube.verify() == []


def test_an_expiry_leaves_what_a_tag_names() -> None:
    cube = new_cube(0)
    first = cube.snapshot()
    cube.tag("encoder-1", first)
    second, third = append(cube, 1), append(cube, 2)
    done = cube.expire(datetime.now(UTC))
    assert second in done.snapshots
    assert not {first, third} & set(done.snapshots)
    assert cube.snapshot() == third
    assert contents(cube, "encoder-1") == expected(0)
    assert contents(cube) == expected(0, 1, 2)
    with pytest.raises(CubeError, match="unknown-snapshot"):
        cube.columns(OPTICAL.id, second)
    assert open_cube("demo").verify() == []
    assert open_cube("demo").verify(first) == []
