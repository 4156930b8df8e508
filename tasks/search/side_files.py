"""What a scene needs beyond its item before it can be read: Landsat's MTL, and the cloud of a Level-1C scene.

Top-of-atmosphere reflectance and temperature need the coefficients of the scene's MTL file. Sentinel-2
Level-1C has no scene classification; that of the Level-2A of the same datatake shows the same sky on the
same grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from catalog.errors import ArchiveError, SceneError, UsageError
from catalog.products import Product, load_product
from catalog.recipes import Area, Period
from catalog.scenes import Scene
from tasks.readers.contract import ReadFailure
from tasks.readers.http_ranges import ATTEMPTS
from tasks.readers.plan import quality_files
from tasks.readers.text_files import fetch_text

if TYPE_CHECKING:
    from catalog.archives import Archive

IN_FLIGHT = 16
PARTNER_MINUTES = 30
"""Sensing times of one datatake lie closer; archives differ in whether they state its start or the tile's
time. The same satellite sees a tile again 98 minutes later at the soonest."""
SEARCH_SIDE_DEG = 6.0
"""Scenes within a box of this side are searched for together."""
SEARCH_DAYS = 92
"""A gap between sensing times beyond which the partners are searched for separately."""
_MARGIN_DEG = 0.05

PARTNERS = {"sentinel-2-l1c": "sentinel-2-l2a"}
"""Product without a QA layer of its own → the product of the same datatake that has it."""


def complete_scenes(
    scenes: Sequence[Scene],
    product: Product,
    archive: Archive,
    *,
    attempts: int = ATTEMPTS,
    pause_s: float = 0.5,
) -> tuple[list[Scene], dict[str, SceneError]]:
    """The scenes with all that their radiometry and quality need, in the given order, and why some lack it.

    A scene that fails is given back as it was. What a scene has already is not fetched again. A Level-1C
    scene whose partner does not exist is complete: its cloud stays unknown
    (``catalog.quality.cloud_source``).

    Returns
    -------
    scenes; scene id → ``ReadFailure`` (a file did not come: ``may_pass`` says whether it may come later) or
    ``SceneError`` ``calibration-missing`` (the item names no MTL) or ``unreadable-mtl``
    """
    failures: dict[str, SceneError] = {}
    done = {scene.id: scene for scene in scenes}
    if product.radiometry.rule == "landsat-toa":
        wanted = [scene for scene in scenes if "mtl" not in scene.radiometry]

        def coefficients(scene: Scene) -> Scene | SceneError:
            try:
                return _with_mtl(scene, product, archive, attempts, pause_s)
            except SceneError as error:
                return error

        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="swath-side") as pool:
            for scene, found in zip(wanted, pool.map(coefficients, wanted), strict=True):
                if isinstance(found, SceneError):
                    failures[scene.id] = found
                else:
                    done[scene.id] = found
    if product.id in PARTNERS:
        lacking = [scene for scene in scenes if not quality_files(scene, product)]
        partners, unanswered = find_partners(lacking, load_product(PARTNERS[product.id]), archive)
        failures |= unanswered
        for scene in lacking:
            if scene.id in partners:
                done[scene.id] = _with_quality(scene, product, partners[scene.id])
    return [done[scene.id] for scene in scenes], failures


def find_partners(
    scenes: Sequence[Scene], product: Product, archive: Archive
) -> tuple[dict[str, Scene], dict[str, SceneError]]:
    """Scene id → the newest scene of ``product`` that shows the same datatake over the same tile.

    One search for all scenes that lie near each other in space and time. An archive that does not have the
    product has no partners. Where it does not answer, the scenes of that search are in the second result.
    """
    from tasks.search.scenes import search_scenes

    partners: dict[str, Scene] = {}
    unanswered: dict[str, SceneError] = {}
    for batch in _batches(scenes):
        try:
            found = search_scenes(archive, product, _area(batch), _period(batch)).scenes
        except UsageError:
            break  # the archive does not have the product
        except ArchiveError as error:
            for scene in batch:
                unanswered[scene.id] = ReadFailure(
                    "asset-unreachable",
                    f"its cloud is told by {product.id} of the same datatake, and the archive does not "
                    f"answer: {error.message}",
                    subject=scene.id,
                    next_step=error.next_step,
                    band="SCL",
                )
            continue
        for scene in batch:
            same = [other for other in found if _same_datatake(scene, other)]
            if same:
                partners[scene.id] = max(same, key=lambda other: (other.version, other.id))
    return partners, unanswered


def _same_datatake(one: Scene, other: Scene) -> bool:
    return (
        one.platform == other.platform
        and one.tile == other.tile
        and abs(one.sensed - other.sensed) <= timedelta(minutes=PARTNER_MINUTES)
    )


def _with_quality(scene: Scene, product: Product, partner: Scene) -> Scene:
    assert product.qa is not None
    names = [key for key in (product.qa.asset, *product.qa.aliases) if key]
    key = next((name for name in names if name in partner.assets), None)
    if key is None:
        return scene
    return replace(scene, assets={**scene.assets, key: partner.assets[key]})


def _with_mtl(scene: Scene, product: Product, archive: Archive, attempts: int, pause_s: float) -> Scene:
    from catalog.normalise import with_mtl

    assets = [scene.assets[key] for key in product.metadata_assets if key in scene.assets]
    if not assets:
        raise SceneError(
            "calibration-missing",
            f"top-of-atmosphere values need the MTL's coefficients, and the item names no such file: "
            f"{', '.join(product.metadata_assets)}",
            subject=scene.id,
            next_step="take the scene from an archive that has it",
        )
    for place, asset in enumerate(assets, start=1):
        try:
            content = fetch_text(asset, scene.id, archive, attempts=attempts, pause_s=pause_s)
            return with_mtl(scene, content.decode("utf-8", errors="replace"))
        except SceneError:
            # The same in another form may be at hand: text beside JSON.
            if place == len(assets):
                raise
    raise AssertionError("unreachable")


def _batches(scenes: Iterable[Scene]) -> list[list[Scene]]:
    """Scenes in groups that are worth one search: near each other, without long gaps in time."""
    groups: list[list[Scene]] = []
    open_groups: list[list[Scene]] = []
    for scene in sorted(scenes, key=lambda one: (one.sensed, one.id)):
        open_groups = [
            group for group in open_groups if scene.sensed - group[-1].sensed <= timedelta(days=SEARCH_DAYS)
        ]
        west, _, east, _ = scene.bbox
        home = next(
            (group for group in open_groups if west < east and _side([*group, scene]) <= SEARCH_SIDE_DEG),
            None,
        )
        if home is None:
            home = []
            groups.append(home)
            if west < east:  # one across the antimeridian is searched for alone
                open_groups.append(home)
        home.append(scene)
    return groups


def _side(scenes: Sequence[Scene]) -> float:
    west, south, east, north = _bounds(scenes)
    return max(east - west, north - south)


def _bounds(scenes: Sequence[Scene]) -> tuple[float, float, float, float]:
    boxes = [scene.bbox for scene in scenes]
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _area(scenes: Sequence[Scene]) -> Area:
    west, south, east, north = _bounds(scenes) if len(scenes) > 1 else scenes[0].bbox
    return Area(
        bbox=(
            max(west - _MARGIN_DEG, -180.0),
            max(south - _MARGIN_DEG, -90.0),
            min(east + _MARGIN_DEG, 180.0),
            min(north + _MARGIN_DEG, 90.0),
        )
    )


def _period(scenes: Sequence[Scene]) -> Period:
    margin = timedelta(minutes=PARTNER_MINUTES)
    times = [scene.sensed for scene in scenes]
    return Period(start=(min(times) - margin).date(), end=(max(times) + margin).date())
