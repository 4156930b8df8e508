"""SimCLR: find the other view of a sample among both views of all other samples of the batch.

Chen et al. 2020 (arXiv 2002.05709); over two seasons as in SSL4EO-L (arXiv 2306.09424). Head and temperature
are those of the paper's ImageNet runs, with batch norm after both layers as in its released code.
Deviations: a sample of the same place (another date) is no negative unless ``same_place_is_negative``; each
view is a pass of its own, with batch statistics of its own. The paper trains with LARS, learning rate 0.3 for
256 samples, weight decay 1e-6 and batches of 4,096: with small batches there are few negatives.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from models.contrast import nt_xent
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory
from models.two_views import TwoViewsWithoutTeacher
from models.view_pairs import PairOptions


class SimclrOptions(PairOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's scripts."""

    temperature: float = Field(0.1, gt=0)
    head_hidden: int = Field(2048, gt=0)
    head_out: int = Field(128, gt=0)
    head_batch_norm: bool = True
    same_place_is_negative: bool = Field(False, description="true: the paper's loss, blind to places")
    crop_scale: tuple[float, float] | None = (0.08, 1.0)


class Simclr(TwoViewsWithoutTeacher):
    """Encoder and projection head."""

    def __init__(self, context: MethodContext, options: SimclrOptions) -> None:
        widths = (context.encoder.feature_dim, options.head_hidden, options.head_out)
        normed = options.head_batch_norm
        super().__init__(context.encoder, projection_mlp(widths, batch_norm=normed, last_norm=normed))
        self.options = options
        self.augment_with(options, context.input_size_px)

    def compare(self, first: Tensor, second: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        known = None if self.options.same_place_is_negative else places
        return nt_xent(first, second, self.options.temperature, known, seen)


FACTORY = MethodFactory("simclr", 2, SimclrOptions, Simclr)  # type: ignore[arg-type]
