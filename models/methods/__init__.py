"""Pretraining methods by name; listing them imports neither torch nor any method."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError

if TYPE_CHECKING:
    from models.methods.method import MethodFactory


@dataclass(frozen=True)
class MethodCard:
    """What ``swath methods list`` shows of a method."""

    name: str
    title: str
    skeleton: str
    paper: str
    module: str
    backbones: str


METHODS = {
    card.name: card
    for card in (
        MethodCard(
            "moco-v2",
            "Momentum contrast: a view must be told apart from a queue of other places by its other date",
            "two views + momentum teacher",
            "Chen, Fan, Girshick & He 2020, arXiv 2003.04297; over seasons as in SSL4EO-S12 and SSL4EO-L",
            "models.methods.moco_v2",
            "any timm backbone",
        ),
        MethodCard(
            "moco-v3",
            "Momentum contrast without a queue: a predictor finds the key of the same place in the batch",
            "two views + momentum teacher",
            "Chen, Xie & He 2021, arXiv 2104.02057; over seasons as in SSL4EO-S12, arXiv 2211.07044",
            "models.methods.moco_v3",
            "any timm backbone; defaults are those for Vision Transformers",
        ),
        MethodCard(
            "byol",
            "Bootstrap your own latent: predict the momentum encoder's projection of the other view",
            "two views + momentum teacher",
            "Grill et al. 2020, arXiv 2006.07733",
            "models.methods.byol",
            "any timm backbone",
        ),
        MethodCard(
            "simclr",
            "Contrast within the batch: both views of all other samples are negatives",
            "two views without teacher",
            "Chen, Kornblith, Norouzi & Hinton 2020, arXiv 2002.05709; over seasons as in SSL4EO-L",
            "models.methods.simclr",
            "any timm backbone",
        ),
        MethodCard(
            "simsiam",
            "Predict the other view's projection, which gets no gradient",
            "two views without teacher",
            "Chen & He 2021, arXiv 2011.10566",
            "models.methods.simsiam",
            "any timm backbone",
        ),
        MethodCard(
            "swav",
            "Predict from one view the cluster that the other is assigned to, all clusters being used alike",
            "two views without teacher",
            "Caron et al. 2020, arXiv 2006.09882",
            "models.methods.swav",
            "any timm backbone",
        ),
        MethodCard(
            "barlow-twins",
            "The dimensions of two views agree one by one and are uncorrelated otherwise",
            "two views without teacher",
            "Zbontar, Jing, Misra, LeCun & Deny 2021, arXiv 2103.03230",
            "models.methods.barlow_twins",
            "any timm backbone",
        ),
        MethodCard(
            "vicreg",
            "Views agree, every dimension varies over the batch, and no two vary together",
            "two views without teacher",
            "Bardes, Ponce & LeCun 2022, arXiv 2105.04906",
            "models.methods.vicreg",
            "any timm backbone",
        ),
        MethodCard(
            "decur",
            "Two sensors agree in common dimensions and are kept apart in those of their own",
            "two views without teacher",
            "Wang, Albrecht, Braham, Liu, Xiong & Zhu 2024, arXiv 2309.05300",
            "models.methods.decur",
            "any timm backbone, one per product; resnet with deformable attention",
        ),
        MethodCard(
            "rsdnet",
            "BYOL whose views are other bands: one network reads any single band of any sensor",
            "two views + momentum teacher",
            "Jain, Schoen-Phelan & Ross 2022, arXiv 2205.02049",
            "models.methods.rsdnet",
            "any timm backbone, shared by all products",
        ),
        MethodCard(
            "pixel-barlow-twins",
            "Barlow Twins on hyperspectral pixels with a few neighbours, in two spectral variants",
            "two views without teacher",
            "Ait Ali Braham, Mou, Chanussot, Mairal & Zhu 2022, arXiv 2206.12117; details are ours",
            "models.methods.pixel_barlow_twins",
            "any timm backbone that takes windows of 9 to 11 px",
        ),
        MethodCard(
            "dino",
            "Self-distillation: small crops of a place are sorted into prototypes as the large ones are",
            "two views + momentum teacher",
            "Caron et al. 2021, arXiv 2104.14294; over seasons as in SSL4EO-S12, arXiv 2211.07044",
            "models.methods.dino",
            "any timm backbone that takes two input sizes: resnet, vit, swin",
        ),
        MethodCard(
            "data2vec",
            "From a view with hidden tokens, predict a momentum teacher's upper layers at those tokens",
            "masked reconstruction + momentum teacher",
            "Baevski et al. 2022, arXiv 2202.03555; on satellite images as in SSL4EO-S12, arXiv 2211.07044",
            "models.methods.data2vec",
            "timm Vision Transformers",
        ),
        MethodCard(
            "cmid",
            "Rebuild hidden blocks, contrast whole views, and distil matched spots of two views",
            "masked reconstruction + momentum teacher",
            "Muhtar, Zhang, Xiao, Li & Gu 2023, arXiv 2304.09670",
            "models.methods.cmid",
            "timm ResNets and Swin Transformers",
        ),
        MethodCard(
            "mae",
            "Masked autoencoder: most tokens are hidden and their pixels predicted from the rest",
            "masked reconstruction",
            "He et al. 2022, arXiv 2111.06377; hyperspectral as in SpectralEarth, arXiv 2408.08447",
            "models.methods.mae",
            "timm Vision Transformers",
        ),
    )
}


def load_method(name: str) -> MethodFactory:
    """The method's factory: its options and how it is built.

    Raises
    ------
    UsageError: ``unknown-method``, naming those that exist.
    """
    if name not in METHODS:
        raise UsageError(
            "unknown-method",
            f"there is no method {name!r}; known: {', '.join(METHODS)}",
            subject=name,
            next_step="correct `method` in the recipe; swath methods list",
        )
    return importlib.import_module(METHODS[name].module).FACTORY  # type: ignore[no-any-return]


def describe_methods() -> list[dict[str, Any]]:
    """Every method as a JSON document, without its options."""
    return [asdict(card) for card in METHODS.values()]


def describe_method(name: str) -> dict[str, Any]:
    """One method with its options: name → type, default and meaning. Imports torch."""
    factory = load_method(name)
    schema = factory.options.model_json_schema()["properties"]
    return asdict(METHODS[name]) | {"options": schema}
