"""Whether an encoder is alive: what a dead one cannot do, measured on samples it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.floating]]
"""Physical values and their validity, both ``(sample, band, y, x)`` → features ``(sample, feature)``."""


@dataclass(frozen=True)
class VitalitySamples:
    """Held-out samples: some places, where possible each at two dates."""

    values: NDArray[np.float32]
    """``(sample, band, y, x)`` in the encoder's physical units; 0 where invalid."""
    valid: NDArray[np.bool_]
    """``(sample, band, y, x)``."""
    places: NDArray[Any]
    """Location id of each sample ``(sample,)``."""
    times: NDArray[Any]
    """Sensing time of each sample ``(sample,)``; anything that sorts."""


@dataclass(frozen=True)
class VitalityLimits:
    """What refuses an encoder; each limit lies between what dead and what living networks measure."""

    min_spread: float = 0.02
    """Standard deviation of L2-normalised features × √d. Untrained networks have about 0.4, collapsed ones
    about 0.001; this is the geometric middle. Isotropic noise has 1: a high value proves nothing."""
    min_second_direction: float = 0.005
    """Share of the variance outside the strongest direction. A rank-one encoder has 0 whatever its spread.
    Living ones may spend 92 % on one direction (EnMAP, sandbox), hardly ever 99.5 %. It is a floor only:
    the effective rank itself does not decide, because noise scores highest on it."""
    max_chance: float = 0.01
    """Probability by permutation that features which know nothing of the place retrieve as well as these."""
    min_lift: float = 1.5
    """Mean reciprocal rank over its chance value: with many samples a tiny edge over chance is significant
    without being of use."""
    max_instability: float = 0.05
    """How far features move when the same samples are encoded again, or in another order, relative to the
    distance between two samples. Rounding in another batch order stays below 0.01; random features have 1."""
    min_response: float = 0.1
    """How far features move, relative to the distance between two samples, when each sample gets another
    one's pixels under its own validity mask. Living encoders have about 1, one that reads only the mask 0."""
    min_weight_distance: float = 0.002
    """Relative L2 distance of the weights from those the run began with. Saving as bf16 alone gives 0.0009
    (ViT-Ti) to 0.0014 (ResNet-18); on the sandbox 20 steps of MoCo with SGD gave 0.011, 30 steps of MAE with
    AdamW 0.12."""


