"""Small charts as SVG that the Dagster UI renders inside Markdown metadata, without a server.

Belongs here: drawing. Does not belong here: choosing what is drawn.

The UI shows Markdown in place only below 1,000 characters, and longer text behind a link. So a chart
is drawn with few characters: one outline for all bars, and percent-encoding, which is shorter than
Base64 for SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

IN_PLACE = 1000
"""Markdown of fewer characters is shown in place."""

WIDTH, HEIGHT = 440, 132
_TOP, _BASE = 18, 114  # of the bars
_UNRESERVED = "<>/='(),:;+.%"
"""What a data URI inside Markdown takes as it is, besides letters and digits."""


@dataclass(frozen=True)
class Bar:
    """One partition: rows that stayed, rows that were quarantined."""

    label: str
    kept: int
    quarantined: int

    @property
    def total(self) -> int:
        return self.kept + self.quarantined

    @property
    def rate(self) -> float:
        return self.quarantined / self.total if self.total else 0.0


def rows_chart(bars: Sequence[Bar]) -> str:
    """Rows per partition as bars, and the quarantine rate as a line on a scale of its own; the
    legend tells the top of either scale. Returns an SVG document."""
    most = max((b.total for b in bars), default=0)
    highest = max((b.rate for b in bars), default=0.0)
    slot = max(4, WIDTH // max(len(bars), 1))
    end, gap = slot * len(bars), min(6, max(1, slot // 5))
    outline = "".join(f"V{_y(b.total, most)}h{slot}" for b in bars)
    points = ",".join(f"{i * slot + slot // 2},{_y(b.rate, highest)}" for i, b in enumerate(bars))
    middle, room = (_TOP + _BASE) // 2, _BASE - _TOP
    first, last = (escape(bars[0].label), escape(bars[-1].label)) if bars else ("", "")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{max(end, WIDTH)}' height='{HEIGHT}'"
        " font-family='sans-serif' font-size='11' style='background:white'>"
        f"<path d='M0,{_BASE}{outline}V{_BASE}' fill='skyblue'/>"
        # One dashed line, as thick as the bars are high, cuts the outline into bars.
        f"<path d='M{slot - gap},{middle}H{end}' stroke='white' stroke-width='{room}'"
        f" stroke-dasharray='{gap},{slot - gap}'/>"
        f"<path d='M{points}' fill='none' stroke='firebrick'/>"
        f"<text y='11'>rows, to {most:,}</text><text y='128'>{first}</text>"
        f"<g text-anchor='end'><text x='{end}' y='11' fill='firebrick'>quarantined, to"
        f" {highest:.1%}</text><text x='{end}' y='128'>{last}</text></g></svg>"
    )


def _y(value: float, most: float) -> int:
    return _BASE - round((_BASE - _TOP) * value / most) if most else _BASE


def markdown_image(svg: str, title: str) -> str:
    """The chart as a Markdown image that carries its own data."""
    return f"![{title}](data:image/svg+xml,{quote(svg.replace('%', '%25'), safe=_UNRESERVED)})"


def rows_image(bars: Sequence[Bar]) -> str:
    """The rows chart of the newest of these partitions: as many as can be shown in place."""
    while True:
        title = f"rows and quarantine rate of the last {len(bars)} partitions"
        text = markdown_image(rows_chart(bars), title)
        if len(text) < IN_PLACE or len(bars) <= 2:
            return text
        bars = bars[1:]
