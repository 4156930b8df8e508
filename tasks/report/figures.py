"""Figures of the report, as SVG that takes its colours from the page around it."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that no chart uses for data; `_svg` turns them into the page's own, so that figures follow its
# light or dark scheme.
INK, MUTED, LINE, ACCENT, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    SURFACE: "var(--surface)",
}
SPLIT_COLOURS = {"pretrain": "#6b8fb5", "probe": "#d9a441", "test": "#c8553d"}
CLASS_COLOURS = (
    "#4a7fb0", "#d9a441", "#2f7f5f", "#c8553d", "#8a6bb1", "#6fae8d", "#b0764f", "#7d8790", "#c77da3",
    "#3f9aa8",
)  # fmt: skip
LAND_COVER_COLOURS = {
    "water": "#3d7fb8", "lake": "#3d7fb8", "conifer": "#1f5f46", "broadleaf": "#4f9d69", "forest": "#2f7f5f",
    "grass": "#9dbb58", "meadow": "#9dbb58", "winter crop": "#d9a441", "summer crop": "#c47f2c",
    "crop": "#d9a441", "soil": "#97694a", "bare": "#97694a", "urban": "#b8453a", "built": "#b8453a",
    "wetland": "#6f8fae", "snow": "#9fb4c4",
}  # fmt: skip
"""A word in a class name → the colour people expect of it; the first that fits counts."""
WORSE = "#c8553d"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}

WIDTH_IN = 9.6
"""Full width of the page's column in inches at 100 dots per inch."""


