"""The run file of a training: what ``python -m models.train`` reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from catalog.labels import LabelSet
from catalog.recipes import Pretraining

SPEC = "spec.json"
RESULT = "result.json"
METRICS = "metrics.jsonl"
LOG = "log.txt"
CHECKPOINT = "checkpoints/last.ckpt"
ENCODER = "encoder"
INITIAL = "initial.safetensors"
NORMALISATION = "normalisation.json"
SAMPLES = "samples.jsonl.gz"

STOPPED = 143
"""Exit status of a training that was told to stop and left a checkpoint (128 + SIGTERM)."""
LAUNCHER_VARIABLE = "SWATH_LAUNCHER_PID"
"""Process that waits for the training; when it is gone the training stops itself."""


class TrainingSpec(BaseModel):
    """One training run. Its folder receives everything the run makes; the same folder resumes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    pretraining: Pretraining
    cube: str
    snapshot: str
    folder: Path
    start_from: Path | None = Field(None, description="encoder folder; from scratch if none")
    normalisation: dict[str, Any] | None = Field(
        None, description="frozen: of start_from if none, else the snapshot's own statistics"
    )
    labels: LabelSet | None = Field(None, description="for a method that learns from labels too")
    log_every: int = Field(10, gt=0, description="optimiser steps")
    checkpoint_every: int | None = Field(
        None, gt=0, description="optimiser steps; a quarter of the run, 100 to 1000, if none"
    )
    read_threads: int = Field(2, gt=0)

    @property
    def steps_between_checkpoints(self) -> int:
        return self.checkpoint_every or max(100, min(1000, self.pretraining.steps // 4))

    @property
    def identity(self) -> str:
        """SHA-256 of what decides the weights; a checkpoint of another identity is not resumed."""
        parts = self.model_dump(
            mode="json",
            exclude={
                "run_id",
                "folder",
                "start_from",
                "labels",
                "log_every",
                "checkpoint_every",
                "read_threads",
            },
        )
        if self.start_from is not None:
            # The same weights may be pulled to another folder when the run is resumed.
            config = json.loads((self.start_from / "config.json").read_text(encoding="utf-8"))
            parts["start_from"] = config.get("weights_sha256", str(self.start_from))
        if self.labels is not None:
            parts["labels"] = self.labels.digest
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def write(self) -> Path:
        """Write ``spec.json`` into the run folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SPEC
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path
