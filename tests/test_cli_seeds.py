"""`lmaas tune --seeds`: a run a seed, on one budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuning_cases import TASK

from lmaas_sdk import TunedPrompt
from lmaas_sdk.cli import main


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A command that tunes the mock on a task of one's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [f"{split} text {n} is {('awful', 'lovely')[n % 2]}\t{TASK.labels[n % 2]}" for n in range(24)]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    own = ["--template", "{text} It was <mask> .", "--labels", "negative,positive", "--words", "bad,great"]
    where = ["--data", str(folder), "--out", str(tmp_path / "out"), "--model", "mock"]
    return ["tune", "--task", "things", *own, *where, "--shots", "3", "--preset", "sep-tpa"]


def test_seeds_share_a_budget_and_end_in_one_object(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its part, its own data and its own prompt file."""
    assert main([*command, "--seeds", "5,6", "--budget-evaluations", "120", "--json"]) == 3
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert {"seed-5": 60, "seed-6": 60} == {name: run["evaluations"] for name, run in told["runs"].items()}
    assert ({}, 120) == (told["failures"], told["spend"]["total"]["evaluations"])
    prompts = [TunedPrompt.load(run["prompt_file"]) for run in told["runs"].values()]
    assert prompts[0].subspace.seed != prompts[1].subspace.seed
    assert "of 2 runs  dev " in printed.err


def test_seeds_go_on_from_their_journals(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again reports the same and spends nothing; a larger budget goes on."""
    more = ["--seeds", "5,6", "--journals", str(tmp_path / "runs")]
    prints = []
    for evaluations in ("80", "80", "120"):
        assert main([*command, *more, "--budget-evaluations", evaluations]) == 3
        prints.append(capsys.readouterr())
    assert prints[0].out == prints[1].out
    assert "seed-5: resumed after 2 generations" in prints[2].err
    assert "seed-5" in prints[2].out


@pytest.mark.parametrize(
    "more", [["--seeds", "5,x"], ["--seeds", "5,5"], ["--journals", "runs"], ["--seeds", "1", "--budget-usd", "-1"]]
)
def test_seeds_that_make_no_sense_are_refused(
    command: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened, with a line that says why."""
    assert main([*command, *more]) == 2
    assert capsys.readouterr().err.startswith("lmaas tune: ")


def test_seeds_that_have_no_budget_fail_together(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The first one's error is the command's."""
    assert main([*command, "--seeds", "5,6", "--budget-evaluations", "30"]) == 2
    assert "budget" in capsys.readouterr().err


def test_options_of_a_run_hold_for_every_seed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A target ends each of them; a journal of one run is refused."""
    assert main([*command, "--seeds", "5,6", "--budget-evaluations", "800", "--target", "0.01", "--json"]) == 0
    assert {"target"} == {run["stopped"] for run in json.loads(capsys.readouterr().out)["runs"].values()}
    for option in ("--journal", "--resume"):
        assert main([*command, "--seeds", "5,6", "--budget-evaluations", "800", option, "run.journal"]) == 2
