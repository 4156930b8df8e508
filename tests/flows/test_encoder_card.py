"""What the card of an encoder says of licences."""

from __future__ import annotations

from typing import Any

from catalog.licences import allowed_together
from catalog.products import load_product
from flows.commands.encoder_card import licence_lines

S2, ENMAP = load_product("sentinel-2-l2a"), load_product("enmap-l2a")


def manifest(*licences: str, **more: Any) -> dict[str, Any]:
    entries = [
        {"licence": text, "attribution": f"by {n}", "products": ["x"], "scenes": 1}
        for n, text in enumerate(licences)
    ]
    return {"licences": entries, "allows": allowed_together(licences)} | more


def test_the_strictest_licence_decides_and_every_source_is_named() -> None:
    text = "\n".join(licence_lines(manifest(S2.licence, ENMAP.licence)))
    assert "handing them on: no" in text and "unknown, ask the licensor" in text
    assert "by 0; by 1" in text
    assert "Sentinel_Data_Legal_Notice" in text and "EnMAP-Data_License" in text


def test_a_licence_that_is_not_known_is_shown_as_it_is_worded() -> None:
    text = "\n".join(licence_lines(manifest("house rules of ACME")))
    assert "not known" in text and "house rules of ACME" in text


def test_labels_stand_apart_from_the_weights() -> None:
    labels = {
        "label_set": "oscd-change",
        "licence": "CC BY-NC-SA",
        "attribution": "",
        "allows": allowed_together(["CC BY-NC-SA"]),
    }
    text = " ".join(" ".join(licence_lines(manifest(S2.licence, evaluated_on=[labels]))).split())
    assert "commercial yes" in text
    assert "oscd-change (CC BY-NC-SA), commercial use: no; labels are no part of the weights" in text


def test_a_manifest_from_before_says_it_by_its_licences() -> None:
    older = manifest(S2.licence)
    assert list(licence_lines({"licences": older["licences"]})) == list(licence_lines(older))
