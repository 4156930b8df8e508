"""Training on several devices: replicated (DDP), or parameters, gradients and optimiser sharded (FSDP)."""

from __future__ import annotations

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from catalog.recipes import Pretraining
from models.backbones import Encoder


def make_strategy(request: Pretraining, *, on_gpu: bool) -> Strategy | str:
    """How Lightning spreads the training over ``devices`` × ``nodes``."""
    world = request.devices * request.nodes
    if world == 1:
        return "auto"
    backend = "nccl" if on_gpu else "gloo"
    if request.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=world,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=backend,
        )
    # The queue is the same everywhere, and only the first process's statistics are saved.
    return DDPStrategy(process_group_backend=backend, broadcast_buffers=False)


def shard(method: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a method in place over the mesh's devices: block by block, so that few are whole at a time.

    Teachers are sharded as their students are; buffers (queues, batch statistics) stay whole everywhere.
    """
    for encoder in (module for module in method.modules() if isinstance(module, Encoder)):
        for block in encoder.blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(method, mesh=mesh)
    # The trainer calls the loss, not the forward pass.
    register_fsdp_forward_method(method, "loss")


def whole_encoder(encoder: Encoder) -> Encoder:
    """The encoder with whole weights; a copy where they are sharded. Every process must call it."""
    if not any(isinstance(value, DTensor) for value in encoder.parameters()):
        return encoder
    state = {name: _whole(value) for name, value in encoder.state_dict().items()}
    copy = Encoder(encoder.architecture)
    copy.load_state_dict(state, strict=True)
    return copy


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value.cpu()
