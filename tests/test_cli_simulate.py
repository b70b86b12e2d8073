"""`lmaas simulate`: what it prints, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lmaas_sdk import Budget
from lmaas_sdk.cli import main
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.simulate import simulate
from lmaas_sdk.planning.synthetic import SyntheticLandscape, SyntheticTexts
from lmaas_sdk.reporting.progress import CountProgress
from lmaas_sdk.reporting.simulation_progress import RunMoments

SMALL = (
    "simulate --preset small-model --population 8 --hidden-size 16 --train-texts 8 --tokens 5 --budget-evaluations 80 "
    "--began 2026-03-01 --requests-per-day 10 --day-time-zone Europe/Berlin --candidates-a-call 1"
)
TROUBLE = (
    "--rate-limit 0.05 --server-fault 0.05 --charged --timeout 0.02 --refused 0.02 --outage 90000,3600 --latency-s 1 "
    "--latency-spread 0.5 --latency-per-text-s 0.01 --stragglers-part 0.05 --noise 0.1 --ruggedness 0.5 --dev-texts 4"
)


def told(capsys: pytest.CaptureFixture[str], options: str) -> Any:
    """The JSON of a simulation that succeeded."""
    assert 0 == main(shlex.split(f"{SMALL} {options} --json"))
    return json.loads(capsys.readouterr().out)


def test_it_tells_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object, with a run a seed and what they have in common."""
    found = told(capsys, "--seeds 1,2 --price gpt3-2022/davinci --budget-usd 50")
    assert [1, 2] == [run["seed"] for run in found["runs"]]
    assert ["2026-03-08T00:00:00.250000+01:00"] * 2 == [run["ended"] for run in found["runs"]]
    assert {"day": 8, "stopped": "budget", "evaluations": 80, "calls": 80}.items() <= found["runs"][0].items()
    tokens = found["runs"][0]["spent"]["tokens"]
    assert pytest.approx(tokens * 0.06 / 1000) == found["runs"][0]["cost_usd"]
    assert {"low": 8.0, "median": 8.0, "high": 8.0} == found["summary"]["days"]
    assert "2026-03-01T00:00:00+01:00" == found["began"]


def test_it_prints_a_table_and_says_which_seed_is_at_work(capsys: pytest.CaptureFixture[str]) -> None:
    """The table on stdout, the rest on stderr."""
    assert 0 == main(shlex.split(f"{SMALL} --seeds 1,2 --no-compare"))
    printed = capsys.readouterr()
    assert "2026-03-08 00:00" in printed.out
    assert "median" in printed.out
    first, second, third, last = printed.err.splitlines()
    assert first.startswith("0/2 simulated runs  seed 1 (1 of 2)")
    assert second.startswith("1/2 simulated runs  seed 1 (1 of 2)  played until 2026-03-08 00:00  loss ")
    assert third.startswith("2/2 simulated runs  seed 2 (2 of 2)")
    assert last.startswith("2/2 simulated runs")


def test_it_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each value with each."""
    found = told(capsys, "--no-compare --sweep candidates-a-call=1,8 --sweep population=8,16")
    days = {tuple(row["setting"].values()): row["runs"][0]["day"] for row in found["sweep"]}
    assert {(1, 8): 8, (1, 16): 8, (8, 8): 1, (8, 16): 1} == days


def test_a_sweep_is_in_the_place_of_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the option is one of the provider's."""
    found = told(capsys, "--no-compare --concurrency 2 --sweep concurrency=1,4")
    assert [1, 4] == [row["scenario"]["concurrency"] for row in found["sweep"]]


def test_money_that_limits_nothing_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, where no price is known; with one nothing is said."""
    assert 0 == main(shlex.split(f"{SMALL} --no-compare --budget-usd 5"))
    assert "--budget-usd 5 limits nothing" in capsys.readouterr().err
    assert 0 == main(shlex.split(f"{SMALL} --no-compare --budget-usd 5 --price gpt3-2022/ada"))
    assert "limits nothing" not in capsys.readouterr().err


def test_every_option_reaches_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Failures and latencies show in waits and attempts, dev texts in what is found."""
    (run,) = told(capsys, TROUBLE)["runs"]
    assert {"quota", "rate_limit", "retry"} == set(run["waits"])
    assert run["attempts"] > run["calls"]
    assert run["found"]["dev"] is not None
    assert run["elapsed_s"] > 90000


def test_it_has_the_same_outcome_in_every_process() -> None:
    """Whatever the order of sets and the names of that process."""
    command = [sys.executable, "-m", "lmaas_sdk.cli", *shlex.split(f"{SMALL} {TROUBLE} --json --no-compare")]
    printed = [
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]


