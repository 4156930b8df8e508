"""What an evaluation judges: samples, pixels or pairs of dates, with their labels and places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import UsageError
from catalog.products.model import Product
from catalog.recipes import Evaluation
from catalog.samples import Location
from models.sample_grids import native_side_px, sample_grids

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class EvaluationSet:
    """Units to classify: a sample, a pixel of one, or a location at two dates. Arrays are ``(unit,)``."""

    kind: str
    rows: Rows
    """Cube row of each unit's sample; of its first date for ``change``."""
    later_rows: Rows | None
    """Cube row of the last date, for ``change``."""
    y: Rows | None
    x: Rows | None
    """The pixel within the sample, on the encoder's grid, for ``pixel-classes``."""
    labels: NDArray[np.int64]
    locations: NDArray[Any]
    places: NDArray[Any]
    splits: NDArray[Any]
    left_out: Mapping[str, int]
    """Why locations or samples are not judged → how many."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[Any]) -> EvaluationSet:
        """Some of the units."""
        picked: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[index]
            for name in ("rows", "later_rows", "y", "x", "labels", "locations", "places", "splits")
        }
        return replace(self, **picked)

    def leaving_out(self, reason: str, count: int) -> EvaluationSet:
        """The same, with one more reason noted."""
        return replace(self, left_out=dict(self.left_out) | ({reason: count} if count else {}))


def evaluation_set(
    evaluation: Evaluation,
    cube: Any,
    snapshot: str,
    label_set: Any,
    product: Product,
    gsd_m: float,
) -> EvaluationSet:
    """The units of an evaluation at the probe and test places of a snapshot, at most ``max_samples``.

    Too many are thinned evenly over places. Labels lie on the grid of the samples at ``gsd_m``.

    Raises
    ------
    UsageError: ``nothing-to-evaluate``, saying what is missing.
    """
    locations = {location.id: location for location in cube.locations(snapshot)}
    table = cube.columns(product.id, snapshot)
    current = table["superseded_by"].fillna("").astype(str) == ""
    judged = {name for name, location in locations.items() if location.split != "pretrain"}
    table = table[current & table["location"].isin(judged)].sort_values(["location", "time", "row"])
    if table.empty:
        raise nothing(evaluation, f"no sample of {product.id} lies at a probe or test place")
    places = _places(evaluation, cube, snapshot, product, table, locations)
    table = table.assign(place=places, split=[locations[name].split for name in table["location"]])
    labels = _Labels(cube, snapshot, label_set, product, gsd_m)
    build = {"patch-classes": _patches, "pixel-classes": _pixels, "change": _changes}[evaluation.kind]
    found = build(evaluation, table, labels)
    if not len(found):
        raise nothing(evaluation, f"label set {evaluation.label_set} labels none of the probe or test places")
    return found.take(spread_over(found.places, evaluation.max_samples))


def nothing(evaluation: Evaluation, message: str) -> UsageError:
    """An evaluation that cannot be done."""
    return UsageError(
        "nothing-to-evaluate",
        message,
        subject=f"evaluation {evaluation.name}",
        next_step="give probe and test a share in locations.split, or another label set",
    )


def spread_over(places: NDArray[Any], most: int, seed: int = 0) -> Rows:
    """Positions of at most ``most`` units, taken from all places in turn; in ascending order."""
    if len(places) <= most:
        return np.arange(len(places))
    order = np.random.default_rng(seed).permutation(len(places))
    turn = np.empty(len(places), np.int64)
    seen: dict[Any, int] = {}
    for position in order:
        turn[position] = seen[places[position]] = seen.get(places[position], -1) + 1
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


class _Labels:
    """Label windows of samples; dates of one place share theirs."""

    def __init__(self, cube: Any, snapshot: str, label_set: Any, product: Product, gsd_m: float) -> None:
        self.cube, self.snapshot, self.label_set = cube, snapshot, label_set
        self.product, self.gsd_m = product, gsd_m
        self._windows: dict[tuple[Any, ...], NDArray[np.int64]] = {}

    def windows(self, table: Any) -> list[NDArray[np.int64]]:
        """One ``(y, x)`` window per row; -1 where nothing is labelled."""
        from catalog.labels import label_window

        native = self.product.resolutions_m[0]
        side_px = max(
            1, round(native_side_px(self.cube, self.product, table, self.snapshot) * native / self.gsd_m)
        )
        windows = []
        for grid in sample_grids(self.cube, self.product, self.gsd_m, table, side_px, self.snapshot):
            key = (grid.epsg, grid.affine)
            if key not in self._windows:
                self._windows[key] = np.asarray(label_window(self.label_set, grid), np.int64)
            windows.append(self._windows[key])
        return windows

    def tags(self, table: Any) -> NDArray[np.int64]:
        """The one class that each sample's location, scene or tile is tagged with; -1 for none or several."""
        from catalog.labels import tag_classes

        tagged = tag_classes(self.label_set)
        tiles = {name: scene.tile for name, scene in self.cube.scenes(self.product.id, self.snapshot).items()}
        found = []
        for location, scene in zip(table["location"], table["scene"], strict=True):
            names = (location, scene, tiles[scene])
            classes = next((tagged[name] for name in names if name in tagged), ())
            found.append(classes[0] if len(classes) == 1 else -1)
        return np.array(found, np.int64)


