"""Licences of scenes and labels: what is known of each, and what remains allowed when many come together.

Facts as the licensors state them, with the page where they do; no legal advice. What is not known here is
``unknown``, and the one who wants to publish must ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Answer = Literal["yes", "no", "unknown"]

UNNAMED = frozenset({"", "proprietary", "other", "various", "unknown", "none"})
"""What STAC's ``license`` holds where the licence has no SPDX id: it says nothing by itself."""

WEIGHTS_FREE = "the terms place no condition on what is derived from the pixels beyond naming the source"
WEIGHTS_SILENT = "the terms do not speak of weights trained on the pixels; ask the licensor before publishing"


@dataclass(frozen=True)
class Licence:
    """One licence."""

    id: str
    """SPDX id, or a name of its own."""
    redistribution: Answer
    """Whether the pixels (or labels) themselves may be handed on."""
    commercial_use: Answer
    attribution_required: Answer
    share_alike: bool
    """Whether what is derived must carry the same licence."""
    weights: str
    """What it says of weights trained on it, in words."""
    source: str
    """Where the licensor states it."""
    names: tuple[str, ...] = ()
    """Patterns of what texts and links call it; matched anywhere, whatever the case."""

    def matches(self, text: str) -> bool:
        """Whether a licence text, title or link names this one."""
        plain = text.strip().lower()
        return plain == self.id.lower() or any(re.search(name, plain) for name in self.names)

    def facts(self) -> dict[str, Any]:
        """A JSON document: what it allows, and where that is stated."""
        return {
            "id": self.id,
            "redistribution": self.redistribution,
            "commercial_use": self.commercial_use,
            "attribution_required": self.attribution_required,
            "share_alike": self.share_alike,
            "weights": self.weights,
            "source": self.source,
        }


UNKNOWN = Licence("unknown", "unknown", "unknown", "unknown", False, WEIGHTS_SILENT, "")

LICENCES: tuple[Licence, ...] = (
    # Labels come with the strictest terms, often in one line with the pixels': they are looked for first.
    Licence(
        "CC-BY-NC-SA-4.0",
        "yes",
        "no",
        "yes",
        True,
        "whether weights are adapted material is not settled; take it that they are not for commercial use",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
        (r"by-nc-sa",),
    ),
    Licence(
        "CC-BY-NC-4.0",
        "yes",
        "no",
        "yes",
        False,
        "whether weights are adapted material is not settled; take it that they are not for commercial use",
        "https://creativecommons.org/licenses/by-nc/4.0/",
        (r"by-nc(?!-)", r"non-?commercial"),
    ),
    Licence(
        "EnMAP-Data-License",
        "no",
        "unknown",
        "yes",
        False,
        WEIGHTS_SILENT,
        "https://geoservice.dlr.de/resources/licenses/enmap/EnMAP-Data_License_v1_1.pdf",
        (r"enmap.{0,3}data.{0,3}licen",),
    ),
    Licence(
        "Copernicus-Sentinel",
        "yes",
        "yes",
        "yes",
        False,
        WEIGHTS_FREE,
        "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
        (r"copernicus sentinel data", r"sentinel_data_(legal_notice|terms_and_conditions)"),
    ),
    Licence(
        "USGS-public-domain",
        "yes",
        "yes",
        "no",
        False,
        WEIGHTS_FREE,
        "https://www.usgs.gov/core-science-systems/hdds/data-policy",
        (r"public domain.*usgs", r"usgs.*public domain", r"usgs\.gov/.*data-policy"),
    ),
    Licence(
        "CC-BY-SA-4.0",
        "yes",
        "yes",
        "yes",
        True,
        "whether weights are adapted material is not settled",
        "https://creativecommons.org/licenses/by-sa/4.0/",
        (r"by-sa",),
    ),
    Licence(
        "CC-BY-4.0",
        "yes",
        "yes",
        "yes",
        False,
        WEIGHTS_FREE,
        "https://creativecommons.org/licenses/by/4.0/",
        (r"\bcc.?by.?4", r"creativecommons\.org/licenses/by/4"),
    ),
    Licence(
        "CC0-1.0",
        "yes",
        "yes",
        "no",
        False,
        WEIGHTS_FREE,
        "https://creativecommons.org/publicdomain/zero/1.0/",
        (r"\bcc-?0\b", r"publicdomain/zero"),
    ),
    Licence(
        "PDDL-1.0", "yes", "yes", "no", False, WEIGHTS_FREE, "https://opendatacommons.org/licenses/pddl/1-0/"
    ),
    Licence(
        "ODC-By-1.0", "yes", "yes", "yes", False, WEIGHTS_FREE, "https://opendatacommons.org/licenses/by/1-0/"
    ),
    Licence(
        "CDLA-Permissive-1.0",
        "yes",
        "yes",
        "yes",
        False,
        "it places no condition on results, which trained models are",
        "https://cdla.dev/permissive-1-0/",
    ),
    Licence(
        "dl-de-by-2.0",
        "yes",
        "yes",
        "yes",
        False,
        WEIGHTS_FREE,
        "https://www.govdata.de/dl-de/by-2-0",
        (r"dl-de[-/]by-2[-.]0",),
    ),
    Licence(
        "MIT",
        "yes",
        "yes",
        "yes",
        False,
        WEIGHTS_FREE,
        "https://opensource.org/license/mit",
        (r"^mit licen[cs]e",),
    ),
    Licence(
        "Apache-2.0", "yes", "yes", "yes", False, WEIGHTS_FREE, "https://www.apache.org/licenses/LICENSE-2.0"
    ),
)
"""Strictest first: a text that names several is taken at its strictest."""


