"""What the tests of every method share: a tiny encoder, made-up ground, and what must hold for all of them.

A method's test file names the method and its tiny options, calls the checks here, and adds what is its own:

    NAME = "simclr"
    make = harness.maker(NAME, {"head_hidden": 32, "head_out": 16})

    def test_pixels_under_the_mask_move_no_loss() -> None:
        harness.check_masked_pixels_move_nothing(make, NAME)

``make`` is also what the golden curve is made from, in float64 and with a Vision Transformer as encoder, and
``GOLDEN_SETTINGS`` (keywords of ``train``) where a test file has them.

Golden curves are made anew by ``python -m tests.models.methods.golden [METHOD …]``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.backbones import Encoder, describe_architecture
from models.collapse import collapse_signs
from models.methods import load_method
from models.methods.method import Method, MethodContext, View
from models.optim import cosine
from tests.models.methods.attraction import attract_embeddings

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
GOLDEN_STEPS = 50
GOLDEN_TOLERANCE = 1e-4
"""Relative. Curves are computed in float64: another processor's rounding grows to about 1e-9 in 50 steps."""
COLLAPSE_STEPS = 60
COLLAPSED = 0.05
"""Standard deviation of L2-normalised features × √d: untrained 0.4 and more; 60 steps of collapse pass it."""
BATCH, BANDS, SIZE_PX = 6, 4, 16
TINY_RESNET = {"channels": [8, 16, 24, 32], "stem_width": 8}
TINY_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}

Make = Callable[..., Method]


def maker(
    name: str,
    tiny: Mapping[str, Any],
    *,
    backbone: str = "resnet18",
    backbone_options: Mapping[str, Any] | None = None,
    bands: int = BANDS,
    size_px: int = SIZE_PX,
    steps: int = 10,
) -> Make:
    """``make(**options)``: the method around a tiny encoder, the same weights each time.

    ``make(..., vit=True)`` puts a Vision Transformer without any batch norm in place of ``backbone``.
    """

    def make(*, vit: bool = False, steps: int = steps, seed: int = 0, **options: Any) -> Method:
        torch.manual_seed(seed)
        factory = load_method(name)
        kind = "vit_tiny_patch16_224" if vit or backbone.startswith("vit") else backbone
        args = backbone_options or (TINY_VIT if kind.startswith("vit") else TINY_RESNET)
        if vit:
            args = TINY_VIT
        encoder = Encoder(describe_architecture(kind, args, bands=bands, input_size_px=size_px))
        known = factory.options.model_validate({**tiny, **options})
        return factory.build(MethodContext(encoder, bands, size_px, steps), known)

    return make


def shape_of(method: Method) -> tuple[int, int]:
    """Bands and side of the input that a made method takes."""
    augmentation = method.augmentation
    return method.encoder.architecture.bands, augmentation.size_px


def random_views(method: Method, seed: int = 1, *, batch: int = BATCH, count: int = 2) -> tuple[View, ...]:
    """Views of noise with a fifth of their pixels invalid."""
    bands, size_px = shape_of(method)
    torch.manual_seed(seed)
    made = []
    for _ in range(count):
        valid = torch.rand(batch, 1, size_px, size_px) > 0.2
        made.append(View(torch.where(valid, torch.randn(batch, bands, size_px, size_px), 0.0), valid))
    return tuple(made)


