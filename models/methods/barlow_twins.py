"""Barlow Twins: the dimensions of two views agree one by one and are uncorrelated otherwise.

Zbontar et al. 2021 (arXiv 2103.03230). The released code's projector (three layers of 8,192 without biases)
and weight 0.0051; statistics are those of the batch of all devices, as its synchronised batch norm has them.
The paper trains with LARS, learning rate 0.2 for 256 samples (biases and batch norms 0.0048), weight decay
1.5e-6. One rate for all is a deviation. The review of Wang et al. (arXiv 2206.13188) used narrower projectors
on satellite images: ``head_width`` 2048 for ResNet-18, 512 for ResNet-50.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from models.correlation import barlow_twins_loss
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory
from models.two_views import TwoViewsWithoutTeacher
from models.view_pairs import PairOptions


class BarlowTwinsOptions(PairOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's scripts, blur as in the paper."""

    redundancy: float = Field(0.0051, ge=0, description="weight of the off-diagonal correlations")
    head_width: int = Field(8192, gt=0, description="of all layers of the projector")
    head_layers: int = Field(3, gt=0)
    head_batch_norm: bool = True
    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    blur: tuple[float, float] = Field((1.0, 0.1), description="share blurred in the first and second view")


class BarlowTwins(TwoViewsWithoutTeacher):
    """Encoder and projector."""

    def __init__(self, context: MethodContext, options: BarlowTwinsOptions) -> None:
        widths = (context.encoder.feature_dim, *[options.head_width] * options.head_layers)
        super().__init__(
            context.encoder, projection_mlp(widths, batch_norm=options.head_batch_norm, last_bias=False)
        )
        self.options = options
        self.augment_with(options, context.input_size_px)

    def compare(self, first: Tensor, second: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        return barlow_twins_loss(first, second, self.options.redundancy, seen=seen)


FACTORY = MethodFactory("barlow-twins", 2, BarlowTwinsOptions, BarlowTwins)  # type: ignore[arg-type]
