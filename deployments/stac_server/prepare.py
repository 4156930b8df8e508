"""Turns a folder of real scenes and an ``archive.yaml`` into an archive folder that the server serves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from catalog.errors import UsageError
from catalog.normalise import read_mtl as read_coefficients
from catalog.products.model import Product
from catalog.products.registry import load_product
from deployments.stac_server.archive_file import ArchiveFile, Override, SceneRule, fill, read_archive_file
from deployments.stac_server.conversions import find_conversion
from deployments.stac_server.folder import ASSET_FILES
from deployments.stac_server.items import (
    AssetFile,
    build_collection,
    build_item,
    check_asset,
    read_header,
)
from deployments.stac_server.label_rasters import write_label_set
from deployments.stac_server.landsat_mtl import (
    completed,
    item_properties,
    missing_coefficients,
    read_mtl,
    sensing_time,
)

FORMAT = 1
STAMP = "prepared.json"
Progress = Callable[[str], None]


@dataclass
class _Scene:
    """A scene while its files are gathered."""

    groups: dict[str, str]
    files: list[AssetFile] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    lineage: dict[str, None] = field(default_factory=dict)


def prepare_folder(scenes: Path, archive_yaml: Path, into: Path, progress: Progress | None = None) -> Path:
    """Write STAC items over the files below ``scenes`` into ``into``; returns ``into``.

    GeoTIFFs are served from where they lie, nothing is copied. Files that need it go through the conversion
    that the rule names; their items carry ``swath:derived`` and a ``swath:lineage``. Products that the
    archive brings are copied to ``into/products``, label sets with their rasters to ``into/labels``;
    ``into/archive.yaml`` describes it to ``catalog.archives.registry.read_archive``, all but its address.
    Called again with nothing changed (archive file, product files, sizes and times of scenes) it does
    nothing.

    Raises
    ------
    UsageError: a field of the archive file is wrong, or a file is not what it says; nothing is left behind.
    """
    archive = read_archive_file(archive_yaml)
    scenes, into = scenes.expanduser().resolve(), into.expanduser().resolve()
    if not scenes.is_dir():
        raise UsageError(
            "no-scenes-folder",
            f"there is no folder {scenes}",
            subject=str(scenes),
            next_step="name the folder that the paths in archive.yaml are below",
        )
    listing = _files_below(scenes)
    stamp = _stamp(archive_yaml, scenes, listing)
    _refuse_foreign_folder(into)
    into.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(into.with_name(f".{into.name}.lock")):
        if _read_stamp(into) == stamp:
            return into
        partial = into.with_name(f".{into.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _prepare(_Preparation(archive, archive_yaml, scenes, listing, partial, into, progress or _silent))
            written = json.dumps({"archive": archive.name, "stamp": stamp})
            (partial / STAMP).write_text(written, encoding="utf-8")
            shutil.rmtree(into, ignore_errors=True)
            partial.rename(into)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return into


def _silent(text: str) -> None:
    """The progress of a caller that wants none."""


def _prepare(preparation: _Preparation) -> None:
    """One GDAL environment for all files, which looks at no directory: readers over HTTP cannot either."""
    import rasterio

    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        preparation.run()


@dataclass
class _Preparation:
    archive: ArchiveFile
    archive_yaml: Path
    scenes: Path
    listing: list[str]
    target: Path
    into: Path
    """Where ``target`` will stand when it is whole."""
    progress: Progress
    asset_files: dict[str, str] = field(default_factory=dict)
    conversion_folders: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        for name in ("items", "collections", "assets", "products", "labels"):
            (self.target / name).mkdir(parents=True)
        for file in _product_files(self.archive_yaml, self.archive):
            shutil.copy(file, self.target / "products" / file.name)
        items: dict[str, list[dict[str, Any]]] = {}
        products: dict[str, Product] = {}
        for number, rule in enumerate(self.archive.scenes):
            product = load_product(rule.product, self.target / "products")
            products[product.id] = product
            made = list(self._items_of(rule, product, f"scenes.{number}"))
            items.setdefault(product.id, []).extend(made)
            self.progress(f"{product.id}: {len(made)} scenes")
        for product_id, documents in items.items():
            self._write(products[product_id], documents)
        for number, label_rule in enumerate(self.archive.labels):
            written = write_label_set(
                label_rule,
                f"labels.{number}",
                self.archive_yaml.parent,
                self.scenes,
                self.listing,
                self.target,
            )
            self.progress(f"labels {written.stem}")
        self._describe()
        (self.target / ASSET_FILES).write_text(json.dumps(self.asset_files, indent=0), encoding="utf-8")

    def _describe(self) -> None:
        description = {
            "name": self.archive.name,
            "title": self.archive.title,
            "filter": "cql2-json",
            "sort": True,
            "page_size": 250,
            "access": "anonymous",
            "product_folder": str(self.into / "products"),
            "notes": self.archive.caveat,
        }
        (self.target / "archive.yaml").write_text(
            yaml.safe_dump(description, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )

    def _write(self, product: Product, documents: list[dict[str, Any]]) -> None:
        ids = [item["id"] for item in documents]
        doubled = (
            sorted({scene_id for scene_id in ids if ids.count(scene_id) > 1})
            if len(set(ids)) < len(ids)
            else []
        )
        if doubled:
            raise UsageError(
                "invalid-archive-file",
                f"scenes: two rules make a scene {doubled[0]} of {product.id}",
                subject=str(self.archive_yaml),
                next_step="make their `scene` templates differ",
            )
        documents.sort(key=lambda item: (item["properties"]["datetime"], item["id"]))
        collection = build_collection(
            product,
            documents,
            title=self.archive.title,
            licence=self.archive.licence,
            attribution=self.archive.attribution,
            caveat=self.archive.caveat,
        )
        (self.target / "collections" / f"{product.id}.json").write_text(
            json.dumps(collection), encoding="utf-8"
        )
        lines = "".join(f"{json.dumps(item)}\n" for item in documents)
        (self.target / "items" / f"{product.id}.ndjson").write_text(lines, encoding="utf-8")

    def _items_of(self, rule: SceneRule, product: Product, where: str) -> Iterator[dict[str, Any]]:
        found: dict[str, _Scene] = {}
        for path, groups, lineage, source in self._usable_files(rule, where):
            scene_id = fill(rule.scene, groups, f"{where}.scene")
            word = fill(rule.band, groups, f"{where}.band")
            key = rule.assets.get(word, word)
            header = read_header(path, wavelengths=rule.wavelengths)
            check_asset(header, product, key, path)
            scene = found.setdefault(scene_id, _Scene(groups))
            scene.files.append(AssetFile(key, self._href(path), header))
            scene.sources.append(source)
            if lineage:
                scene.lineage[lineage] = None
        if not found:
            raise UsageError(
                "no-scenes-found",
                f"{where}.files fits no file below {self.scenes}",
                subject=rule.product,
                next_step=f"correct {where}.files, or name another scenes folder",
            )
        for scene_id, scene in found.items():
            yield self._item(rule, product, scene_id, scene, where)

    def _usable_files(self, rule: SceneRule, where: str) -> Iterator[tuple[Path, dict[str, str], str, str]]:
        """(file to serve, named groups, lineage, source path) for every file of a rule."""
        pattern = re.compile(rule.files)
        convert = find_conversion(rule.convert) if rule.convert else None
        for name in self.listing:
            match = pattern.fullmatch(name)
            if match is None:
                continue
            groups = {key: value for key, value in match.groupdict().items() if value is not None}
            if convert is None:
                yield self.scenes / name, groups, "", name
                continue
            self.progress(f"{rule.convert}: {name}")
            for made in convert(self.scenes / name, rule.options, self._conversion_folder(rule)):
                yield made.path, groups | made.groups, made.lineage, name

    def _conversion_folder(self, rule: SceneRule) -> Path:
        """Rules that differ only in which variables they take share their files."""
        options = {key: value for key, value in rule.options.items() if key not in ("variables", "optional")}
        key = f"{rule.convert} {json.dumps(options, sort_keys=True)}"
        same = [name for name in self.conversion_folders.values() if name.startswith(f"{rule.convert}")]
        name = self.conversion_folders.setdefault(key, f"{rule.convert}{f'-{len(same) + 1}' if same else ''}")
        return self.target / "assets" / name

    def _href(self, path: Path) -> str:
        if path.is_relative_to(self.target):
            return f"/{path.relative_to(self.target).as_posix()}"
        name = f"scenes/{path.relative_to(self.scenes).as_posix()}"
        self.asset_files[name] = str(path)
        return f"/assets/{name}"

    def _item(
        self, rule: SceneRule, product: Product, scene_id: str, scene: _Scene, where: str
    ) -> dict[str, Any]:
        override = _override(rule, scene_id, scene.sources)
        properties: dict[str, Any] = {}
        mtl: dict[str, str] | None = None
        more_assets: dict[str, dict[str, Any]] = {}
        if rule.mtl:
            path = self.scenes / fill(rule.mtl, scene.groups, f"{where}.mtl")
            mtl = read_mtl(path)
            properties |= item_properties(mtl)
            path = self._whole_mtl(path, mtl, scene_id, scene)
            if product.radiometry.rule == "landsat-toa":
                properties["landsat:mtl"] = read_coefficients(
                    path.read_text(encoding="utf-8", errors="replace")
                )
            if (key := f"mtl{path.suffix.lower()}") in product.metadata_assets:
                more_assets[key] = {"href": self._href(path), "type": "text/plain", "roles": ["metadata"]}
        for key, value in rule.properties.items():
            field_name = f"{where}.properties.{key}"
            properties[key] = fill(value, scene.groups, field_name) if isinstance(value, str) else value
        properties["platform"] = override.platform or fill(rule.platform, scene.groups, f"{where}.platform")
        properties["swath:tile"] = override.tile or fill(rule.tile, scene.groups, f"{where}.tile")
        baseline = override.baseline or rule.baseline
        if baseline:
            properties["s2:processing_baseline" if product.id.startswith("sentinel-2") else "version"] = (
                baseline
            )
        if override.cloud_cover is not None:
            properties["eo:cloud_cover"] = override.cloud_cover
        if scene.lineage:
            properties |= {"swath:derived": True, "swath:origin": "derived"}
            properties["swath:lineage"] = "; ".join(scene.lineage)
        properties |= override.properties
        sensed = _sensed(rule, override, mtl, scene_id, scene.groups, where)
        keys = [file.key for file in scene.files]
        if len(set(keys)) < len(keys):
            raise UsageError(
                "invalid-archive-file",
                f"{where}: two files of scene {scene_id} are asset {max(keys, key=keys.count)}",
                subject=scene_id,
                next_step=f"make {where}.scene or {where}.band tell them apart",
            )
        return build_item(scene_id, product, sensed, scene.files, properties, more_assets)

    def _whole_mtl(self, path: Path, mtl: dict[str, str], scene_id: str, scene: _Scene) -> Path:
        """The MTL file, or a completed copy of an old TM one that lacks reflectance coefficients."""
        extra = missing_coefficients(mtl)
        if not extra:
            return path
        copy = self.target / "assets" / "mtl" / f"{scene_id}{path.suffix.lower()}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(completed(path, extra), encoding="utf-8")
        scene.lineage["reflectance and thermal coefficients of its MTL worked out from the radiance ones"] = (
            None
        )
        return copy


def _sensed(
    rule: SceneRule,
    override: Override,
    mtl: dict[str, str] | None,
    scene_id: str,
    groups: dict[str, str],
    where: str,
) -> datetime:
    try:
        if override.datetime:
            when = datetime.fromisoformat(override.datetime)
        elif rule.datetime:
            when = datetime.strptime(fill(rule.datetime, groups, f"{where}.datetime"), rule.datetime_format)
        elif mtl:
            when = sensing_time(mtl)
        else:
            raise ValueError("neither `datetime`, `mtl` nor an override says when it was sensed")
    except (ValueError, KeyError) as error:
        raise UsageError(
            "invalid-archive-file",
            f"{where}.datetime of scene {scene_id}: {error}",
            subject=scene_id,
            next_step=f"correct {where}.datetime, or say it in {where}.overrides",
        ) from error
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _override(rule: SceneRule, scene_id: str, sources: list[str]) -> Override:
    """All overrides that fit, later ones winning field by field."""
    fields: dict[str, Any] = {}
    for pattern, override in rule.overrides.items():
        if any(fnmatchcase(name, pattern) for name in (scene_id, *sources)):
            given = override.model_dump(exclude_unset=True)
            fields |= {**given, "properties": fields.get("properties", {}) | given.get("properties", {})}
    return Override.model_validate(fields)


def _files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _product_files(archive_yaml: Path, archive: ArchiveFile) -> list[Path]:
    if archive.products is None:
        return []
    folder = archive_yaml.parent / archive.products
    if not folder.is_dir():
        raise UsageError(
            "invalid-archive-file",
            f"products: there is no folder {archive.products} beside {archive_yaml.name}",
            subject=str(archive_yaml),
            next_step="correct `products`",
        )
    return sorted(folder.glob("*.yaml"))


def _stamp(archive_yaml: Path, scenes: Path, listing: list[str]) -> str:
    """Changes when the description or any file below the scenes folder that it may use changes."""
    archive = read_archive_file(archive_yaml)
    patterns = [re.compile(rule.files) for rule in archive.scenes]
    patterns += [re.compile(rule.files) for rule in archive.labels]
    if any(rule.mtl for rule in archive.scenes):
        patterns.append(re.compile(r".*MTL\.(txt|json|xml)"))
    digest = hashlib.sha256(f"{FORMAT}\n{scenes}\n".encode())
    labels = [archive_yaml.parent / rule.label_set for rule in archive.labels]
    for file in (archive_yaml, *_product_files(archive_yaml, archive), *labels):
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    for name in listing:
        if any(pattern.fullmatch(name) for pattern in patterns):
            stat = (scenes / name).stat()
            digest.update(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_stamp(into: Path) -> str | None:
    try:
        return str(json.loads((into / STAMP).read_text(encoding="utf-8"))["stamp"])
    except (OSError, ValueError, KeyError):
        return None


def _refuse_foreign_folder(into: Path) -> None:
    """Only what this module made is ever replaced."""
    if into.exists() and not (into / STAMP).is_file() and (not into.is_dir() or any(into.iterdir())):
        raise UsageError(
            "folder-in-use",
            f"{into} holds something else than a prepared archive",
            subject=str(into),
            next_step="name an empty or new folder",
        )
