"""The gate's report: what was refused and how it looks; every scene, check, value and limit; one HTML page.

Great Expectations' own pages name hosts on the web; this one needs nothing but itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.gate.exhibits import exhibit_fragment
from tasks.gate.result import Exhibit

if TYPE_CHECKING:
    from tasks.gate.result import GateResult, GateRow

MOST_EXHIBITS = 60
"""Scenes shown with pictures; what is wrong with thousands is told by the first of them."""

STYLE = """
.gate{--ink:#1d2430;--soft:#5c6675;--line:#d8dde4;--bad:#a83a26;--bad-bg:#fbeae6;--ground:#fff;--panel:#f6f7f9;
 --bar:#5b7fa8;color:var(--ink);background:var(--ground);font:14px/1.45 system-ui,sans-serif}
@media (prefers-color-scheme:dark){.gate{--ink:#e4e8ee;--soft:#98a3b3;--line:#39424f;--bad:#f0937f;
 --bad-bg:#44241e;--ground:#161b22;--panel:#1e252e;--bar:#7fa6d1}}
.gate h2{font-size:20px;margin:0 0 6px}.gate h3{font-size:14px;margin:0 0 4px;overflow-wrap:anywhere}
.gate h4{font-size:15px;margin:26px 0 8px}.gate p{margin:0 0 12px;color:var(--soft);max-width:75ch}
.gate .wide{overflow-x:auto}
.gate table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
.gate th,.gate td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
.gate thead th{vertical-align:bottom;min-width:86px}
.gate th small{display:block;font-weight:normal;color:var(--soft)}
.gate th:first-child,.gate td:first-child{position:sticky;left:0;background:var(--ground);min-width:210px;
 overflow-wrap:anywhere}
.gate td.bad{color:var(--bad);background:var(--bad-bg);font-weight:600}
.gate td:last-child{min-width:280px}.gate td.none{color:var(--soft)}
.gate ul{margin:0;padding-left:16px}.gate code{font-size:12px}
.gate .exhibit{display:flex;gap:16px;background:var(--panel);border:1px solid var(--line);border-radius:6px;
 padding:12px;margin:0 0 10px}
.gate .exhibit>div{min-width:0}
.gate .look{width:144px;height:auto;flex:none;align-self:flex-start;border-radius:3px;
 image-rendering:pixelated}
.gate .drawings{display:flex;flex-wrap:wrap;gap:14px;margin-top:8px}.gate figure{margin:0}
.gate .histogram{width:320px;max-width:100%;height:auto;font:11px system-ui,sans-serif;fill:var(--soft)}
.gate .histogram rect{fill:var(--bar)}.gate .histogram line{stroke:var(--soft);stroke-width:1}
.gate .histogram .zero{stroke:var(--bad);stroke-dasharray:3 3}
@media (max-width:640px){.gate .exhibit{flex-direction:column}}
"""
PAGE_STYLE = """
:root{color-scheme:light dark}body{margin:0;padding:24px;background:#fff}
@media (prefers-color-scheme:dark){body{background:#161b22}}
"""


def gate_fragment(result: GateResult) -> str:
    """The report as an HTML fragment with its own style, to be put into another page."""
    checks = list(dict.fromkeys((row.check, row.title, row.limit) for row in result.table))
    by_scene: dict[str, dict[str, GateRow]] = {}
    for row in result.table:
        by_scene.setdefault(row.scene, {})[row.check] = row
    scenes = [*sorted(result.quarantined), *sorted(result.accepted)]
    refused, total = len(result.quarantined), len(scenes)
    return "\n".join(
        [
            f"<style>{STYLE}</style>",
            '<section class="gate">',
            f"<h2>Gate of {escape(result.product)}</h2>",
            f"<p>{total - refused} of {total} new scenes accepted, {refused} quarantined. A quarantined one "
            "is not read; it stays in the ledger with its reasons, and can be replayed.</p>",
            _radiometry(result),
            *_exhibits(result),
            "<h4>Every check</h4>" if scenes else "",
            '<div class="wide"><table>',
            _head(checks),
            "<tbody>",
            *(_line(scene, checks, by_scene.get(scene, {}), result) for scene in scenes),
            "</tbody></table></div>",
            "</section>",
        ]
    )


def gate_page(result: GateResult) -> str:
    """The report as a whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Gate of {escape(result.product)}</title><style>{PAGE_STYLE}</style></head>\n"
        f"<body>\n{gate_fragment(result)}\n</body></html>\n"
    )


def write_report(result: GateResult, path: Path) -> Path:
    """Write the page; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(gate_page(result), encoding="utf-8")
    return path


def _radiometry(result: GateResult) -> str:
    if not result.radiometry:
        return ""
    counts = Counter(result.radiometry.values())
    return (
        f"<p>Scale and offset against the pixels: agrees {counts['agrees']}, contradicts "
        f"{counts['contradicts']}, undecidable {counts['undecidable']} (accepted if all else is well).</p>"
    )


def _exhibits(result: GateResult) -> list[str]:
    if not result.quarantined:
        return []
    shown = sorted(result.quarantined)[:MOST_EXHIBITS]
    parts = ["<h4>Quarantined</h4>"]
    parts += [
        exhibit_fragment(scene, result.quarantined[scene], result.exhibits.get(scene, Exhibit()))
        for scene in shown
    ]
    left = len(result.quarantined) - len(shown)
    return [*parts, f"<p>and {left} more, in the table below.</p>"] if left else parts


def _head(checks: Sequence[tuple[str, str, str]]) -> str:
    cells = "".join(f"<th>{escape(title)}<small>{escape(limit)}</small></th>" for _, title, limit in checks)
    return f"<thead><tr><th>scene</th><th>verdict</th>{cells}<th>reasons</th></tr></thead>"


def _line(
    scene: str, checks: Sequence[tuple[str, str, str]], rows: dict[str, GateRow], result: GateResult
) -> str:
    reasons = result.quarantined.get(scene, ())
    verdict = '<td class="bad">quarantined</td>' if reasons else "<td>accepted</td>"
    cells = []
    for check, _, _ in checks:
        row = rows.get(check)
        if row is None:
            cells.append('<td class="none">not measured</td>')
        elif row.passed:
            cells.append(f"<td>{escape(row.value)}</td>")
        else:
            cells.append(f'<td class="bad">✕ {escape(row.value)}</td>')
    listed = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    why = f"<td><ul>{listed}</ul></td>" if listed else "<td></td>"
    return f"<tr><td><code>{escape(scene)}</code></td>{verdict}{''.join(cells)}{why}</tr>"
