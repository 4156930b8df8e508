"""Drives one method over one stream of batches with Lightning: steps, checkpoints, metrics, stopping."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
import torch.distributed as dist
from torch import Tensor

from catalog.errors import TrainingError
from catalog.recipes import Pretraining
from models.backbones import Encoder
from models.collapse import collapse_signs
from models.methods.method import Method, View
from models.normalisation import Normalisation
from models.optim import make_optimiser, make_schedule, set_weight_decay, weight_decay_at
from models.physical_pixels import BandChoice, one_mask, physical_pixels
from models.sample_batches import BatchStream, RawBatch
from models.sharding import make_strategy, shard
from models.utilisation import StepFlops, matmul_peak


class Pretrainer(lightning.LightningModule):
    """Raw batches → physical, normalised, augmented views on the device → the method's loss.

    Everything random in a step is seeded by (seed, batch, process): with the weights, the optimiser and the
    step number a checkpoint holds all there is, and a resumed run continues bit for bit.
    """

    def __init__(
        self,
        method: Method,
        request: Pretraining,
        choice: BandChoice,
        normalisation: Normalisation,
        open_stream: Callable[[int, int, int], BatchStream],
        identity: str,
    ) -> None:
        super().__init__()
        self.method = method
        self.request, self.choice, self.normalisation = request, choice, normalisation
        self.open_stream = open_stream
        self.identity = identity
        self.stream: BatchStream | None = None
        self.watched: tuple[Tensor, ...] = ()
        """Embeddings of the last batch: of one view, and of the other where there is one."""

    def configure_model(self) -> None:
        # Convolutions are faster so, on a CPU as well: by a quarter for a ResNet-50.
        for encoder in self.encoders():
            encoder.backbone.to(memory_format=torch.channels_last)
        if self.request.strategy == "fsdp" and self.device_mesh is not None:
            shard(self.method, self.device_mesh["data_parallel"])

    def compile_blocks(self) -> None:
        """Compile what the encoders, teachers too, run one after the other."""
        for encoder in self.encoders():
            for block in encoder.blocks:
                block.compile()

    def encoders(self) -> list[Encoder]:
        """Every encoder of the method, teachers too."""
        return [module for module in self.method.modules() if isinstance(module, Encoder)]

    def configure_optimizers(self) -> Any:
        optimiser = make_optimiser(self.method, self.request.optimiser)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, make_schedule(self.request.optimiser, self.request.steps)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> BatchStream:
        """The stream from where the run stands: at its start, or at the step of the checkpoint."""
        start = self.trainer.global_step * self.request.accumulate
        self.stream = self.open_stream(start, self.trainer.global_rank, self.trainer.world_size)
        return self.stream

    def transfer_batch_to_device(
        self, batch: RawBatch, device: torch.device, dataloader_idx: int
    ) -> RawBatch:
        # Raw integers travel in `physical_pixels`, per resolution; Lightning would copy the dataclasses.
        return batch

    def views(self, batch: RawBatch) -> tuple[View, ...]:
        """Normalised and augmented views of a raw batch."""
        made = []
        for raw in batch.views:
            values, valid = physical_pixels(
                raw, self.choice, mask_cloud=self.request.mask_cloud, device=self.device
            )
            valid = one_mask(valid)
            made.append(View(self.normalisation.apply(values, valid), valid))
        return self.method.views(tuple(made), fill=self.normalisation.fill)

    def training_step(self, batch: RawBatch, batch_idx: int) -> Tensor:
        torch.manual_seed(step_seed(self.request.seed, batch.index, self.global_rank))
        made = self.method.loss(self.views(batch), batch.places.to(self.device))
        self.watched = tuple(of.float() for of in (made.embedding, made.partner) if of is not None)
        return made.loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        step = self.trainer.global_step
        set_weight_decay(optimizer, weight_decay_at(self.request.optimiser, step, self.request.steps))
        self.method.before_optimiser_step(step + 1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.method.after_optimiser_step(self.trainer.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["swath_identity"] = self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("swath_identity") != self.identity:
            raise TrainingError(
                "foreign-checkpoint",
                "the run folder holds a checkpoint of another recipe or snapshot",
                subject=str(self.trainer.default_root_dir),
                next_step="use a new run folder, or remove its checkpoints",
            )


class RunKeeper(lightning.Callback):
    """Writes metrics and the last checkpoint, and stops on SIGTERM or on a loss that is no number."""

    def __init__(
        self, metrics: Path, checkpoint: Path, *, log_every: int, checkpoint_every: int, batch_size: int
    ) -> None:
        self.metrics, self.checkpoint = metrics, checkpoint
        self.log_every, self.checkpoint_every = log_every, checkpoint_every
        self.batch_size = batch_size
        self.stop_requested = False
        self.stopped = False
        self.last: dict[str, float] = {}
        self.flops = StepFlops()
        """Of the first batch."""
        self._peak = 0.0
        self._losses: list[Tensor] = []
        self._step = 0
        self._since = 0.0
        self._batches = 0

    def state_dict(self) -> dict[str, Any]:
        """Losses since the last line, so that a resumed run writes the lines the first would have written."""
        return {"losses": [float(loss) for loss in self._losses]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._losses = [torch.tensor(loss) for loss in state_dict["losses"]]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Lightning's own handler starts a collective inside the signal; with gradients in flight that hangs.
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._step = trainer.global_step
        self._since = time.perf_counter()
        if trainer.is_global_zero:
            forget_after(self.metrics, self._step)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        if self._batches == 0:
            self.flops.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        assert isinstance(pl_module, Pretrainer)
        self.flops.stop()
        if self._batches == 0 and pl_module.request.compile:
            pl_module.compile_blocks()  # operations of compiled code are not counted
        self._batches += 1
        # Lightning divides by the number of accumulated batches.
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        step = trainer.global_step
        if len(self._losses) % trainer.accumulate_grad_batches:
            return
        last = step >= trainer.max_steps
        if step % self.log_every == 0 or last or pl_module.device.type == "cpu":
            require_finite(float(self._losses[-1]), step)
        if step % self.log_every == 0 or last:
            self._log(trainer, pl_module, step)
        if self._anyone_asked_to_stop(pl_module.device):
            self.stopped = not last
            trainer.should_stop = True
        if (self.stopped or step % self.checkpoint_every == 0) and not last:
            require_finite(float(self._losses[-1]) if self._losses else 0.0, step)
            trainer.save_checkpoint(self.checkpoint, weights_only=False)

    def _log(self, trainer: lightning.Trainer, module: Pretrainer, step: int) -> None:
        loss = float(torch.stack([value.to(module.device) for value in self._losses]).mean())
        require_finite(loss, step)
        if trainer.is_global_zero:
            assert module.stream is not None and module.watched
            now = time.perf_counter()
            samples = (step - self._step) * self.batch_size * trainer.accumulate_grad_batches
            line = {
                "step": step,
                "loss": loss,
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                **collapse_signs(*module.watched),
                "loader_wait_share": module.stream.wait_share,
                "samples_per_s": samples / max(1e-9, now - self._since),
                **self._utilisation(module, samples / max(1e-9, now - self._since)),
            }
            self.last = line
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._since = now
        self._losses.clear()
        self._step = step

    def _utilisation(self, module: Pretrainer, samples_per_s: float) -> dict[str, float]:
        """Share of the peak that this process's accelerator reaches; nothing on a CPU."""
        if module.device.type != "cuda":
            return {}
        if not self._peak:
            low = module.request.precision == "bf16"
            self._peak = matmul_peak(module.device, torch.bfloat16 if low else torch.float32)
        return {"peak_share": samples_per_s / self.batch_size * self.flops.flops / self._peak}

    def _on_sigterm(self, *_: Any) -> None:
        self.stop_requested = True

    def _anyone_asked_to_stop(self, device: torch.device) -> bool:
        """The signal reaches processes at different steps; they stop at the same one."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.stop_requested
        flag = torch.tensor(int(self.stop_requested), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


def make_trainer(request: Pretraining, folder: Path, keeper: RunKeeper) -> lightning.Trainer:
    """A Lightning trainer that runs for ``steps`` optimiser steps and leaves files to ``keeper``."""
    warnings.filterwarnings("ignore", module="lightning.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    on_gpu = torch.cuda.is_available()
    return lightning.Trainer(
        accelerator="cuda" if on_gpu else "cpu",
        devices=request.devices,
        num_nodes=request.nodes,
        strategy=make_strategy(request, on_gpu=on_gpu),
        precision="bf16-mixed" if request.precision == "bf16" else "32-true",
        max_steps=request.steps,
        max_epochs=-1,
        accumulate_grad_batches=request.accumulate,
        gradient_clip_val=request.optimiser.clip_norm,
        # Synchronised batch norm exists on GPUs only.
        sync_batchnorm=on_gpu and request.devices * request.nodes > 1,
        callbacks=[keeper],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def step_seed(seed: int, batch: int, rank: int) -> int:
    """One seed per (run, batch, process), far apart."""
    mixed = (seed * 0x9E3779B97F4A7C15 + batch * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 31)) % 2**63


def require_finite(loss: float, step: int) -> None:
    """Stop a run whose loss is no number any more."""
    if not math.isfinite(loss):
        raise TrainingError(
            "loss-not-finite",
            f"the loss became {loss} at step {step}",
            subject=f"step {step}",
            next_step="lower optimiser.learning_rate or lengthen optimiser.warmup_share",
        )


def forget_after(metrics: Path, step: int) -> None:
    """Drop lines beyond ``step``: a resumed run writes them again."""
    if not metrics.is_file():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue  # half a line of a run that was killed
    metrics.write_text("".join(kept), encoding="utf-8")
