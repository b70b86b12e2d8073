"""What runs look like while they go on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from rich.console import Console

from lmaas_sdk import Amounts, Budget, Evaluation
from lmaas_sdk.reporting.outlook import Outlook, calendar_time, per_time, span
from lmaas_sdk.reporting.progress import CountProgress, GroupProgress, RunProgress
from lmaas_sdk.tuning.events import DevScored, GenerationDone, Resumed, RunPlanned, Waiting
from lmaas_sdk.tuning.selection import Choice

ZONE = ZoneInfo("Europe/Berlin")
MONDAY_S = datetime(2026, 3, 2, 12, 0, tzinfo=ZONE).timestamp()
DAY_S = 86_400.0
NO_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = MONDAY_S

    def __call__(self) -> float:
        return self.now_s


def done(generation: int, *, population: int = 20, waits: dict[str, float] | None = None) -> GenerationDone:
    """A generation whose candidates take 50 tokens and a quarter of a cent."""
    n = (generation + 1) * population
    spent = Amounts(generation + 1, n, 50 * n, 250_000 * n)
    return GenerationDone(generation, n, 0.5, 0.6, 0.4, 1.0, 0, spent, float(generation), waits or {})  # type: ignore[arg-type]


def scored(value: float) -> DevScored:
    choice = Choice(1, "mean", np.zeros(1, np.float32), None, Evaluation("accuracy", value, 0.5, 8))
    return DevScored(choice, Amounts(), 1.0)


def console(out: io.StringIO, *, width: int | None) -> Console:
    """A terminal of a width; None: a file."""
    return Console(file=out, force_terminal=width is not None, width=width, legacy_windows=False)


def shown(
    generations: int, planned: int | None, *, width: int | None = None, budget: Budget | None = None, each_s: float = 2
) -> str:
    """What a run shows whose generations take two seconds each."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(budget, console(out, width=width), wall=clock, zone=ZONE) as progress:
        progress.show(RunPlanned(planned, 20))
        for g in range(generations):
            clock.now_s += each_s
            progress.show(done(g, waits={"quota": 60.25 * g, "outage": 3.0}))
            if g == 1:
                progress.show(scored(0.75))
    return out.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    """Some twenty lines a run, without control codes, the last one for the last generation."""
    text = shown(400, 400, budget=Budget(usd="3.00"))
    lines = text.splitlines()
    assert NO_CONTROL.search(text) is None
    assert 19 <= len(lines) <= 22
    start = "{}/8000 evaluations  loss 0.4000  dev 0.750  spent ${} of $3.00  10/s  "
    assert lines[10] == start.format(4000, "1.00") + "ends about 12:13  waited: quota 3.3 h, outage 3 s"
    assert lines[-1] == start.format(8000, "2.00") + "waited: quota 6.7 h, outage 3 s"


def test_run_that_only_time_limits_has_no_total() -> None:
    """The total is a question mark, free models count tokens, lines grow rarer, and time says when it ends."""
    clock = Clock()
    budget = Budget(wall_s=7200, clock=clock)
    budget.start()
    out = io.StringIO()
    with RunProgress(budget, console(out, width=None), wall=clock, zone=ZONE) as progress:
        progress.show(RunPlanned(None, 20))
        for generation in range(400):
            clock.now_s += 3
            progress.show(done(generation))
    lines = out.getvalue().splitlines()
    assert lines[0] == "20/? evaluations  loss 0.4000  spent $0.005  6.67/s  ends about 14:00"
    assert 10 <= len(lines) <= 25


@pytest.mark.parametrize("width", [80, 60])
def test_a_terminal_of_any_width(width: int) -> None:
    """The bar and all figures are there, and no line is longer than the terminal is wide."""
    text = shown(200, 400, width=width, budget=Budget(usd="3.00"))
    last = re.split(r"\x1b\[\d*[A-Z]|\r", text)[-1]
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in text.splitlines()]
    assert max(map(len, lines)) <= width
    plain = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last if "evaluations" in last else text).split())
    for part in (
        "4000/8000 evaluations",
        "50 % 0:06:40",
        "loss 0.4000",
        "dev 0.750",
        "spent $1.00 of $3.00",
        "10/s",
        "ends about 12:13",
        "waited: quota 3.3 h, outage 3 s",
    ):
        assert part in plain


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, "spent $0.005"),
        ({"usd": "1.00"}, "spent $0.005 of $1.00"),
        ({"usd": "1.00", "tokens": 2000}, "1,000 of 2,000 tokens"),
        ({"calls": 1, "tokens": 2000}, "1 of 1 calls"),
        ({"calls": 0, "usd": "1.00"}, "spent $0.005 of $1.00"),
    ],
)
def test_the_spend_is_shown_against_the_nearest_limit(limits: dict[str, object], told: str) -> None:
    """Whichever unit ends first, by what is spent of it."""
    assert f"  {told}" in shown(1, 10, budget=Budget(**limits))  # type: ignore[arg-type]


