"""What ``swath methods list`` shows of each pretraining method; no torch here."""

from __future__ import annotations

from dataclasses import dataclass

ANY = ("optical", "radar", "hyperspectral")
SPECTRA = ("optical", "hyperspectral")
"""Of products whose bands are neighbours along the spectrum."""


@dataclass(frozen=True)
class MethodCard:
    """One method, before its module is imported."""

    name: str
    title: str
    skeleton: str
    """Which of the few shapes it has: how many views, a teacher or none, what is masked."""
    products: tuple[str, ...]
    """Kinds of products that it is for."""
    backbones: str
    recipe: str | None
    """The built-in recipe with its published values; ``RECIPE-tiny`` is the same for two cores."""
    reference: str
    module: str


CARDS = (
    MethodCard(
        name="moco-v2",
        title="Momentum contrast: a view must be told apart from a queue of other places by its other date",
        skeleton="two views + momentum teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="ssl4eo-s12-moco",
        reference="Chen, Fan, Girshick & He 2020, arXiv 2003.04297; over seasons as in SSL4EO-S12 and -L",
        module="models.methods.moco_v2",
    ),
    MethodCard(
        name="moco-v3",
        title="Momentum contrast without a queue: a predictor finds the key of the same place in the batch",
        skeleton="two views + momentum teacher",
        products=ANY,
        backbones="any timm backbone; defaults are those for Vision Transformers",
        recipe="ssl4eo-s12-moco-v3",
        reference="Chen, Xie & He 2021, arXiv 2104.02057; over seasons as in SSL4EO-S12, arXiv 2211.07044",
        module="models.methods.moco_v3",
    ),
    MethodCard(
        name="byol",
        title="Bootstrap your own latent: predict the momentum encoder's projection of the other view",
        skeleton="two views + momentum teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="ssl4eo-s12-byol",
        reference="Grill et al. 2020, arXiv 2006.07733",
        module="models.methods.byol",
    ),
    MethodCard(
        name="simclr",
        title="Contrast within the batch: both views of all other samples are negatives",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="ssl4eo-l-simclr",
        reference="Chen, Kornblith, Norouzi & Hinton 2020, arXiv 2002.05709; over seasons as in SSL4EO-L",
        module="models.methods.simclr",
    ),
    MethodCard(
        name="simsiam",
        title="Predict the other view's projection, which gets no gradient",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="review-simsiam",
        reference="Chen & He 2021, arXiv 2011.10566",
        module="models.methods.simsiam",
    ),
    MethodCard(
        name="swav",
        title="Predict from one view the cluster of the other, all clusters being used alike",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="review-swav",
        reference="Caron et al. 2020, arXiv 2006.09882",
        module="models.methods.swav",
    ),
    MethodCard(
        name="barlow-twins",
        title="The dimensions of two views agree one by one and are uncorrelated otherwise",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="review-barlow-twins",
        reference="Zbontar, Jing, Misra, LeCun & Deny 2021, arXiv 2103.03230",
        module="models.methods.barlow_twins",
    ),
    MethodCard(
        name="vicreg",
        title="Views agree, every dimension varies over the batch, and no two vary together",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="ssl4eo-s12-vicreg",
        reference="Bardes, Ponce & LeCun 2022, arXiv 2105.04906",
        module="models.methods.vicreg",
    ),
    MethodCard(
        name="decur",
        title="Two sensors agree in common dimensions and are kept apart in those of their own",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone, one per product; resnet with deformable attention",
        recipe="decur",
        reference="Wang, Albrecht, Braham, Liu, Xiong & Zhu 2024, arXiv 2309.05300",
        module="models.methods.decur",
    ),
    MethodCard(
        name="rsdnet",
        title="BYOL whose views are other bands: one network reads any single band of any sensor",
        skeleton="two views + momentum teacher",
        products=ANY,
        backbones="any timm backbone, shared by all products",
        recipe="rsdnet",
        reference="Jain, Schoen-Phelan & Ross 2022, arXiv 2205.02049",
        module="models.methods.rsdnet",
    ),
    MethodCard(
        name="pixel-barlow-twins",
        title="Barlow Twins on hyperspectral pixels with a few neighbours, in two spectral variants",
        skeleton="two views without teacher",
        products=SPECTRA,
        backbones="any timm backbone that takes windows of 9 to 11 px",
        recipe="bt-hsi",
        reference="Ait Ali Braham, Mou, Chanussot, Mairal & Zhu 2022, arXiv 2206.12117; details are ours",
        module="models.methods.pixel_barlow_twins",
    ),
    MethodCard(
        name="multi-view-object",
        title="One view of an object must find its other views among those of all others",
        skeleton="two views without teacher",
        products=ANY,
        backbones="any timm backbone",
        recipe="spectral-spatial-object",
        reference="Zhang & Han 2023, arXiv 2306.15836, the object task; details are ours",
        module="models.methods.multi_view_object",
    ),
    MethodCard(
        name="hsi-paws",
        title="Views of a pixel are nearest to the same classes of a few labelled pixels",
        skeleton="two views + labelled support",
        products=SPECTRA,
        backbones="any timm backbone that takes windows of 9 px",
        recipe="hsi-paws",
        reference="Pande et al. 2023, arXiv 2306.10955; PAWS: Assran et al. 2021, arXiv 2104.13963",
        module="models.methods.hsi_paws",
    ),
    MethodCard(
        name="dino",
        title="Self-distillation: small crops of a place are sorted into prototypes as the large ones are",
        skeleton="two views + momentum teacher",
        products=ANY,
        backbones="any timm backbone that takes two input sizes: resnet, vit, swin",
        recipe="ssl4eo-s12-dino",
        reference="Caron et al. 2021, arXiv 2104.14294; over seasons as in SSL4EO-S12, arXiv 2211.07044",
        module="models.methods.dino",
    ),
    MethodCard(
        name="data2vec",
        title="From a view with hidden tokens, predict a momentum teacher's upper layers at those tokens",
        skeleton="masked reconstruction + momentum teacher",
        products=ANY,
        backbones="timm Vision Transformers",
        recipe="ssl4eo-s12-data2vec",
        reference="Baevski et al. 2022, arXiv 2202.03555; as in SSL4EO-S12, arXiv 2211.07044",
        module="models.methods.data2vec",
    ),
    MethodCard(
        name="cmid",
        title="Rebuild hidden blocks, contrast whole views, and distil matched spots of two views",
        skeleton="masked reconstruction + momentum teacher",
        products=ANY,
        backbones="timm ResNets and Swin Transformers",
        recipe="cmid",
        reference="Muhtar, Zhang, Xiao, Li & Gu 2023, arXiv 2304.09670",
        module="models.methods.cmid",
    ),
    MethodCard(
        name="mae",
        title="Masked autoencoder: most tokens are hidden and their pixels predicted from the rest",
        skeleton="masked reconstruction",
        products=ANY,
        backbones="timm Vision Transformers",
        recipe="ssl4eo-s12-mae",
        reference="He et al. 2022, arXiv 2111.06377; hyperspectral as in SpectralEarth, arXiv 2408.08447",
        module="models.methods.mae",
    ),
    MethodCard(
        name="spectral-profile",
        title="Hidden bands of a pixel's spectrum are rebuilt from the others",
        skeleton="masked reconstruction",
        products=SPECTRA,
        backbones="any; a per-pixel transformer or MLP for single pixels",
        recipe="spectral-spatial-pixel",
        reference="Zhang & Han 2023, arXiv 2306.15836, the pixel task; details are ours",
        module="models.methods.spectral_profile",
    ),
)
