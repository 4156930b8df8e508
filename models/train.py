"""Runs one training: ``python -m models.train SPEC.json``, started by torchrun."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from catalog.errors import SwathError, TrainingError, UsageError
from models import training_spec as files
from models.failure import explained
from models.training_spec import TrainingSpec

_GRACE_S = 60.0
"""How long a training without a launcher may take to reach its next step."""
_FILE_WAIT_S = 3600.0


def main(arguments: list[str]) -> int:
    """Train, and return the exit status: 0 done, 1 failed, 143 told to stop with a checkpoint left."""
    spec = TrainingSpec.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    first = int(os.environ.get("RANK", "0")) == 0
    watch_launcher()
    try:
        if first:
            with _run_lock(spec.folder):
                return train(spec)
        return train(spec)
    except Exception as error:
        if not isinstance(error, SwathError):
            traceback.print_exc()
        known = explained(error, spec)
    failure = {
        "status": "failed",
        "code": known.code,
        "message": known.message,
        "subject": known.subject,
        "next_step": known.next_step,
    }
    print(f"error: {known}", file=sys.stderr, flush=True)
    write_json(spec.folder / files.RESULT, failure)
    return 1


def train(spec: TrainingSpec) -> int:
    """Everything between the run file and the encoder folder."""
    began = time.perf_counter()
    request, folder = spec.pretraining, spec.folder
    finished = read_result(folder)
    if finished.get("status") == "finished" and finished.get("identity") == spec.identity:
        return 0
    import torch

    from catalog.cubes import open_cube
    from models.backbones import Encoder, describe_architecture
    from models.encoder_files import describe_encoder, save_weights, weights_of
    from models.methods import load_method
    from models.methods.method import MethodContext
    from models.physical_pixels import choose_bands
    from models.sample_batches import BatchStream, SampleReader
    from models.sample_pool import BatchPlan, open_pool
    from models.sharding import whole_encoder
    from models.training import Pretrainer, RunKeeper, make_trainer
    from models.vitality import weight_distance

    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    factory = load_method(request.method)
    options = _options(factory.options, request.options, request.encoder)
    if len(request.products) > 1 or request.batch_size % world:
        raise UsageError(
            "invalid-pretraining",
            f"{request.method} takes one product, not {len(request.products)}"
            if len(request.products) > 1
            else f"a batch of {request.batch_size} cannot be shared by {world} devices",
            subject=request.encoder,
            next_step="correct `products`, or `batch_size` and `devices`, in the recipe",
        )
    cube = open_cube(spec.cube)
    product_id = request.products[0]
    pool = open_pool(cube, product_id, spec.snapshot, transductive=request.transductive)
    choice = choose_bands(
        cube.products(spec.snapshot)[product_id], request.bands, request.wavelengths_nm, request.gsd_m
    )
    chunk_rows = cube.chunk_samples(product_id, spec.snapshot)
    reader = SampleReader(cube, spec.snapshot, choice, pool.rows, chunk_rows=chunk_rows)
    normalisation = _normalisation(spec, reader, pool.rows)
    architecture = describe_architecture(
        request.backbone,
        request.backbone_options,
        bands=len(choice.names),
        input_size_px=request.input_size_px,
        wavelengths_nm=[band.center_nm for band in choice.bands],
    )
    torch.manual_seed(request.seed)
    encoder = Encoder(architecture)
    config = describe_encoder(
        architecture,
        choice,
        normalisation,
        method=request.method,
        products=request.products,
        input_size_px=request.input_size_px,
        feature_dim=encoder.feature_dim,
    )
    if spec.start_from is not None:
        _start_from(spec.start_from, encoder, config)
    initial = {name: value.clone() for name, value in weights_of(encoder).items()}
    if rank == 0:
        save_weights(folder / files.INITIAL, encoder)
    support = _support(spec, options, cube, pool, reader, normalisation)
    method = factory.build(
        MethodContext(encoder, len(choice.names), request.input_size_px, request.steps, support=support),
        options,
    )
    plan = BatchPlan(pool, request.batch_size, factory.samples(options), request.seed, chunk_rows=chunk_rows)

    def open_stream(start: int, rank: int, world: int) -> BatchStream:
        return BatchStream(plan, reader, start=start, rank=rank, world=world, threads=spec.read_threads)

    keeper = RunKeeper(
        folder / files.METRICS,
        folder / files.CHECKPOINT,
        log_every=spec.log_every,
        checkpoint_every=spec.steps_between_checkpoints,
        batch_size=request.batch_size,
    )
    trainer = make_trainer(request, folder, keeper)
    module = Pretrainer(method, request, choice, normalisation, open_stream, spec.identity)
    checkpoint = folder / files.CHECKPOINT
    trainer.fit(module, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
    if keeper.stopped:
        if rank == 0:
            print(f"stopped at step {trainer.global_step}, checkpoint written", file=sys.stderr, flush=True)
            write_json(
                folder / files.RESULT,
                {"status": "stopped", "step": trainer.global_step, "identity": spec.identity},
            )
        return files.STOPPED
    trained = whole_encoder(method.encoder)
    if rank:
        return 0
    _write_encoder(folder, trained, config, plan, request.steps * request.accumulate, support)
    distance, moved = weight_distance(weights_of(trained), initial)
    write_json(
        folder / files.RESULT,
        {
            "status": "finished",
            "identity": spec.identity,
            "run_id": spec.run_id,
            "encoder": files.ENCODER,
            "initial_weights": files.INITIAL,
            "cube": spec.cube,
            "snapshot": spec.snapshot,
            "product": product_id,
            "transductive": request.transductive,
            "steps": request.steps,
            "metrics": keeper.last,
            "weight_distance": distance,
            "tensors_moved": moved,
            "samples_drawn": len(plan.drawn(request.steps * request.accumulate)),
            "samples_in_pool": pool.count,
            "places_in_pool": len(pool.place_ids),
            "flops_per_batch": keeper.flops.flops,
            "seconds": round(time.perf_counter() - began, 3),
            "devices": world,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "torch": torch.__version__,
        },
    )
    return 0


def _write_encoder(
    folder: Path, encoder: Any, config: dict[str, Any], plan: Any, batches: int, support: Any
) -> None:
    """The encoder folder, whole or not there."""
    from models.encoder_files import save_encoder
    from models.support import write_labels

    partial = folder / f".{files.ENCODER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder / files.ENCODER, ignore_errors=True)
    save_encoder(partial, encoder, config)
    _write_samples(partial / files.SAMPLES, plan.pool, plan.drawn(batches))
    if support is not None:
        write_labels(partial, support)
    partial.rename(folder / files.ENCODER)


def _support(spec: TrainingSpec, options: Any, cube: Any, pool: Any, reader: Any, normalisation: Any) -> Any:
    """The labelled pixels of a method that learns from labels too; None for the others."""
    from models.support import SupportOptions, read_support

    request = spec.pretraining
    if not isinstance(options, SupportOptions):
        return None
    if spec.labels is None:
        raise UsageError(
            "invalid-pretraining",
            f"{request.method} learns from label set {options.label_set}, which the run file does not hold",
            subject=request.encoder,
            next_step="train through the recipe, whose archive has the label set",
        )
    return read_support(
        cube,
        pool,
        reader,
        normalisation,
        spec.labels,
        options,
        window_px=request.input_size_px,
        seed=request.seed,
        mask_cloud=request.mask_cloud,
    )


def _options(kind: Any, given: dict[str, Any], encoder: str) -> Any:
    from pydantic import ValidationError

    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            "invalid-method-option",
            f"options.{key}: {first['msg']}",
            subject=encoder,
            next_step="swath methods show METHOD lists the options",
        ) from error


def _normalisation(spec: TrainingSpec, reader: Any, rows: Any) -> Any:
    """Frozen statistics: given, of the encoder started from, of this run's earlier start, or computed now."""
    from models.encoder_files import read_config
    from models.normalisation import Normalisation
    from models.snapshot_statistics import snapshot_statistics

    if spec.normalisation is not None:
        return Normalisation.from_dict(spec.normalisation)
    if spec.start_from is not None:
        return Normalisation.from_dict(read_config(spec.start_from)["normalisation"])
    path = spec.folder / files.NORMALISATION
    if int(os.environ.get("RANK", "0")) == 0 and not path.is_file():
        statistics = snapshot_statistics(reader, rows, mask_cloud=spec.pretraining.mask_cloud)
        write_json(path, statistics.to_dict())
    deadline = time.monotonic() + _FILE_WAIT_S
    while not path.is_file():
        if time.monotonic() > deadline:
            raise TrainingError("no-statistics", "the first process wrote no band statistics")
        time.sleep(0.1)
    return Normalisation.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _start_from(source: Path, encoder: Any, config: dict[str, Any]) -> None:
    """Load the weights of another encoder of the same architecture and bands."""
    from models.encoder_files import WEIGHTS, load_weights, read_config, verify_folder

    older = read_config(source)
    verify_folder(source, older)
    ours = json.loads(json.dumps(config))
    differing = [key for key in ("timm", "front_end", "bands") if older[key] != ours[key]]
    if differing:
        raise TrainingError(
            "cannot-start-from",
            f"the encoder to start from differs in {', '.join(differing)}",
            subject=str(source),
            next_step="give start_from: scratch in the recipe, or keep backbone and bands as they were",
        )
    load_weights(encoder, source / WEIGHTS)