def _patches(evaluation: Evaluation, table: Any, labels: _Labels) -> EvaluationSet:
    from catalog.labels import patch_label

    if labels.label_set.kind == "tags":
        found = labels.tags(table)
    else:
        found = np.array([patch_label(window) for window in labels.windows(table)], np.int64)
    kept = found >= 0
    return _from_table(evaluation, table[kept], found[kept]).leaving_out(
        "samples without a label", int((~kept).sum())
    )


def _pixels(evaluation: Evaluation, table: Any, labels: _Labels) -> EvaluationSet:
    rng = np.random.default_rng(0)
    # Twice what is judged in the end, because pixels without a measurement drop out later.
    share = -(-2 * evaluation.max_samples // len(table))
    pieces: list[tuple[Any, ...]] = []
    for index, window in enumerate(labels.windows(table)):
        known = np.argwhere(window >= 0)
        chosen = known[np.sort(rng.permutation(len(known))[: max(share, 1)])]
        pieces.append((index, chosen[:, 0], chosen[:, 1], window[chosen[:, 0], chosen[:, 1]]))
    counts = [len(piece[1]) for piece in pieces]
    which = np.repeat([piece[0] for piece in pieces], counts)
    y, x, values = (np.concatenate([piece[part] for piece in pieces]).astype(np.int64) for part in (1, 2, 3))
    found = _from_table(evaluation, table.iloc[which], values)
    return replace(found, y=y, x=x).leaving_out(
        "samples without a label", sum(count == 0 for count in counts)
    )


def _changes(evaluation: Evaluation, table: Any, labels: _Labels) -> EvaluationSet:
    value = changed_value(labels.label_set.classes, evaluation)
    firsts = table.groupby("location", sort=True).head(1)
    lasts = table.groupby("location", sort=True).tail(1)
    dated = firsts["time"].to_numpy() != lasts["time"].to_numpy()
    single = int((~dated).sum())
    firsts, lasts = firsts[dated], lasts[dated]
    if firsts.empty:
        raise nothing(evaluation, "no place has samples of two dates")
    found = []
    for window in labels.windows(firsts):
        known = window >= 0
        share = (window == value).sum() / known.sum() if known.any() else -1.0
        found.append(-1 if share < 0 else int(share >= evaluation.min_change_fraction))
    changed = np.array(found, np.int64)
    kept = changed >= 0
    pairs = _from_table(evaluation, firsts[kept], changed[kept])
    return (
        replace(pairs, later_rows=lasts["row"].to_numpy(np.int64)[kept])
        .leaving_out("places with one date", single)
        .leaving_out("places without a label", int((~kept).sum()))
    )


def changed_value(classes: Mapping[int, str], evaluation: Evaluation) -> int:
    """The label value that means change: the class named ``change`` or ``changed``."""
    values = [int(value) for value, name in classes.items() if str(name).lower() in ("change", "changed")]
    if len(values) != 1:
        raise UsageError(
            "no-change-class",
            f"one class must be named `changed`; there are {', '.join(map(str, classes.values())) or 'none'}",
            subject=f"label set {evaluation.label_set}",
            next_step="name the class in the label set's `classes`",
        )
    return values[0]


def _from_table(evaluation: Evaluation, table: Any, labels: NDArray[np.int64]) -> EvaluationSet:
    return EvaluationSet(
        kind=evaluation.kind,
        rows=table["row"].to_numpy(np.int64),
        later_rows=None,
        y=None,
        x=None,
        labels=labels,
        locations=table["location"].to_numpy(str),
        places=table["place"].to_numpy(str),
        splits=table["split"].to_numpy(str),
        left_out={},
    )


def _places(
    evaluation: Evaluation,
    cube: Any,
    snapshot: str,
    product: Product,
    table: Any,
    locations: Mapping[str, Location],
) -> Sequence[str]:
    if evaluation.place == "location":
        return list(table["location"])
    if evaluation.place == "block":
        return [locations[name].block for name in table["location"]]
    scenes = cube.scenes(product.id, snapshot)
    return [scenes[name].tile for name in table["scene"]]