def _styled(draw: Callable[..., str]) -> Callable[..., str]:
    """Draw in the report's style, whatever the process has set."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> str:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


REGION_GAP_M = 20_000
"""Samples farther apart than this are drawn in panels of their own: to scale, both would be specks."""
PANELS_PER_ROW, MAX_PANELS = 3, 12


def location_map(locations: Any) -> str:
    """Samples as squares to scale, by split; one panel per region of a UTM zone.

    ``locations``: columns ``epsg, x, y, size_m, split`` (metres).
    """
    regions = _regions(locations)[:MAX_PANELS]
    starts = range(0, len(regions), PANELS_PER_ROW)
    return "\n".join(_map_row(regions[start : start + PANELS_PER_ROW], f"map{start}") for start in starts)


def _regions(locations: Any) -> list[tuple[str, Any]]:
    """Title and rows of each group of samples without a wide gap to the next in easting or northing."""
    found: list[tuple[str, Any]] = []
    for zone in sorted(set(locations["epsg"])):
        waiting = [locations[locations["epsg"] == zone]]
        while waiting:
            part = waiting.pop(0)
            for axis in ("x", "y"):
                inside = part.sort_values(axis)
                wide = np.flatnonzero(np.diff(inside[axis].to_numpy()) > REGION_GAP_M)
                if len(wide):
                    waiting = [inside.iloc[: wide[0] + 1], inside.iloc[wide[0] + 1 :], *waiting]
                    break
            else:
                blocks = sorted(set(part["block"])) if "block" in part else []
                name = f" · {blocks[0]}" if len(blocks) == 1 else ""
                found.append((f"EPSG:{zone}{name}", part))
    return found


@_styled
def _map_row(regions: Sequence[tuple[str, Any]], name: str) -> str:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    extents = []
    for _, part in regions:
        extents.append((np.ptp(part["x"]) + part["size_m"].max(), np.ptp(part["y"]) + part["size_m"].max()))
    # The drawing is as wide as its panels need at 3.4 inches of height at most.
    ratio = max(high for _, high in extents) / max(wide for wide, _ in extents)
    panel = min(4.6, 3.4 / max(ratio, 0.2))
    width = min(WIDTH_IN, len(regions) * (panel + 1.3))
    figure, axes = _panels(len(regions), width, (panel * ratio + 0.75) / (width / len(regions)))
    for axis, (title, part) in zip(axes, regions, strict=True):
        west, south = part["x"].min(), part["y"].min()
        for split, colour in SPLIT_COLOURS.items():
            rows = part[part["split"] == split]
            if not len(rows):
                continue
            squares = [
                Rectangle(
                    ((x - west - size / 2) / 1000, (y - south - size / 2) / 1000), size / 1000, size / 1000
                )
                for x, y, size in zip(rows["x"], rows["y"], rows["size_m"], strict=True)
            ]
            axis.add_collection(PatchCollection(squares, facecolor=colour, edgecolor=SURFACE, linewidth=0.6))
            axis.plot([], [], "s", color=colour, markersize=7, label=f"{split}  {len(rows)}")
        axis.autoscale_view()
        axis.set_aspect("equal")
        axis.set_xlabel("km east")
        axis.set_ylabel("km north")
        axis.set_title(title, loc="left")
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, handletextpad=0.2)
    return _svg(figure, name)


@_styled
def spectra_chart(
    spectra: Mapping[str, Mapping[str, NDArray[np.floating]]],
    bands: Sequence[str],
    wavelengths_nm: Sequence[float | None],
    unit: str,
    name: str = "spectra",
) -> str:
    """Mean of every class per band, with the middle half of the samples.

    ``spectra``: class → ``{"mean", "low", "high"}``, each ``(band,)`` in ``unit``; ``name`` tells the
    figure's parts from those of others.
    """
    known = [w is not None and np.isfinite(w) for w in wavelengths_nm]
    optical = all(known) and len(bands) > 2
    x = np.array([float(w or 0) for w in wavelengths_nm]) if optical else np.arange(len(bands), dtype=float)
    order = np.argsort(x, kind="stable")
    figure, (axis,) = _panels(1, WIDTH_IN * 0.72, 0.42)
    for (label, part), colour in zip(spectra.items(), class_colours(list(spectra)), strict=True):
        marker = "o" if len(bands) <= 30 else ""
        for piece in _contiguous(x[order]) if optical else [slice(None)]:
            rows = order[piece]
            axis.fill_between(x[rows], part["low"][rows], part["high"][rows], color=colour, alpha=0.13, lw=0)
            axis.plot(x[rows], part["mean"][rows], color=colour, lw=1.5, marker=marker, ms=3.5)
        axis.plot([], [], color=colour, lw=2, label=label)
    if optical:
        axis.set_xlabel("wavelength, nm")
    else:
        axis.set_xticks(x, bands)
        axis.set_xlim(-0.4, len(bands) - 0.6)
    axis.set_ylabel(unit)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False)
    return _svg(figure, f"spectra-{name}")


def class_colours(names: Sequence[str]) -> list[str]:
    """A colour per class: of its land cover where the name tells, no colour twice while there are others."""
    chosen: list[str] = []
    for name in names:
        fitting = [colour for word, colour in LAND_COVER_COLOURS.items() if word in name.lower()]
        free = [colour for colour in (*fitting[:1], *CLASS_COLOURS) if colour not in chosen]
        chosen.append(free[0] if free else CLASS_COLOURS[len(chosen) % len(CLASS_COLOURS)])
    return chosen


@_styled
def training_chart(steps: Sequence[Mapping[str, Any]], name: str) -> str:
    """Loss, and what collapses with a dead encoder: embedding spread and effective rank, over steps."""
    figure, axes = _panels(3, WIDTH_IN, 0.62)
    for axis, key, title in zip(
        axes,
        ("loss", "embedding_std", "effective_rank"),
        ("loss", "embedding spread  (std × √d)", "effective rank"),
        strict=True,
    ):
        points = [(row["step"], row[key]) for row in steps if row.get(key) is not None]
        axis.set_title(title, loc="left")
        axis.set_xlabel("step")
        if not points:
            axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center", color=MUTED)
            continue
        x, y = np.array(points, float).T
        if len(x) > 40:
            axis.plot(x, y, color=MUTED, lw=0.6, alpha=0.55)
            x, y = _smoothed(x, y)
        axis.plot(x, y, color=ACCENT, lw=1.6)
        if key != "loss":
            axis.set_ylim(0, max(1.05 * float(np.nanmax(y)), 0.05))
        if key == "embedding_std":
            axis.axhline(0.02, color=WORSE, lw=0.9, ls=(0, (4, 3)))
            axis.text(x[-1], 0.02, "dead below", color=WORSE, ha="right", va="bottom", fontsize=7.5)
    return _svg(figure, f"training-{name}")


@_styled
def score_chart(result: Mapping[str, Any]) -> str:
    """Left: one dot per place for the encoder and every baseline. Right: the paired differences.

    ``result``: ``EvaluationResult.to_dict()``.
    """
    names = list(result["per_place"])
    if not any(result["per_place"].values()):
        return ""
    figure, (left, right) = _panels(2, WIDTH_IN, (0.44 * len(names) + 0.7) / (WIDTH_IN / 2), widths=(1, 1))
    offsets = _offsets(sorted({place for values in result["per_place"].values() for place in values}))
    for row, name in enumerate(names):
        values = result["per_place"][name]
        colour = ACCENT if name == "encoder" else MUTED
        _dots(left, values, offsets, row, colour)
    left.set_yticks(range(len(names)), [_readable(name) for name in names])
    left.get_yticklabels()[0].set_fontweight("bold")
    left.set_xlim(-0.03, 1.03)
    left.set_title(f"{_readable(result['place_metric'])}, one dot per place", loc="left")
    right.axvline(0, color=INK, lw=0.9)
    reach = 0.05
    for difference in result["differences"]:
        row = names.index(difference["baseline"])
        values = difference["values"]
        better = {place: value for place, value in values.items() if value >= 0}
        worse = {place: value for place, value in values.items() if value < 0}
        _dots(right, better, offsets, row, ACCENT, mean=False)
        _dots(right, worse, offsets, row, WORSE, mean=False)
        reach = max([reach, *map(abs, values.values())])
        if difference["mean"] is not None:
            right.plot([difference["mean"]] * 2, [row - 0.32, row + 0.32], color=INK, lw=2)
        if difference["interval"]:
            low, high = difference["interval"]["low"], difference["interval"]["high"]
            right.plot([low, high], [row + 0.38] * 2, color=INK, lw=1.2)
    right.set_xlim(-1.08 * reach, 1.08 * reach)
    right.set_yticks([])
    right.set_title("encoder minus baseline, place by place", loc="left")
    for axis in (left, right):
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.grid(axis="x", color=LINE, lw=0.8)
        axis.grid(axis="y", visible=False)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    return _svg(figure, f"scores-{result['name']}")


def png_address(image: NDArray[np.uint8]) -> str:
    """``(y, x, 3)`` or ``(y, x, 4)`` as a PNG in a ``data:`` address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _panels(
    count: int, width: float, ratio: float, widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes side by side; ``ratio`` is the height of one over its width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, width / count * ratio), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False, width_ratios=widths)[0]
    return figure, list(axes)


