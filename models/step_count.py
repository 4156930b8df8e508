"""Optimiser steps done, kept in the checkpoint for methods whose loss depends on how far the run is."""

from __future__ import annotations

from typing import Any

from torch import nn


class StepCount(nn.Module):
    """A number and no tensor: reading it does not make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"done": self.done}

    def set_extra_state(self, state: Any) -> None:
        self.done = int(state["done"])
