"""What ``pretrain`` is compared with: lightly's modules, augmentation per sample in loader processes.

It is given what helps it: samples lie in memory as the arrays it wants, decoded and on one grid, batches come
from as many loader processes as feed it best, the network is channels-last, precision and compilation are as
ours.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import timm
import torch
from lightly.loss import DINOLoss, NTXentLoss
from lightly.models import utils
from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.modules.heads import DINOProjectionHead, MoCoProjectionHead
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from models.spectral import SpectralAdapter
from tests.benchmarks.pretrain_settings import Setting


class Seasons(Dataset[tuple[Tensor, ...]]):
    """Two dates of a place as augmented views; of one date one view for methods that take one."""

    def __init__(self, samples: np.ndarray[Any, Any], setting: Setting, length: int) -> None:
        self.samples, self.setting, self.length = samples, setting, length
        self.mean = torch.from_numpy(samples[:16].mean((0, 1, 3, 4), dtype=np.float64)).float()[:, None, None]
        self.deviation = torch.from_numpy(samples[:16].std((0, 1, 3, 4), dtype=np.float64)).float()
        self.deviation = self.deviation[:, None, None]
        self.views = views_of(setting)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        place = self.samples[index % len(self.samples)]
        dates = [torch.from_numpy(date.astype(np.float32)) for date in place]
        dates = [(date - self.mean) / self.deviation for date in dates]
        return tuple(view(dates[number % len(dates)]) for number, view in enumerate(self.views))


def views_of(setting: Setting) -> list[Callable[[Tensor], Tensor]]:
    """The method's augmentations, one per view."""
    size = setting.input_size_px
    if setting.method == "mae":
        return [v2.Compose([crop(size, (0.2, 1.0)), *flips()])]
    if setting.method == "moco-v2":
        return [v2.Compose([crop(size, (0.2, 1.0)), *flips(), intensity, blur(size, 0.5)])] * 2
    local = round(size * 3 / 7 / 8) * 8 if size < 100 else round(size * 3 / 7)
    large = [
        v2.Compose([crop(size, (0.4, 1.0)), *flips(), intensity, grey, blur(size, share)])
        for share in (1.0, 0.1)
    ]
    small = v2.Compose([crop(local, (0.05, 0.4)), *flips(), intensity, grey, blur(local, 0.5)])
    return [*large, *[small] * int(setting.options.get("local_crops", 8))]


def crop(size: int, scale: tuple[float, float]) -> nn.Module:
    return v2.RandomResizedCrop(size, scale=scale, antialias=False)


def flips() -> list[nn.Module]:
    return [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]