def _svg(figure: Figure, name: str) -> str:
    """Inline SVG: no document head, no metadata, no addresses; text stays text in the page's font."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    for placeholder, variable in PAGE_COLOURS.items():
        text = text.replace(placeholder, variable)
    # The id of one figure's parts must not meet another's in the same page.
    prefix = re.sub(r"\W", "-", name)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font: \1px var(--sans)", text)
    text = re.sub(r"(<svg[^>]*?) width=\"([\d.]+)pt\" height=\"[\d.]+pt\"", _sized, text, count=1)
    return text


def _sized(match: re.Match[str]) -> str:
    """As wide as drawn at most, narrower where the page is."""
    return (
        f'{match[1]} role="img" style="width: 100%; max-width: {float(match[2]) * 4 / 3:.0f}px; height: auto"'
    )


def _dots(
    axis: Axes,
    values: Mapping[str, float],
    offsets: Mapping[str, float],
    row: int,
    colour: str,
    *,
    mean: bool = True,
) -> None:
    if not values:
        return
    x = np.array(list(values.values()), float)
    y = row + np.array([offsets[place] for place in values])
    axis.scatter(x, y, s=22, color=colour, alpha=0.75, linewidths=0)
    if mean:
        axis.plot([x.mean()] * 2, [row - 0.32, row + 0.32], color=colour, lw=2)


def _offsets(places: Sequence[str]) -> dict[str, float]:
    """The same small height for a place in every row, so that the eye can follow it."""
    spread = np.linspace(-0.22, 0.22, len(places)) if len(places) > 1 else np.zeros(len(places))
    order = np.random.default_rng(0).permutation(len(places))
    return {place: float(spread[order[index]]) for index, place in enumerate(places)}


def _smoothed(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
    width = max(3, len(y) // 20)
    kernel = np.ones(width) / width
    return x[width - 1 :], np.convolve(y, kernel, mode="valid")


def _contiguous(x: NDArray[np.floating]) -> Iterable[slice]:
    """Pieces without a gap far wider than usual: water vapour bands that were left out stay a gap."""
    steps = np.diff(x)
    usual = max(float(np.median(steps)), 1e-9)
    breaks = (np.flatnonzero(steps > 8 * usual) + 1).tolist() if len(x) > 30 else []
    edges = [0, *breaks, len(x)]
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def _readable(name: str) -> str:
    return {"pca": "PCA", "macro_f1": "macro F1"}.get(name, name.replace("-", " ").replace("_", " "))
