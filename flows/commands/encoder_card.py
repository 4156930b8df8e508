"""The card of one encoder for people: what it takes, where it comes from, how it scored, how to load it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from catalog.encoder import Encoder, damaged
from catalog.encoder_manifest import CONFIG
from catalog.licences import allowed_together
from catalog.weights import open_store

WIDTH = 100
LABEL = 12
BANDS_NAMED = 24
"""More bands than these are shown as a range of wavelengths."""
UNITS = {"reflectance": "reflectance (0 to 1)", "db": "dB", "kelvin": "kelvin"}
ENCODER, PROBE = "encoder", "logistic"


def card(encoder: Encoder) -> Iterator[str]:
    """Lines of the card.

    Raises
    ------
    EncoderError: ``checksum-mismatch`` or ``file-missing``, where its config is not what was registered.
    """
    manifest, config = encoder.manifest, _config(encoder)
    yield f"{encoder.ref}{f'  ({", ".join(encoder.aliases)})' if encoder.aliases else ''}"
    yield from _field("method", encoder.method)
    yield from _field(
        "made", f"{encoder.created:%Y-%m-%d %H:%M} UTC by run {manifest.get('run_id') or 'none'}"
    )
    if manifest.get("simulated"):
        yield from _field("caveat", "made from simulated scenes; its scores are no measure of quality")
    yield from _section("What it takes", _takes(config))
    yield from _section("Where it comes from", _origin(encoder))
    yield from _section("What its licences allow (facts, no legal advice)", licence_lines(manifest))
    yield from _section("How it scored", _scores(manifest.get("evaluations") or ()))
    yield from _section("Is it alive", _vitality(manifest.get("vitality")))
    yield from _section("Files", _files(encoder))
    yield from _section("Load it", _loading(encoder, config))


def _config(encoder: Encoder) -> dict[str, Any]:
    """``config.json``, read from the store and checked; the weights are left where they are."""
    try:
        with open_store(encoder.settings).open(encoder.place, CONFIG) as source:
            text = source.read()
    except FileNotFoundError as error:
        raise damaged(encoder.ref, f"{CONFIG} is missing", "file-missing") from error
    if hashlib.sha256(text).hexdigest() != encoder.manifest["files"][CONFIG]["sha256"]:
        raise damaged(encoder.ref, f"{CONFIG} is not the file that was registered")
    config: dict[str, Any] = json.loads(text)
    return config


def _takes(config: Mapping[str, Any]) -> Iterator[str]:
    side, bands = config["input_size_px"], config["bands"]
    yield from _field("product", ", ".join(config["products"]))
    yield from _field("bands", f"{len(bands)}: {_bands(config)}")
    yield from _field("units", ", ".join(UNITS.get(unit, unit) for unit in dict.fromkeys(config["units"])))
    metres = f"{side * config['gsd_m']:g} m"
    yield from _field(
        "input", f"(batch, {len(bands)}, {side}, {side}) at {config['gsd_m']:g} m, {metres} on a side"
    )
    yield from _field("gives", f"(batch, {config['feature_dim']}) features")
    own = []
    if config.get("deformable_attention"):
        own.append("with deformable attention")
    if config.get("front_end"):
        own.append(f"behind a {config['front_end']['kind']}")
    kind = f" {' '.join(own)} (see program.pt2)" if own else ", loads with timm alone"
    yield from _field("backbone", f"{config['timm']['name']}{kind}")


def _bands(config: Mapping[str, Any]) -> str:
    names, centres = config["bands"], [nm for nm in config.get("wavelengths_nm") or () if nm is not None]
    if len(names) > BANDS_NAMED and centres:
        return f"{names[0]} … {names[-1]}, {min(centres):.0f} to {max(centres):.0f} nm"
    return ", ".join(names)


def _origin(encoder: Encoder) -> Iterator[str]:
    manifest = encoder.manifest
    for cube, snapshot in (manifest.get("snapshots") or {}).items():
        yield from _field("snapshot", f"{snapshot} of cube {cube}")
    licences = manifest.get("licences") or ()
    scenes = sum(int(entry["scenes"]) for entry in licences)
    if manifest.get("samples"):
        yield from _field(
            "samples", f"{manifest['samples']} of {scenes} scenes; swath encoders lineage {encoder.ref}"
        )
    for entry in licences:
        yield from _field(
            "licence", f"{entry['licence']}, {entry['scenes']} scenes. {entry['attribution']}".strip()
        )
    yield from _field("recipe", (manifest.get("recipe") or {}).get("name"))
    yield from _field("code", manifest.get("code_version"))
    yield from _field("seeds", ", ".join(map(str, manifest.get("seeds") or ())))
    yield from _field("began with", manifest.get("started_from") or "random weights")
    if manifest.get("transductive"):
        yield from _field("caveat", "it also learnt from places that it is judged at (transductive)")
    imported = manifest.get("imported")
    if imported:
        yield from _field("imported", f"from {imported['name']}@{imported['version']}")


def licence_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the licences of the scenes allow together, and apart from it those of the labels."""
    licences = manifest.get("licences") or ()
    # A manifest that was written before this was stated says it by its licences.
    allows = manifest.get("allows") or allowed_together(entry["licence"] for entry in licences)
    yield from _field("pixels", f"handing them on: {_answer(allows['redistribution'])}")
    yield from _field("commercial", _answer(allows["commercial_use"]))
    naming = _answer(allows["attribution_required"])
    credits = dict.fromkeys(entry["attribution"] for entry in licences if entry["attribution"])
    yield from _field("naming", f"{naming}{f': {"; ".join(credits)}' if credits else ''}")
    if allows["share_alike"]:
        yield from _field("share alike", "what is derived carries the same licence")
    for statement in allows["weights"]:
        yield from _field("weights", statement)
    if allows["unknown"]:
        yield from _field("not known", "; ".join(allows["unknown"]))
    for source in allows["sources"]:
        yield from _field("see", source)
    for labels in manifest.get("evaluated_on") or ():
        terms = labels["allows"]
        yield from _field(
            "labels",
            f"{labels['label_set']} ({labels['licence']}), commercial use: "
            f"{_answer(terms['commercial_use'])}; labels are no part of the weights",
        )


