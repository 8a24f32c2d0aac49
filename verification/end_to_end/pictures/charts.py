"""Charts as SVG, drawn from the answers of Prometheus, in the look of a dark dashboard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH: Final = 440
HEIGHT: Final = 150
_LEFT: Final = 52
_BOTTOM: Final = 18
_TOP: Final = 8
_PALETTE: Final = ("#73bf69", "#5794f2", "#ff9830", "#b877d9", "#f2cc0c", "#8ab8ff", "#f2495c")
_MEANINGS: Final = {
    "ok": "#73bf69",
    "error": "#f2495c",
    "aborted": "#ff9830",
    "p50": "#73bf69",
    "p95": "#f2cc0c",
    "p99": "#ff9830",
}


@dataclass(frozen=True)
class Series:
    """One line: its name, and its points as (seconds since the epoch, value)."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """The last value that is a number."""
        return next((value for _, value in reversed(self.points) if math.isfinite(value)), 0.0)


def colors(names: Sequence[str]) -> list[str]:
    """Returns a colour for each name: its meaning's, or the next of the palette."""
    free = [color for color in _PALETTE if color not in {_MEANINGS.get(name) for name in names}]
    taken = 0
    found: list[str] = []
    for name in names:
        if name in _MEANINGS:
            found.append(_MEANINGS[name])
        else:
            found.append(free[taken % len(free)])
            taken += 1
    return found


def lines(
    series: Sequence[Series], unit: str, start: float, end: float, *, is_stacked: bool
) -> str:
    """Returns lines, or stacked areas, over the time from `start` to `end`."""
    layers = _stacked(series) if is_stacked else [one.points for one in series]
    top = _top(value for points in layers for _, value in points if math.isfinite(value))

    def place(at: float, value: float) -> str:
        x = _LEFT + (at - start) / (end - start) * (WIDTH - _LEFT)
        y = HEIGHT - _BOTTOM - value / top * (HEIGHT - _BOTTOM - _TOP)
        return f"{x:.1f},{y:.1f}"

    parts = [*_grid(top, unit, start, end)]
    named = zip(series, layers, colors([one.name for one in series]), strict=True)
    for _, points, color in reversed(list(named)):
        shown = [(at, value) for at, value in points if math.isfinite(value)]
        path = " ".join(place(at, value) for at, value in shown)
        if is_stacked and shown:
            floor = f"{place(shown[-1][0], 0)} {place(shown[0][0], 0)}"
            parts.append(f'<polygon points="{path} {floor}" fill="{color}" fill-opacity="0.25"/>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
    return _svg(parts)


def states(series: Sequence[Series], start: float, end: float) -> str:
    """Returns a bar for each series: green while its value is not 0, red while it is."""
    parts = [*_times(start, end)]
    step = (HEIGHT - _BOTTOM) / max(1, len(series))
    for row, one in enumerate(series):
        y = row * step
        name = escape(one.name)
        parts.append(_text(4, y + 13, "start", name))
        for (at, value), (until, _) in zip(one.points, [*one.points[1:], (end, 0)], strict=True):
            left = (at - start) / (end - start) * WIDTH
            width = (until - at) / (end - start) * WIDTH + 0.5
            color = "#73bf69" if value else "#f2495c"
            parts.append(
                f'<rect x="{left:.1f}" y="{y + 18:.1f}" width="{width:.1f}"'
                f' height="{step - 24:.1f}" fill="{color}" fill-opacity="0.8"/>'
            )
    return _svg(parts)


def written(value: float, unit: str) -> str:
    """Returns the value with its unit, as Grafana writes it."""
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    text = f"{value / 1000:.3g} k" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - a thousand
    if unit == "currencyUSD":
        return f"${text}"
    after = {"reqps": "/s", "short": ""}.get(unit, unit.removeprefix("suffix:"))
    return f"{text}{after}"


def _svg(parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' font-size="10" font-family="sans-serif">{"".join(parts)}</svg>'
    )


def _stacked(series: Sequence[Series]) -> list[tuple[tuple[float, float], ...]]:
    sums: dict[float, float] = {}
    layers: list[tuple[tuple[float, float], ...]] = []
    for one in series:
        layer: list[tuple[float, float]] = []
        for at, value in one.points:
            sums[at] = sums.get(at, 0.0) + (value if math.isfinite(value) else 0.0)
            layer.append((at, sums[at]))
        layers.append(tuple(layer))
    return layers


def _top(values: Iterator[float]) -> float:
    """Returns a round number that no value exceeds."""
    most = max(values, default=0.0) or 1.0
    size = 10 ** math.floor(math.log10(most))
    return next(size * factor for factor in (1, 2, 3, 4, 5, 6, 8, 10) if size * factor >= most)


def _grid(top: float, unit: str, start: float, end: float) -> Iterator[str]:
    for share in (0, 0.5, 1):
        y = HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP)
        yield f'<line x1="{_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#2c3235"/>'
        # The legend has the unit, if it is a long one.
        text = escape(written(share * top, unit if len(unit) < len("suffix: ") else "short"))
        yield _text(_LEFT - 6, y + 3, "end", text)
    yield from _times(start, end, _LEFT)


def _times(start: float, end: float, left: float = 0) -> Iterator[str]:
    step = 30
    first = math.ceil((start + 8) / step) * step
    for at in range(first, math.floor(end - 8), step):
        x = left + (at - start) / (end - start) * (WIDTH - left)
        text = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
        yield _text(x, HEIGHT - 4, "middle", text)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#9fa7b3">{text}</text>'
