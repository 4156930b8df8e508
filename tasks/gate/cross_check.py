"""Scenes whose own pixels cannot tell are asked again beside another product of the same place and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from shapely.geometry import shape

from catalog.products import Product
from catalog.radiometric_cross_check import cross_check
from catalog.scenes import Scene

CLOSE = timedelta(days=1)
SHARED_GROUND = 0.8
"""Of this scene's footprint that the other must cover."""


def settle(
    product: Product,
    scenes: Sequence[Scene],
    rows: Sequence[Mapping[str, Any]],
    other: Product,
    other_scenes: Sequence[Scene],
    other_rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], ...]:
    """The rows of ``tasks.gate.statistics``, in their order, with what another product could settle.

    Only a row whose ``radiometry`` is ``undecidable`` changes, and only by a scene of the other product that
    agrees by its own pixels, covers the same ground and was sensed within a day.
    """
    sure = {str(row["scene"]): row for row in other_rows if row["radiometry"] == "agrees"}
    witnesses = [scene for scene in other_scenes if scene.id in sure]
    by_id = {scene.id: scene for scene in scenes}
    settled = []
    for row in rows:
        own = dict(row)
        scene = by_id.get(str(row["scene"]))
        if scene is not None and row["radiometry"] == "undecidable":
            for witness in witnesses:
                if not _sees_the_same(scene, witness):
                    continue
                judgement = cross_check(product, row, other, sure[witness.id])
                if judgement.verdict != "undecidable":
                    own |= {
                        "radiometry": judgement.verdict,
                        "radiometry_reason": f"beside {witness.id}: {judgement.reason}",
                    }
                    break
        settled.append(own)
    return tuple(settled)


def _sees_the_same(scene: Scene, witness: Scene) -> bool:
    if abs(scene.sensed - witness.sensed) > CLOSE:
        return False
    ground = shape(scene.geometry)
    return bool(
        ground.area and ground.intersection(shape(witness.geometry)).area >= SHARED_GROUND * ground.area
    )
