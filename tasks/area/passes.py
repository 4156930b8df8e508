"""Which scenes make one time step: those of one pass of one satellite that share a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from catalog.area_cubes import Step
from catalog.products import Product
from catalog.radiometry import calibrate
from catalog.scenes import Scene


def newest_versions(scenes: Sequence[Scene]) -> list[Scene]:
    """Of each observation the newest processing, by sensing time and id."""
    best: dict[str, Scene] = {}
    for scene in scenes:
        held = best.get(scene.key)
        if held is None or (scene.version, scene.id) > (held.version, held.id):
            best[scene.key] = scene
    return sorted(best.values(), key=lambda scene: (scene.sensed, scene.id))


def passes(scenes: Sequence[Scene], product: Product, *, minutes: float) -> list[Step]:
    """Time steps of a product, oldest first.

    Scenes of one platform and flight direction, each sensed at most ``minutes`` after the one before, are one
    pass. Neighbouring tiles of a pass fill one time step, the earlier scene first (then by id). Scenes whose
    numbers mean different things (another Sentinel-2 baseline, another sun of a Landsat TOA scene) cannot
    share an entry of ``scale`` and ``offset``, and become time steps of their own.
    """
    groups: dict[object, list[list[Scene]]] = {}
    for scene in newest_versions(scenes):
        calibration = calibrate(product, scene)
        kind = (
            scene.platform,
            scene.orbit_state,
            *(getattr(calibration, name).tobytes() for name in ("scale", "offset", "k1", "k2")),
        )
        chains = groups.setdefault(kind, [])
        if chains and _follows(chains[-1][-1].sensed, scene.sensed, minutes):
            chains[-1].append(scene)
        else:
            chains.append([scene])
    steps = [Step(tuple(chain)) for chains in groups.values() for chain in chains]
    return sorted(steps, key=lambda step: (step.time, step.ids))


def _follows(before: datetime, after: datetime, minutes: float) -> bool:
    return after - before <= timedelta(minutes=minutes)
