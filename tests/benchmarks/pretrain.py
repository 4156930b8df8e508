"""Pretraining steps beside a plain reference loop, on an accelerator or, small, on this machine's CPU.

Ours is the whole training as a recipe starts it: raw integers of a real cube, made here, through loader,
radiometry, augmentation on the device, method, Lightning. The reference (``pretrain_reference``) has
lightly's modules and augments per sample in loader processes. Operations are counted by
``torch.utils.flop_counter``; the peak is the best rate of a large matrix product in the same precision.
Needs torch, torchvision, timm, lightning and what ``models`` and ``catalog.cubes`` import.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.pretrain_settings import Setting, on_accelerator, on_cpu
from tests.benchmarks.table import show, spread

WARMUP_SHARE = 0.25
LOG_EVERY = 4
DATES = 2


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each side")
    parser.add_argument("--only", default="", help="settings whose name holds this text")
    parser.add_argument("--compile", action="store_true", help="compile both networks")
    options = parser.parse_args(argv)
    on_gpu = torch.cuda.is_available()
    settings = [s for s in (on_accelerator() if on_gpu else on_cpu()) if options.only in s.name]
    rows = []
    for setting in settings:
        with tempfile.TemporaryDirectory() as home:
            os.environ["SWATH_HOME"] = home
            os.environ.pop("SWATH_STORE", None)
            rows.append(measured(setting, Path(home), options.runs, compiled=options.compile))
            torch.cuda.empty_cache()
    where = torch.cuda.get_device_name() if on_gpu else "CPU"
    show(
        f"pretraining steps on {where}{', compiled' if options.compile else ''}",
        rows,
        ("torch", "timm", "lightning", "lightly", "zarr", "icechunk"),
        as_json=options.json,
    )
    return rows


def measured(setting: Setting, home: Path, runs: int, *, compiled: bool) -> dict[str, Any]:
    """Both sides of one setting, taking turns."""
    from models.utilisation import matmul_peak
    from tests.benchmarks.pretrain_reference import Reference

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float32
    samples = made_cube(setting)
    reference = Reference(setting, samples, device, compiled=compiled)
    steps = max(4, setting.steps // 3)
    tried = {count: reference.samples_per_s(count, max(2, steps // 3), 2) for count in worker_counts()}
    workers = max(tried, key=lambda count: tried[count])
    ours, theirs, waits, last = [], [], [], {}
    for run in range(runs):
        last = trained(setting, home / f"run-{run}", compiled=compiled)
        ours.append(last["samples_per_s"])
        waits.append(last["loader_wait_share"])
        theirs.append(reference.samples_per_s(workers, steps, max(2, steps // 4)))
    side = 8192 if device.type == "cuda" else 2048
    peak = matmul_peak(device, dtype, side)
    per_sample = last["flops_per_batch"] / setting.batch_size
    return {
        "training": setting.name,
        "ours, samples/s": spread(ours),
        "reference, samples/s": spread(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "reference's workers": workers,
        "loader wait": max(waits),
        "GFLOP per sample": per_sample / 1e9,
        "share of the peak": statistics.median(ours) * per_sample / peak,
        "memory, GB": last["memory_gb"],
    }


def worker_counts() -> list[int]:
    """Numbers of loader processes to choose from."""
    cores = len(os.sched_getaffinity(0))
    return sorted({0, cores // 4, cores // 2, cores} - ({0} if torch.cuda.is_available() else set()))


def trained(setting: Setting, folder: Path, *, compiled: bool) -> dict[str, Any]:
    """One training of ours; its rate after the first quarter."""
    from catalog.cubes import open_cube
    from catalog.recipes import Pretraining
    from models.train import train
    from models.training_spec import TrainingSpec

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    spec = TrainingSpec(
        run_id=folder.name,
        pretraining=Pretraining.model_validate(setting.pretraining(compiled=compiled)),
        cube="measured",
        snapshot=open_cube("measured").snapshot(),
        folder=folder,
        log_every=LOG_EVERY,
        checkpoint_every=10**6,
    )
    assert train(spec) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    counted = [line for line in lines if line["step"] > WARMUP_SHARE * setting.steps]
    seconds = sum(LOG_EVERY * setting.batch_size / line["samples_per_s"] for line in counted)
    result = json.loads((folder / "result.json").read_text())
    memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else float("nan")
    return {
        "samples_per_s": len(counted) * LOG_EVERY * setting.batch_size / seconds,
        "loader_wait_share": counted[-1]["loader_wait_share"],
        "flops_per_batch": result["flops_per_batch"],
        "memory_gb": memory,
    }


def made_cube(setting: Setting) -> np.ndarray[Any, Any]:
    """Write a cube of the setting's samples; returns them on one grid: ``(place, date, band, y, x)``."""
    from catalog.cubes import open_cube
    from catalog.products import load_product
    from models.physical_pixels import choose_bands
    from tests.models.learnable_cube import location, sample, scene

    product = load_product(setting.product)
    choice = choose_bands(product, None, setting.wavelengths_nm)
    scenes = [scene(date, product) for date in range(DATES)]
    cube = open_cube("measured", create=True, products=[product])
    side = round(setting.size_m / choice.gsd_m)
    whole = np.empty((setting.places, DATES, len(choice.names), side, side), product.dtype)
    with cube.write("measured") as writer:
        writer.add_locations(
            location(place, size_m=setting.size_m, split="pretrain") for place in range(setting.places)
        )
        for date in range(DATES):
            for place in range(setting.places):
                made = sample(product, date, place, size_m=setting.size_m)
                writer.append(product, [made], scenes)
                for gsd, at in choice.by_resolution.items():
                    pixels = made.pixels[gsd][choice.columns[gsd]]
                    times = round(gsd / choice.gsd_m)
                    whole[place, date, at] = pixels.repeat(times, 1).repeat(times, 2)
    return whole


if __name__ == "__main__":
    main()