@dataclass(frozen=True)
class Vitality:
    """What was measured. ``refusals`` says what of it is deadly."""

    samples: int
    finite: bool
    spread: float
    """Standard deviation of L2-normalised features × √d."""
    second_direction: float
    """Share of the variance outside the strongest direction."""
    effective_rank: float
    """Exponential of the entropy of the singular values of centred features; shown, does not decide."""
    instability_again: float
    """Change of the features of the same samples in a second call, over the distance between samples."""
    instability_order: float
    """The same for the samples in another order."""
    response_swap: float
    """Change when each sample gets another one's pixels under its own mask."""
    response_shuffle: float
    """Change when the pixels of a sample change places; 0 for encoders of single spectra. Shown."""
    response_noise: float
    """Change when pixels are replaced by noise of the band's mean and deviation. Shown."""
    response_blank: float
    """Change when pixels are replaced by the band's mean. Shown."""
    retrieval_pairs: str
    """``dates``: the same place at another date; ``turned``: the same sample turned by 180°, where fewer than
    ``MIN_DATED_PLACES`` places have two dates."""
    retrieval_places: int
    top1: float
    top1_chance: float
    reciprocal_rank: float
    reciprocal_rank_chance: float
    retrieval_probability: float
    """That features without knowledge of the place do as well, by permutation."""
    weight_distance: float | None
    """Relative L2 distance from the initial weights; None where those are not known (imported encoders)."""
    tensors_moved: float | None
    """Share of weight tensors that moved by more than ``min_weight_distance``. Shown."""
    limits: VitalityLimits = VitalityLimits()

    @property
    def instability(self) -> float:
        return max(self.instability_again, self.instability_order)

    def refusals(self) -> list[str]:
        """Every reason not to register this encoder, one line each; empty for a living one."""
        limits, reasons = self.limits, []
        if not self.finite:
            return ["features are not finite numbers"]
        if self.spread < limits.min_spread:
            reasons.append(
                f"features are constant: standard deviation of L2-normalised features × √d is "
                f"{self.spread:.2g} (at least {limits.min_spread}; untrained networks have about 0.4)"
            )
        elif self.instability_again > limits.max_instability:
            reasons.append(
                f"features are noise: the same samples encoded twice differ by {self.instability_again:.2f} "
                f"of the distance between two samples (limit {limits.max_instability})"
            )
        elif self.instability_order > limits.max_instability:
            reasons.append(
                f"features follow the position in the batch, not the input: in another order they differ by "
                f"{self.instability_order:.2f} of the distance between two samples "
                f"(limit {limits.max_instability})"
            )
        if self.spread >= limits.min_spread and self.second_direction < limits.min_second_direction:
            reasons.append(
                f"features are rank one: {self.second_direction:.2g} of their variance lies outside one "
                f"direction (at least {limits.min_second_direction})"
            )
        if self.response_swap < limits.min_response:
            reasons.append(
                f"features ignore the input: other pixels under the same validity mask move them by "
                f"{self.response_swap:.2g} of the distance between two samples "
                f"(at least {limits.min_response})"
            )
        if not self._retrieves():
            partner = "at another date" if self.retrieval_pairs == "dates" else "turned by 180°"
            reasons.append(
                f"features do not tell places apart: the same place {partner} is found with mean reciprocal "
                f"rank {self.reciprocal_rank:.3f}, by chance {self.reciprocal_rank_chance:.3f} "
                f"(p = {self.retrieval_probability:.3g} over {self.retrieval_places} places)"
            )
        if self.weight_distance is not None and self.weight_distance < limits.min_weight_distance:
            reasons.append(
                f"weights are untrained: they lie {self.weight_distance:.2g} of their norm from where the "
                f"run began (at least {limits.min_weight_distance})"
            )
        return reasons

    def _retrieves(self) -> bool:
        return (
            self.retrieval_probability <= self.limits.max_chance
            and self.reciprocal_rank >= self.limits.min_lift * self.reciprocal_rank_chance
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON document, with the limits and the refusals; what is not finite becomes None."""
        document = asdict(self) | {"refusals": self.refusals()}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in document.items()
        }


MIN_DATED_PLACES = 12
"""Below this, retrieval across dates has no power against chance (12 places: p ≤ 0.01 needs 3 or 4 hits)."""
PERMUTATIONS = 4999


def measure_vitality(
    encode: Encode,
    samples: VitalitySamples,
    *,
    weights: Mapping[str, Any] | None = None,
    initial_weights: Mapping[str, Any] | None = None,
    limits: VitalityLimits | None = None,
    seed: int = 0,
) -> Vitality:
    """Measure one encoder on held-out samples.

    ``weights`` and ``initial_weights`` are state dicts of the same encoder now and when its run began (of
    a warm start: the weights it started from). A few forward passes over the samples; nothing is changed.
    """
    rng = np.random.default_rng(seed)
    values, valid = samples.values, samples.valid
    features = _encoded(encode, values, valid)
    finite = bool(np.isfinite(features).all())
    if not finite:
        features = np.nan_to_num(features, nan=0.0, posinf=0.0, neginf=0.0)
    scale = _typical_distance(features)

    def moved(other: NDArray[np.floating]) -> float:
        distance = float(np.median(np.linalg.norm(np.nan_to_num(other) - features, axis=1)))
        return distance / scale if scale > 0 else (math.inf if distance > 0 else 0.0)

    order = rng.permutation(len(values))
    reordered = np.empty_like(features)
    reordered[order] = _encoded(encode, values[order], valid[order])
    mean, deviation = _band_statistics(values, valid)
    noise = (mean + deviation * rng.standard_normal(values.shape)).astype(np.float32)
    blank = np.broadcast_to(mean, values.shape).astype(np.float32)
    partner = np.roll(np.arange(len(values)), max(1, len(values) // 2))
    swapped = np.where(valid[partner], values[partner], blank)
    pairs, first, second = _retrieval_pairs(encode, samples, features)
    retrieval = _retrieve(first, second, rng)
    distance, share_moved = None, None
    if weights is not None and initial_weights is not None:
        distance, share_moved = weight_distance(weights, initial_weights, limits or VitalityLimits())
    return Vitality(
        samples=len(values),
        finite=finite,
        spread=spread_of(features),
        second_direction=1.0 - _strongest_share(features),
        effective_rank=effective_rank(features),
        instability_again=moved(_encoded(encode, values, valid)),
        instability_order=moved(reordered),
        response_swap=moved(_encoded(encode, _masked(swapped, valid), valid)),
        response_shuffle=moved(_encoded(encode, _masked(_shuffled(values, valid, blank, rng), valid), valid)),
        response_noise=moved(_encoded(encode, _masked(noise, valid), valid)),
        response_blank=moved(_encoded(encode, _masked(blank, valid), valid)),
        retrieval_pairs=pairs,
        retrieval_places=len(first),
        **retrieval,
        weight_distance=distance,
        tensors_moved=share_moved,
        limits=limits or VitalityLimits(),
    )


def spread_of(features: NDArray[np.floating]) -> float:
    """Standard deviation of L2-normalised features ``(sample, feature)``, mean over features, × √d.

    0 for a constant, 1 for isotropic noise (the collapse measure of SimSiam, Chen & He 2021, scaled).
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, 1e-12)
    return float(unit.std(0).mean() * math.sqrt(features.shape[1]))


