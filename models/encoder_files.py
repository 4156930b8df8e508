"""Encoder folders: safetensors and a config.json that loads them, with or without Swath."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from catalog.errors import EncoderError
from models.backbones import Architecture, Encoder
from models.normalisation import Normalisation
from models.physical_pixels import BandChoice

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MANIFEST = "manifest.json"
PROGRAM = "program.pt2"


class PhysicalEncoder(nn.Module):
    """A frozen encoder on physical units: reflectance, decibels or kelvin, as its config says per band."""

    def __init__(self, encoder: Encoder, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = dict(config)
        self.normalisation = Normalisation.from_dict(config["normalisation"])

    @property
    def feature_dim(self) -> int:
        return self.encoder.feature_dim

    def forward(self, values: Tensor, valid: Tensor | None = None) -> Tensor:
        """Embedding ``(batch, d)`` of ``values (batch, band, y, x)``.

        ``valid`` is boolean, ``(batch, y, x)`` or ``(batch, 1 or band, y, x)``; None: every finite value is.
        What is not finite is invalid in any case.
        """
        embedding: Tensor = self.encoder(*self._normalised(values, valid))
        return embedding

    def dense(self, values: Tensor, valid: Tensor | None = None) -> Tensor:
        """Feature map ``(batch, d, h, w)`` of the same input."""
        return self.encoder.feature_map(*self._normalised(values, valid))[0]

    def dense_with_share(self, values: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Feature map, and the valid share ``(batch, 1, h, w)`` of the ground under each of its cells."""
        return self.encoder.feature_map(*self._normalised(values, valid))

    def _normalised(self, values: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        bands = self.config["bands"]
        if values.ndim != 4 or values.shape[1] != len(bands):
            raise EncoderError(
                "wrong-bands",
                f"got a tensor of shape {tuple(values.shape)}, not (batch, {len(bands)}, y, x)",
                subject=str(self.config.get("method", "encoder")),
                next_step=f"give the bands {', '.join(bands)} in this order",
            )
        known = torch.isfinite(values)
        if valid is not None:
            known = known & (valid[:, None] if valid.ndim == 3 else valid).to(torch.bool)
        return self.normalisation.apply(values, known), known


def describe_encoder(
    architecture: Architecture,
    choice: BandChoice,
    normalisation: Normalisation,
    *,
    method: str,
    products: Sequence[str],
    input_size_px: int,
    feature_dim: int,
) -> dict[str, Any]:
    """``config.json`` of an encoder, without the checksum of its weights."""
    return {
        "format": FORMAT,
        "timm": architecture.timm,
        "front_end": None if architecture.front_end is None else dict(architecture.front_end),
        "deformable_attention": architecture.deformable_attention,
        "method": method,
        "product": choice.product.id,
        "products": list(products),
        "bands": list(choice.names),
        "wavelengths_nm": [band.center_nm for band in choice.bands],
        "fwhm_nm": [band.fwhm_nm for band in choice.bands],
        "units": [band.quantity for band in choice.bands],
        "normalisation": normalisation.to_dict(),
        "input_size_px": input_size_px,
        "gsd_m": choice.gsd_m,
        "feature_dim": feature_dim,
    }


def save_encoder(folder: Path, encoder: Encoder, config: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json`` (with the weights' SHA-256) into ``folder``.

    The weights of a plain timm backbone carry timm's own names, so that
    ``timm.create_model(config["timm"]["name"], **config["timm"]["args"])`` loads them strictly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / WEIGHTS, encoder)
    document = dict(config) | {"weights_sha256": file_sha256(folder / WEIGHTS)}
    (folder / CONFIG).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def save_weights(path: Path, encoder: Encoder) -> None:
    """Write an encoder's weights as safetensors."""
    save_file({name: value.detach().cpu().contiguous() for name, value in weights_of(encoder).items()}, path)
    path.chmod(0o644)


def weights_of(encoder: Encoder) -> dict[str, Tensor]:
    """The state dict as it is stored: timm's names for a plain backbone."""
    return (encoder.backbone if encoder.front_end is None else encoder).state_dict()


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether timm alone builds the network of a ``config.json``."""
    return config["front_end"] is None and not config.get("deformable_attention", False)


def export_program(folder: Path) -> Path:
    """Write ``program.pt2`` beside the weights: a ``torch.export`` program for use without Swath.

    ``torch.export.load(path).module()(values, valid)`` takes physical values ``(batch, band, y, x)`` and a
    boolean mask of the same shape, at the encoder's input size and any batch size, and returns embeddings.
    """
    model = load_encoder(folder)
    config = model.config
    shape = (2, len(config["bands"]), config["input_size_px"], config["input_size_px"])
    example = (torch.zeros(shape), torch.ones(shape, dtype=torch.bool))
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, example, dynamic_shapes=({0: batch}, {0: batch}))
    path = folder / PROGRAM
    torch.export.save(program, path)
    return path


def load_encoder(encoder: Any, *, device: torch.device | str = "cpu") -> PhysicalEncoder:
    """Load an encoder in eval mode, without gradients.

    ``encoder`` is a ``catalog.encoders.Encoder`` (its files are verified as they are pulled), or a folder.

    Raises
    ------
    EncoderError: a file is missing, or is not what its SHA-256 says.
    """
    folder = Path(encoder) if isinstance(encoder, str | Path) else Path(encoder.pull())
    config = read_config(folder)
    verify_folder(folder, config)
    model = PhysicalEncoder(build_encoder(config), config)
    load_weights(model.encoder, folder / WEIGHTS)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.to(device).eval()


def build_encoder(config: Mapping[str, Any]) -> Encoder:
    """The network of a ``config.json``, with new random weights drawn from torch's generator."""
    return Encoder(
        Architecture(
            name=config["timm"]["name"],
            args=config["timm"]["args"],
            bands=len(config["bands"]),
            front_end=config["front_end"],
            deformable_attention=config.get("deformable_attention", False),
        )
    )


def random_encoder(config: Mapping[str, Any], seed: int) -> PhysicalEncoder:
    """The same architecture and normalisation, untrained: the baseline of every score."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PhysicalEncoder(build_encoder(config), config).eval().requires_grad_(False)


def load_weights(encoder: Encoder, path: Path) -> None:
    """Load stored weights strictly."""
    try:
        weights = load_file(path)
        (encoder.backbone if encoder.front_end is None else encoder).load_state_dict(weights, strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EncoderError(
            "unreadable-weights",
            f"the weights do not fit their config: {' '.join(str(error).split())[:300]}",
            subject=str(path),
            next_step="pull the encoder again",
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of an encoder folder."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise EncoderError(
            "unreadable-config",
            f"cannot read {CONFIG}: {error}",
            subject=str(folder),
            next_step="give an encoder folder: swath encoders pull NAME",
        ) from error
    if config.get("format") != FORMAT:
        raise EncoderError(
            "unknown-format",
            f"{CONFIG} has format {config.get('format')!r}; this version reads {FORMAT}",
            subject=str(folder),
            next_step="load it with the version of Swath that wrote it",
        )
    return dict(config)


def verify_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Compare every file that the config or the manifest gives a SHA-256 for."""
    expected = {WEIGHTS: str(config.get("weights_sha256", ""))}
    manifest = folder / MANIFEST
    if manifest.is_file():
        expected |= _manifest_checksums(json.loads(manifest.read_text(encoding="utf-8")))
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file() or (digest and file_sha256(path) != digest):
            raise EncoderError(
                "checksum-mismatch",
                f"{name} is {'missing' if not path.is_file() else 'not the file that was registered'}",
                subject=str(folder),
                next_step="pull the encoder again; if it fails again: swath encoders verify",
            )


def _manifest_checksums(manifest: Mapping[str, Any]) -> dict[str, str]:
    """File name → SHA-256, where the manifest lists them under ``files``."""
    files = manifest.get("files") or {}
    return {
        name: entry["sha256"] if isinstance(entry, Mapping) else str(entry) for name, entry in files.items()
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
