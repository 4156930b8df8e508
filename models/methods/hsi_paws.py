"""HSI-PAWS: views of a hyperspectral pixel must be nearest to the same classes of a few labelled pixels.

Pande, Ait Ali Braham, Wang, Albrecht, Banerjee & Zhu 2023 (arXiv 2306.10955): PAWS (Assran et al. 2021, arXiv
2104.13963) on windows of 9 px. The two main views are windows one pixel apart, as the released code's two
grids are; further views of both follow them. A view's prediction is a soft vote of the labelled pixels by
cosine; it must agree with the sharpened prediction of the other main view (further views: with the mean of
the two), while the mean prediction is spread over all classes. There is no projection head.

Defaults are those of the released code: temperature 0.1, sharpening 0.25, label smoothing 0.1, six further
views, 100 labels per class; crops of 6 of 9 px, flips, turns, averaged and dropped bands, removed pixels.
Not taken over from it: the encoder saved before training, random decisions frozen at trace time, Adam with
learning rate 0.5 (start at 1e-3), the sums over two grids (a mean here). Ours: the windows lie about random
valid pixels, the offset has any of eight directions, the labelled pixels are drawn anew for each step,
64 of a class, as in PAWS. Its encoder is replaced by any timm backbone that takes small windows.

Labels are read at places of the pretrain split alone. Which, is written into the encoder's folder, and
those places are left out of every evaluation of the encoder.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from catalog.errors import UsageError
from models.augment import Augmentation
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, View
from models.nearest_support import agreement_error, mean_entropy, nearest_classes, sharpened, smoothed_classes
from models.pixel_windows import choose_windows, cut_windows
from models.spectral_augment import SpectralChanges
from models.support import SupportOptions
from models.two_views import seen_in_all


class HsiPawsOptions(SupportOptions):
    """Defaults are those of the released code where it has them."""

    pixels_per_sample: int = Field(16, gt=0, description="pairs of windows cut from each sample")
    further_views: int = Field(6, ge=0, description="besides the two that lie one pixel apart")
    support_per_class: int = Field(64, gt=0, description="labelled pixels of each class in a step")
    support_views: int = Field(2, gt=0, description="of each labelled pixel in a step")
    temperature: float = Field(0.1, gt=0)
    sharpening: float = Field(0.25, gt=0, le=1, description="temperature of the targets")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    entropy_weight: float = Field(1.0, ge=0, description="of the mean prediction's entropy; 0 leaves it out")
    crop_scale: tuple[float, float] | None = Field((0.44, 1.0), description="share of the window's area kept")
    quarter_turns: bool = True
    averaged_runs: int = Field(3, ge=0, description="runs of neighbouring bands replaced by their mean")
    run_bands: int = Field(10, gt=0, description="bands per run")
    dropped: float = Field(0.2, ge=0, lt=1, description="share of bands set to their mean over the snapshot")
    changed_share: float = Field(0.75, ge=0, le=1, description="share of windows each spectral step changes")
    removed_pixels: float = Field(
        0.2, ge=0, lt=1, description="share of a window's pixels, in as many windows"
    )


class HsiPaws(Method):
    """Encoder and labelled pixels."""

    support_x: Tensor
    support_valid: Tensor
    support_labels: Tensor

    def __init__(self, context: MethodContext, options: HsiPawsOptions) -> None:
        super().__init__()
        support = context.support
        if support is None:
            raise UsageError(
                "invalid-pretraining",
                "hsi-paws needs labelled pixels",
                subject=options.label_set,
                next_step="train it through a recipe, with a label set in its options",
            )
        self.encoder = context.encoder
        self.options = options
        self.size_px = context.input_size_px
        self.classes = len(support.classes)
        for name, values in (("x", support.x), ("valid", support.valid), ("labels", support.labels)):
            # Read again when a run is resumed, by the same seed; a checkpoint needs no copy.
            self.register_buffer(f"support_{name}", values, persistent=False)
        self.augmentation = Augmentation(
            size_px=context.input_size_px,
            crop_scale=options.crop_scale,
            quarter_turns=options.quarter_turns,
            spectral=SpectralChanges(
                averaged_runs=options.averaged_runs,
                run_bands=options.run_bands,
                dropped=options.dropped,
                share=options.changed_share,
            ),
        )
        self.fill = support.fill

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """The two main views and the further ones, each ``(batch · pixels_per_sample, band, y, x)``."""
        (sample,) = samples
        at, beside = neighbouring_windows(sample.valid.any(1), self.size_px, self.options.pixels_per_sample)
        pair = [
            View(*(cut_windows(values, *where, self.size_px) for values in (sample.x, sample.valid)))
            for where in (at, beside)
        ]
        return tuple(self._changed(pair[number % 2]) for number in range(2 + self.options.further_views))

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        options = self.options
        support, labels = self._support()
        classes = smoothed_classes(labels, self.classes, options.label_smoothing)
        embeddings = [self.encoder(view.x, view.valid) for view in views]
        predicted = [nearest_classes(of, support, classes, options.temperature) for of in embeddings]
        sharp = [sharpened(of, options.sharpening) for of in predicted]
        targets = [sharp[1], sharp[0], *[(sharp[0] + sharp[1]) / 2] * (len(views) - 2)]
        seen = seen_in_all(views)
        errors = [agreement_error(of, to, seen) for of, to in zip(predicted, targets, strict=True)]
        spread = mean_entropy(torch.cat(sharp), seen.repeat(len(views)))
        loss = torch.stack(errors).mean() - options.entropy_weight * spread
        return MethodLoss(loss, embeddings[0].detach(), embeddings[1].detach())

    def _support(self) -> tuple[Tensor, Tensor]:
        """Embeddings ``(labelled, d)`` of this step's labelled pixels, and their labels."""
        drawn = draw_per_class(self.support_labels, self.classes, self.options.support_per_class)
        windows = View(self.support_x[drawn], self.support_valid[drawn])
        shown = [self._changed(windows) for _ in range(self.options.support_views)]
        embeddings = torch.cat([self.encoder(view.x, view.valid) for view in shown])
        return embeddings, self.support_labels[drawn].repeat(len(shown))

    def _changed(self, windows: View) -> View:
        view = View(*self.augmentation(windows.x, windows.valid, fill=self.fill))
        return without_pixels(view, self.options.removed_pixels, self.options.changed_share, self.fill)