def effective_rank(features: NDArray[np.floating]) -> float:
    """Exponential of the entropy of the singular values of centred features (Roy & Vetterli 2007)."""
    singular = np.linalg.svd(features - features.mean(0), compute_uv=False)
    if singular.sum() <= 0:
        return 0.0
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def weight_distance(
    weights: Mapping[str, Any], initial: Mapping[str, Any], limits: VitalityLimits | None = None
) -> tuple[float, float]:
    """Relative L2 distance of all weights from the initial ones, and the share of tensors that moved.

    Buffers of batch normalisation are left out: a forward pass alone changes them. Raises ``KeyError`` where
    a weight has no initial value, because that is another network.
    """
    bar = (limits or VitalityLimits()).min_weight_distance
    squared_change = squared_norm = 0.0
    moved = counted = 0
    for name, value in weights.items():
        if name.rsplit(".", 1)[-1] in {"running_mean", "running_var", "num_batches_tracked"}:
            continue
        now, then = _array(value), _array(initial[name])
        change, norm = float(((now - then) ** 2).sum()), float((then**2).sum())
        squared_change += change
        squared_norm += norm
        counted += 1
        moved += change > (bar**2) * norm
    if not counted:
        return math.inf, 1.0
    return math.sqrt(squared_change / max(squared_norm, 1e-300)), moved / counted


def _array(value: Any) -> NDArray[np.float64]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, np.float64)


def _encoded(encode: Encode, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(encode(values, valid), np.float64).reshape(len(values), -1)


def _masked(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(valid, values, 0.0).astype(np.float32)


def _typical_distance(features: NDArray[np.floating]) -> float:
    """Median distance between two different samples."""
    gram = features @ features.T
    square = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram
    rows, columns = np.triu_indices(len(features), 1)
    return float(np.sqrt(np.maximum(np.median(square[rows, columns]), 0.0))) if len(rows) else 0.0


def _strongest_share(features: NDArray[np.floating]) -> float:
    """Share of the variance of centred features along their strongest direction; 1 for a constant."""
    squared = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    total = float(squared.sum())
    return float(squared[0]) / total if total > 0 else 1.0


def _band_statistics(
    values: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Mean and deviation of the valid pixels of each band, ``(1, band, 1, 1)``."""
    count = np.maximum(valid.sum((0, 2, 3), keepdims=True), 1)
    mean = np.where(valid, values, 0.0).sum((0, 2, 3), keepdims=True) / count
    variance = np.where(valid, (values - mean) ** 2, 0.0).sum((0, 2, 3), keepdims=True) / count
    return mean, np.sqrt(variance)


def _shuffled(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    fill: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Every sample's pixels in another order, the same for all bands: spectra stay whole, places are lost."""
    flat = np.where(valid, values, fill).reshape(*values.shape[:2], -1)
    order = np.argsort(rng.random((len(values), 1, flat.shape[2])), axis=2)
    return np.take_along_axis(flat, np.broadcast_to(order, flat.shape), axis=2).reshape(values.shape)


def _retrieval_pairs(
    encode: Encode, samples: VitalitySamples, features: NDArray[np.floating]
) -> tuple[str, NDArray[np.floating], NDArray[np.floating]]:
    """Features of every place twice: at its first and last date, else as it is and turned by 180°."""
    firsts, lasts = [], []
    for place in dict.fromkeys(samples.places.tolist()):
        rows = np.flatnonzero(samples.places == place)
        rows = rows[np.argsort(samples.times[rows], kind="stable")]
        if samples.times[rows[0]] != samples.times[rows[-1]]:
            firsts.append(rows[0])
            lasts.append(rows[-1])
    if len(firsts) >= MIN_DATED_PLACES:
        return "dates", features[firsts], features[lasts]
    rows = np.array([np.flatnonzero(samples.places == place)[0] for place in dict.fromkeys(samples.places)])
    turned = _encoded(
        encode,
        np.ascontiguousarray(samples.values[rows][..., ::-1, ::-1]),
        np.ascontiguousarray(samples.valid[rows][..., ::-1, ::-1]),
    )
    return "turned", features[rows], np.nan_to_num(turned)


def _retrieve(
    first: NDArray[np.floating], second: NDArray[np.floating], rng: np.random.Generator
) -> dict[str, float]:
    """Find each row's partner among all rows of the other side, by cosine of centred features.

    Each side is centred by itself, so that what the dates have in common (a season) helps nobody. Ties count
    against the encoder: a constant one ranks every partner last.
    """
    count = len(first)
    similarity = _unit(first - first.mean(0)) @ _unit(second - second.mean(0)).T
    rounded = np.round(similarity, 9)
    rank = np.stack([count - np.searchsorted(np.sort(row), row, side="left") for row in rounded])
    reciprocal = 1.0 / rank
    rows = np.arange(count)
    found = float(reciprocal[rows, rows].mean())
    chance = np.array([reciprocal[rows, rng.permutation(count)].mean() for _ in range(PERMUTATIONS)])
    return {
        "top1": float((rank[rows, rows] == 1).mean()),
        "top1_chance": 1.0 / count,
        "reciprocal_rank": found,
        "reciprocal_rank_chance": float((1.0 / np.arange(1, count + 1)).mean()),
        "retrieval_probability": float((1 + (chance >= found - 1e-12).sum()) / (1 + PERMUTATIONS)),
    }


def _unit(features: NDArray[np.floating]) -> NDArray[np.floating]:
    norms: NDArray[np.floating] = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return features / norms
