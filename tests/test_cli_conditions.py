"""The options about provider and calendar: the same in every command that plans, and read by one rule."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from lmaas_sdk.backend import Limits
from lmaas_sdk.cli import estimate, simulate, simulate_jobs
from lmaas_sdk.cli.conditions_options import add_conditions_options, conditions_of
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency, Outage
from lmaas_sdk.planning.scenario import price_named
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS

A_DAY = ["--requests-per-day", "100"]


def read(*options: str, latency_s: float | None = None) -> Conditions:
    parser = argparse.ArgumentParser()
    add_conditions_options(parser, latency_s=latency_s)
    return conditions_of(parser.parse_args(options))


@pytest.mark.parametrize("command", [estimate, simulate, simulate_jobs])
def test_every_command_that_plans_has_them_all(command: object) -> None:
    """By the same names, with the same forms."""
    alone = argparse.ArgumentParser()
    add_conditions_options(alone)
    commands = argparse.ArgumentParser().add_subparsers()
    command.add_command(commands)  # type: ignore[attr-defined]
    (parser,) = commands.choices.values()
    for option, action in alone._option_string_actions.items():
        found = parser._option_string_actions[option]
        assert (action.dest, action.metavar, action.type) == (found.dest, found.metavar, found.type)


def test_each_says_what_it_is_called_for() -> None:
    """All of them together."""
    latency = (
        "--latency-s 2 --latency-spread 0.3 --latency-per-text-s 0.01 --stragglers-part 0.05 --stragglers-factor 9"
    )
    failures = (
        "--timeout 0.1 --rate-limit 0.2 --server-fault 0.3 --refused 0.05 --charged --outage 60,30 --outage 200,1"
    )
    quotas = (
        "--requests-per-minute 1 --tokens-per-minute 2 --requests-per-day 3 --day-time-zone Asia/Tokyo --concurrency 4"
    )
    found = read(*f"{latency} {failures} {quotas} --price gpt3-2022/ada --began 2026-03-01T09:30".split())
    assert found == Conditions(
        price=price_named("gpt3-2022/ada"),
        quotas=Limits(1, 2, 3, "Asia/Tokyo", 4),
        latency=Latency(2, 0.3, 0.01, 0.05, 9),
        failures=Failures(0.05, 0.2, 0.3, 0.1, charged=True, outages=(Outage(60, 30), Outage(200, 1))),
        began=datetime(2026, 3, 1, 9, 30, tzinfo=ZoneInfo("Asia/Tokyo")),
    )


def test_nothing_given_is_nothing_known() -> None:
    """But for a command that has a latency of its own."""
    assert Conditions() == read()
    assert Conditions(latency=Latency(1.0)) == read(latency_s=1.0)
    assert Conditions(latency=Latency(1.0, spread=0.5)) == read("--latency-spread", "0.5", latency_s=1.0)


@pytest.mark.parametrize(
    ("options", "began"),
    [
        (["--began", "2026-03-01T09:30"], datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        (["--began", "2026-03-01", *A_DAY], datetime(2026, 3, 1, tzinfo=UTC)),
        (
            ["--began", "2026-03-01", *A_DAY, "--day-time-zone", "Europe/Berlin"],
            datetime(2026, 3, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        ),
        (["--began", "2026-03-01", "--quotas", "wudao-2021"], datetime(2026, 3, 1, tzinfo=ZoneInfo("Asia/Shanghai"))),
        (
            ["--began", "2026-03-01T09:30+02:00", "--quotas", "wudao-2021"],
            datetime(2026, 3, 1, 9, 30, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
)
def test_a_beginning_without_a_zone_has_that_of_the_quota(options: list[str], began: datetime) -> None:
    """Else UTC; its own comes first."""
    found = read(*options).began
    assert found is not None
    assert (began, began.utcoffset()) == (found, found.utcoffset())


def test_a_preset_goes_with_fewer_requests_at_once() -> None:
    """At every endpoint; its other limits stay."""
    found = read("--quotas", "wudao-2021", "--concurrency", "3").quotas
    assert {name: replace(limits, concurrency=3) for name, limits in QUOTA_PRESETS["wudao-2021"].items()} == found
    assert "wudao-2021" == read("--quotas", "wudao-2021").quotas


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--day-time-zone", "Asia/Tokyo"], "--requests-per-day"),
        (["--day-time-zone", "Asia/Tokyo", "--quotas", "wudao-2021"], "--requests-per-day"),
        (["--quotas", "wudao-2021", "--tokens-per-minute", "3"], "exclude each other"),
        (["--stragglers-part", "0.1"], "--latency-s"),
        (["--outage", "5"], "AFTER,SECONDS"),
        (["--outage", "5:6"], "AFTER,SECONDS"),
        (["--began", "noon"], "--began"),
        (["--began", "9999-12-31", *A_DAY], "2999, not 9999"),
        (["--began", "1969-12-31T23:00+00:00"], "2999, not 1969"),
        (["--server-fault", "1.5"], "together"),
    ],
)
def test_what_cannot_be_is_named(options: list[str], named: str) -> None:
    """By the options that say it, or by the setting that refuses it."""
    with pytest.raises(ValueError, match=named):
        read(*options)
