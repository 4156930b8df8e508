"""MoCo-v3: predict the momentum encoder's key of the same place against the keys of the batch.

Chen, Xie & He 2021 (arXiv 2104.02057); values as for ViT-S in the paper and in SSL4EO-S12 (arXiv 2211.07044).
The patch projection of a Vision Transformer stays as it began, which keeps its training stable; that of a
warm start stays too. Deviations: keys of the query's own place are no negatives unless
``same_place_is_negative``; positions are timm's learned ones, where the paper's are fixed sines and cosines;
no solarisation. The paper trains ViTs with AdamW, learning rate 1.5e-4 for 256 samples, weight decay 0.1;
for ResNets it has two projector layers, temperature 1 and momentum 0.996.
"""

from __future__ import annotations

from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from models.contrast import batch_info_nce
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory
from models.two_views import TwoViewsWithTeacher
from models.view_pairs import PairOptions


class MocoV3Options(PairOptions):
    """Defaults are those of the paper for ViT-S; augmentation as in SSL4EO-S12's scripts."""

    temperature: float = Field(0.2, gt=0)
    momentum: float = Field(0.99, ge=0, le=1, description="of the key encoder, at the start")
    final_momentum: float = Field(1.0, ge=0, le=1, description="at the end (cosine)")
    head_hidden: int = Field(4096, gt=0, description="of projector and predictor")
    head_out: int = Field(256, gt=0)
    head_layers: int | None = Field(None, gt=1, description="of the projector; 3 for a ViT, else 2, if none")
    head_batch_norm: bool = True
    freeze_patch_projection: bool = Field(True, description="of a Vision Transformer")
    same_place_is_negative: bool = Field(False, description="true: the paper's loss, blind to places")
    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    blur: tuple[float, float] = Field((1.0, 0.1), description="share blurred in the first and second view")


class MocoV3(TwoViewsWithTeacher):
    """Query encoder, predictor and key encoder."""

    def __init__(self, context: MethodContext, options: MocoV3Options) -> None:
        encoder, normed = context.encoder, options.head_batch_norm
        vit = isinstance(encoder.backbone, VisionTransformer)
        if vit and options.freeze_patch_projection:
            encoder.backbone.patch_embed.requires_grad_(False)
        hidden, out = options.head_hidden, options.head_out
        layers = options.head_layers or (3 if vit else 2)
        super().__init__(
            encoder,
            projection_mlp(
                (encoder.feature_dim, *[hidden] * (layers - 1), out),
                batch_norm=normed,
                last_norm=normed,
                last_bias=False,
            ),
            steps=context.steps,
            momentum=options.momentum,
            final_momentum=options.final_momentum,
            symmetric=True,
        )
        # As released: the predictor ends in a batch norm behind a ViT only.
        self.predictor = projection_mlp(
            (out, hidden, out), batch_norm=normed, last_norm=normed and vit, last_bias=False
        )
        self.options = options
        self.augment_with(options, context.input_size_px)

    def compare(self, student: Tensor, teacher: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        known = None if self.options.same_place_is_negative else places
        temperature = self.options.temperature
        error = batch_info_nce(self.predictor(student), teacher, temperature, known, seen)
        # 2 · temperature is the paper's; it adds the two directions, of which the skeleton takes the mean.
        return 2 * (2 * temperature * error)


FACTORY = MethodFactory("moco-v3", 2, MocoV3Options, MocoV3)  # type: ignore[arg-type]
