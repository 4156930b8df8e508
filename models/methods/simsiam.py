"""SimSiam: predict the projection of the other view, which gets no gradient.

Chen & He 2021 (arXiv 2011.10566). Heads are those of the released code: three layers with batch norm, the
last without scale and shift, and a predictor with a bottleneck. Deviation: the predictor's learning rate
follows the schedule of the rest, where the paper keeps it constant. The paper trains with SGD, learning rate
0.05 for 256 samples, momentum 0.9, weight decay 1e-4 and a cosine.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from models.contrast import cosine_distance
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory
from models.two_views import TwoViewsWithoutTeacher
from models.view_pairs import PairOptions


class SimsiamOptions(PairOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's scripts."""

    head_width: int = Field(2048, gt=0, description="of all three layers of the projector")
    predictor_hidden: int = Field(512, gt=0)
    head_batch_norm: bool = True


class Simsiam(TwoViewsWithoutTeacher):
    """Encoder, projector and predictor."""

    def __init__(self, context: MethodContext, options: SimsiamOptions) -> None:
        width, normed = options.head_width, options.head_batch_norm
        widths = (context.encoder.feature_dim, width, width, width)
        super().__init__(context.encoder, projection_mlp(widths, batch_norm=normed, last_norm=normed))
        self.predictor = projection_mlp((width, options.predictor_hidden, width), batch_norm=normed)
        self.options = options
        self.augment_with(options, context.input_size_px)

    def compare(self, first: Tensor, second: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        # The paper's loss is the mean of two negative cosines, between -1 and 1.
        ahead = cosine_distance(self.predictor(first), second, seen)
        back = cosine_distance(self.predictor(second), first, seen)
        return (ahead + back) / 4 - 1


FACTORY = MethodFactory("simsiam", 2, SimsiamOptions, Simsiam)  # type: ignore[arg-type]
