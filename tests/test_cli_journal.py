"""`lmaas tune --journal` and `--resume`: what is kept of a command, what may differ, and how it ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tuning_cases import TASK, TRAIN, mock

from lmaas_sdk import Budget, Tuner, verify_ledger
from lmaas_sdk.cli import main, tune
from lmaas_sdk.cli.journal_options import options_to_keep
from lmaas_sdk.tuning.journal import header_of
from lmaas_sdk.tuning.journal_file import JournalFile

KEY = "test-key-of-the-journal"
VARIES = ("calls", "estimate", "wall_s", "prompt_file", "run_file")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the splits of a small sentiment task in `data`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMAAS_API_KEY", KEY)
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        rows = [f"{split} text {n} is {('awful', 'lovely')[n % 2]}\t{TASK.labels[n % 2]}" for n in range(12)]
        (tmp_path / "data" / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return tmp_path


def begin(*more: str) -> list[str]:
    """A command that begins a run on the mock, with paths as a user types them."""
    own = ["--template", "{text} It was <mask> .", "--labels", "negative,positive", "--words", "bad,great"]
    where = ["--data", "data", "--out", "out", "--model", "mock", "--journal", "run.journal"]
    return ["tune", "--task", "things", *own, *where, "--shots", "3", "--preset", "sep-tpa", "--seed", "7", *more]


def resume(*more: str) -> list[str]:
    return ["tune", "--resume", "run.journal", "--json", *more]


def cut(path: Path, part: float) -> None:
    """Leaves the first part of a file, as a kill does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])


def report_of(printed: str) -> dict[str, Any]:
    """A report but for times and for calls, of which each attempt is one; and the prompt file's bytes."""
    report = json.loads(printed)
    prompt = Path(report["prompt_file"]).read_bytes()
    for row in report["spend"].values():
        del row["calls"]
    return {name: value for name, value in report.items() if name not in VARIES} | {"prompt": prompt}


def test_a_run_is_gone_on_with_from_its_journal_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From another folder, and with no other option: the same report, the same prompt file."""
    options = (
        "--budget-evaluations",
        "100",
        "--no-cache",
        "--test-rows",
        "5",
        "--over-ask",
        "2",
        "--stragglers",
        "hedge",
    )
    assert 3 == main(begin(*options, "--failed", "resample", "--json"))
    expected = report_of(capsys.readouterr().out)
    cut(folder / "run.journal", 0.6)
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    assert 3 == main(["tune", "--resume", "../run.journal", "--json"])
    printed = capsys.readouterr()
    assert expected == report_of(printed.out)
    assert "resumed" in printed.err
    assert [] == list((folder / "elsewhere").iterdir())


def test_the_journal_keeps_options_and_no_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain values, paths that hold everywhere, and nothing of the environment."""
    assert 3 == main(begin("--budget-usd", "1.50", "--budget-evaluations", "40", "--cache", "answers.cache"))
    options = header_of(folder / "run.journal")["options"]
    kept = {name: options[name] for name in ("task", "shots", "seed", "budget_usd", "cache", "out", "data", "no_dev")}
    paths = {name: str(folder / path) for name, path in (("cache", "answers.cache"), ("out", "out"), ("data", "data"))}
    assert {"task": "things", "shots": 3, "seed": 7, "budget_usd": "1.50", "no_dev": False, **paths} == kept
    assert KEY.encode() not in (folder / "run.journal").read_bytes()


