"""Pictures for the gate's report: a scene's quick-look as a PNG in the page, its histograms as drawings."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from html import escape
from typing import Any

from tasks.gate.result import Exhibit

WIDTH, HEIGHT, BASE = 300, 96, 74
"""Of a histogram, and where its axis lies, in pixels."""


def exhibit_fragment(scene: str, reasons: tuple[str, ...], exhibit: Exhibit) -> str:
    """One quarantined scene: what it looks like and what its numbers look like."""
    listed = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    drawings = "".join(
        f"<figure>{histogram_svg(name, histogram)}</figure>" for name, histogram in exhibit.histograms.items()
    )
    picture = ""
    if exhibit.picture is not None:
        uri = "data:image/png;base64," + base64.b64encode(png(exhibit.picture)).decode("ascii")
        picture = f'<img class="look" src="{uri}" alt="quick-look of {escape(scene)}">'
    return (
        f'<article class="exhibit">{picture}<div><h3><code>{escape(scene)}</code></h3><ul>{listed}</ul>'
        f'<div class="drawings">{drawings}</div></div></article>'
    )


def png(pixels: Any) -> bytes:
    """uint8 ``(y, x, 3)`` as a PNG file."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + pixels[row].tobytes() for row in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def histogram_svg(name: str, histogram: Mapping[str, Any]) -> str:
    """Counts between two ends, in physical units under the stated calibration, with zero marked."""
    low, high, counts = histogram["low"], histogram["high"], histogram["counts"]
    most = max(counts, default=0) or 1
    step = WIDTH / len(counts)
    bars = "".join(
        f'<rect x="{place * step:.1f}" y="{BASE - 56 * count / most:.1f}" width="{step - 0.6:.1f}" '
        f'height="{56 * count / most:.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    decibels = low < -1
    ticks = _ticks(low, high)
    marks = "".join(
        f'<line x1="{_at(tick, low, high):.1f}" x2="{_at(tick, low, high):.1f}" y1="{BASE}" y2="{BASE + 4}"/>'
        f'<text x="{_at(tick, low, high):.1f}" y="{BASE + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    )
    zero = ""
    if low < 0 < high and not decibels:
        at = _at(0, low, high)
        zero = f'<line class="zero" x1="{at:.1f}" x2="{at:.1f}" y1="14" y2="{BASE}"/>'
    unit = "dB" if decibels else "reflectance" if high < 10 else "K"
    label = f"{name}, {unit} by its metadata"
    return (
        f'<svg class="histogram" viewBox="-18 0 {WIDTH + 36} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">'
        f'<text x="0" y="10">{escape(label)}</text>{bars}'
        f'<line x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}"/>{marks}{zero}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    step = (high - low) / 4
    return [round(low + step * number, 3) for number in range(5)]


def _at(value: float, low: float, high: float) -> float:
    return WIDTH * (value - low) / (high - low)
