"""The encoder catalog: named, versioned weights with a manifest; searched, pulled, promoted, traced.

An encoder is a folder ``model.safetensors``, ``config.json``, ``manifest.json``, ``item.json`` (STAC MLM),
``samples.jsonl.gz`` and ``scenes.json`` (``catalog.lineage``), and a row that makes it visible.
Importing this module brings in no torch, Prefect, Alembic or raster library: a query answers at once.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, tuple_

from catalog import lineage, tables
from catalog.database import chunks, open_database, write
from catalog.encoder import Encoder, damaged
from catalog.encoder_manifest import MANIFEST, as_json, check_folder, complete_manifest, manifest_bytes, words
from catalog.errors import EncoderError
from catalog.mlm import stamp_item
from catalog.settings import Settings, load_settings
from catalog.weights import file_sha256, open_store, sha256_of

__all__ = ["Catalog", "Encoder", "open_catalog"]

ITEM = "item.json"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_table = tables.encoders


class Catalog:
    """Every encoder of one installation."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings

    def search(
        self, text: str | None = None, product: str | None = None, method: str | None = None, limit: int = 50
    ) -> list[Encoder]:
        """Encoders, newest first; every word of ``text`` occurs in name, method, products, bands or title."""
        query = select(_table).order_by(_table.c.created.desc(), _table.c.name, _table.c.version.desc())
        for word in (text or "").lower().split():
            query = query.where(_table.c.words.contains(word, autoescape=True))
        if method is not None:
            query = query.where(_table.c.method == method)
        if product is not None:
            of_product = tables.encoder_products
            query = query.where(
                tuple_(_table.c.name, _table.c.version).in_(
                    select(of_product.c.name, of_product.c.version).where(of_product.c.product == product)
                )
            )
        with self.engine.connect() as connection:
            return self._encoders(connection, connection.execute(query.limit(limit)).mappings())

    def get(self, ref: str) -> Encoder:
        """One encoder: ``NAME`` (its ``production`` alias if set, else the latest version), ``NAME@3``,
        ``NAME@latest`` or ``NAME:alias``.

        Raises
        ------
        EncoderError: ``encoder-not-found``, ``version-not-found``, ``alias-not-found``.
        """
        name, mark, which = _parse(ref)
        with self.engine.connect() as connection:
            versions = (
                connection.execute(select(_table.c.version).where(_table.c.name == name)).scalars().all()
            )
            if not versions:
                raise self._not_found(connection, name)
            aliases = _aliases(connection, name)
            if mark == ":" and which != "latest":
                if which not in aliases:
                    known = ", ".join(sorted(aliases)) or "none"
                    raise EncoderError(
                        "alias-not-found",
                        f"{name} has no alias {which!r}; it has: {known}",
                        subject=ref,
                        next_step=f"swath encoders promote {name}@{max(versions)} --alias {which}",
                    )
                version = aliases[which]
            elif not mark:
                version = aliases.get("production", max(versions))
            elif which == "latest":
                version = max(versions)
            else:
                version = int(which)
            if version not in versions:
                raise EncoderError(
                    "version-not-found",
                    f"{name} has no version {version}; the latest is {max(versions)}",
                    subject=ref,
                    next_step=f"swath encoders search {name}",
                )
            query = select(_table).where(_table.c.name == name, _table.c.version == version)
            return self._encoders(connection, connection.execute(query).mappings())[0]

    def register(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        *,
        name: str,
        metrics: Mapping[str, Any],
        mlm_item: Mapping[str, Any],
        scenes: Iterable[tuple[str, str]] = (),
    ) -> Encoder:
        """Add a folder as the next version of ``name``; the same run identity returns the same encoder.

        Parameters
        ----------
        folder:   ``model.safetensors``, ``config.json`` and, for weights made from cubes, the lineage files
        manifest: what ``catalog.encoder_manifest`` asks of a run; the rest is filled in
        mlm_item: ``catalog.mlm.build_mlm_item``; version, checksums and sizes are filled in
        scenes:   (product, scene id) drawn from; those that the samples name are added

        Raises
        ------
        EncoderError: ``invalid-name``, ``invalid-manifest``, ``unsafe-file``, ``file-missing``,
        ``incomplete-lineage``.
        """
        if not NAME.fullmatch(name):
            raise EncoderError(
                "invalid-name",
                "a name is lower-case letters, digits, dots and hyphens",
                subject=name,
                next_step="rename the encoder in the recipe",
            )
        folder = Path(folder)
        check_folder(folder, name)
        manifest = as_json({**manifest, "metrics": metrics}, name)
        identity = manifest.get("identity")
        with self.engine.connect() as connection:
            made = self._made_by(connection, name, identity)
        if made is not None:
            return made
        drawn = {(product, scene_id) for product, scene_id in scenes}
        licences: list[dict[str, Any]] = []
        samples = manifest.get("samples")
        if (folder / lineage.SAMPLES).is_file():
            samples, of_samples = lineage.scenes_drawn(folder, subject=name)
            licences = lineage.licences(lineage.read_scenes(folder), of_samples) if of_samples else []
            drawn |= of_samples
        manifest = complete_manifest(
            manifest, name=name, samples=samples, licences=licences, created=datetime.now(UTC)
        )
        store = open_store(self.settings)
        with store.stage(folder, name) as staged, write(self.engine, lock="encoders") as connection:
            made = self._made_by(connection, name, identity)
            if made is not None:
                return made
            latest = connection.execute(
                select(func.max(_table.c.version)).where(_table.c.name == name)
            ).scalar()
            version = (latest or 0) + 1
            files = {
                file: dict(entry) for file, entry in staged.files.items() if file not in (ITEM, MANIFEST)
            }
            item = manifest_bytes(stamp_item(mlm_item, name=name, version=version, files=files))
            files[ITEM] = _described(item)
            manifest |= {"version": version, "files": files}
            place = store.publish(staged, name, version, {ITEM: item, MANIFEST: manifest_bytes(manifest)})
            _insert(connection, manifest, place, drawn)
            query = select(_table).where(_table.c.name == name, _table.c.version == version)
            encoder = self._encoders(connection, connection.execute(query).mappings())[0]
        return encoder

    def import_folder(self, folder: Path, *, name: str | None = None) -> Encoder:
        """Register a folder that ``Encoder.pull(to=…)`` made, here or in another installation.

        Its files are checked against its manifest first; run, recipe and lineage come along. Importing what
        one run made twice returns the same version.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            item = json.loads((folder / ITEM).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EncoderError(
                "invalid-manifest",
                f"it is no encoder folder: {error}",
                subject=str(folder),
                next_step="give a folder that `swath encoders pull --to` made",
            ) from error
        for file, expected in manifest["files"].items():
            if not (folder / file).is_file():
                raise damaged(str(folder), f"{file} is missing", "file-missing")
            if file_sha256(folder / file) != expected["sha256"]:
                raise damaged(str(folder), f"{file} is not the file that was registered")
        origin = {key: manifest.get(key) for key in ("name", "version", "created")}
        manifest["imported"] = manifest.get("imported") or origin
        metrics = manifest.get("metrics") or {}
        return self.register(folder, manifest, name=name or origin["name"], metrics=metrics, mlm_item=item)

    def promote(self, ref: str, alias: str = "production") -> Encoder:
        """Point an alias of the encoder's name at this version."""
        if not NAME.fullmatch(alias) or alias == "latest":
            raise EncoderError(
                "invalid-alias",
                "an alias is lower-case letters, digits, dots and hyphens, and `latest` is taken",
                subject=alias,
                next_step="choose another word, e.g. production or candidate",
            )
        encoder = self.get(ref)
        table = tables.encoder_aliases
        with write(self.engine, lock="encoders") as connection:
            connection.execute(delete(table).where(table.c.name == encoder.name, table.c.alias == alias))
            connection.execute(
                insert(table).values(
                    name=encoder.name, alias=alias, version=encoder.version, changed_at=datetime.now(UTC)
                )
            )
        return self.get(encoder.ref)

    def verify(self, ref: str) -> list[str]:
        """Every stored file against its SHA-256: what is wrong, one line each."""
        return self.get(ref).problems()

    def encoders_of_scene(self, scene_id: str, product: str | None = None) -> list[Encoder]:
        """Every encoder that drew from a scene, newest first."""
        of_scene = tables.encoder_scenes
        drew = select(of_scene.c.name, of_scene.c.version).where(of_scene.c.scene_id == scene_id)
        if product is not None:
            drew = drew.where(of_scene.c.product == product)
        query = (
            select(_table)
            .where(tuple_(_table.c.name, _table.c.version).in_(drew))
            .order_by(_table.c.created.desc(), _table.c.name, _table.c.version.desc())
        )
        with self.engine.connect() as connection:
            return self._encoders(connection, connection.execute(query).mappings())

    def lineage(self, ref: str) -> dict[str, Any]:
        """What an encoder was made from, down to each sample's pixels.

        ``{"encoder": "NAME@3", "run": {id, identity, code_version, lock_hash, seeds}, "recipe", "snapshots",
        "licences", "samples": [{sample, product, scene, location, row, sha256, time, href, etag, size,
        licence}]}``; ``href``, ``etag`` and ``size`` are objects by asset key, hrefs unsigned. The lineage
        files are checked against their SHA-256 first.
        """
        encoder = self.get(ref)
        manifest, store = encoder.manifest, open_store(self.settings)
        samples: list[dict[str, Any]] = []
        if lineage.SAMPLES in manifest["files"]:
            for file in (lineage.SAMPLES, lineage.SCENES):
                with store.open(encoder.place, file) as source:
                    if sha256_of(source) != manifest["files"][file]["sha256"]:
                        raise damaged(encoder.ref, f"{file} is not the file that was registered")
            with store.open(encoder.place, lineage.SCENES) as source:
                entries = lineage.read_scenes(source)
            with store.open(encoder.place, lineage.SAMPLES) as source:
                samples = lineage.joined(lineage.read_samples(source), entries)
        run = {key: manifest.get(key) for key in ("identity", "code_version", "lock_hash", "seeds")}
        return {
            "encoder": encoder.ref,
            "run": {"id": manifest.get("run_id"), **run},
            "recipe": manifest.get("recipe"),
            "snapshots": manifest.get("snapshots"),
            "licences": manifest.get("licences"),
            "samples": samples,
        }

    def _made_by(self, connection: Connection, name: str, identity: str | None) -> Encoder | None:
        if identity is None:
            return None
        query = select(_table).where(_table.c.name == name, _table.c.identity == identity)
        found = self._encoders(connection, connection.execute(query).mappings())
        return found[0] if found else None

    def _encoders(self, connection: Connection, rows: Iterable[Mapping[Any, Any]]) -> list[Encoder]:
        found = list(rows)
        aliases: dict[tuple[str, int], list[str]] = {}
        table = tables.encoder_aliases
        for names in chunks(sorted({row["name"] for row in found})):
            for alias in connection.execute(
                select(table).where(table.c.name.in_(names)).order_by(table.c.alias)
            ).mappings():
                aliases.setdefault((alias["name"], alias["version"]), []).append(alias["alias"])
        return [
            Encoder(
                name=row["name"],
                version=row["version"],
                created=row["created"],
                method=row["method"],
                products=tuple(row["manifest"]["products"]),
                aliases=tuple(aliases.get((row["name"], row["version"]), ())),
                manifest=row["manifest"],
                place=row["folder"],
                settings=self.settings,
            )
            for row in found
        ]

    def _not_found(self, connection: Connection, name: str) -> EncoderError:
        names = connection.execute(select(_table.c.name).distinct()).scalars().all()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return EncoderError(
            "encoder-not-found",
            f"there is no encoder of this name{hint}",
            subject=name,
            next_step="swath encoders search",
        )


