"""`lmaas estimate`: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmaas_sdk.cli import main

PAPER = ["estimate", "--task", "sst2", "--tokens-a-text", "28", "--preset", "paper"]
EXACTLY = ("low", "expected", "high")


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*PAPER, *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def exactly(value: float) -> dict[str, float]:
    return dict.fromkeys(EXACTLY, value)


def test_each_quantity_is_low_expected_and_high(capsys: pytest.CaptureFixture[str]) -> None:
    """At the top of one object; what is unknown is null."""
    found = told(["--no-dev"], capsys)
    assert found["calls"] == exactly(400)
    assert found["evaluations"] == exactly(8000)
    assert found["attempts"] == exactly(400)
    assert found["tokens"] == exactly(8000 * 32 * 78)
    assert (found["cost_usd"], found["wall_s"], found["quota_days"]) == (None, None, None)
    assert (found["models"], found["fits"], found["budget_for"], found["shapes"]) == (None, None, None, None)


def test_the_conditions_are_those_of_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Latency, failures, quotas and the first moment."""
    options = ["--no-dev", "--budget-evaluations", "400", "--candidates-a-call", "1", "--concurrency", "5"]
    sure = told([*options, "--latency-s", "2", "--began", "2026-03-01T09:00+01:00"], capsys)
    assert sure["wall_s"] == exactly(20 * 4 * 2)  # 20 generations of 20 calls, five at once
    assert (sure["began"], sure["ends"]) == ("2026-03-01T08:00:00+00:00", "2026-03-01T08:02:40+00:00")
    hazy = told([*options, "--latency-s", "2", "--latency-spread", "0.5", "--refused", "0.1"], capsys)
    assert hazy["wall_s"]["low"] < hazy["wall_s"]["expected"] < hazy["wall_s"]["high"]
    assert hazy["attempts"]["expected"] == pytest.approx(400 / 0.9, rel=0.03)
    away = told([*options, "--latency-s", "2", "--outage", "10,60"], capsys)
    assert away["wall_s"]["low"] > 160 + 50
    daily = told([*options, "--requests-per-day", "100", "--day-time-zone", "Asia/Tokyo"], capsys)
    assert daily["quota_days"] == exactly(4)


def test_questions_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """What fits into money, which budget is needed, and what other models cost."""
    models = ["--models", "ada,davinci", "--on", "2022-01-31"]
    found = told([*models, "--no-dev", "--fits-usd", "5", "--evaluations", "8000"], capsys)
    assert found["model"] == "ada"
    assert found["cost_usd"] == exactly(15.9744)
    assert found["models"] == {"ada": exactly(15.9744), "davinci": exactly(1198.08)}
    assert found["fits"]["evaluations"] == exactly(2500)
    assert found["budget_for"] == {
        "calls": 400,
        "evaluations": 8000,
        "tokens": 19968000,
        "usd": 15.9744,
        "wall_s": None,
    }


def test_a_price_is_told_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """As `lmaas simulate` is told it; what fits into money needs no other."""
    found = told(["--no-dev", "--price", "gpt3-2022/ada", "--fits-usd", "5"], capsys)
    assert (found["model"], found["cost_usd"]) == ("gpt3-2022/ada", exactly(15.9744))
    assert found["fits"]["evaluations"] == exactly(2500)


def test_of_several_numbers_of_candidates_the_first_is_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    """With dev scoring or without, as the options say; the comparison has both of each."""
    for options, calls in ([], 8080), (["--no-dev"], 8000):
        found = told(["--candidates-a-call", "1,20", *options], capsys)
        assert found["calls"] == exactly(calls) == told(["--candidates-a-call", "1", *options], capsys)["calls"]
        shapes = [(one["candidates_a_call"], one["dev"], one["calls"]["expected"]) for one in found["shapes"]]
        assert shapes == [(1, False, 8000), (1, True, 8080), (20, False, 400), (20, True, 440)]