def test_the_limit_of_a_budget_above_may_be_the_nearest() -> None:
    """What others have spent of it counts."""
    team = Budget(tokens=10_000, name="team")
    team.child("other").reserve(Amounts(calls=1, tokens=9000)).post(Amounts(calls=1, tokens=9000))
    assert "  9,000 of 10,000 tokens (team)" in shown(1, 10, budget=team.child("mine", Budget(usd="1.00")))


def test_waits_are_told_once_and_where_they_matter() -> None:
    """Not the short ones, not the same one of another call, and the longer a run takes the longer ones only."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(None, console(out, width=None), wall=clock, zone=ZONE) as progress:
        progress.show(Waiting(1.5, "the quota", "quota"))
        for seconds in (60.0, 60.1, 59.0):
            progress.show(Waiting(seconds, "the quota [1]", "quota"))
        clock.now_s += 3600
        progress.show(Waiting(60.0, "the quota", "quota"))
        progress.show(Waiting(11 * 3600.0, "429", "rate_limit"))
    assert out.getvalue().splitlines() == [
        "waiting 1 min, until 12:01: the quota [1]",
        "waiting 11.0 h, until Tue 00:00: 429",
    ]


def test_a_run_that_goes_on_says_from_where() -> None:
    """What was done before is no speed."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(None, console(out, width=None), wall=clock, zone=ZONE) as progress:
        progress.show(RunPlanned(100, 20))
        progress.show(Resumed(50, 1000, Amounts()))
        clock.now_s += 10
        progress.show(done(50))
    assert out.getvalue().splitlines() == [
        "resumed after 50 generations, 1000 evaluations",
        "1020/2000 evaluations  loss 0.4000  spent $0.255  2/s  ends about 12:08",
    ]


@pytest.mark.parametrize("width", [None, 60])
def test_several_runs_are_shown_as_one(width: int | None) -> None:
    """Evaluations and spend of all, the best of the last looks at dev, the longest of the waits."""
    out, clock = io.StringIO(), Clock()
    with GroupProgress(Budget(tokens=100_000), console(out, width=width), wall=clock, zone=ZONE) as progress:
        for name, value in (("seed-1", 0.75), ("seed-2", 0.5)):
            progress.show(name, RunPlanned(10, 20))
            progress.show(name, scored(value))
        for generation in range(10):
            for name in ("seed-1", "seed-2"):
                clock.now_s += 1
                progress.show(name, done(generation, waits={"turn": 7.0 if name == "seed-1" else 3.0}))
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).split())
    assert "400/400 evaluations" in text
    assert "of 2 runs dev 0.750 (seed-1) 20,000 of 100,000 tokens 20/s" in text
    assert text.rindex("waited: turn 7 s") > text.rindex("20/s")
    if width is None:
        assert 20 <= len(out.getvalue().splitlines()) <= 22


def test_what_others_left_counts_as_planned() -> None:
    """A run of a group that gets more than its share is never beyond 100 %."""
    out, clock = io.StringIO(), Clock()
    with GroupProgress(None, console(out, width=None), wall=clock, zone=ZONE) as progress:
        progress.show("a", RunPlanned(1, 20))
        progress.show("a", done(0))
        progress.show("a", done(1))
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["20/20", "40/40"]


def test_the_last_look_is_told_too() -> None:
    """It comes after the last generation, when no line would be due any more."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(None, console(out, width=None), wall=clock, zone=ZONE) as progress:
        progress.show(RunPlanned(1, 20))
        progress.show(done(0))
        progress.show(scored(0.75))
    assert out.getvalue().splitlines() == [
        "20/20 evaluations  loss 0.4000  spent $0.005",
        "20/20 evaluations  loss 0.4000  dev 0.750  spent $0.005",
    ]


@pytest.mark.parametrize("width", [None, 60])
def test_anything_that_is_counted_can_be_shown(width: int | None) -> None:
    """Its own parts, rate and end; twenty lines where there is no terminal."""
    out, clock = io.StringIO(), Clock()
    with CountProgress("simulations", 200, console(out, width=width), wall=clock, zone=ZONE) as progress:
        for number in range(150):
            clock.now_s += 60
            progress.show(number + 1, f"seed {number}")
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in out.getvalue().splitlines()]
    if width is None:
        assert 16 == len(lines)
        assert "150/200 simulations  seed 149  1/min  ends about 15:20" == lines[-1]
    else:
        assert "seed 149  1/min  ends about 15:20" == [line for line in lines if line][-1]
        assert 60 >= max(map(len, lines))


def test_large_counts_are_told_digit_by_digit() -> None:
    """Millions too: 1250000 is no 1.25e+06."""
    out = io.StringIO()
    with CountProgress("evaluations", 2_000_000, console(out, width=None), wall=Clock(), zone=ZONE) as progress:
        progress.show(1_250_000)
    assert "1250000/2000000 evaluations" == out.getvalue().strip()


def test_a_terminal_shows_at_once_what_a_wait_does_to_the_end() -> None:
    """Before another generation is done, which a wait keeps from being done."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(None, console(out, width=80), wall=clock, zone=ZONE) as progress:
        progress.show(RunPlanned(10, 20))
        clock.now_s += 60
        progress.show(done(0))
        progress.show(Waiting(5 * 3600.0, "away", "outage"))
    assert "ends about 17:10" in out.getvalue().splitlines()[-2]