def test_real_data_are_played(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A few shots of a folder, with the task's own template."""
    rows = "".join(f"{'dull' if n % 2 else 'lovely'} thing {n}\t{1 - n % 2}\n" for n in range(16))
    (tmp_path / "train.tsv").write_text(f"sentence\tlabel\n{rows}", encoding="utf-8")
    found = told(capsys, f"--task sst2 --data {tmp_path} --shots 2 --no-compare")
    assert (4, 4) == (found["scenario"]["train"]["texts"], found["scenario"]["dev"]["texts"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--budget-evaluations 4", "one generation"),
        ("--requests-per-day 0", "requests_per_day"),
        ("--day-time-zone Mars/Olympus", "Mars/Olympus"),
        ("--quotas wudao-2021", "exclude each other"),
        ("--price gpt3-2022/nobody", "nobody"),
        ("--began yesterday", "yesterday"),
        ("--outage 5", "--outage"),
        ("--timeout -0.5", "timeout"),
        ("--latency-s -1", "median_s"),
        ("--sweep colour=red", "colour"),
        ("--sweep concurrency=", "--sweep"),
        ("--sweep concurrency=two", "two"),
        ("--sweep population=10 --sweep population=20", "population"),
        ("--sweep population=20,20", "population twice"),
        ("--tokens 99999", "tokens is at most 512"),
        ("--train-texts 100000000000", "count times tokens is at most 1,000,000"),
        ("--latency-s 1 --stragglers-part 0.1 --stragglers-factor 1e300", "slow_factor is at most"),
        ("--latency-spread 0.5", "--latency-s"),
        ("--began 9999-12-31", "began is in a year from 1970 to 2999, not 9999"),
        ("--price gpt3-2022/davinci --budget-usd 0.000001", "allows $0.000001: $0.00 posted"),
        ("--rate-limit 1", "rate_limit"),
        ("--tokens-per-minute 10", "a minute are allowed"),
        ("--latency-s 1e308", "median_s"),
        ("--outage 0,1e300", "lasts_s"),
        ("--seeds one", "--seeds"),
        ("--train-texts 0", "count"),
        ("--task sst2", "--data"),
        ("--population 1", "population"),
        ("--budget-usd -1", "-1"),
    ],
)
def test_what_cannot_be_is_named(capsys: pytest.CaptureFixture[str], options: str, named: str) -> None:
    """On stderr, with exit code 2 and nothing on stdout."""
    assert 2 == main(shlex.split(f"{SMALL} {options}"))
    printed = capsys.readouterr()
    assert "" == printed.out
    assert named in printed.err


def test_a_terminal_shows_the_seed_and_its_calendar() -> None:
    """How many runs are done, with the day that the one under way has come to; one with nothing in its way is told."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"})
    scenario = Scenario(
        preset="small-model",
        landscape=SyntheticLandscape(hidden_size=16),
        train=SyntheticTexts(8, 5),
        budget=Budget(evaluations=80),
        conditions=Conditions(began=datetime(2026, 3, 1, tzinfo=UTC)),
        population=8,
    )
    shown = []

    def show(done: float, *parts: str) -> None:
        shown.append((done, *parts))

    with CountProgress("simulated runs", 2, console) as progress:
        progress.show = show  # type: ignore[method-assign]
        simulate(scenario, seeds=[7, 8], on_moment=RunMoments(progress, [7, 8]).show)
    assert (0, "seed 7 (1 of 2)") == shown[0]
    assert (0.25, "seed 7 (1 of 2)", "played until 2026-03-01 00:00") == shown[5][:3]
    assert (0.5, "seed 7 (1 of 2) with nothing in its way") == shown[11]
    assert (0.75, "seed 7 (1 of 2) with nothing in its way", "") == shown[16][:3]
    assert (1, "seed 8 (2 of 2)") == shown[22]
    assert sorted(shown, key=lambda one: one[0]) == shown


@pytest.mark.parametrize("width", [60, 80, 180])
def test_a_narrow_terminal_shows_every_number_whole(width: int) -> None:
    """Over several lines if need be, and nothing is left out."""
    scenario = Scenario(
        preset="small-model", landscape=SyntheticLandscape(hidden_size=16), train=SyntheticTexts(8, 5), population=8
    )
    found = simulate(replace(scenario, budget=Budget(evaluations=80)), compare=False)
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(found.table())
    assert "\N{HORIZONTAL ELLIPSIS}" not in out.getvalue()
    cells = zip(*[line.split("│")[1:-1] for line in out.getvalue().splitlines() if line.startswith("│")], strict=True)
    assert f"{found.runs[0].spent.tokens:,}" in ["".join(map(str.strip, column)) for column in cells]