def _answer(answer: str) -> str:
    return "unknown, ask the licensor" if answer == "unknown" else answer


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not evaluations:
        yield "  it was judged on no task"
    for task in evaluations:
        yield (
            f"  {task['name']}: {_words(task['metric'])}, {task['places']} places, "
            f"{task['test_samples']} samples, {_count(task['seeds'], 'seed')}"
        )
        for source, probes in task["scores"].items():
            value = (probes.get(PROBE) or {}).get(task["metric"]) or {}
            mark = "*" if source == ENCODER else " "
            yield f"   {mark} {_words(source):<18} {_number(value.get('mean'), value.get('std'))}"
        for difference in task["differences"]:
            yield from _paragraph(f"encoder, {difference['text']}")
        for said in (*task["notes"], task["caveat"], *_reservations(task)):
            if said:
                yield from _paragraph(f"note: {said}")


def _reservations(task: Mapping[str, Any]) -> Iterator[str]:
    if task.get("transductive"):
        yield "the encoder has learnt from judged places"
    if not task.get("draws_known", True):
        yield "where the encoder learnt is not on record, so overlap cannot be excluded"
    if not task["published"] and not any("not to be quoted" in note for note in task["notes"]):
        yield "not to be quoted as quality"


def _vitality(vitality: Mapping[str, Any] | None) -> Iterator[str]:
    if not vitality:
        yield "  not measured"
        return
    partner = "at another date" if vitality["retrieval_pairs"] == "dates" else "turned by 180°"
    yield from _field("samples", vitality["samples"])
    yield from _field("spread", f"{vitality['spread']:.2f} (untrained about 0.4, collapsed about 0.001)")
    yield from _field(
        "retrieval",
        f"the same place {partner} first in {vitality['top1']:.0%} of {vitality['retrieval_places']} places, "
        f"by chance {vitality['top1_chance']:.0%}",
    )
    yield from _field("response", f"{vitality['response_swap']:.2f} to another input (a dead one: 0)")
    if vitality["weight_distance"] is not None:
        yield from _field("moved", f"{vitality['weight_distance']:.2g} of the weights' norm since the start")


def _files(encoder: Encoder) -> Iterator[str]:
    for name, entry in sorted(encoder.manifest["files"].items()):
        yield f"  {name:<20} {entry['size']:>12,} bytes  sha256 {entry['sha256'][:16]}…"
    yield from _field("check", f"swath encoders verify {encoder.ref}")


def _loading(encoder: Encoder, config: Mapping[str, Any]) -> Iterator[str]:
    taken = f"(batch, {len(config['bands'])}, {config['input_size_px']}, {config['input_size_px']})"
    yield "  from catalog import open_catalog; from models import load_encoder"
    yield f'  model = load_encoder(open_catalog().get("{encoder.ref}"))'
    yield f"  features = model(values)  # {taken} in the units above"


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from lines


def _field(label: str, value: Any) -> Iterator[str]:
    if value in (None, ""):
        return
    first, *rest = wrap(str(value), WIDTH - LABEL - 2, break_long_words=False, break_on_hyphens=False)
    yield f"  {label:<{LABEL}}{first}"
    for line in rest:
        yield f"  {'':<{LABEL}}{line}"


def _paragraph(text: str) -> Iterator[str]:
    for index, line in enumerate(wrap(text, WIDTH - 6, break_on_hyphens=False)):
        yield f"     {'  ' if index else ''}{line}"


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _number(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "not defined"
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"
