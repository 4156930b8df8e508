"""RSDnet (RS-BYOL): bands and sensors are the augmentation; one network reads any single band.

Jain, Schoen-Phelan & Ross 2022 (arXiv 2205.02049): BYOL whose two views of a place are different bands,
optical or radar. The *single-channel* network sees one band at a time, of any sensor; the *three-channel*
network three of one sensor. What the paper's abstract leaves open is ours: projector, predictor and momentum
are BYOL's (Grill et al. 2020, arXiv 2006.07733); a sensor is drawn first and then its bands, so that two
radar bands are seen as often as ten optical ones; the two views differ in band or sensor wherever the
products have more than one; both show the same crop (``same_crop: false`` draws one each); where a sensor has
fewer than three bands they are repeated in order.

The paper takes Sentinel-2's ten bands of 10 and 20 m, and VV and VH. Scores depend on the band that is read:
the encoder that is saved reads ``read_bands`` of the first product, and carries their normalisation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from models.augment import crop_at
from models.located_views import mirrored_crops
from models.methods.byol import Byol, ByolOptions
from models.methods.method import MethodContext, MethodFactory, View


class RsdnetOptions(ByolOptions):
    """Defaults are BYOL's; one channel, all sensors of a place at one date."""

    dates: Literal[1, 2] = Field(1, description="2: the second view is drawn from another date")
    channels: Literal[1, 3] = Field(1, description="bands that the network sees at a time")
    read_bands: tuple[str, ...] | None = Field(
        None, description="bands of the first product that the saved encoder reads; its first ones if none"
    )
    same_crop: bool = Field(
        True, description="both views show the same ground; the whole sample if crop_scale is none"
    )
    grey: float = Field(0.0, ge=0, le=1, description="share of samples whose bands become their mean")


class Rsdnet(Byol):
    """BYOL on bands."""

    options: RsdnetOptions

    def __init__(self, context: MethodContext, options: RsdnetOptions) -> None:
        super().__init__(context, options)
        if options.same_crop:
            self.augmentation, self.second_augmentation = (
                replace(augmentation, crop_scale=None, flips=False, quarter_turns=False)
                for augmentation in options.augmentations(context.input_size_px)
            )
        self.size_px = context.input_size_px

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """Two views of other bands; ``samples`` are one per product, or two of each."""
        dates = self.options.dates
        first, second = samples[::dates], samples[dates - 1 :: dates]
        bands = [sample.x.shape[1] for sample in first]
        one, other = draw_bands(len(first[0].x), bands, self.options.channels)
        pair: tuple[View, ...] = (take_bands(first, one), take_bands(second, other))
        if self.options.same_crop:
            theta = mirrored_crops(len(first[0].x), self.options.crop_scale or (1.0, 1.0))
            pair = tuple(View(*crop_at(view.x, view.valid, theta, self.size_px)) for view in pair)
        return super().views(pair, fill=fill)


def draw_bands(batch: int, bands: list[int], channels: int) -> tuple[Tensor, Tensor]:
    """Which bands the two views of each sample show: two of ``(batch, channels)``.

    Counted through all products: the second product's first band follows the first's last. ``bands``: how
    many each product has. Uses torch's RNG.
    """
    starts = torch.tensor([sum(bands[:number]) for number in range(len(bands))])
    counts = torch.tensor(bands)
    sensors, drawn = [], []
    for _ in range(2):
        sensor = torch.randint(len(bands), (batch,))
        beyond = torch.arange(max(bands)) >= counts[sensor][:, None]
        order = torch.rand(batch, max(bands)).masked_fill(beyond, 2.0).argsort(1)
        places = torch.arange(channels) % counts[sensor][:, None]
        sensors.append(sensor)
        drawn.append(starts[sensor][:, None] + order.gather(1, places))
    one, other = drawn
    same = (one.sort(1).values == other.sort(1).values).all(1) | (counts[sensors[0]] <= channels)
    alike = (sensors[0] == sensors[1]) & same
    if sum(bands) > channels and bool(alike.any()):
        # The neighbouring bands of the same sensor; where it has none left, those of the next sensor.
        other[alike] = _turned(one[alike], starts, counts)
    return one, other


def _turned(chosen: Tensor, starts: Tensor, bands: Tensor) -> Tensor:
    """Other bands than ``chosen (batch, channels)``, which are of one sensor each."""
    channels = chosen.shape[1]
    sensor = (chosen[:, :1] >= starts).sum(1) - 1
    spare = bands[sensor] > channels
    sensor = torch.where(spare, sensor, (sensor + 1) % len(bands))
    first = torch.where(spare, chosen[:, 0] - starts[sensor] + 1, torch.zeros_like(sensor))
    places = (first[:, None] + torch.arange(channels)) % bands[sensor][:, None]
    return starts[sensor][:, None] + places


def take_bands(samples: tuple[View, ...], bands: Tensor) -> View:
    """Bands ``(batch, channels)`` of samples that lie on one grid, one per product."""
    values = torch.cat([sample.x for sample in samples], 1)
    valid = torch.cat([sample.valid.expand_as(sample.x) for sample in samples], 1)
    index = bands.to(values.device)[:, :, None, None].expand(-1, -1, *values.shape[-2:])
    return View(values.gather(1, index), valid.gather(1, index))


FACTORY = MethodFactory("rsdnet", 1, RsdnetOptions, Rsdnet, "shared-encoder")  # type: ignore[arg-type]
