"""Bars as SVG, without a library: a title, one line per bar, the value beside it, a tick where the target is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["ours", "floor", "peer"]
WIDTH: Final = 760
LABELS: Final = 250
VALUES: Final = 100
ROW: Final = 26
BAR: Final = 16
GAP: Final = 8
LETTER: Final = 8
TOP: Final = 44
BOTTOM: Final = 14
STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}"
    ".ours{fill:#0969da}.floor{fill:#8c959f}.peer{fill:#bf8700}.target{stroke:#cf222e;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#4493f8}.floor{fill:#6e7681}"
    ".peer{fill:#d29922}.target{stroke:#f85149}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: how long, what is written beside it, whose it is, and where its target is, if it has one."""

    label: str
    value: float
    text: str
    kind: Kind = "ours"
    target: float | None = None


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Return an SVG document. Lengths are in proportion to the largest value or target. Raises ValueError for none."""
    if not rows:
        raise ValueError("no bars to draw")
    most = max(max(row.value, row.target or 0.0) for row in rows) or 1.0
    scale = (WIDTH - LABELS - VALUES) / most
    height = TOP + ROW * len(rows) + BOTTOM
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
        ),
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="24">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        lines += _row(row, TOP + ROW * number, scale)
    return "\n".join([*lines, "</svg>", ""])


def _row(row: Bar, y: int, scale: float) -> list[str]:
    length = max(1.0, row.value * scale)
    base = y + BAR - 3
    tick = (row.target or 0.0) * scale
    # The value stands behind the tick where the tick would cross it.
    end = tick if length <= tick < length + GAP + LETTER * len(row.text) else length
    lines = [
        f'<text x="{LABELS - GAP}" y="{base}" text-anchor="end">{escape(row.label)}</text>',
        f'<rect class="{row.kind}" x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
        f'<text x="{LABELS + end + GAP:.1f}" y="{base}">{escape(row.text)}</text>',
    ]
    if row.target is not None:
        x = LABELS + tick
        lines.append(f'<line class="target" x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{y + BAR + 3}"/>')
    return lines
