"""One registered encoder: its manifest, and its files, verified at every pull."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from catalog.encoder_manifest import MANIFEST, manifest_bytes
from catalog.errors import EncoderError
from catalog.settings import Settings
from catalog.weights import copy_verified, file_sha256, open_store, sha256_of


@dataclass(frozen=True)
class Encoder:
    """One version of one encoder."""

    name: str
    version: int
    created: datetime
    method: str
    products: tuple[str, ...]
    aliases: tuple[str, ...]
    manifest: dict[str, Any]
    """See ``catalog.encoder_manifest``."""
    place: str
    """Its folder below the store."""
    settings: Settings

    @property
    def ref(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    @property
    def product(self) -> str:
        """The product whose tensors it takes: the first, where it was trained on several."""
        return self.products[0] if self.products else ""

    def pull(self, to: Path | None = None) -> Path:
        """A local folder with every file, each checked against its SHA-256, at every call.

        ``to`` is the folder to fill. Without it this is the store's own folder (not to be written to) or, for
        an object store, a cache below ``SWATH_HOME``; files whose checksum holds are not fetched again.

        Raises
        ------
        EncoderError: ``checksum-mismatch`` or ``file-missing``, naming the file.
        """
        store = open_store(self.settings)
        own = store.local_folder(self.place)
        if to is None and own is not None:
            damage = self._damage()
            if damage:
                code = "file-missing" if damage[0].endswith(" is missing") else "checksum-mismatch"
                raise damaged(self.ref, damage[0], code)
            return own
        cache = self.settings.home / "cache" / "encoders" / self.name / str(self.version)
        folder = cache if to is None else Path(to)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EncoderError(
                "folder-unusable",
                f"the folder cannot be made: {error.strerror}",
                subject=str(folder),
                next_step="name a folder that can be written",
            ) from error
        for file, expected in self.manifest["files"].items():
            target = folder / file
            if target.is_file() and file_sha256(target) == expected["sha256"]:
                continue
            try:
                sound = copy_verified(store, self.place, file, expected["sha256"], target)
            except FileNotFoundError as error:
                raise damaged(self.ref, f"{file} is missing", "file-missing") from error
            if not sound:
                raise damaged(self.ref, f"{file} is not the file that was registered")
        (folder / MANIFEST).write_bytes(manifest_bytes(self.manifest))
        return folder

    def problems(self) -> list[str]:
        """What is wrong with the stored files, one line each; empty where nothing is."""
        extra = open_store(self.settings).files(self.place) - {*self.manifest["files"], MANIFEST}
        return [*self._damage(), *(f"{file} was not registered" for file in sorted(extra))]

    def _damage(self) -> list[str]:
        """Registered files that are missing or changed."""
        store = open_store(self.settings)
        found: list[str] = []
        for file, expected in sorted(self.manifest["files"].items()):
            try:
                with store.open(self.place, file) as source:
                    if sha256_of(source) != expected["sha256"]:
                        found.append(f"{file} is not the file that was registered")
            except FileNotFoundError:
                found.append(f"{file} is missing")
        try:
            with store.open(self.place, MANIFEST) as source:
                if json.loads(source.read()) != self.manifest:
                    found.append(f"{MANIFEST} is not the file that was registered")
        except FileNotFoundError:
            found.append(f"{MANIFEST} is missing")
        except ValueError:
            found.append(f"{MANIFEST} is not the file that was registered")
        return found


def damaged(ref: str, message: str, code: str = "checksum-mismatch") -> EncoderError:
    """The error of a stored file that is not what was registered."""
    return EncoderError(
        code,
        message,
        subject=ref,
        next_step=f"swath encoders verify {ref}; restore the file from a backup, or train again",
    )
