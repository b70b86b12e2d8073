"""Where curves and numbers stand in the pictures of a report."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmaas_sdk.reporting.report_figures import Curve, Level, Look, Panel
from lmaas_sdk.reporting.report_svg import HEIGHT, LEFT, WIDTH, draw_panel

VALUES = st.floats(-1e18, 1e18) | st.floats(-2, 2) | st.integers(-5, 5).map(float)
AMOUNTS = st.floats(0, 1e18) | st.floats(0, 2) | st.integers(0, 10_000).map(float)


def panel(points: list[tuple[float, float]], *levels: float) -> Panel:
    curve = Curve("c", tuple(x for x, _ in points), tuple(y for _, y in points), Look(0, marker="o"))
    return Panel("time", "seconds", (curve,), tuple(Level("l", y, Look(1)) for y in levels))


@given(st.lists(st.tuples(AMOUNTS, VALUES), min_size=1, max_size=20), st.lists(VALUES, max_size=2))
@example([(0.0, 0.0)], [])
@example([(5e-324, 1.0), (5e-324, 1.0 + 2**-52)], [])
@example([(1e18, -1e18), (0.0, 1e18)], [])
def test_everything_is_inside_the_picture(points: list[tuple[float, float]], levels: list[float]) -> None:
    """Whatever the values are, curves, marks and a few numbers beside the axes stand where they can be seen."""
    drawn = draw_panel("Loss", panel(points, *levels))
    for curve in drawn.curves:
        numbers = [float(number) for number in re.findall(r"[-\d.e+]+", curve.path)]
        assert all(LEFT <= x <= drawn.right for x in numbers[::2])
        assert all(0 <= y <= drawn.bottom for y in numbers[1::2])
    assert len(points) == len(drawn.curves[-1].marks)
    assert 1 <= len(drawn.x_ticks) <= 6
    assert 1 <= len(drawn.y_ticks) <= 7
    assert all(LEFT <= tick.at <= drawn.right for tick in drawn.x_ticks)
    assert all(0 <= tick.at <= drawn.bottom for tick in drawn.y_ticks)
    assert drawn.right < WIDTH
    assert drawn.bottom < HEIGHT


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.5, 1.2, ["0.6", "0.8", "1.0", "1.2"]),
        (0.602, 0.628, ["0.605", "0.610", "0.615", "0.620", "0.625"]),
        (0.0, 13.0, ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"]),
        (-0.3, 0.3, ["-0.2", "0.0", "0.2"]),
        (1000, 9000, ["2,000", "4,000", "6,000", "8,000"]),
    ],
)
def test_the_numbers_beside_an_axis_are_round(low: float, high: float, labels: list[str]) -> None:
    """Steps of 1, 2, 2.5 or 5 times a power of ten, with as many decimals as they need."""
    assert labels == [tick.label for tick in draw_panel("Loss", panel([(0, low), (1, high)])).y_ticks]


def test_names_stand_under_their_marks() -> None:
    """In the order given, away from the edges; the words beside the picture have them too."""
    drawn = draw_panel("Loss", replace(panel([(1, 0.5), (3, 0.7)]), names=("ce", "hinge", "metric")))
    (curve,) = drawn.curves
    assert [tick.label for tick in drawn.x_ticks] == ["ce", "hinge", "metric"]
    assert [x for x, _ in curve.marks] == [drawn.x_ticks[0].at, drawn.x_ticks[2].at]
    assert LEFT < drawn.x_ticks[0].at < drawn.x_ticks[2].at < drawn.right
    assert drawn.alternative.endswith("c: 0.5 at ce, 0.7 at metric.")


def test_a_value_stands_beside_its_number() -> None:
    """A tick and a point of the same value have the same height, and the higher value stands higher."""
    drawn = draw_panel("Loss", panel([(0, 0.6), (10, 1.0)], 0.75))
    heights = {tick.label: tick.at for tick in drawn.y_ticks}
    (level, curve) = drawn.curves
    assert [(LEFT, heights["0.6"]), (drawn.right, heights["1.0"])] == [*curve.marks]
    assert heights["1.0"] < heights["0.6"]
    assert level.path.startswith(f"M{LEFT} ")
    assert "l: 0.75." in drawn.alternative
