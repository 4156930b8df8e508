"""What a recipe pretrains, how it is scored, and when a version is promoted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from catalog.recipes.strict import Strict


class Optimiser(Strict):
    """Optimiser and schedule of one pretraining."""

    name: Literal["sgd", "adamw", "lars", "adan"] = "adamw"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    final_weight_decay: float | None = Field(
        None, ge=0, description="at the end of the run (cosine); constant if none"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    betas: tuple[float, float] = Field((0.9, 0.95), description="of adamw")
    clip_norm: float | None = Field(
        None, gt=0, description="largest norm of all gradients; unlimited if none"
    )
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_share: float = Field(0.05, ge=0, le=0.5, description="of all steps")
    milestones: tuple[float, ...] = Field((0.6, 0.8), description="shares of the run, for `step`")


class Pretraining(Strict):
    """One encoder to pretrain."""

    encoder: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="its name in the catalog")
    method: str
    products: Annotated[tuple[str, ...], Field(min_length=1)]
    bands: tuple[str, ...] | None = Field(None, description="band names in order; all of the product if none")
    wavelengths_nm: tuple[tuple[float, float], ...] | None = Field(
        None, description="keep hyperspectral bands whose centre lies in one of these ranges"
    )
    backbone: str = "resnet18"
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    input_size_px: int = Field(gt=0, description="side of the encoder's input after cropping")
    gsd_m: float | None = Field(None, gt=0, description="common grid of the input; the finest band's if none")
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    accumulate: int = Field(1, gt=0)
    optimiser: Optimiser
    options: dict[str, Any] = Field(default_factory=dict, description="of the method")
    mask_cloud: bool = Field(False, description="treat what the QA calls cloud or shadow as invalid")
    transductive: bool = Field(False, description="also learn from probe and test places; the score says so")
    seed: int = 0
    precision: Literal["32", "bf16"] = "32"
    compile: bool = Field(False, description="torch.compile the encoder's blocks: a slow start, then faster")
    devices: int = Field(1, gt=0, description="processes of one node, a GPU each where there are GPUs")
    nodes: int = Field(1, gt=0)
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="fsdp: parameters, gradients and optimiser sharded over the devices"
    )
    start_from: Literal["scratch", "previous"] = Field("previous", description="weights of a refresh")
    min_new_samples: int = Field(1, ge=0, description="new samples that are enough to train again")
    max_age_days: float | None = Field(None, gt=0, description="train again past this age if anything is new")


class Evaluation(Strict):
    """One downstream task that frozen features are scored on."""

    name: str
    label_set: str
    kind: Literal["patch-classes", "pixel-classes", "change"]
    encoders: tuple[str, ...] | None = Field(
        None, description="those of the recipe whose product fits if none"
    )
    product: str
    protocol: Literal["holdout", "leave-one-place-out"] = "holdout"
    place: Literal["block", "tile", "location"] = "block"
    min_change_fraction: float = Field(0.05, gt=0, le=1, description="of a sample, for `change`")
    max_samples: int = Field(4000, gt=0)
    seeds: int = Field(3, gt=0)
    caveat: str = Field("", description="printed beside the score")


class Promotion(Strict):
    """When a new version becomes ``:production``."""

    alias: str = "production"
    automatic: bool = True
    tolerance: float = Field(0.0, ge=0, description="allowed loss beyond the noise of the scores")
