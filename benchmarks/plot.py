"""Draws the ratios to the better peer as SVG: one bar a measurement, the best first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.table import geometric_mean, lines

WIDTH, LEFT, RIGHT, ROW, TOP = 900, 290, 50, 18, 54
MOST = 1.5
"""Where the axis ends; longer bars are cut there, their number is written beside them."""
FASTER, EQUAL, SLOWER = "#2f7d4f", "#b58a1b", "#b03a2e"
LEAD = 0.95


def draw(report: dict[str, Any]) -> str:
    """The picture of the newest results, of one thread and of inputs as they are given."""
    found = [
        (line.ratio, line.name, line.kind)
        for line in lines(report)
        if line.run["threads"] == 1 and line.run.get("batch") in (None, 1) and line.ratio
    ]
    found.sort()
    height = TOP + ROW * len(found) + 30
    return "\n".join(_picture(report, found, height)) + "\n"


def _picture(
    report: dict[str, Any], found: list[tuple[float, str, str]], height: int
) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    mean = f"; geometric mean {geometric_mean(r for r, _, _ in found):.2f}" if found else ""
    title = f"Latency over that of the better peer, one thread, {report['cpu']}{mean}"
    yield f'<text x="10" y="20" font-size="15">{escape(title)}</text>'
    for tenth in range(0, int(MOST * 10) + 1, 5):
        yield from _line(tenth / 10, height)
    for index, (ratio, name, kind) in enumerate(found):
        yield from _bar(TOP + ROW * index, ratio, name, kind)
    yield "</svg>"


def _line(ratio: float, height: int) -> Iterator[str]:
    """A line of the grid with its number."""
    color = "#333333" if ratio == 1 else "#cccccc"
    x = _place(ratio)
    yield f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height - 22}" stroke="{color}"/>'
    yield f'<text x="{x}" y="{TOP - 14}" text-anchor="middle" fill="#555555">{ratio:g}</text>'


def _bar(y: int, ratio: float, name: str, kind: str) -> Iterator[str]:
    color = FASTER if ratio <= LEAD else EQUAL if ratio <= 1 else SLOWER
    end, middle = _place(min(ratio, MOST)), y + ROW - 5
    label = name if kind == "fp32" else f"{name} ({kind})"
    yield f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>'
    yield f'<rect x="{LEFT}" y="{y}" width="{end - LEFT}" height="{ROW - 4}" fill="{color}"/>'
    yield f'<text x="{end + 5}" y="{middle}" fill="#333333">{ratio:.2f}</text>'


def _place(ratio: float) -> int:
    return LEFT + round(ratio / MOST * (WIDTH - LEFT - RIGHT))
