"""MAE: hide most tokens and predict their pixels from the rest.

He et al. 2022 (arXiv 2111.06377); hyperspectral with the spectral adapter as in SpectralEarth (arXiv
2408.08447: mask 0.9, a decoder of one layer, 512 wide; no colour augmentation, which leaves spectra intact).
Invalid values are no targets and take no part in a target's normalisation; a token without valid pixels is
neither seen nor predicted.
"""

from __future__ import annotations

from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from catalog.errors import TrainingError
from models.augment import Augmentation
from models.backbones import pooled, valid_share
from models.losses import masked_error, token_targets
from models.masked import Decoder, choose_visible, encode_visible, to_tokens
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, MethodOptions, View


class MaeOptions(MethodOptions):
    """Defaults are those of the paper, except the decoder's heads, which follow its width."""

    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of tokens hidden")
    normalise_targets: bool = Field(True, description="per token, over its valid values")
    decoder_width: int = Field(512, gt=0, multiple_of=4)
    decoder_depth: int = Field(8, gt=0)
    decoder_heads: int = Field(16, gt=0)
    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    quarter_turns: bool = False


class Mae(Method):
    """Encoder, decoder and reconstruction loss."""

    def __init__(self, context: MethodContext, options: MaeOptions) -> None:
        super().__init__()
        encoder = context.encoder
        vit = encoder.backbone
        patch = encoder.patch_px
        if not isinstance(vit, VisionTransformer) or patch is None or context.input_size_px % patch:
            raise TrainingError(
                "wrong-backbone",
                "mae needs a timm Vision Transformer whose patch divides the input of "
                f"{context.input_size_px} px",
                subject=encoder.architecture.name,
                next_step="choose a vit_… backbone and set backbone_options.patch_size",
            )
        self.encoder = encoder
        self.options = options
        self.patch_px = patch
        side = context.input_size_px // patch
        self.decoder = Decoder(
            encoder.feature_dim,
            patch**2 * context.bands,
            (side, side),
            width=options.decoder_width,
            depth=options.decoder_depth,
            heads=options.decoder_heads,
        )
        self.augmentation = Augmentation(
            size_px=context.input_size_px,
            crop_scale=options.crop_scale,
            quarter_turns=options.quarter_turns,
        )

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        (view,) = views
        valid = view.valid.expand_as(view.x)
        known = to_tokens(valid, self.patch_px)
        believed = known.any(2)
        visible, masked = choose_visible(believed, self.options.mask_ratio)
        encoded = encode_visible(self.encoder, view.x, visible, believed)
        predicted = self.decoder(encoded, visible, believed)
        target = token_targets(
            to_tokens(view.x, self.patch_px), known, normalise=self.options.normalise_targets
        )
        loss = masked_error(predicted.float(), target, known, masked)
        return MethodLoss(loss, self._embedding(encoded.detach(), visible, valid))

    def _embedding(self, encoded: Tensor, visible: Tensor, valid: Tensor) -> Tensor:
        """Mean of the visible tokens, weighted as in the frozen encoder."""
        side = valid.shape[-1] // self.patch_px
        share = valid_share(valid, (side, side), like=encoded).flatten(1).gather(1, visible)
        seen = encoded[:, -visible.shape[1] :].transpose(1, 2)
        return pooled(seen[..., None], share[:, None, :, None])


FACTORY = MethodFactory("mae", 1, MaeOptions, Mae)  # type: ignore[arg-type]