def open_catalog(settings: Settings | None = None) -> Catalog:
    """The encoder catalog of these settings; of the environment by default."""
    settings = settings or load_settings()
    return Catalog(open_database(settings), settings)


def _parse(ref: str) -> tuple[str, str, str]:
    match = re.fullmatch(rf"({NAME.pattern})(?:(@)(\d+|latest)|(:)({NAME.pattern}))?", ref)
    if match is None:
        raise EncoderError(
            "bad-reference",
            "an encoder is written NAME, NAME@3 or NAME:production",
            subject=ref,
            next_step="swath encoders search",
        )
    return match[1], match[2] or match[4] or "", match[3] or match[5] or ""


def _aliases(connection: Connection, name: str) -> dict[str, int]:
    table = tables.encoder_aliases
    found = connection.execute(select(table.c.alias, table.c.version).where(table.c.name == name))
    return {row[0]: row[1] for row in found}


def _insert(
    connection: Connection, manifest: Mapping[str, Any], place: str, drawn: Iterable[tuple[str, str]]
) -> None:
    key = {"name": manifest["name"], "version": manifest["version"]}
    connection.execute(
        insert(_table).values(
            **key,
            created=datetime.fromisoformat(manifest["created"]),
            method=manifest["method"],
            run_id=manifest.get("run_id"),
            identity=manifest.get("identity"),
            folder=place,
            words=words(manifest),
            manifest=dict(manifest),
        )
    )
    products = [{**key, "product": product} for product in dict.fromkeys(manifest["products"])]
    if products:
        connection.execute(insert(tables.encoder_products), products)
    for portion in chunks(sorted(drawn)):
        rows = [{**key, "product": product, "scene_id": scene_id} for product, scene_id in portion]
        connection.execute(insert(tables.encoder_scenes), rows)


def _described(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
