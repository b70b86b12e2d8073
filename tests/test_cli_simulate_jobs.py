"""`lmaas simulate-jobs`: what is asked for is simulated, and what cannot be is refused."""

from __future__ import annotations

import json

import pytest

from lmaas_sdk.cli import main

FEW = ["simulate-jobs", "--jobs", "6", "--generations", "4", "--population", "8", "--d", "10", "--texts", "8"]


def test_it_tells_who_got_what(capsys: pytest.CaptureFixture[str]) -> None:
    """By priority, within money and quota, at the model's price; the same command prints the same."""
    more = ["--priorities", "1,3", "--requests-per-minute", "60", "--price", "gpt3-2022/ada", "--budget-usd", "2"]
    asked = [*FEW, *more, "--began", "2026-03-01", "--latency-spread", "0.3", "--json"]
    assert 0 == main(asked)
    first = capsys.readouterr().out
    assert 0 == main(asked)
    assert first == capsys.readouterr().out
    told = json.loads(first)
    assert [2, 6] * 3 == [job["generations"] for job in told["jobs"]]
    assert [0, 0, 0] == [bound["over"] for bound in told["bounds"].values()]
    assert 0 < told["spent"]["nanousd"] == told["billed"]["nanousd"] <= 2_000_000_000
    assert "2026-03-01T00:00:00+00:00" == told["began"]


def test_it_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a job, and what was kept to."""
    assert 0 == main([*FEW, "--requests-per-day", "10", "--day-time-zone", "Asia/Shanghai", "--began", "2026-03-01"])
    printed = capsys.readouterr()
    assert "job-5" in printed.out
    assert "requests_per_day 10 of 10" in printed.out
    assert printed.err.splitlines()[-1].startswith("192/192 evaluations  6 jobs under way or done")


def test_failures_and_presets_reach_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """The provider is told as `lmaas simulate` is told it."""
    more = ["--quotas", "wudao-2021", "--concurrency", "2", "--refused", "0.2", "--outage", "0,60"]
    assert 0 == main([*FEW, *more, "--began", "2026-03-01", "--budget-usd", "5", "--json"])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert "2026-03-01T00:00:00+08:00" == told["began"]
    assert 100 == told["bounds"]["requests_per_day"]["limit"]
    assert told["elapsed_s"] > 60
    assert "--budget-usd 5 limits nothing" in printed.err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--jobs", "0"], "--jobs"),
        (["--generations", "0"], "--generations"),
        (["--priorities", "1,x"], "--priorities"),
        (["--priorities", "1,-1"], "priority"),
        (["--began", "soon"], "--began"),
        (["--requests-per-minute", "0"], "requests_per_minute is 0"),
        (["--requests-per-day", "9", "--day-time-zone", "Mars"], "Mars"),
        (["--budget-usd", "0.000001", "--price", "gpt3-2022/davinci"], "one generation"),
        (["--population", "2"], "population"),
        (["--tokens", "513"], "tokens is at most 512"),
        (["--latency-s", "-1"], "median_s"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(more: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is simulated."""
    assert 2 == main([*FEW, *more])
    printed = capsys.readouterr()
    assert ("", 1) == (printed.out, printed.err.count("\n"))
    assert named in printed.err