def known_licence(text: str) -> Licence:
    """The licence that a text or link names; ``UNKNOWN`` where it names none that is known."""
    return next((licence for licence in LICENCES if licence.matches(text)), UNKNOWN)


def collection_licence(collection: Mapping[str, Any]) -> str | None:
    """What a STAC collection is licensed under; None where it states nothing that helps.

    ``license`` is mostly ``proprietary`` or ``other``, which says: look at the link.
    """
    stated = collection.get("license")
    if isinstance(stated, str) and stated.strip().lower() not in UNNAMED:
        return stated.strip()
    for link in _objects(collection.get("links")):
        if link.get("rel") == "license":
            words = f"{link.get('href') or ''} {link.get('title') or ''}"
            if (found := known_licence(words)) is not UNKNOWN:
                return found.id
    return None


def collection_attribution(collection: Mapping[str, Any], sensed: datetime | None = None) -> str | None:
    """How a STAC collection wants to be cited: ``sci:citation`` with the year, else its makers' names."""
    citation = collection.get("sci:citation")
    if isinstance(citation, str) and citation.strip():
        return citation.strip().replace("[Year]", str(sensed.year) if sensed else "[year]")
    named = [
        str(provider["name"])
        for provider in _objects(collection.get("providers"))
        if isinstance(provider.get("name"), str)
        and any(role in str(provider.get("roles")) for role in ("producer", "licensor", "processor"))
    ]
    return ", ".join(dict.fromkeys(named)) or None


def allowed_together(licences: Iterable[str]) -> dict[str, Any]:
    """What remains allowed where several licences hold at once: the most restrictive answer wins.

    ``no`` beats ``unknown`` beats ``yes`` for what one may do; for what one must do, ``yes`` beats
    ``unknown`` beats ``no``. Without any licence everything is unknown.

    Returns ``redistribution``, ``commercial_use``, ``attribution_required`` (each ``yes``, ``no`` or
    ``unknown``), ``share_alike``, ``weights`` (each statement once, strictest licence first), ``sources``,
    and ``unknown``: the texts that are not known here.
    """
    texts = list(dict.fromkeys(licences))
    found = [known_licence(text) for text in texts] or [UNKNOWN]
    ranked = sorted(dict.fromkeys(found), key=lambda x: LICENCES.index(x) if x in LICENCES else -1)
    return {
        "redistribution": _strictest((x.redistribution for x in found), "no"),
        "commercial_use": _strictest((x.commercial_use for x in found), "no"),
        "attribution_required": _strictest((x.attribution_required for x in found), "yes"),
        "share_alike": any(x.share_alike for x in found),
        "weights": list(dict.fromkeys(x.weights for x in ranked)),
        "sources": [x.source for x in ranked if x.source],
        "unknown": [text for text in texts if known_licence(text) is UNKNOWN],
    }


def licences_of(scenes: Iterable[Any]) -> list[dict[str, Any]]:
    """Per licence and attribution of some scenes: ``{licence, attribution, products, scenes, facts}``."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for scene in scenes:
        entry = entries.setdefault(
            (scene.licence, scene.attribution),
            {"licence": scene.licence, "attribution": scene.attribution, "products": [], "scenes": 0},
        )
        entry["scenes"] += 1
        if scene.product not in entry["products"]:
            entry["products"] = sorted([*entry["products"], scene.product])
    return [entries[key] | {"facts": known_licence(key[0]).facts()} for key in sorted(entries)]


def snapshot_licences(cube: Any, snapshot: str | None = None) -> dict[str, Any]:
    """What the scenes of one snapshot ask for together, from the cube's own list of scenes.

    Returns ``{"licences": licences_of(…), "allows": allowed_together(…)}``.
    """
    scenes = [
        scene for product in cube.products(snapshot) for scene in cube.scenes(product, snapshot).values()
    ]
    return {
        "licences": licences_of(scenes),
        "allows": allowed_together(sorted({scene.licence for scene in scenes})),
    }


def _strictest(answers: Iterable[Answer], worst: Answer) -> Answer:
    given = set(answers)
    if worst in given:
        return worst
    if "unknown" in given:
        return "unknown"
    return "yes" if worst == "no" else "no"


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [part for part in value if isinstance(part, Mapping)] if isinstance(value, list) else []