def blur(size: int, share: float) -> nn.Module:
    return v2.RandomApply([v2.GaussianBlur(max(3, size // 10 // 2 * 2 + 1), (0.1, 2.0))], share)


def intensity(x: Tensor) -> Tensor:
    if torch.rand(()) > 0.8:
        return x
    mean = x.mean((1, 2), keepdim=True)
    factor, shift = 1 + (torch.rand(()) * 2 - 1) * 0.4, (torch.rand(()) * 2 - 1) * 0.4
    return (x - mean) * factor + mean + shift


def grey(x: Tensor) -> Tensor:
    return x.mean(0, keepdim=True).expand_as(x).contiguous() if torch.rand(()) < 0.2 else x


class MocoStep(nn.Module):
    def __init__(self, setting: Setting, bands: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(setting.backbone, num_classes=0, in_chans=bands)
        width = self.backbone.num_features
        self.head = MoCoProjectionHead(width, 2048, 128)
        self.key_backbone, self.key_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        utils.deactivate_requires_grad(self.key_backbone)
        utils.deactivate_requires_grad(self.key_head)
        queue = int(setting.options.get("queue_size", 65536))
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue, 128))

    def forward(self, views: list[Tensor]) -> Tensor:
        utils.update_momentum(self.backbone, self.key_backbone, 0.999)
        utils.update_momentum(self.head, self.key_head, 0.999)
        query = self.head(self.backbone(views[0]))
        with torch.no_grad():
            key = self.key_head(self.key_backbone(views[1]))
        loss: Tensor = self.criterion(query, key)
        return loss


class DinoStep(nn.Module):
    def __init__(self, setting: Setting, bands: int) -> None:
        super().__init__()
        given = setting.options
        self.student = timm.create_model(
            setting.backbone,
            num_classes=0,
            in_chans=bands,
            img_size=setting.input_size_px,
            dynamic_img_size=True,
            dynamic_img_pad=True,
            global_pool="avg",
            **setting.backbone_options,
        )
        sizes = (given.get("head_hidden", 2048), given.get("head_bottleneck", 256))
        prototypes = int(given.get("prototypes", 65536))
        self.head = DINOProjectionHead(self.student.num_features, *sizes, prototypes)
        self.teacher = copy.deepcopy(self.student)
        # Its weight norm cannot be copied.
        self.teacher_head = DINOProjectionHead(self.student.num_features, *sizes, prototypes)
        self.teacher_head.load_state_dict(self.head.state_dict())
        utils.deactivate_requires_grad(self.teacher)
        utils.deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=prototypes)

    def forward(self, views: list[Tensor]) -> Tensor:
        utils.update_momentum(self.student, self.teacher, 0.996)
        utils.update_momentum(self.head, self.teacher_head, 0.996)
        with torch.no_grad():
            targets = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        loss: Tensor = self.criterion(targets, [self.head(self.student(view)) for view in views], epoch=1)
        return loss


class MaeStep(nn.Module):
    def __init__(self, setting: Setting, bands: int) -> None:
        super().__init__()
        args = dict(setting.backbone_options)
        front_end = args.pop("front_end", None)
        self.front_end = None if front_end is None else SpectralAdapter()
        channels = bands if front_end is None else 128
        vit = timm.create_model(
            setting.backbone, num_classes=0, in_chans=channels, img_size=setting.input_size_px, **args
        )
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.patch = vit.patch_embed.patch_size[0]
        given = setting.options
        self.decoder = MAEDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            patch_size=self.patch,
            in_chans=bands,
            embed_dim=vit.embed_dim,
            decoder_embed_dim=given.get("decoder_width", 512),
            decoder_depth=given.get("decoder_depth", 8),
            decoder_num_heads=given.get("decoder_heads", 16),
        )

    def forward(self, views: list[Tensor]) -> Tensor:
        (images,) = views
        length = self.backbone.sequence_length
        keep, masked = utils.random_token_mask((len(images), length), mask_ratio=0.75, device=images.device)
        seen = images if self.front_end is None else self.front_end(images)
        encoded = self.decoder.embed(self.backbone.encode(images=seen, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, (len(images), length))
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = self.decoder.predict(utils.get_at_index(self.decoder.decode(tokens), masked))
        target = utils.get_at_index(utils.patchify(images, self.patch), masked - 1)
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        loss: Tensor = (predicted - (target - mean) / (variance + 1e-6).sqrt()).square().mean()
        return loss


STEPS: dict[str, type[nn.Module]] = {"moco-v2": MocoStep, "dino": DinoStep, "mae": MaeStep}


class Reference:
    """The loop of one setting."""

    def __init__(
        self, setting: Setting, samples: np.ndarray[Any, Any], device: torch.device, *, compiled: bool
    ) -> None:
        torch.manual_seed(0)
        self.setting, self.samples, self.device = setting, samples, device
        self.step: Any = STEPS[setting.method](setting, samples.shape[2])
        self.step.to(device).train()
        for parameter in self.step.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        trainable = [parameter for parameter in self.step.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(trainable, lr=1e-4, weight_decay=0.05)
        if compiled:
            self.step.compile()

    def samples_per_s(self, workers: int, steps: int, warmup: int) -> float:
        """Rate over ``steps`` after ``warmup``."""
        batch = self.setting.batch_size
        data = Seasons(self.samples, self.setting, batch * (steps + warmup))
        loader = DataLoader(
            data,
            batch,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=False,
            worker_init_fn=one_thread,
        )
        began = 0.0
        for number, views in enumerate(self._on_device(loader)):
            if number == warmup:
                self._wait()
                began = time.perf_counter()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.setting.precision == "bf16"):
                loss = self.step(views)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        self._wait()
        return steps * batch / (time.perf_counter() - began)

    def _on_device(self, loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
        for views in loader:
            yield [
                view.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
                for view in views
            ]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def one_thread(_: int) -> None:
    torch.set_num_threads(1)
