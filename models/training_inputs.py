"""What a training reads: per product its samples, bands and statistics, and the plan that draws from them."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


from catalog.errors import TrainingError, UsageError
from catalog.recipes import Pretraining
from models import training_spec as files
from models.joined_pool import JoinedPlan, open_joined
from models.methods.method import MethodFactory, MethodOptions
from models.normalisation import Normalisation
from models.physical_pixels import BandChoice, choose_bands
from models.sample_batches import BatchStream
from models.sample_pool import BatchPlan, Rows, SamplePool, open_pool
from models.sample_reader import SampleReader
from models.snapshot_statistics import snapshot_statistics
from models.training_spec import TrainingSpec

FILE_WAIT_S = 3600.0
"""How long other processes wait for the first one's statistics."""


@dataclass(frozen=True)
class ProductInput:
    """One product of a training."""

    pool: SamplePool
    choice: BandChoice
    reader: SampleReader
    normalisation: Normalisation

    @property
    def product(self) -> str:
        return self.choice.product.id


@dataclass(frozen=True)
class TrainingInputs:
    """The products of a training, in the recipe's order, and the plan over them."""

    parts: tuple[ProductInput, ...]
    plan: BatchPlan | JoinedPlan

    @property
    def first(self) -> ProductInput:
        return self.parts[0]

    def part(self, product: str) -> ProductInput:
        """The input of a product; of the first where a batch names none."""
        return next((part for part in self.parts if part.product == product), self.first)

    def drawn(self, batches: int) -> list[tuple[SamplePool, Rows]]:
        """Samples that the first ``batches`` batches hold: positions in each product's pool, sorted."""
        if isinstance(self.plan, BatchPlan):
            return [(self.first.pool, self.plan.drawn(batches))]
        drawn = self.plan.drawn(batches)
        return [(part.pool, drawn[part.product]) for part in self.parts]

    def stream(self, start: int, rank: int, world: int, threads: int) -> BatchStream:
        """Batches from number ``start`` on, this process's part of each."""
        readers = {part.product: part.reader for part in self.parts}
        return BatchStream(self.plan, readers, start=start, rank=rank, world=world, threads=threads)


def open_inputs(
    spec: TrainingSpec, factory: MethodFactory, options: MethodOptions, cube: Any
) -> TrainingInputs:
    """Open what the recipe asks for.

    Raises
    ------
    UsageError: ``invalid-pretraining``: the method does not join as many products.
    TrainingError: ``no-samples``.
    """
    request = spec.pretraining
    check_products(request, factory)
    held = cube.products(spec.snapshot)
    choices = [
        choose_bands(held[name], request.bands_of(name), request.wavelengths_nm, request.gsd_m)
        for name in request.products
    ]
    if factory.joins == "shared-encoder":
        # One network sees them all, so they lie on one grid.
        finest = min(choice.gsd_m for choice in choices)
        choices = [BandChoice(choice.product, choice.names, finest) for choice in choices]
    joined = None
    if factory.joins == "one-product":
        pools = {
            choices[0].product.id: open_pool(
                cube, request.products[0], spec.snapshot, transductive=request.transductive
            )
        }
    else:
        joined = open_joined(cube, request.products, spec.snapshot, transductive=request.transductive)
        pools = dict(joined.pools)
    parts = []
    for number, choice in enumerate(choices):
        pool = pools[choice.product.id]
        reader = SampleReader(cube, spec.snapshot, choice, pool.rows)
        parts.append(ProductInput(pool, choice, reader, _normalisation(spec, reader, pool.rows, number)))
    return TrainingInputs(tuple(parts), _plan(request, factory, options, parts, joined))


def check_products(request: Pretraining, factory: MethodFactory) -> None:
    """Refuse a number of products that the method does not take."""
    several = len(request.products) > 1
    if several and factory.joins == "one-product":
        raise UsageError(
            "invalid-pretraining",
            f"{request.method} takes one product, not {len(request.products)}",
            subject=request.encoder,
            next_step="correct `products` in the recipe; `swath methods list` says what a method takes",
        )
    missing = [name for name in request.products[1:] if name not in request.also]
    if factory.joins == "encoder-per-product" and missing:
        raise UsageError(
            "invalid-pretraining",
            f"{request.method} makes an encoder of {', '.join(missing)} too, which has no name",
            subject=request.encoder,
            next_step=f"add `also: {{{missing[0]}: NAME}}` to the recipe's pretrain entry",
        )


def _plan(
    request: Pretraining,
    factory: MethodFactory,
    options: MethodOptions,
    parts: list[ProductInput],
    joined: Any,
) -> BatchPlan | JoinedPlan:
    samples, first = factory.samples(options), parts[0]
    if joined is None:
        return BatchPlan(
            first.pool, request.batch_size, samples, request.seed, chunk_rows=first.reader.chunk_rows
        )
    views = tuple(part.product for part in parts for _ in range(samples))
    dates = "nearest" if samples == 1 else "any"
    return JoinedPlan(
        joined, request.batch_size, views, request.seed, dates=dates, chunk_rows=first.reader.chunk_rows
    )  # type: ignore[arg-type]


def _normalisation(spec: TrainingSpec, reader: SampleReader, rows: Rows, number: int) -> Normalisation:
    """Frozen statistics: given, of the encoder started from, of this run's earlier start, or computed now."""
    from models.encoder_files import read_config

    product = reader.product
    if spec.normalisation is not None and not number:
        return Normalisation.from_dict(spec.normalisation)
    if spec.start_from is not None:
        config = read_config(spec.start_from)
        older = config["normalisation"] if not number else (config.get("inputs") or {}).get(product)
        if older is not None:
            return Normalisation.from_dict(older)
    path = spec.folder / (files.NORMALISATION if not number else f"normalisation-{product}.json")
    if int(os.environ.get("RANK", "0")) == 0 and not path.is_file():
        statistics = snapshot_statistics(reader, rows, mask_cloud=spec.pretraining.mask_cloud)
        write_json(path, statistics.to_dict())
    deadline = time.monotonic() + FILE_WAIT_S
    while not path.is_file():
        if time.monotonic() > deadline:
            raise TrainingError("no-statistics", "the first process wrote no band statistics")
        time.sleep(0.1)
    return Normalisation.from_dict(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


__all__ = ["ProductInput", "TrainingInputs", "check_products", "open_inputs", "write_json"]