# -- when it ends


def day_quota(outlook: Outlook, clock: Clock, *, a_day: int, until: Callable[[], bool]) -> list[float]:
    """Runs on `a_day` units a day of the calendar, ten seconds each; what is forecast at every step."""
    forecasts, today = [], 0
    while not until():
        if today == a_day:
            begins = datetime.fromtimestamp(clock.now_s, ZONE).replace(hour=0, minute=0, second=0).timestamp() + DAY_S
            outlook.waits(begins - clock.now_s, for_quota=True)
            assert outlook.ends_s is not None
            forecasts.append(outlook.ends_s)
            clock.now_s, today = begins, 0
        clock.now_s += 10
        today += 1
        outlook.saw(outlook.done + 1)
        if outlook.ends_s is not None:
            forecasts.append(outlook.ends_s)
    return forecasts


def test_days_that_are_still_to_be_waited_for_count() -> None:
    """100 a day and 750 to do: as soon as a day was seen to be over, the end is right to the hour, at every moment."""
    clock = Clock()
    outlook = Outlook(clock)
    outlook.total = 750
    forecasts = day_quota(outlook, clock, a_day=100, until=lambda: outlook.done == 750)
    before, since = forecasts[:100], forecasts[100:]
    assert max(before) < MONDAY_S + DAY_S  # nobody knows of a quota yet
    assert len(since) > 600
    assert clock.now_s == pytest.approx(MONDAY_S + 12 * 3600 + 6 * DAY_S + 500)
    assert max(abs(forecast - clock.now_s) for forecast in since) < 60


def test_a_wait_that_is_told_by_several_calls_is_one() -> None:
    """Of each of them the end counts, and the day is not over twice."""
    clock = Clock()
    outlook = Outlook(clock)
    outlook.total = 300
    for number in range(100):
        clock.now_s += 10
        outlook.saw(number + 1)
    for seconds in (7200, 7300, 7100):
        outlook.waits(seconds, for_quota=True)
    assert outlook.ends_s == pytest.approx(clock.now_s + 7300 + DAY_S + 1000)


def test_the_rate_is_that_of_the_last_minutes() -> None:
    """A slow beginning is forgotten."""
    clock = Clock()
    outlook = Outlook(clock)
    for number in range(1000):
        clock.now_s += 100 if number < 20 else 1
        outlook.saw(number + 1)
    assert outlook.per_s == pytest.approx(1, rel=0.01)


def test_a_wait_under_way_is_waited_for() -> None:
    """An hour's outage moves the end by that hour until something is done again."""
    clock = Clock()
    outlook = Outlook(clock)
    outlook.total = 100
    for number in range(50):
        clock.now_s += 1
        outlook.saw(number + 1)
    assert outlook.ends_s == pytest.approx(clock.now_s + 50)
    outlook.waits(3600, for_quota=False)
    assert outlook.ends_s == pytest.approx(clock.now_s + 3650)


@pytest.mark.parametrize(
    ("ahead_s", "told"),
    [
        (0, "12:00"),
        (2 * 3600 + 300, "14:05"),
        (DAY_S, "Tue 12:00"),
        (6 * DAY_S, "Sun 12:00"),
        (7 * DAY_S, "Mon 9 Mar 12:00"),
        (80 * DAY_S, "Thu 21 May 13:00"),  # clocks go forward in between
        (400 * DAY_S, "6 Apr 2027"),
    ],
)
def test_moments_for_people(ahead_s: float, told: str) -> None:
    """The day where it is another one, the date where a weekday would not do."""
    assert calendar_time(MONDAY_S + ahead_s, MONDAY_S, ZONE) == told


def test_lengths_and_rates_for_people() -> None:
    """In the unit that keeps numbers small."""
    assert [span(s) for s in (0.4, 59.4, 59.6, 3569, 3600, 80_000, 200_000)] == [
        "0 s", "59 s", "1 min", "59 min", "1.0 h", "22.2 h", "2.3 days",
    ]  # fmt: skip
    assert [per_time(rate) for rate in (12345, 12.34, 0.5, 0.01)] == ["12,345/s", "12.3/s", "30/min", "36/h"]
