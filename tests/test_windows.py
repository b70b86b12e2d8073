"""Windows of a quota: exact in every stretch of time, and right on days that have 23 or 25 hours."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.traffic.windows import DAY_S, MINUTE_S, CalendarDay, SlidingWindow, Taken

BERLIN = ZoneInfo("Europe/Berlin")
PAUSES_S = st.sampled_from([0.0, 0.5, 1.0, 7.25, 20.0, 59.5, 60.0, 61.0])
STEPS = st.lists(
    st.tuples(PAUSES_S, st.integers(1, 6), st.sampled_from("tgc")),
    max_size=60,
)


def at(*when: int) -> float:
    """Seconds since 1970 of a local time in Berlin."""
    return datetime(*when, tzinfo=BERLIN).timestamp()  # type: ignore[misc, arg-type]


@given(st.integers(1, 12), STEPS)
def test_no_stretch_of_a_minute_ever_holds_more_than_the_limit(limit: int, steps: list[tuple[float, int, str]]) -> None:
    """Whatever is taken, given back (g) or corrected (c), by brute force; and what is refused does not fit."""
    window, now_s, taken = SlidingWindow(limit, MINUTE_S), 0.0, []

    def used() -> int:
        return sum(amount for when_s, amount, _ in taken if when_s > now_s - MINUTE_S)

    for pause_s, amount, what in steps:
        now_s += pause_s
        assert window.remaining(now_s) == limit - used()
        wait_s = window.wait_s(amount, now_s)
        assert (wait_s == 0) == (used() + amount <= limit)
        assert math.isinf(wait_s) == (amount > limit)
        if wait_s == 0:
            taken.append((now_s, amount, window.take(amount, now_s)))
        if what != "t" and taken:
            when_s, before, handle = taken.pop()
            after = 0 if what == "g" else before // 2
            window.correct(handle, after)
            taken.append((when_s, after, handle))
        assert used() <= limit


@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.floats(0, 90, allow_nan=False), st.integers(1, 8), st.integers(0, 40), st.integers(0, 8)),
        max_size=40,
    ),
)
def test_any_half_open_minute_holds_at_most_the_limit(limit: int, steps: list[tuple[float, int, int, int]]) -> None:
    """Arbitrary times; any amount taken so far is corrected downwards, in time or late; each wait is the shortest."""
    window, now_s = SlidingWindow(limit), 0.0
    taken: list[Taken] = []

    def used(from_s: float) -> int:
        return sum(one.amount for one in taken if from_s <= one.at_s < from_s + MINUTE_S)

    for pause_s, amount, which, lower in steps:
        now_s += pause_s
        wait_s = window.wait_s(amount, now_s)
        if wait_s == 0:
            taken.append(window.take(amount, now_s))
        elif not math.isinf(wait_s):
            now_s = next(one.at_s + MINUTE_S for one in taken if one.at_s + MINUTE_S - now_s == wait_s)
            assert window.wait_s(amount, now_s) == 0
        if taken and taken[which % len(taken)].amount > lower:
            window.correct(taken[which % len(taken)], lower)
        for one in taken:
            assert used(one.at_s) <= limit


@given(
    st.integers(1, 5),
    st.sampled_from([(2026, 3, 28), (2026, 10, 24)]),
    st.lists(st.tuples(st.floats(-7200, 30_000, allow_nan=False), st.integers(1, 3), st.booleans()), max_size=40),
)
def test_a_local_day_holds_at_most_the_limit(
    limit: int, begins: tuple[int, int, int], steps: list[tuple[float, int, bool]]
) -> None:
    """Over both changes of clocks, with a clock that is set back now and then: what is taken counts on the latest day
    that was ever seen, and not on the one before."""
    window, now_s = CalendarDay(limit, BERLIN), at(*begins)
    today, used = datetime.fromtimestamp(now_s, BERLIN).date(), limit - window.remaining(now_s)
    for pause_s, amount, gives_back in steps:
        now_s += pause_s
        date = datetime.fromtimestamp(now_s, BERLIN).date()
        if date > today:
            today, used = date, 0
        assert window.remaining(now_s) == limit - used
        assert (window.wait_s(amount, now_s) == 0) == (used + amount <= limit)
        if used + amount <= limit:
            one = window.take(amount, now_s)
            used += amount
            if gives_back:
                window.correct(one, 0)
                used -= amount


def test_a_correction_after_its_time_is_known_by_a_clock_set_back_too() -> None:
    """What ended before the clock was set back gives nothing back after it."""
    window = SlidingWindow(10)
    old = window.take(6, 100.0)
    assert window.remaining(200.0) == 10
    window.take(10, 50.0)
    window.correct(old, 0)
    assert window.remaining(51.0) == 0


def test_the_wait_is_as_long_as_it_has_to_be() -> None:
    """Until exactly then it does not fit, and then it does."""
    window = SlidingWindow(10)
    for when_s, amount in ((0.0, 4), (10.0, 5), (30.0, 1)):
        window.take(amount, when_s)
    assert [window.wait_s(amount, 40.0) for amount in (1, 4, 5, 9, 10, 11)] == [20.0, 20.0, 30.0, 30.0, 50.0, math.inf]
    assert (window.wait_s(5, 69.999) > 0, window.wait_s(5, 70.0), window.reset_s(70.0)) == (True, 0.0, 20.0)


def test_a_correction_after_its_time_changes_nothing() -> None:
    """What no longer counts gives nothing back."""
    window = SlidingWindow(10)
    old = window.take(6, 0.0)
    window.take(3, 60.0)
    window.correct(old, 0)
    assert window.remaining(61.0) == 7


def test_a_clock_that_is_set_back_frees_nothing_early() -> None:
    """What is taken by a clock that jumped back counts for as long as what was taken before it."""
    window = SlidingWindow(2)
    window.take(1, 100.0)
    window.take(1, 40.0)
    assert (window.remaining(101.0), window.remaining(159.9), window.remaining(160.0)) == (0, 0, 2)


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)], ids=str)
def test_a_day_is_as_long_as_its_zone_makes_it(day: tuple[int, int, int], hours: int) -> None:
    """Where clocks change a day has 23 or 25 hours, and its quota ends at its own midnight."""
    window = CalendarDay(100, BERLIN)
    window.take(100, at(*day, 0, 0, 0))
    assert window.wait_s(1, at(*day, 0, 0, 0)) == hours * 3600
    midnight = at(*day) + hours * 3600
    assert (window.remaining(midnight - 0.001), window.remaining(midnight)) == (0, 100)


def test_a_clock_that_is_set_back_opens_no_day_again() -> None:
    """Yesterday is over; what is taken then counts today."""
    window = CalendarDay(10, ZoneInfo("UTC"))
    today = datetime(2026, 5, 2, 0, 1, tzinfo=UTC)
    window.take(7, today.timestamp())
    yesterday = (today - timedelta(minutes=5)).timestamp()
    assert window.remaining(yesterday) == 3
    window.take(3, yesterday)
    assert (window.remaining(today.timestamp()), window.wait_s(11, today.timestamp())) == (0, math.inf)


def test_any_twenty_four_hours_are_a_window_too() -> None:
    """No midnight opens it."""
    window = SlidingWindow(2, DAY_S)
    window.take(2, 1000.0)
    assert (window.wait_s(1, 1000.0 + DAY_S / 2), window.wait_s(1, 1000.0 + DAY_S)) == (DAY_S / 2, 0.0)