def _write_samples(path: Path, pool: Any, drawn: Any) -> None:
    """One JSON line per sample that was drawn at least once; the same bytes for the same samples."""
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        for at in drawn:
            line = {
                "sample": str(pool.ids[at]),
                "product": pool.product,
                "scene": str(pool.scenes[at]),
                "location": pool.place_ids[pool.places[at]],
                "sha256": str(pool.sha256[at]),
            }
            file.write(json.dumps(line).encode() + b"\n")


def read_result(folder: Path) -> dict[str, Any]:
    """The run's result so far; empty where there is none."""
    try:
        return dict(json.loads((folder / files.RESULT).read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError):
        return {}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _run_lock(folder: Path) -> Any:
    """One training per run folder: a restarted flow waits for an orphan to write its checkpoint."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".training.lock", timeout=2 * _GRACE_S)


def watch_launcher() -> None:
    """Stop this process when torchrun, or the process that started it, is gone: nobody would read the result.

    torchrun puts its workers into sessions of their own, so a killed process group does not reach them.
    """
    parent = os.getppid()
    launcher = int(os.environ.get(files.LAUNCHER_VARIABLE, "0"))

    def watch() -> None:
        while os.getppid() == parent and (not launcher or _alive(launcher)):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_S)
        os._exit(137)

    threading.Thread(target=watch, name="launcher-watch", daemon=True).start()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