def test_a_model_in_a_folder_is_kept_by_its_whole_path(folder: Path) -> None:
    """A name and a URL stay as they are."""
    parser = argparse.ArgumentParser()
    tune.add_command(parser.add_subparsers())
    kept = [
        options_to_keep(parser.parse_args(["tune", "--model", model])) for model in ("./data", "data", "http://a:1/")
    ]
    assert [str(folder / "data"), "data", "http://a:1/"] == [options["model"] for options in kept]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "42"], "--seed was 7 when"),
        (["--preset", "paper"], "--preset was 'sep-tpa'"),
        (["--shots", "4"], "--shots was 3"),
        (["--no-dev"], "--no-dev was False"),
        (["--task", "sst2"], "--task was 'things'"),
        (["--racing", "on"], "--racing was None"),
        (["--over-ask", "1"], "--over-ask was 0"),
        (["--target", "0.9"], "--target was None"),
        (["--data", "other"], "(--data)"),
        (["--budget-evaluations", "30"], "has spent 40 evaluations before, which counts"),
    ],
)
def test_what_would_be_another_run_is_refused(
    more: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the option and what it was; the journal is left as it is."""
    assert 3 == main(begin("--budget-evaluations", "40"))
    (folder / "other").mkdir()
    for split in ("train", "test"):
        text = (folder / "data" / f"{split}.tsv").read_text()
        (folder / "other" / f"{split}.tsv").write_text(text.replace("text ", "line "))
    before = (folder / "run.journal").read_bytes()
    capsys.readouterr()
    assert 2 == main(resume(*more))
    assert said in capsys.readouterr().err
    assert (folder / "run.journal").read_bytes().startswith(before)


def test_a_larger_budget_and_another_folder_are_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run goes on for longer, and its files go where they are wanted now."""
    assert 3 == main(begin("--budget-evaluations", "40", "--json"))
    before = json.loads(capsys.readouterr().out)
    (folder / "data").rename(folder / "moved")
    options = ("--budget-evaluations", "80", "--data", "moved", "--out", "later", "--max-wait-s", "5", "--plot")
    assert 3 == main(resume(*options))
    after = json.loads(capsys.readouterr().out)
    assert (40, 80) == (before["evaluations"], after["evaluations"])
    assert ("later", "later") == (Path(after["prompt_file"]).parent.name, Path(after["picture"]).parent.name)


def test_a_run_on_a_ledger_is_gone_on_with_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds its budget in the ledger, though that was moved, and books nothing twice."""
    shared = (
        "--ledger",
        "spend.ledger",
        "--budget-name",
        "team",
        "--budget-evaluations",
        "100",
        "--no-cache",
        "--json",
    )
    assert 3 == main(begin(*shared))
    expected = report_of(capsys.readouterr().out)
    (folder / "spend.ledger").rename(folder / "moved.ledger")
    assert 3 == main(resume("--ledger", "moved.ledger"))
    assert expected == report_of(capsys.readouterr().out)
    assert verify_ledger(folder / "moved.ledger").is_right


@pytest.mark.parametrize(
    ("more", "stopped"), [(["--target", "0.0"], "target"), (["--plateau", "1", "--no-dev"], "plateau")]
)
def test_a_run_that_needs_no_more_budget_is_done(
    more: list[str], stopped: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0; and the same again when it is resumed."""
    for command in (begin("--budget-evaluations", "2000", "--json", *more), resume()):
        assert 0 == main(command)
        assert stopped == json.loads(capsys.readouterr().out)["stopped"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--target", "0.9", "--no-dev"], "--no-dev"),
        (["--target", "nan"], "target is a value of the metric on dev, such as 0.9, not nan"),
        (["--target=-inf"], "such as 0.9, not -inf"),
        (["--over-ask", "-1"], "over_ask"),
        (["--plateau", "-1"], "plateau"),
        (["--journal", "nowhere/run.journal"], "make the folder nowhere"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(
    more: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, no journal."""
    assert 2 == main(begin(*more))
    printed = capsys.readouterr()
    assert (said in printed.err, printed.err.count("\n"), printed.out) == (True, 1, "")
    assert not (folder / "run.journal").exists()


def test_a_journal_that_is_none_for_a_command_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is missing, one that a program began, one that holds a run when another is begun, and two at once."""
    assert 2 == main(resume())
    assert "cannot read the journal run.journal" in capsys.readouterr().err
    assert 2 == main(["tune"])
    assert "--task and --data (or --resume" in capsys.readouterr().err
    assert 3 == main(begin("--budget-evaluations", "20"))
    capsys.readouterr()
    assert 2 == main(begin())
    assert "lmaas tune --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*begin(), "--resume", "run.journal"])
    assert 2 == ended.value.code


def test_a_journal_of_a_program_is_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command cannot know its data; it says what can."""
    tuner = Tuner(mock(), budget=Budget(evaluations=20), journal="run.journal")
    asyncio.run(tuner.fit(TRAIN))
    assert 2 == main(resume())
    assert "Tuner.resume" in capsys.readouterr().err


def test_a_journal_in_use_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and nothing is written into it."""
    assert 3 == main(begin("--budget-evaluations", "40"))
    before = (folder / "run.journal").read_bytes()
    capsys.readouterr()
    held = JournalFile(Path("run.journal"), exists=True)
    try:
        assert 2 == main(resume("--budget-evaluations", "80"))
    finally:
        held.close()
    assert "is in use" in capsys.readouterr().err
    assert before == (folder / "run.journal").read_bytes()


def run(command: list[str]) -> subprocess.Popen[str]:
    whole = [sys.executable, "-m", "lmaas_sdk.cli", *command]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(process: subprocess.Popen[str], said: str) -> None:
    """Reads its stderr as far as that."""
    assert process.stderr is not None
    assert any(said in line for line in iter(process.stderr.readline, ""))


def interrupted(process: subprocess.Popen[str], times: int) -> tuple[str, str]:
    """What it prints to stdout and stderr until it has ended, told to once or twice."""
    os.kill(process.pid, signal.SIGSTOP)  # so that both signals are there when it looks
    for number in (signal.SIGINT, signal.SIGTERM)[:times]:
        os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    return out, err


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_run_says_how_to_go_on(times: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once: with its files; twice: at once. Both say the command that ends with the bytes of a run left alone."""
    path = str(folder / "run.journal")
    process = run(begin("--budget-evaluations", "2000000", "--no-cache", "--json"))
    with process:
        until(process, "evaluations")
        out, err = interrupted(process, times)
    assert (130, times == 1) == (process.returncode, bool(out))
    assert "go on with: lmaas tune --resume run.journal" == err.splitlines()[-1]
    told = len(re.findall(rb'"kind":"told"', Path(path).read_bytes()))
    assert told
    budget = str(20 * (told + 3))
    assert 3 == main(resume("--budget-evaluations", budget))
    resumed = report_of(capsys.readouterr().out)
    Path(path).unlink()
    assert 3 == main(begin("--budget-evaluations", budget, "--no-cache", "--json"))
    assert report_of(capsys.readouterr().out) == resumed