def test_money_that_limits_nothing_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, where no price is known; with one nothing is said."""
    assert main([*PAPER, "--budget-usd", "5"]) == 0
    assert "--budget-usd 5 limits nothing" in capsys.readouterr().err
    assert main([*PAPER, "--budget-usd", "5", "--price", "gpt3-2022/ada"]) == 0
    assert capsys.readouterr().err == ""


def test_people_read_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """With all that was asked, and what is not known."""
    options = [
        "--quotas",
        "wudao-2021",
        "--models",
        "ada",
        "--on",
        "2022-01-31",
        "--no-dev",
        "--fits-usd",
        "5",
        "--evaluations",
        "80",
    ]
    assert main([*PAPER, *options]) == 0
    printed = capsys.readouterr().out
    for said in ("19,968,000", "at the price of", "what fits into 5 dollars", "a budget that reaches", "quota alone"):
        assert said in printed


def test_data_are_read_as_tune_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder, a task of one's own, and a model; here the mock."""
    rows = ["sentence\tlabel", *(f"a day, number {n}\t{n % 2}" for n in range(40))]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("\n".join(rows), encoding="utf-8")
    arguments = ["--task", "sst2", "--data", str(tmp_path), "--model", "mock", "--shots", "4", "--preset", "paper"]
    assert main(["estimate", *arguments, "--budget-evaluations", "200", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {purpose: one["calls"] for purpose, one in found["by_purpose"].items()} == {
        "train": exactly(10),
        "dev": exactly(1),
        "test": exactly(2),
    }
    assert found["is_counted"] is True


def test_a_probe_and_a_ledger_teach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A probe's calls are told; a ledger that is none is refused."""
    (tmp_path / "train.tsv").write_text(
        "\n".join(["sentence\tlabel", *(f"a day, number {n}\t{n % 2}" for n in range(40))]), encoding="utf-8"
    )
    mock = ["estimate", "--task", "sst2", "--data", str(tmp_path), "--model", "mock", "--shots", "4", "--no-test"]
    assert main([*mock, "--budget-evaluations", "200", "--probe", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["probed"]["calls"], found["probed"]["evaluations"]) == (2, 0)
    assert found["wall_s"]["high"] > 0
    assert main([*mock, "--history", str(tmp_path / "none.ledger")]) == 2
    assert "no ledger file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--tokens-a-text", "0"], "tokens_a_text"),
        (["--tokens-a-text", "99999999"], "tokens_a_text is at most 1,000,000"),
        (["--shots", "100000000000"], "--shots"),
        (["--candidates-a-call", "0"], "--candidates-a-call"),
        (["--candidates-a-call", "1,1"], "--candidates-a-call"),
        (["--candidates-a-call", "1,many"], "--candidates-a-call"),
        (["--timeout", "0.7", "--refused", "0.7"], "together"),
        (["--latency-s", "-1"], "median_s"),
        (["--latency-spread", "0.5"], "--latency-s"),
        (["--requests-per-day", "0"], "requests_per_day"),
        (["--requests-per-day", "9", "--day-time-zone", "Mars/Olympus"], "Mars/Olympus"),
        (["--day-time-zone", "Asia/Tokyo"], "--requests-per-day"),
        (["--quotas", "wudao-2021", "--requests-per-day", "3"], "exclude each other"),
        (["--budget-usd", "-1", "--models", "ada", "--on", "2022-01-31"], "-1"),
        (["--budget-evaluations", "10"], "one generation"),
        (["--models", "nobody's"], "nobody's"),
        (["--fits-usd", "5"], "--price"),
        (["--probe", "3"], "--probe"),
        (["--data", "folder"], "--data"),
        (["--budget-wall-s", "60"], "only time"),
        (["--budget-wall-s", "60", "--latency-s", "0"], "only time"),
        (["--rate-limit", "1"], "rate_limit"),
        (["--tokens-per-minute", "5"], "a minute are allowed"),
        (["--latency-s", "1", "--latency-spread", "800"], "spread"),
        (["--latency-s", "1e308"], "median_s"),
        (["--outage", "5"], "--outage"),
        (["--outage", "1,-1"], "lasts_s is a finite number of at least 0, not -1.0"),
        (["--began", "noon"], "--began"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2 and a message that names it, or 3 where a budget is too small."""
    assert main([*PAPER, *arguments]) in (2, 3)
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--on=noon", "--models=,", "--models=ada,ada"])
def test_options_that_cannot_be_read_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the parser, which says how they are written."""
    with pytest.raises(SystemExit) as ended:
        main([*PAPER, option])
    assert ended.value.code == 2
    assert "not '" in capsys.readouterr().err


def test_days_are_as_many_as_the_run_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where another limit than the day's holds its calls up."""
    slow = ["--requests-per-day", "5000", "--requests-per-minute", "1", "--candidates-a-call", "1"]
    assert 0 == main([*PAPER, *slow, "--budget-evaluations", "8000", "--no-dev", "--json"])
    assert {"low": 6, "expected": 6, "high": 6} == json.loads(capsys.readouterr().out)["quota_days"]


def test_a_task_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """And data, or the length of texts."""
    assert main(["estimate"]) == 2
    assert "--task" in capsys.readouterr().err
    assert main(["estimate", "--task", "sst2"]) == 2
    assert "--tokens-a-text" in capsys.readouterr().err
    assert main(["estimate", "--task", "sst2", "--data", "folder", "--candidates-a-call", "1,20"]) == 2
    assert "--candidates-a-call" in capsys.readouterr().err
