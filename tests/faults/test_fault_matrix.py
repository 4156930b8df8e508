"""Every fault of an archive against every product: the cube is the fault-free one, or the scene is a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from catalog.errors import ArchiveError
from catalog.scenes import Scene, SceneAsset
from deployments.sandbox.plan import ALL_PRODUCTS
from deployments.stac_server.faults import Fault
from tasks.readers import ReadFailure
from tests.faults.conftest import Tiny
from tests.faults.pipeline import TAKEN, run, same_samples
from tests.tasks.scene_files import built_in

ONE = "sentinel-2-l2a"
PRODUCTS = [
    pytest.param(name, marks=() if name == ONE else pytest.mark.long, id=name) for name in ALL_PRODUCTS
]
TIFF = "/assets/*.tif"


@dataclass(frozen=True)
class Case:
    """A fault, and the error code that a scene gets for it."""

    name: str
    faults: tuple[Fault, ...]
    codes: tuple[str, ...] = ()
    may_pass: bool = False


RECOVERABLE = [
    Case("late first byte", (Fault("latency", TIFF, ms=30),)),
    Case("a trickle", (Fault("bandwidth", TIFF, times=3, bytes_per_s=400_000),)),
    Case("503", (Fault("http-503", TIFF, times=3),)),
    Case("503 with Retry-After", (Fault("http-503", TIFF, times=1, retry_after_s=1),)),
    Case("429", (Fault("http-429", TIFF, times=3),)),
    Case("429 with Retry-After", (Fault("http-429", TIFF, times=1, retry_after_s=1),)),
    Case("500", (Fault("http-500", TIFF, times=3),)),
    Case("504 in mid-read", (Fault("http-504", TIFF, skip=7, times=3),)),
    Case("connection reset", (Fault("reset", TIFF, times=3),)),
    Case("connection reset in mid-read", (Fault("reset", TIFF, skip=7, times=3, share=0.9),)),
    Case("Content-Length too large", (Fault("length-more", TIFF, times=3),)),
    Case("Content-Length too small", (Fault("length-less", TIFF, times=3),)),
    Case("a page of HTML once", (Fault("html", TIFF, skip=3, times=2),)),
    Case("a truncated answer once", (Fault("truncated", TIFF, skip=3, times=1),)),
    Case("a redirect within the archive", (Fault("redirect", TIFF, times=3, to="{path}?again=1"),)),
    Case("search 503", (Fault("http-503", "/search", times=2),)),
    Case("search 504", (Fault("http-504", "/search", times=1),)),
    Case("search 429", (Fault("http-429", "/search", times=1, retry_after_s=1),)),
    Case("a late search", (Fault("latency", "/search", ms=100),)),
    Case("a page that repeats items", (Fault("page-repeats", "/search"),)),
    Case("a page that loses items", (Fault("page-loses", "/search", times=1),)),
    Case("pages without end", (Fault("endless-pages", "/search", times=8),)),
]

VICTIM = "/victim"
"""Stands for one file of one scene."""
LASTING = [
    Case("missing", (Fault("missing", VICTIM),), ("asset-not-found",)),
    Case("truncated", (Fault("truncated", VICTIM, share=0.6),), ("asset-corrupt",)),
    Case("nearly whole", (Fault("truncated", VICTIM, share=0.99),), ("asset-corrupt",)),
    Case("a login page", (Fault("html", VICTIM),), ("asset-not-a-tiff",)),
    Case("403", (Fault("http-403", VICTIM),), ("asset-forbidden",)),
    Case("503", (Fault("http-503", VICTIM),), ("asset-unreachable",), True),
    Case("429", (Fault("http-429", VICTIM),), ("asset-unreachable",), True),
    Case("connection reset", (Fault("reset", VICTIM),), ("asset-unreachable",), True),
    Case("Content-Length too large", (Fault("length-more", VICTIM),), ("asset-unreachable",), True),
    Case("Content-Length too small", (Fault("length-less", VICTIM),), ("asset-corrupt",)),
    Case(
        "a redirect elsewhere",
        (Fault("redirect", VICTIM, to="http://169.254.169.254/latest"),),
        ("redirected-elsewhere",),
    ),
]


def victim_of(tiny: Tiny) -> tuple[Scene, SceneAsset]:
    """A band's file of a scene that is in the fault-free cube."""
    cubed = tiny.flawless.result.cubed  # type: ignore[union-attr]
    scene = next(scene for scene in tiny.flawless.scenes if scene.id in cubed)
    return scene, next(asset for asset in scene.assets.values() if asset.bands)


