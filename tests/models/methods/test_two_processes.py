"""Two processes with half of a batch each are one process with all of it, for networks without batch norm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.methods.method import Method, View
from tests.models.methods.harness import maker, random_views

BATCH, STEPS, WORLD = 8, 4, 2
METHODS: dict[str, dict[str, Any]] = {
    "moco-v2": {"queue_size": 24, "head_hidden": 32, "head_out": 16},
    "moco-v3": {"head_hidden": 32, "head_out": 16, "head_batch_norm": False},
    "byol": {"head_hidden": 32, "head_out": 16, "head_batch_norm": False},
    "simclr": {"head_hidden": 32, "head_out": 16, "head_batch_norm": False},
    "simsiam": {"head_width": 32, "predictor_hidden": 16, "head_batch_norm": False},
    "swav": {
        "head_hidden": 32,
        "head_out": 16,
        "prototypes": 12,
        "head_batch_norm": False,
        "frozen_share": 0.2,
        "queue_size": 16,
        "queue_after": 0.2,
    },
    "barlow-twins": {"head_width": 32, "head_batch_norm": False},
    "vicreg": {"head_width": 32, "head_batch_norm": False},
    "dino": {"prototypes": 12, "head_hidden": 32, "head_bottleneck": 8, "frozen_share": 0.25},
    "pixel-barlow-twins": {"head_width": 32, "head_batch_norm": False},
}
"""Methods whose loss draws nothing at random, with options that leave no batch norm."""
PLACES = torch.tensor([0, 1, 2, 3, 1, 4, 0, 5])
"""Two places come twice, in the halves of different processes."""


class Loss(nn.Module):
    """A method as DDP wants it: the loss is the forward pass."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: tuple[View, ...], places: Tensor) -> Tensor:
        return self.method.loss(views, places).loss


def run(name: str, rank: int, world: int) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of a few steps, over the whole batch, and the state they leave."""
    method = maker(name, METHODS[name])(vit=True, steps=STEPS).double()
    assert not [part for part in method.modules() if "BatchNorm" in type(part).__name__]
    loss_of: nn.Module = Loss(method)
    if world > 1:
        loss_of = DistributedDataParallel(loss_of, broadcast_buffers=False)
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trainable, lr=0.05, momentum=0.9, weight_decay=1e-4)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    losses = []
    for step in range(1, STEPS + 1):
        views = random_views(method, seed=step, batch=BATCH)
        # The first process sees nothing of one sample, so that the two do not count alike.
        views[1].valid[2] = False
        views[1].x[2] = 0.0
        views = tuple(View(view.x[share].double(), view.valid[share]) for view in views)
        optimiser.zero_grad()
        loss = loss_of(views, PLACES[share])
        loss.backward()
        method.before_optimiser_step(step)
        optimiser.step()
        method.after_optimiser_step(step)
        mean = loss.detach().clone()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(float(mean) / world)
    return losses, method.state_dict()


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    made = {name: run(name, rank, WORLD) for name in METHODS}
    torch.save(made, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.long
def test_losses_and_weights_are_those_of_one_process(tmp_path: Path) -> None:
    processes.start_processes(one_of_two, (str(tmp_path),), nprocs=WORLD, start_method="spawn")
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for name in METHODS:
        losses, state = run(name, 0, 1)
        assert len(set(losses)) == STEPS
        for of_rank, state_of_rank in (rank[name] for rank in ranks):
            assert of_rank == pytest.approx(losses, rel=1e-9), name
            for key, value in state.items():
                torch.testing.assert_close(
                    state_of_rank[key], value, rtol=1e-7, atol=1e-9, msg=f"{name}: {key} differs"
                )