def ground(
    places: int, dates: int, bands: int, side_px: int, *, seed: int = 3, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """``(place, date, band, y, x)``: a spectrum and a texture per place, a season per date, noise."""
    rng = np.random.default_rng(seed)
    spectrum = rng.normal(0, 1, (places, 1, bands, 1, 1))
    waves = rng.uniform(0.2, 1.5, (places, 2, 1))
    pixel = np.arange(side_px)
    texture = np.sin(waves[:, 0, :, None] * pixel[:, None]) * np.cos(waves[:, 1, :, None] * pixel)
    season = rng.normal(0, 0.5, (1, dates, bands, 1, 1))
    noise = rng.normal(0, 0.1, (places, dates, bands, side_px, side_px))
    values = spectrum + 0.7 * texture[:, None, None] + season + noise
    return torch.from_numpy(values).to(dtype)


def ground_samples(
    values: torch.Tensor, at: torch.Tensor, dates: int, *, hidden: float = 0.0
) -> tuple[View, ...]:
    """Samples of the places ``at``, one per date, a corner of each invalid and holding ``hidden``."""
    samples = []
    for date in range(dates):
        x = values[at, date]
        valid = torch.ones(len(at), 1, *x.shape[-2:], dtype=torch.bool)
        valid[..., : x.shape[-1] // 4, : x.shape[-1] // 3] = False
        samples.append(View(torch.where(valid, x, hidden), valid))
    return tuple(samples)


def dates_of(method: Method, name: str) -> int:
    """Samples that the trainer draws per place for this method."""
    return load_method(name).samples(method.options)  # type: ignore[arg-type]


def train(
    method: Method, name: str, steps: int, *, learning_rate: float = 3e-3, side_px: int = 20
) -> tuple[list[float], torch.Tensor]:
    """Train on made-up ground as the trainer would; losses, and the embedding of the last batch."""
    bands, _ = shape_of(method)
    dtype = next(method.parameters()).dtype
    values = ground(12, 2, bands, side_px, dtype=dtype)
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.01)
    losses = []
    embedding = torch.empty(0)
    for step in range(1, steps + 1):
        torch.manual_seed(step)
        at = torch.randperm(len(values))
        samples = ground_samples(values, at, dates_of(method, name))
        made = method.loss(method.views(samples), at)
        optimiser.param_groups[0]["lr"] = learning_rate * cosine((step - 1) / steps)
        optimiser.zero_grad()
        made.loss.backward()
        method.before_optimiser_step(step)
        optimiser.step()
        method.after_optimiser_step(step)
        losses.append(float(made.loss.detach()))
        embedding = made.embedding
    return losses, embedding


def golden_run(make: Make, name: str, **settings: Any) -> tuple[list[float], torch.Tensor]:
    """Losses of 50 steps at a fixed seed, in float64 and one thread, and the last embedding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(make(vit=True, steps=GOLDEN_STEPS).double(), name, GOLDEN_STEPS, **settings)
    finally:
        torch.set_num_threads(threads)


def check_golden_curve(make: Make, name: str, **settings: Any) -> None:
    """The losses of 50 steps are those in the golden file and fall, and places do not run together."""
    document = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    curve, embedding = golden_run(make, name, **settings)
    assert document["tolerance"] == GOLDEN_TOLERANCE
    assert curve == pytest.approx(document["losses"], rel=GOLDEN_TOLERANCE, abs=1e-6)
    assert len(set(curve)) == GOLDEN_STEPS
    assert np.mean(curve[-10:]) < np.mean(curve[:10])
    assert collapse_signs(embedding)["embedding_std"] > 4 * COLLAPSED


def check_masked_pixels_move_nothing(make: Make, name: str, *, side_px: int = 20, **options: Any) -> None:
    """Garbage and NaN under the mask leave views, loss and gradients as they are, bit for bit."""

    def outcome(hidden: float) -> tuple[torch.Tensor, torch.Tensor]:
        method = make(**options)
        bands, _ = shape_of(method)
        values = ground(BATCH, 2, bands, side_px)
        samples = ground_samples(values, torch.arange(BATCH), dates_of(method, name), hidden=hidden)
        torch.manual_seed(4)
        loss = method.loss(method.views(samples), torch.arange(BATCH)).loss
        loss.backward()
        return loss, torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])

    clean = outcome(0.0)
    for hidden in (1e4, float("nan")):
        loss, gradient = outcome(hidden)
        assert torch.isfinite(loss)
        assert torch.equal(loss, clean[0])
        assert torch.equal(gradient, clean[1])


def check_unseen_samples_do_not_count(
    make: Make, *, unseen_in: tuple[int, ...] = (1,), **options: Any
) -> None:
    """A sample without a valid pixel in the views ``unseen_in`` might as well not be in the batch."""
    asked = {"head_batch_norm": False} | options
    method = make(vit=True, **asked).double()
    whole = [_double(view) for view in random_views(method)]
    for number in unseen_in:
        whole[number].valid[2] = False
        whole[number].x[2] = 0.0
    kept = torch.tensor([0, 1, 3, 4, 5])
    fewer = [View(view.x[kept], view.valid[kept]) for view in whole]
    outcomes = []
    for views, places in ((whole, torch.arange(BATCH)), (fewer, kept)):
        method = make(vit=True, **asked).double()
        loss = method.loss(tuple(views), places).loss
        loss.backward()
        gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        outcomes.append((loss.detach(), torch.cat(gradients)))
    torch.testing.assert_close(*outcomes, rtol=1e-9, atol=1e-12)


def check_views_may_be_swapped(make: Make, **options: Any) -> None:
    """Which view comes first does not matter."""
    first, second = random_views(make(**options))
    ours = make(**options).double().loss((_double(first), _double(second)), torch.arange(BATCH)).loss
    theirs = make(**options).double().loss((_double(second), _double(first)), torch.arange(BATCH)).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def check_the_whole_encoder_learns(make: Make, *, frozen: tuple[str, ...] = (), **options: Any) -> None:
    """Every parameter of the encoder gets a gradient, except those named; so does every head."""
    method = make(**options)
    made = method.loss(random_views(method), torch.arange(BATCH))
    made.loss.backward()
    without = [name for name, p in method.encoder.named_parameters() if p.grad is None]
    assert tuple(without) == frozen
    trainable = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert trainable == []
    assert not made.embedding.requires_grad
    assert made.embedding.shape == (BATCH, method.encoder.feature_dim)


def check_the_teacher_follows(make: Make, expected: float, *, step: int = 1, **options: Any) -> None:
    """After ``step`` the teacher has moved with momentum ``expected``, each parameter, without a gradient."""
    method: Any = make(**options)
    method.loss(random_views(method), torch.arange(BATCH)).loss.backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    torch.optim.SGD(trainable, lr=0.5).step()
    method.after_optimiser_step(step)
    pairs = zip(before, method.teacher.parameters(), method.student.parameters(), strict=True)
    for old, new, student in pairs:
        torch.testing.assert_close(new, expected * old + (1 - expected) * student)
    assert any(
        not torch.equal(old, new) for old, new in zip(before, method.teacher.parameters(), strict=True)
    )


def check_collapse_is_seen(make: Make, name: str, break_it: Callable[[Any], None] | None = None) -> None:
    """Broken so that nothing keeps places apart, the method's embeddings run together, and the signs say so.

    Of ``check_golden_curve`` the sound method's embeddings stay apart.
    """
    method = make(vit=True, steps=COLLAPSE_STEPS)
    (break_it or attract_embeddings)(method)
    _, embedding = train(method, name, COLLAPSE_STEPS, learning_rate=0.01)
    assert collapse_signs(embedding)["embedding_std"] < COLLAPSED


def _double(view: View) -> View:
    return View(view.x.double(), view.valid)
