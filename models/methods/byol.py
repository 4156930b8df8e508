"""BYOL: predict the momentum encoder's projection of the other view; there are no negatives.

Grill et al. 2020 (arXiv 2006.07733). The teacher's momentum rises from 0.996 to 1 by a cosine over the whole
run. The teacher is a copy that shares nothing with the student, where torchgeo's ``BYOLTask`` shares the
backbone; its batch statistics are those of its own passes. The paper trains with LARS, learning rate 0.2 for
256 samples, weight decay 1.5e-6, biases and batch norms excluded from both.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from models.contrast import cosine_distance
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory
from models.two_views import TwoViewsWithTeacher
from models.view_pairs import PairOptions


class ByolOptions(PairOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's scripts, blur as in the paper."""

    momentum: float = Field(0.996, ge=0, le=1, description="of the teacher, at the start")
    final_momentum: float = Field(1.0, ge=0, le=1, description="at the end (cosine)")
    head_hidden: int = Field(4096, gt=0, description="of projector and predictor")
    head_out: int = Field(256, gt=0)
    head_batch_norm: bool = True
    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    blur: tuple[float, float] = Field((1.0, 0.1), description="share blurred in the first and second view")


class Byol(TwoViewsWithTeacher):
    """Student, predictor and teacher."""

    def __init__(self, context: MethodContext, options: ByolOptions) -> None:
        hidden, out, normed = options.head_hidden, options.head_out, options.head_batch_norm
        super().__init__(
            context.encoder,
            projection_mlp((context.encoder.feature_dim, hidden, out), batch_norm=normed),
            steps=context.steps,
            momentum=options.momentum,
            final_momentum=options.final_momentum,
            symmetric=True,
        )
        self.predictor = projection_mlp((out, hidden, out), batch_norm=normed)
        self.options = options
        self.augment_with(options, context.input_size_px)

    def compare(self, student: Tensor, teacher: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        # The paper adds the two directions; the skeleton takes their mean.
        return 2 * cosine_distance(self.predictor(student), teacher, seen)


FACTORY = MethodFactory("byol", 2, ByolOptions, Byol)  # type: ignore[arg-type]
