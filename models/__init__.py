"""What Swath trains: backbones, spectral front-ends, methods, augmentation, the loader and probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_encoder"]


def load_encoder(*args: Any, **kwargs: Any) -> nn.Module:
    """Load an encoder in eval mode; see ``models.encoder_files.load_encoder``."""
    from models.encoder_files import load_encoder as load_it

    return load_it(*args, **kwargs)
