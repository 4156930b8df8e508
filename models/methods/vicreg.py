"""VICReg: views agree, every dimension varies over the batch, and no two of them vary together.

Bardes, Ponce & LeCun 2022 (arXiv 2105.04906). Terms are scaled as in the released code, to which the weights
25, 25 and 1 belong; the paper's formulas have sums where the code has means (``models.correlation``).
Statistics are those of the batch of all devices. The paper trains with LARS, learning rate 0.2 for 256
samples, weight decay 1e-6, batches of 2,048.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from models.correlation import vicreg_terms
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory
from models.two_views import TwoViewsWithoutTeacher
from models.view_pairs import PairOptions


class VicregOptions(PairOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's scripts."""

    invariance: float = Field(25.0, ge=0, description="weight of the distance between the views")
    variance: float = Field(25.0, ge=0, description="weight of the missing deviation of each dimension")
    covariance: float = Field(1.0, ge=0, description="weight of the covariance between dimensions")
    head_width: int = Field(8192, gt=0, description="of all layers of the expander")
    head_layers: int = Field(3, gt=0)
    head_batch_norm: bool = True
    crop_scale: tuple[float, float] | None = (0.08, 1.0)


class Vicreg(TwoViewsWithoutTeacher):
    """Encoder and expander."""

    def __init__(self, context: MethodContext, options: VicregOptions) -> None:
        widths = (context.encoder.feature_dim, *[options.head_width] * options.head_layers)
        super().__init__(
            context.encoder, projection_mlp(widths, batch_norm=options.head_batch_norm, last_bias=False)
        )
        self.options = options
        self.augment_with(options, context.input_size_px)

    def compare(self, first: Tensor, second: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        invariance, variance, covariance = vicreg_terms(first, second, seen)
        weights = self.options
        return weights.invariance * invariance + weights.variance * variance + weights.covariance * covariance


FACTORY = MethodFactory("vicreg", 2, VicregOptions, Vicreg)  # type: ignore[arg-type]
