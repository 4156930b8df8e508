"""How much of an accelerator a training uses: floating-point operations counted, and the peak measured."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

PEAK_SIDE = 8192
"""Of the square matrices whose product is timed."""
PEAK_S = 0.3


class StepFlops:
    """Counts the floating-point operations of one step, forward and backward.

    Counted are matrix products, convolutions and attention, by their shapes (two operations per multiply and
    add), as ``torch.utils.flop_counter`` does; nothing element-wise. Compiled code is not seen.
    """

    def __init__(self) -> None:
        self.flops = 0
        self._mode: FlopCounterMode | None = None

    def start(self) -> None:
        """From here to ``stop`` is one step."""
        self._mode = FlopCounterMode(display=False)
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Once after ``start``; does nothing otherwise."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self.flops = int(self._mode.get_total_flops())
            self._mode = None


def matmul_peak(device: torch.device, dtype: torch.dtype, side: int = PEAK_SIDE) -> float:
    """Operations per second of a large matrix product: what the share of the peak refers to."""
    first, second = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, until = 0.0, time.perf_counter() + PEAK_S
    while best == 0.0 or time.perf_counter() < until:
        _wait(device)
        began = time.perf_counter()
        for _ in range(4):
            first @ second
        _wait(device)
        best = max(best, 4 * 2 * side**3 / (time.perf_counter() - began))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
