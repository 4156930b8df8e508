"""CMID: its three branches one by one, on a ResNet and on a Swin Transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from catalog.errors import TrainingError
from models.located_views import LocatedView, cell_positions
from models.losses import NOWHERE
from models.methods.method import Method, View
from models.teacher import momentum_at, require_separate
from tests.models.methods.attraction import attract_embeddings
from tests.models.methods.harness import (
    BATCH,
    TINY_RESNET,
    check_collapse_is_seen,
    check_golden_curve,
    check_masked_pixels_move_nothing,
    ground,
    ground_samples,
    maker,
)
from tests.models.test_image_losses import numpy_focal_frequency
from tests.models.test_losses import numpy_info_nce
from tests.models.test_self_distillation import numpy_softmax

TINY = {
    "queue_size": 24,
    "head_hidden": 32,
    "head_out": 8,
    "prototypes": 32,
    "local_bottleneck": 8,
    "block_px": 8,
    "matches": 3,
    # A run of 50 steps has no time for 0.996 and 0.9.
    "momentum": 0.9,
    "centre_momentum": 0.5,
}
SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
GOLDEN_SETTINGS = {"side_px": 40, "learning_rate": 0.005}
make_swin = maker("cmid", TINY, backbone="swin_tiny_patch4_window7_224", backbone_options=SWIN, size_px=32)
make_resnet = maker("cmid", TINY, backbone_options=TINY_RESNET, size_px=64)
both = pytest.mark.parametrize("made", [make_swin, make_resnet], ids=["swin", "resnet"])


def make(*, vit: bool = False, **options: Any) -> Method:
    """A Swin Transformer, which has no batch norm, also where a Vision Transformer is asked for."""
    return make_swin(**options)


def two_views(method, seed: int = 5) -> tuple[LocatedView, ...]:
    side = method.size_px + 8
    torch.manual_seed(seed)
    dtype = next(method.parameters()).dtype
    return method.views(ground_samples(ground(BATCH, 1, 4, side, dtype=dtype), torch.arange(BATCH), 1))


def encoded(method, views):
    """Student features of hidden views and teacher features of whole ones, with their valid shares."""
    masked = []
    for view in views:
        hidden = torch.zeros_like(view.valid)
        hidden[..., :16] = True
        masked.append((method.encode_masked(view, hidden), method.encoder.feature_map(view.x, view.valid)[1]))
    with torch.no_grad():
        whole = [method.teacher.encoder.feature_map(view.x, view.valid) for view in views]
    return masked, whole


@both
def test_the_loss_is_the_weighted_sum_of_its_branches(made) -> None:
    def loss(**weights: float) -> float:
        method = made(**weights).double().eval()
        torch.manual_seed(3)
        return float(method.loss(two_views(method), torch.arange(BATCH)).loss.detach())

    names = ("reconstruction_weight", "global_weight", "local_weight")
    alone = [loss(**{other: float(other == name) for other in names}) for name in names]
    assert all(part > 0 for part in alone)
    assert loss() == pytest.approx(sum(alone), rel=1e-9)
    weights = dict(zip(names, (0.5, 2.0, 3.0), strict=True))
    assert loss(**weights) == pytest.approx(0.5 * alone[0] + 2 * alone[1] + 3 * alone[2], rel=1e-9)


def test_the_reconstruction_is_what_numpy_says() -> None:
    method = make().double()
    view = two_views(method)[0]
    predicted, hidden = torch.randn_like(view.x), torch.rand_like(view.x[:, :1]) < 0.6
    error = (predicted - view.x).abs().numpy()[(hidden & view.valid).expand_as(view.x).numpy()]
    focal = (error * (2 / (1 + np.exp(-0.2 * error)) - 1)).mean()
    frequency = numpy_focal_frequency(*(value.numpy() for value in (predicted, view.x, hidden, view.valid)))
    ours = float(method.reconstruction(predicted, view, hidden))
    np.testing.assert_allclose(ours, focal + frequency, rtol=1e-6)


@both
def test_the_global_branch_contrasts_each_view_with_the_other_and_queues_both_keys(made) -> None:
    method = made().double().eval()
    views = two_views(method)
    masked, whole = encoded(method, views)
    method.queue.places[:4] = torch.tensor([0, 1, 0, 5])
    queue, places = method.queue.keys.clone(), method.queue.places.clone()
    with torch.no_grad():
        queries = [method.student(*cells).numpy() for cells in masked]
        keys = [method.teacher(*cells).numpy() for cells in whole]
    everybody = torch.ones(BATCH, dtype=torch.bool)
    left_out = (torch.arange(BATCH)[:, None] == places[None]).numpy()
    expected = np.mean(
        [
            numpy_info_nce(query, key, queue.numpy(), 0.2, left_out)
            for query, key in zip(queries, keys[::-1], strict=True)
        ]
    )
    ours = float(method.global_branch(masked, whole, torch.arange(BATCH), everybody).detach())
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    for number, key in enumerate(keys):
        newest = method.queue.keys[number * BATCH : (number + 1) * BATCH]
        torch.testing.assert_close(newest, F.normalize(torch.tensor(key), dim=1), rtol=1e-6, atol=1e-7)
    assert method.queue.places[: 2 * BATCH].tolist() == [*range(BATCH)] * 2


@both
def test_the_local_branch_distils_the_nearest_cells_of_the_other_view(made) -> None:
    method = made(matches=16).double().eval()
    method.centre.value.normal_(0, 0.1)
    centre = method.centre.value.clone()
    views = two_views(method)
    masked, whole = encoded(method, views)
    terms, outputs = [], []
    for one, other in ((0, 1), (1, 0)):
        ours, theirs = masked[one][0].detach(), whole[other][0]
        grid = tuple(ours.shape[-2:])
        places = [cell_positions(views[at].theta, grid).numpy() for at in (one, other)]
        part = []
        for sample in range(BATCH):
            distance = np.linalg.norm(places[0][sample][:, None] - places[1][sample][None], axis=2)
            distance[masked[one][1][sample].flatten().numpy() == 0] = np.inf
            distance[:, whole[other][1][sample].flatten().numpy() == 0] = np.inf
            for cell in np.flatnonzero(np.isfinite(distance.min(1))):
                student = method.student.local(ours[sample].flatten(1).T[[cell]])[0].detach().numpy()
                near = distance[cell].argmin()
                teacher = method.teacher.local(theirs[sample].flatten(1).T[[near]])[0].detach().numpy()
                target = numpy_softmax((teacher - centre.numpy()) / 0.04)
                part.append(-(target * np.log(numpy_softmax(student / 0.1))).sum())
                outputs.append(teacher)
        terms.append(np.mean(part))
    loss = method.local_branch(masked, whole, views)
    np.testing.assert_allclose(float(loss.detach()), np.mean(terms), rtol=1e-6)
    np.testing.assert_allclose(
        method.centre.value.numpy(), 0.5 * centre.numpy() + 0.5 * np.mean(outputs, 0), rtol=1e-6, atol=1e-9
    )


@both
def test_hidden_pixels_do_not_reach_the_student(made) -> None:
    method = made().eval()
    view = two_views(method)[0]
    hidden = torch.zeros_like(view.valid)
    hidden[..., :16] = True
    ours = method.encode_masked(view, hidden)
    changed = LocatedView(torch.where(hidden, view.x + 5, view.x), view.valid, view.theta)
    assert torch.equal(method.encode_masked(changed, hidden), ours)
    # Nothing hidden: the encoder as it is saved.
    nothing = torch.zeros_like(hidden)
    torch.testing.assert_close(method.encode_masked(view, nothing), method.encoder.feature_map(view.x)[0])
    with torch.no_grad():
        method.hidden_token.normal_()
    assert not torch.equal(method.encode_masked(view, hidden), ours)


@both
def test_the_teacher_is_separate_follows_and_everything_else_learns(made) -> None:
    method = made()
    require_separate(method.student, method.teacher)
    method.loss(two_views(method), torch.arange(BATCH)).loss.backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    assert method.hidden_token.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.5).step()
    method.after_optimiser_step(1)
    momentum = momentum_at(1, 10, 0.9, 1.0)
    for old, new, student in zip(
        before, method.teacher.parameters(), method.student.parameters(), strict=True
    ):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * student)


@both
@pytest.mark.parametrize("dates", [1, 2])
def test_pixels_under_the_mask_move_no_loss(made, dates: int) -> None:
    side = made().size_px + 8
    check_masked_pixels_move_nothing(made, "cmid", side_px=side, dates=dates)


def test_a_sample_without_valid_pixels_takes_no_part_in_the_contrast() -> None:
    method = make().double().eval()
    masked, whole = encoded(method, two_views(method))
    seen = torch.arange(BATCH) != 2

    def loss(chosen: torch.Tensor) -> torch.Tensor:
        twin = make().double().eval()
        parts = [[(cells[chosen], share[chosen]) for cells, share in part] for part in (masked, whole)]
        return twin.global_branch(*parts, torch.arange(BATCH)[chosen], seen[chosen]).detach()

    torch.testing.assert_close(loss(seen | True), loss(seen))
    method.global_branch(masked, whole, torch.arange(BATCH), seen)
    assert method.queue.places[: 2 * BATCH].tolist() == [0, 1, NOWHERE, 3, 4, 5] * 2


def test_a_sample_without_valid_pixels_takes_part_in_no_local_pair() -> None:
    method = make().eval()
    views = two_views(method)
    empty = views[0].valid.clone()
    empty[2] = False
    losses = []
    for garbage in (0.0, 9.0):
        x = views[0].x.clone()
        x[2] = garbage
        twin = make().eval()
        masked, whole = encoded(twin, (LocatedView(x, empty, views[0].theta), views[1]))
        losses.append(twin.local_branch(masked, whole, views).detach())
    assert torch.equal(losses[0], losses[1])


def test_the_first_view_is_plain_and_both_know_where_they_lie() -> None:
    method = make(brightness=0.0, contrast=0.0, grey=1.0, blur=0.0, noise=0.0)
    x = torch.randn(BATCH, 4, 40, 40)
    plain, other = method.views((View(x, torch.ones(BATCH, 1, 40, 40, dtype=torch.bool)),))
    assert plain.x.shape == other.x.shape == (BATCH, 4, 32, 32)
    assert plain.x.std(1).min() > 0
    torch.testing.assert_close(other.x, other.x.mean(1, keepdim=True).expand_as(other.x))
    assert plain.theta.shape == other.theta.shape == (BATCH, 2, 3)
    assert not torch.equal(plain.theta, other.theta)


def test_other_backbones_and_sizes_are_refused() -> None:
    for backbone, size_px in (("vit_tiny_patch16_224", 32), ("resnet18", 48)):
        with pytest.raises(TrainingError) as refusal:
            maker("cmid", TINY, backbone=backbone, size_px=size_px)()
        assert refusal.value.code == "wrong-backbone"


def test_golden_losses() -> None:
    check_golden_curve(make, "cmid", **GOLDEN_SETTINGS)


def test_a_collapse_is_seen() -> None:
    check_collapse_is_seen(make, "cmid", attract_embeddings)
