"""The command line: JSON, files, exit codes, messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuning_cases import TASK

from lmaas_sdk import TunedPrompt
from lmaas_sdk.cli import main
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.cli.exit_codes import exit_code_of
from lmaas_sdk.errors import BackendUnavailable, BudgetExceeded, BudgetTooSmall, NoLanguageModelHead, QuotaExceeded

REPORTED = {
    "manual_accuracy",
    "tuned_accuracy",
    "evaluations",
    "calls",
    "tokens",
    "cost_usd",
    "budget",
    "stopped",
    "wall_s",
    "prompt_file",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the splits of a small sentiment task."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [f"{split} text {n} is {('awful', 'lovely')[n % 2]}\t{TASK.labels[n % 2]}" for n in range(12)]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return folder


def tune(data: Path, *more: str) -> list[str]:
    """A command that tunes the mock on a task of one's own."""
    own = ["--template", "{text} It was <mask> .", "--labels", "negative,positive", "--words", "bad,great"]
    where = ["--data", str(data), "--out", str(data.parent / "out"), "--model", "mock"]
    return ["tune", "--task", "things", *own, *where, "--shots", "3", "--preset", "sep-tpa", *more]


def test_tune_reports_one_json_object_and_writes_the_prompt(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout is one JSON object with the promised keys; a budget that ended is exit code 3."""
    assert main(tune(data, "--budget-evaluations", "60", "--budget-usd", "1.50", "--seed", "5", "--json")) == 3
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert REPORTED <= report.keys()
    assert (report["evaluations"], report["stopped"], report["metric"]) == (60, "budget", "accuracy")
    assert report["budget"]["usd"] == 1.5
    assert "60/60 evaluations" in printed.err
    assert TunedPrompt.load(report["prompt_file"]).task.labels == ("negative", "positive")


def test_tune_prints_a_table_and_draws_a_picture(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json: manual against tuned accuracy, spend by purpose, files."""
    assert main(tune(data, "--budget-evaluations", "40", "--plot", "--no-dev", "--test-rows", "5")) == 3
    printed = capsys.readouterr().out
    for expected in (
        "manual",
        "tuned",
        "train",
        "total",
        "evaluations 40",
        "chosen by train_loss",
        "things-sep-tpa-42.png",
    ):
        assert expected in printed
    assert (data.parent / "out" / "things-sep-tpa-42.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--budget-evaluations", "19"], 2, "allows 19 evaluations"),
        (["--budget-usd", "five"], 2, "'five'"),
        (["--budget-calls", "-1"], 2, "calls is at least 0, not -1"),
        (["--shots", "50"], 2, "50"),
        (["--words", "bad"], 2, "positive"),
        (["--model", "http://127.0.0.1:9"], 4, "127.0.0.1:9"),
        (["--metric", "f2"], 2, "f2"),
    ],
)
def test_mistakes_end_with_a_message_and_a_code(
    data: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, said: str
) -> None:
    """One line on stderr says what was wrong, with the value; nothing goes to stdout."""
    assert main(tune(data, *more)) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("lmaas tune: ")
    assert printed.out == ""


def test_unknown_task_is_answered_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists the catalogue."""
    assert main(["tune", "--task", "sst3", "--data", str(tmp_path)]) == 2
    assert "sst2" in capsys.readouterr().err


def test_task_of_ones_own_needs_all_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A template without labels and words is refused by the names of the options."""
    assert main(["tune", "--task", "mine", "--template", "{a} <mask>", "--data", str(tmp_path)]) == 2
    assert "--labels, --words" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["--help"], ["tune", "--help"], ["serve", "--help"], ["demo", "--help"]])
def test_help_works_for_every_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert "usage: lmaas" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BudgetTooSmall("b", "calls", limit=1, posted=0, pending=0, asked=2), 2),
        (BudgetExceeded("b", "calls", limit=1, posted=1, pending=0, asked=1), 2),
        (QuotaExceeded("wait", wait_s=5), 4),
        (BackendUnavailable("gone"), 4),
        (NoLanguageModelHead("headless"), 4),
        (ValueError("bad"), 2),
        (FileNotFoundError("none"), 2),
        (RuntimeError("a fault of ours"), None),
    ],
)
def test_exit_codes(error: Exception, code: int | None) -> None:
    """Without a result: 2 usage, 4 unavailable; anything else is a fault and keeps its traceback."""
    assert exit_code_of(error) == code


def test_demo_data_is_what_the_demo_needs() -> None:
    """Balanced splits: at least 32 to train on, 32 to choose by, 400 to test on."""
    splits = demo_splits()
    assert splits.dev is not None
    assert splits.test is not None
    for split, least in ((splits.train, 32), (splits.dev, 32), (splits.test, 400)):
        assert len(split) >= least
        assert split.class_counts == (len(split) // 2, len(split) // 2)
