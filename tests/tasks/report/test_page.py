"""The report is one file that shows what the run made, and claims no more than the places allow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from models.vitality import Vitality
from tasks.evaluate.encoder import EvaluationResult, evaluate_encoder
from tasks.register.check_vitality import check_vitality
from tasks.report import ReportParts, class_spectra, location_table, quicklook, write_report
from tasks.report.page import gate_summary, number, read_metrics
from tests.tasks import judged_cube
from tests.tasks.judged_cube import CLASSES, PRODUCT, SPECTRA, Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with judged_cube.workshop(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def result(shop: Workshop) -> EvaluationResult:
    recipe = judged_cube.recipe({})
    return evaluate_encoder(
        shop.encoder, recipe.evaluate[0], recipe, shop.cube, shop.cube.snapshot(), shop.labels, name="toy-vit"
    )


@pytest.fixture(scope="module")
def vitality(shop: Workshop) -> Vitality:
    return check_vitality(shop.encoder, shop.cube, shop.cube.snapshot(), initial_weights=shop.initial_weights)


@pytest.fixture(scope="module")
def page(
    shop: Workshop,
    result: EvaluationResult,
    vitality: Vitality,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    folder = tmp_path_factory.mktemp("run")
    log = folder / "metrics.jsonl"
    log.write_text(
        "".join(
            json.dumps({"step": step, "loss": 5 / (1 + step), "embedding_std": 0.5, "effective_rank": 9.0})
            + "\n"
            for step in range(60)
        )
    )
    picture = quicklook(shop.cube, PRODUCT)
    spectra = class_spectra(shop.cube, PRODUCT, shop.labels)
    assert picture is not None and spectra is not None
    path = write_report(
        folder,
        ReportParts(
            title="A run <of> the tests",
            facts={"run": "run-1", "scenes": 12345},
            simulated=True,
            recipe=judged_cube.recipe({}),
            locations=location_table(shop.cube),
            quicklooks={PRODUCT.id: picture},
            spectra={PRODUCT.id: spectra},
            gate=[
                {"scene": "a", "product": PRODUCT.id, "state": "cubed", "reasons": []},
                {
                    "scene": "b",
                    "product": PRODUCT.id,
                    "state": "quarantined",
                    "reasons": ["cloud: 99 % <all>"],
                },
            ],
            training={"toy-vit": log},
            encoders=[
                {
                    "name": "toy-vit@1",
                    "key": "toy-vit",
                    "method": "two-dates",
                    "vitality": vitality.to_dict(),
                    "promotion": {"promote": True, "why": "the first version"},
                },
                {"name": "dead-one", "refused": ["features are constant: 0.0004"]},
            ],
            evaluations=[result],
            next_commands=["swath encoders show toy-vit"],
            sources=["made up, CC0-1.0"],
        ),
    )
    assert path == folder / "report.html"
    assert [file.name for file in folder.iterdir() if file.suffix == ".part"] == []
    return path.read_text(encoding="utf-8")


class _Outline(HTMLParser):
    """Notes addresses, ids, headings' text and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img", "link", "input"):
            self.open.append(tag)
        for name, value in attributes:
            if name in ("href", "src") or name.endswith(":href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "br", "img", "link", "input"):
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def outline(page: str) -> _Outline:
    parser = _Outline()
    parser.feed(page)
    return parser


def test_the_page_needs_no_other_file_and_no_host(page: str, outline: _Outline) -> None:
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", re.sub(r"data:[^\"']+", "", page))
    for address in outline.addresses:
        assert address.startswith(("#", "data:image/png;base64,"))
        if address.startswith("#"):
            assert address[1:] in outline.ids
    assert "<script" not in page


def test_the_page_is_well_formed_and_its_ids_are_unique(outline: _Outline) -> None:
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))


def test_what_comes_from_outside_is_escaped(page: str) -> None:
    assert "A run &lt;of&gt; the tests" in page
    assert "&lt;all&gt;" in page


def test_every_piece_is_there(outline: _Outline) -> None:
    text = " ".join(" ".join(outline.words).split())  # a narrow space becomes a plain one
    for expected in (
        "Simulated scenes", "Where the samples lie", "What the gate let through", "cloud",
        "What they look like", "Spectra by class", *CLASSES.values(), "Is it alive?",
        "the first version", "Not registered",
        "features are constant: 0.0004", "Scores of frozen features", "random weights", "image statistics",
        "swath encoders show toy-vit", "CC0-1.0", "12 345",
    ):  # fmt: skip
        assert expected in text, expected


def test_below_fifteen_places_the_page_claims_no_interval(
    outline: _Outline, result: EvaluationResult
) -> None:
    assert result.places < 15
    assert not re.search(r"95\s*%", " ".join(outline.words))


def test_figures_take_their_colours_from_the_page(page: str) -> None:
    assert page.count("<svg") == 4
    assert "var(--ink)" in page and "prefers-color-scheme: dark" in page
    for placeholder in ("#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"):
        assert placeholder not in page


def test_pieces_that_are_left_out_leave_their_sections_out(tmp_path: Path) -> None:
    text = write_report(tmp_path, ReportParts(title="Nothing yet")).read_text(encoding="utf-8")
    assert "<section" not in text
    assert "Nothing yet" in text


def test_a_quicklook_shows_places_beside_each_other_and_dates_below(shop: Workshop) -> None:
    picture = quicklook(shop.cube, PRODUCT, columns=5)
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * 96 + 3, 5 * 96 + 4 * 3, 4)
    assert (picture[:96, :96, 3] == 255).all() and (picture[96:99, :, 3] == 0).all()
    assert picture[..., :3].std() > 20


def test_class_spectra_are_those_of_the_ground(shop: Workshop) -> None:
    found = class_spectra(shop.cube, PRODUCT, shop.labels)
    assert found is not None
    assert list(found.spectra) == list(CLASSES.values())
    assert found.unit == "reflectance"
    assert found.wavelengths_nm == (560, 665, 842, 1610)
    for truth, part in zip(SPECTRA, found.spectra.values(), strict=True):
        # Half of some samples turned bright at the second date.
        assert np.all(np.abs(part["mean"] - truth) < 0.09)
        assert np.all(part["low"] <= part["high"])


def test_the_gate_is_summed_up_by_product_state_and_reason() -> None:
    rows = [
        {"scene": "a", "product": "x", "state": "cubed", "reasons": []},
        {"scene": "b", "product": "x", "state": "quarantined", "reasons": ["cloud: 99 %", "nodata: 95 %"]},
        {"scene": "c", "product": "y", "state": "quarantined", "reasons": ["cloud: 97 %"]},
    ]
    summary = gate_summary(rows)
    assert summary["products"] == {"x": {"cubed": 1, "quarantined": 1}, "y": {"quarantined": 1}}
    assert summary["states"] == ["quarantined", "cubed"]
    assert summary["reasons"] == [("cloud", 2), ("nodata", 1)]
    assert summary["refused_count"] == 2


def test_a_half_written_last_line_of_the_metrics_is_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(log) == [{"step": 1, "loss": 2.0}]
    assert read_metrics(tmp_path / "missing.jsonl") == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.12345, "0.123"), (1234567, "1\u202f234\u202f567"), (1e-6, "1e-06"),
     (104.3, "104.3"), (True, "yes"), ("x", "x")],
)  # fmt: skip
def test_numbers_are_written_as_a_reader_wants_them(value: object, text: str) -> None:
    assert number(value) == text
