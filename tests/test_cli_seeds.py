"""`lmaas tune --seeds`: a run a seed, on one budget."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from test_cli_journal import interrupted, run, until
from tuning_cases import TASK

from lmaas_sdk import GroupResult, TunedPrompt
from lmaas_sdk.cli import main
from lmaas_sdk.cli.exit_codes import exit_code_of_group
from lmaas_sdk.errors import ServerFault


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
    "more",
    [
        ["--seeds", "5,x"],
        ["--seeds", "5,5"],
        ["--journals", "runs"],
        ["--seeds", "1", "--budget-usd", "-1"],
        ["--seeds", "1,2", "--target", "inf"],
    ],
)
def test_seeds_that_make_no_sense_are_refused(
    command: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened, with a line that says why."""
    assert main([*command, *more]) == 2
    printed = capsys.readouterr().err
    assert (True, 1) == (printed.startswith("lmaas tune: "), printed.count("\n"))


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


def test_a_fault_of_the_program_is_no_exit_code() -> None:
    """It ends the command as it would end one run's, whatever failed before it."""
    fault, refusal = AssertionError("a fault"), ServerFault("a 500")
    failed = GroupResult({}, {"one": refusal, "two": fault}, {}, {}, 0.0)
    with pytest.raises(AssertionError, match="a fault"):
        exit_code_of_group(failed)
    assert 4 == exit_code_of_group(replace(failed, failures={"one": refusal}))


def hinted(printed: str) -> list[str]:
    """The arguments of the command that goes on, which the last line names."""
    return shlex.split(printed.splitlines()[-1].split("go on with: ")[-1].removeprefix("lmaas "))


@pytest.mark.parametrize("times", [1, 2])
def test_interrupted_seeds_say_how_to_go_on(
    times: int,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once: with their files; twice: at once. Both name the whole command, which holds in every folder."""
    monkeypatch.chdir(tmp_path)
    more = ["--seeds", "5,6", "--journals", "the runs", "--plateau", "0", "--no-cache", "--json"]
    process = run([*command, *more, "--budget-evaluations", "2000000"])
    with process:
        until(process, "of 2 runs")
        out, err = interrupted(process, times)
    assert (130, times == 1) == (process.returncode, bool(out))
    again = hinted(err)
    assert ["tune", "2000000", str(tmp_path / "the runs"), "0"] == [
        again[0],
        *(again[again.index(option) + 1] for option in ("--budget-evaluations", "--journals", "--plateau")),
    ]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    smaller = [*again, "--budget-evaluations", "4000", "--json"]
    assert 3 == main(smaller)
    assert re.search("seed-[56]: resumed after", capsys.readouterr().err)  # whichever was first to do a generation


def test_the_journal_of_one_seed_is_gone_on_with_by_all_of_them(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it names for that tells the same result again."""
    more = ["--seeds", "5,6", "--journals", str(tmp_path / "runs"), "--target=-1.5", "--budget-evaluations", "80"]
    assert 3 == main([*command, *more])
    expected = capsys.readouterr().out
    assert 2 == main(["tune", "--resume", str(tmp_path / "runs" / "seed-5.journal")])
    printed = capsys.readouterr().err
    assert "is one of several, which share a budget: go on with all of them by lmaas tune --task things" in printed
    assert 3 == main(shlex.split(printed.split("all of them by lmaas ")[1]))
    assert expected == capsys.readouterr().out


def test_seeds_without_journals_have_no_way_to_go_on(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is named that would begin anew."""
    assert 4 == main([*command, "--seeds", "5,6", "--model", "http://127.0.0.1:9"])
    assert "go on with" not in capsys.readouterr().err