def neighbouring_windows(
    believed: Tensor, size_px: int, count: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """First rows and columns ``(batch, count)`` of random windows, and of windows one pixel beside them.

    ``believed (batch, y, x)``; samples are at least one pixel wider than a window.
    """
    top, left = choose_windows(believed, size_px, count)
    last = [side - size_px for side in believed.shape[1:]]
    if min(last) < 1:
        raise ValueError(f"no two windows of {size_px} px fit into {tuple(believed.shape[1:])} px")
    direction = torch.randint(8, top.shape).to(top.device)
    # Eight neighbours: the centre of the three by three is left out.
    direction = direction + (direction >= 4)
    beside = []
    for start, step, end in ((top, direction // 3 - 1, last[0]), (left, direction % 3 - 1, last[1])):
        moved = start + step
        beside.append(torch.where((moved < 0) | (moved > end), start - step, moved))
    return (top, left), (beside[0], beside[1])


def without_pixels(view: View, removed: float, share: float, fill: float) -> View:
    """``share`` of the windows go without ``removed`` of their pixels: they hold the fill and are invalid."""
    batch, _, height, width = view.x.shape
    gone = (torch.rand(batch, 1, height, width) < removed) & (torch.rand(batch, 1, 1, 1) < share)
    kept = view.valid & ~gone.to(view.x.device)
    # A window never loses its last valid pixel.
    kept = torch.where(kept.flatten(1).any(1)[:, None, None, None], kept, view.valid)
    return View(torch.where(kept, view.x, fill), kept)


def draw_per_class(labels: Tensor, classes: int, most: int) -> Tensor:
    """Positions of up to ``most`` random members of each class of ``labels (labelled,)``, class by class."""
    drawn = []
    for number in range(classes):
        members = (labels == number).nonzero()[:, 0]
        drawn.append(members[torch.randperm(len(members)).to(members.device)[:most]])
    return torch.cat(drawn)


FACTORY = MethodFactory("hsi-paws", 1, HsiPawsOptions, HsiPaws)  # type: ignore[arg-type]
