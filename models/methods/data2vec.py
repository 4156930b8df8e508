"""data2vec: from a view with most of its tokens hidden, predict what a momentum teacher makes of the whole.

Baevski et al. 2022 (arXiv 2202.03555), on images as in SSL4EO-S12 (arXiv 2211.07044): 120 of 196 tokens are
hidden in blocks, the target is the mean of the teacher's upper half of layers (6-11 of 12), each token
normalised without learned scale, and the loss is smooth L1 with beta 2 at hidden tokens. Layer outputs are
taken after the residual sum, as the released image code does; the paper found those of the feed-forward part
before it better. Deviations: a plain Vision Transformer with absolute positions where both use BEiT's shared
relative ones; the teacher's momentum rises in a straight line over the whole run, for how long it does in
SSL4EO-S12 is not known (released code: 25,000 updates, or the whole run); the crop scale is ours. Tokens
without a valid pixel are neither seen nor predicted.

The published optimiser is AdamW, learning rate 1e-3, weight decay 0.05, ``clip_norm: 3``, with
``backbone_options: {drop_path_rate: 0.25, init_values: 1.0e-4, attn_drop_rate: 0.05}``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from catalog.errors import TrainingError, UsageError
from models.across_processes import mean_where
from models.augment import Augmentation
from models.backbones import attention_mask, pooled, valid_share
from models.block_masks import block_mask
from models.masked import to_tokens
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, MethodOptions, View
from models.precision import in_full_precision
from models.self_distillation import warmed_up
from models.teacher import follow, make_teacher, without_dropout


class Data2vecOptions(MethodOptions):
    """Defaults are those of SSL4EO-S12's script."""

    mask_ratio: float = Field(120 / 196, gt=0, lt=1, description="share of tokens hidden")
    smallest_block: float = Field(16 / 196, gt=0, le=1, description="share of tokens in the smallest block")
    target_layers: int | None = Field(None, gt=0, description="uppermost of the teacher; half of all if none")
    beta: float = Field(2.0, gt=0, description="where smooth L1 turns from a square into a line")
    momentum: float = Field(0.999, ge=0, le=1, description="of the teacher, at the start")
    final_momentum: float = Field(0.9998, ge=0, le=1)
    momentum_rise_share: float = Field(1.0, ge=0, le=1, description="of the run, linear")
    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    quarter_turns: bool = False


class Data2vec(Method):
    """Student with its prediction head, and a teacher of the encoder alone."""

    def __init__(self, context: MethodContext, options: Data2vecOptions) -> None:
        super().__init__()
        encoder = context.encoder
        vit, patch = encoder.backbone, encoder.patch_px
        if not isinstance(vit, VisionTransformer) or patch is None or context.input_size_px % patch:
            raise TrainingError(
                "wrong-backbone",
                "data2vec needs a timm Vision Transformer whose patch divides the input of "
                f"{context.input_size_px} px",
                subject=encoder.architecture.name,
                next_step="choose a vit_… backbone and set backbone_options.patch_size",
            )
        layers = options.target_layers or -(-len(vit.blocks) // 2)
        if layers > len(vit.blocks):
            raise UsageError(
                "invalid-method-option",
                f"options.target_layers: {layers} of {len(vit.blocks)} layers cannot be targets",
                subject=encoder.architecture.name,
                next_step="lower target_layers, or leave it out",
            )
        self.encoder, self.options, self.steps, self.layers = encoder, options, context.steps, layers
        self.side = context.input_size_px // patch
        self.teacher = without_dropout(make_teacher(encoder))
        width = encoder.feature_dim
        self.hidden_token = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.hidden_token, std=0.02)
        self.predict = nn.Linear(width, width)
        nn.init.trunc_normal_(self.predict.weight, std=0.02)
        nn.init.zeros_(self.predict.bias)
        self.augmentation = Augmentation(
            size_px=context.input_size_px,
            crop_scale=options.crop_scale,
            quarter_turns=options.quarter_turns,
        )

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        (view,) = views
        hidden, believed = self._hidden_and_believed(view)
        student = self._outputs(self.encoder, view.x, believed, hidden)[-1]
        tokens = self.encoder.backbone.norm(student)  # type: ignore[operator]
        with torch.no_grad():
            teacher = self._outputs(self.teacher, view.x, believed)[-self.layers :]
        loss = smooth_l1_at(self.predict(tokens), layer_mean(teacher), hidden & believed, self.options.beta)
        grid = (self.side, self.side)
        share = valid_share(view.valid, grid, like=view.x) * ~hidden.view(-1, 1, *grid)
        features = tokens.detach().transpose(1, 2).reshape(len(tokens), -1, *grid)
        return MethodLoss(loss, pooled(features, share))

    def _hidden_and_believed(self, view: View) -> tuple[Tensor, Tensor]:
        """Both ``(batch, token)``: what the student must not see, and what has a valid pixel."""
        known = view.valid.any(1, keepdim=True)
        believed = to_tokens(known, self.encoder.patch_px or 1).any(2)
        count = believed.shape[1]
        hidden = block_mask(
            len(view.x),
            (self.side, self.side),
            min(count - 1, max(1, round(self.options.mask_ratio * count))),
            smallest=max(1, round(self.options.smallest_block * count)),
        )
        return hidden.to(believed.device), believed

    def _outputs(
        self, encoder: nn.Module, x: Tensor, believed: Tensor, hidden: Tensor | None = None
    ) -> list[Tensor]:
        """Tokens ``(batch, token, d)`` after every block, without prefix tokens."""
        vit = encoder.backbone
        cells = vit.patch_embed(encoder.to_backbone(x))  # type: ignore[union-attr,operator]
        if hidden is not None:
            at = hidden.view(*cells.shape[:-1], 1)
            cells = torch.where(at, self.hidden_token.to(cells.dtype), cells)
        tokens = vit.norm_pre(vit._pos_embed(cells))  # type: ignore[union-attr,operator]
        prefix = int(vit.num_prefix_tokens)  # type: ignore[union-attr,arg-type]
        mask = attention_mask(believed, prefix)
        outputs = []
        for block in vit.blocks:  # type: ignore[union-attr]
            tokens = block(tokens, attn_mask=mask)
            outputs.append(tokens[:, prefix:])
        return outputs

    def after_optimiser_step(self, step: int) -> None:
        options = self.options
        rise = round(options.momentum_rise_share * self.steps)
        follow(self.encoder, self.teacher, warmed_up(step, rise, options.momentum, options.final_momentum))


def layer_mean(layers: list[Tensor]) -> Tensor:
    """Mean over ``layers``, each ``(batch, token, d)``, of their tokens normalised to mean 0, variance 1."""
    wide = [layer.to(torch.promote_types(layer.dtype, torch.float32)) for layer in layers]
    return torch.stack([F.layer_norm(layer, layer.shape[-1:]) for layer in wide]).mean(0)


@in_full_precision
def smooth_l1_at(predicted: Tensor, target: Tensor, counted: Tensor, beta: float) -> Tensor:
    """Mean smooth L1 over the tokens ``counted (batch, token)``; zero where none is."""
    error = F.smooth_l1_loss(predicted, target, reduction="none", beta=beta).mean(-1)
    return mean_where(error, counted)


FACTORY = MethodFactory("data2vec", 1, Data2vecOptions, Data2vec)  # type: ignore[arg-type]
