"""A panel as positions in a picture of 360 by 232, which the page draws as SVG: text stays text, the colours its own.

The picture is about as wide as a phone's page, and the page sets several side by side where there is room, so letters
are never scaled down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmaas_sdk.reporting.report_figures import Curve, Look, Panel

__all__ = ["HEIGHT", "LEFT", "WIDTH", "DrawnCurve", "DrawnPanel", "Tick", "draw_panel", "span_of", "width_of"]

WIDTH, HEIGHT = 360, 232
LEFT, _RIGHT, _TOP, _BOTTOM = 56, 338, 10, 184
_MOST_X_TICKS, _MOST_Y_TICKS = 5, 6
_ROOM = 0.06  # above and below the curves, as a part of their height
_BARE = 1e-9
_HALF = 0.5  # of the room of a name, to either side of it
_LEAST_SPAN = 1e-6  # as a part of the values: what lies closer together is shown as equal


@dataclass(frozen=True, slots=True)
class Tick:
    """A number or a name beside an axis, and where it stands."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class DrawnCurve:
    """A curve's path, and the middle of each mark."""

    path: str
    marks: tuple[tuple[float, float], ...]
    look: Look


@dataclass(frozen=True, slots=True)
class DrawnPanel:
    """A panel in the picture's coordinates, and what it shows in words."""

    alternative: str
    caption: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[DrawnCurve, ...]
    right: float = _RIGHT
    bottom: float = _BOTTOM


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values between `low` and `high` along an axis from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    most_ticks: int

    def at(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        step = _step(self.high - self.low, self.most_ticks)
        digits = max(0, -math.floor(math.log10(step) + _BARE))
        first, last = math.ceil(self.low / step - _BARE), math.floor(self.high / step + _BARE)
        shown = step * 10.0**digits
        digits += abs(shown - round(shown)) > _BARE  # a step of 2.5
        return tuple(Tick(self.at(n * step), f"{n * step:,.{digits}f}") for n in range(first, last + 1))


def draw_panel(title: str, panel: Panel) -> DrawnPanel:
    """Where everything of a panel is."""
    x = _Scale(*width_of(panel), LEFT, _RIGHT, _MOST_X_TICKS)
    y = _Scale(*span_of(panel), _BOTTOM, _TOP, _MOST_Y_TICKS)
    levels = [Curve(one.label, (x.low, x.high), (one.y, one.y), one.look) for one in panel.levels]
    said = [
        *(_in_words(curve, panel) for curve in panel.curves),
        *(f"{one.label}: {one.y:.4g}." for one in panel.levels),
    ]
    named = tuple(Tick(x.at(place), name) for place, name in enumerate(panel.names, 1))
    caption = panel.caption(title)
    return DrawnPanel(
        alternative=" ".join([f"{caption}.", *said]),
        caption=caption,
        x_label=panel.x_label,
        x_ticks=named or x.ticks,
        y_ticks=y.ticks,
        curves=tuple(_drawn(curve, x, y) for curve in [*levels, *panel.curves]),
    )


def width_of(panel: Panel) -> tuple[float, float]:
    """Between what and what x is shown: from 0, or all names."""
    if panel.names:
        return _HALF, len(panel.names) + _HALF
    last = max((value for curve in panel.curves for value in curve.x), default=0.0)
    return 0, last if last > _BARE else 1


def span_of(panel: Panel) -> tuple[float, float]:
    """Between what and what y is shown: everything, and some room."""
    values = [value for curve in panel.curves for value in curve.y] + [level.y for level in panel.levels]
    low, high = min(values, default=0.0), max(values, default=1.0)
    largest = max(abs(low), abs(high), _LEAST_SPAN)
    room = _ROOM * (high - low if high - low > _LEAST_SPAN * largest else largest)
    return low - room, high + room


def _drawn(curve: Curve, x: _Scale, y: _Scale) -> DrawnCurve:
    points = [(x.at(one), y.at(other)) for one, other in zip(curve.x, curve.y, strict=True)]
    path = "M" + "L".join(f"{one:g} {other:g}" for one, other in points)
    return DrawnCurve(path, tuple(points) if curve.look.marker else (), curve.look)


def _step(span: float, most_ticks: int) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that makes few enough ticks."""
    power = 10.0 ** math.floor(math.log10(span / most_ticks))
    steps: Sequence[float] = (1, 2, 2.5, 5, 10)
    return next(power * one for one in steps if span / (power * one) <= most_ticks)


def _in_words(curve: Curve, panel: Panel) -> str:
    if panel.names:
        points = (f"{y:.4g} at {panel.names[round(x) - 1]}" for x, y in zip(curve.x, curve.y, strict=True))
        return f"{curve.label}: {', '.join(points)}."
    unit = panel.x_label
    ends = f"{curve.y[0]:.4g} at {curve.x[0]:.4g}, {curve.y[-1]:.4g} at {curve.x[-1]:.4g} {unit}"
    return f"{curve.label}: {ends}, between {min(curve.y):.4g} and {max(curve.y):.4g}."
