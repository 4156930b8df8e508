"""The refusal of a dead encoder, in words."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.errors import EncoderError


def dead(name: str, reasons: Sequence[str]) -> EncoderError:
    """``encoder-dead`` with every reason (design decision 11)."""
    return EncoderError(
        "encoder-dead",
        "; ".join(reasons),
        subject=name,
        next_step="see the loss and the collapse measures in the run's report; lower the learning rate, "
        "train longer, or take another seed",
    )