def at_victim(faults: tuple[Fault, ...], asset: SceneAsset) -> list[Fault]:
    path = urlsplit(asset.href).path
    return [replace(fault, match=path) if fault.match == VICTIM else fault for fault in faults]


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("case", RECOVERABLE, ids=lambda case: case.name)
def test_what_passes_leaves_no_trace_in_the_cube(
    case: Case, name: str, tiny_of: Callable[[str], Tiny], home: Path
) -> None:
    tiny = tiny_of(name)
    tiny.server.set_faults(list(case.faults))
    outcome = run(tiny.info, tiny.archive, name, "faulty")
    assert all(fault["applied"] for fault in tiny.server.faults()), "the fault came to bear"
    assert not outcome.failures
    assert [scene.id for scene in outcome.scenes] == [scene.id for scene in tiny.flawless.scenes]
    assert same_samples(outcome, tiny.flawless, built_in(name))


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("moment", ["from the start", pytest.param("while cubing", marks=pytest.mark.long)])
@pytest.mark.parametrize("case", LASTING, ids=lambda case: case.name)
def test_what_lasts_makes_the_scene_a_row_and_leaves_the_others_alone(
    case: Case, moment: str, name: str, tiny_of: Callable[[str], Tiny], home: Path
) -> None:
    tiny = tiny_of(name)
    scene, asset = victim_of(tiny)
    faults = at_victim(case.faults, asset)
    if moment == "from the start":
        tiny.server.set_faults(faults)
        outcome = run(tiny.info, tiny.archive, name, "faulty")
    else:
        outcome = run(
            tiny.info,
            tiny.archive,
            name,
            "faulty",
            before_cubing=lambda: tiny.server.set_faults(faults),
        )
    assert set(outcome.failures) == {scene.id}
    failure = outcome.failures[scene.id]
    assert isinstance(failure, ReadFailure)
    assert failure.code in case.codes and failure.may_pass == case.may_pass
    assert (failure.subject, failure.href) == (scene.id, asset.href)
    assert same_samples(outcome, tiny.flawless, built_in(name), without=scene.id)
    assert outcome.cube is not None
    assert scene.id not in outcome.cube.scenes(name)


@pytest.mark.parametrize("name", PRODUCTS)
def test_tokens_that_end_in_mid_read_are_renewed(
    name: str, tiny_of: Callable[[str], Tiny], home: Path
) -> None:
    tiny = tiny_of(name)
    # Fewer requests than a run makes (the two files of RTC need few), more than are in flight at once.
    tiny.server.set_faults([Fault("token", uses=14 if name == "sentinel-1-rtc" else 25)])
    outcome = run(tiny.info, tiny.signed, name, "faulty")
    assert not outcome.failures
    assert same_samples(outcome, tiny.flawless, built_in(name))
    paths = [path for _, path, _, _ in tiny.server.requests()["recent"]]
    assert sum(path.startswith("/_tokens/") for path in paths) >= 2


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_token_that_opens_nothing_is_renewed_once_and_no_more(
    name: str, tiny_of: Callable[[str], Tiny], home: Path
) -> None:
    tiny = tiny_of(name)
    tiny.server.set_faults([Fault("token", uses=0)])
    outcome = run(tiny.info, tiny.signed, name, "faulty")
    assert {failure.code for failure in outcome.failures.values()} == {"asset-forbidden"}
    assert set(outcome.failures) == {scene.id for scene in outcome.scenes[:TAKEN]}
    assert not outcome.samples(built_in(name))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_flipped_bit_is_found_where_checksums_are_verified(
    name: str, tiny_of: Callable[[str], Tiny], home: Path
) -> None:
    tiny = tiny_of(name)
    scene, asset = victim_of(tiny)

    def stated(scene: Scene) -> Scene:
        """The scene as an archive would state it that gives checksums."""
        assets = {key: replace(a, checksum=_multihash(tiny, a)) for key, a in scene.assets.items()}
        return replace(scene, assets=assets)

    flip = [Fault("bit-flip", urlsplit(asset.href).path, seed=1)]
    outcome = run(
        tiny.info,
        tiny.archive,
        name,
        "faulty",
        before_cubing=lambda: tiny.server.set_faults(flip),
        checksums=stated,
    )
    assert {key: error.code for key, error in outcome.failures.items()} == {scene.id: "checksum-mismatch"}
    assert same_samples(outcome, tiny.flawless, built_in(name), without=scene.id)


def test_a_search_that_never_ends_well_is_an_error(tiny_of: Callable[[str], Tiny], home: Path) -> None:
    tiny = tiny_of(ONE)
    for kind in ("http-503", "page-loses"):
        tiny.server.set_faults([Fault(kind, "/search")])
        with pytest.raises(ArchiveError) as caught:
            run(tiny.info, tiny.archive, ONE, "faulty")
        assert caught.value.code in {"archive-unreachable", "archive-loses-items"}


def _multihash(tiny: Tiny, asset: SceneAsset) -> str | None:
    path = tiny.info.folder / urlsplit(asset.href).path.lstrip("/")
    return "1220" + hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
