"""What a training that ended early says of it: one error with a code, a subject and the next step."""

from __future__ import annotations

from catalog.errors import SwathError, TrainingError
from models import training_spec as files
from models.training_spec import TrainingSpec


def explained(error: Exception, spec: TrainingSpec) -> SwathError:
    """``error`` itself where it explains itself, else what it means for the training of ``spec``."""
    if isinstance(error, SwathError):
        return error
    first = (str(error).splitlines() or [""])[0]
    if ran_out_of_memory(error):
        batch, times = spec.pretraining.batch_size, spec.pretraining.accumulate
        return TrainingError(
            "out-of-memory",
            f"a batch of {batch} does not fit: {first}",
            subject=spec.pretraining.encoder,
            next_step=f"set batch_size to {max(1, batch // 2)} and accumulate to {2 * times} (methods that "
            "compare within a batch then see half of it), or precision to bf16; the checkpoint that is left "
            "goes on with the old values only",
        )
    return TrainingError(
        "training-crashed",
        f"{type(error).__name__}: {first}",
        subject=spec.run_id,
        next_step=f"see {spec.folder / files.LOG}; run again to continue from the last checkpoint",
    )


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for that was not there: the accelerator's, or this machine's."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
