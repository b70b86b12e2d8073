"""The command line: JSON, files, exit codes, messages."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tuning_cases import TASK

from lmaas_sdk import PRESETS, TunedPrompt, read_run
from lmaas_sdk.cli import main
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.cli.exit_codes import exit_code_of
from lmaas_sdk.errors import BackendUnavailable, BudgetExceeded, BudgetTooSmall, NoLanguageModelHead, QuotaExceeded
from lmaas_sdk.tasks.intervals import wilson

REPORTED = {
    "manual_accuracy",
    "manual_interval",
    "tuned_accuracy",
    "tuned_interval",
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
    run = read_run(report["run_file"])
    assert (run.evaluations, run.seed, run.stopped, len(run.generations)) == (60, 5, "budget", 3)
    assert run.spend["train"].to_dict() == report["spend"]["train"]


def test_tune_prints_a_table_and_draws_a_picture(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json: manual against tuned accuracy with their intervals, spend by purpose, files."""
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
    rows = re.findall(r"(manual|tuned)\W+(\d+\.\d) % \((\d+\.\d) \.\. (\d+\.\d)\)", printed)
    ends = {f"{20 * right}.0": [f"{100 * end:.1f}" for end in wilson(right, 5)] for right in range(6)}
    assert rows == [(name, share, *ends[share]) for name, share, *_ in rows]
    assert [name for name, *_ in rows] == ["manual", "tuned"]
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
        (["--model", "http://127.0.0.1:9,http://127.0.0.1:10"], 4, "none of 2 servers answers"),
        (["--model", "http://127.0.0.1:9,http://127.0.0.1:9/"], 2, "http://127.0.0.1:9 is given twice"),
        (["--metric", "f2"], 2, "f2"),
        (["--cache", "c", "--no-cache"], 2, "exclude each other"),
        (["--ledger", "missing/l.ledger"], 2, "missing/l.ledger"),
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


def test_runs_on_one_ledger_share_a_budget_and_its_books_are_right(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the first run left is all that the second has; other limits under the name are refused; `verify` agrees."""
    ledger = str(data.parent / "spend.ledger")
    shared = ["--ledger", ledger, "--budget-name", "team", "--budget-evaluations", "60", "--json"]
    assert main(tune(data, *shared, "--no-dev")) == 3
    assert json.loads(capsys.readouterr().out)["evaluations"] == 60
    assert main(tune(data, *shared, "--no-dev")) == 2
    assert "'team' allows 60 evaluations: 60 posted" in capsys.readouterr().err
    assert main(tune(data, "--ledger", ledger, "--budget-name", "team", "--budget-evaluations", "80")) == 2
    assert "lmaas ledger limits" in capsys.readouterr().err
    assert main(["ledger", "limits", ledger, "team", "--evaluations", "80"]) == 0
    assert main(tune(data, *shared[:-3], "--budget-evaluations", "80", "--no-dev", "--json")) == 3
    assert main(["ledger", "verify", ledger]) == 0


def test_a_second_run_is_answered_from_the_cache_on_disk(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same bytes, and no call; with --no-cache every call is sent."""
    cache, reports = str(data.parent / "answers.cache"), []
    for more in (["--cache", cache], ["--cache", cache], ["--no-cache"]):
        assert main(tune(data, "--budget-evaluations", "40", "--json", *more)) == 3
        reports.append(json.loads(capsys.readouterr().out))
    assert [report["calls"] > 0 for report in reports] == [True, False, True]
    assert [report["evaluations"] for report in reports] == [40, 40, 40]
    assert len({json.dumps(report["curve"]) for report in reports if "curve" in report}) <= 1


def test_output_folder_is_tried_before_anything_is_spent(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file where the folder should be ends the command at once."""
    (data.parent / "taken").write_text("")
    assert main([*tune(data), "--out", str(data.parent / "taken")]) == 2
    printed = capsys.readouterr()
    assert "taken" in printed.err
    assert "evaluations" not in printed.err


def test_missing_matplotlib_is_found_before_anything_is_spent(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that cannot be drawn is refused at once, with the extra to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(tune(data, "--plot")) == 2
    printed = capsys.readouterr()
    assert "lmaas-sdk[plot]" in printed.err
    assert "evaluations" not in printed.err


def test_files_stay_in_their_folder(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task's name is a name, whatever it looks like."""
    command = tune(data, "--budget-evaluations", "20", "--json")
    command[command.index("things")] = "../../evil"
    assert main(command) == 3
    written = Path(json.loads(capsys.readouterr().out)["prompt_file"])
    assert written.parent == data.parent / "out"


def test_metric_goes_with_a_task_of_ones_own(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a task of the catalogue it is refused, not ignored."""
    assert main(["tune", "--task", "sst2", "--data", str(data), "--metric", "f1"]) == 2
    assert "--template" in capsys.readouterr().err


def test_train_split_alone_is_enough_without_a_test(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--no-test` evaluates on nothing."""
    (data / "test.tsv").unlink()
    assert main(tune(data, "--budget-evaluations", "20", "--no-test", "--json")) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["tuned_accuracy"], report["manual_accuracy"]) == (None, None)


def test_another_split_can_be_the_test(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--test-split` names it."""
    (data / "test.tsv").rename(data / "validation.tsv")
    assert main(tune(data, "--budget-evaluations", "20", "--test-split", "validation", "--json")) == 3
    assert json.loads(capsys.readouterr().out)["tuned_accuracy"] is not None


@pytest.mark.parametrize(("times", "has_result"), [(1, True), (2, False)])
def test_first_interrupt_keeps_what_was_found_and_the_second_does_not(data: Path, times: int, has_result: bool) -> None:
    """Ctrl-C ends the search after its generation, with result and files; again, it ends at once. Exit code 130."""
    command = [sys.executable, "-m", "lmaas_sdk.cli", *tune(data, "--budget-evaluations", "2000000", "--json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        first = run.stderr.readline()
        os.kill(run.pid, signal.SIGSTOP)  # so that both signals are there when it looks
        for _ in range(times):
            os.kill(run.pid, (signal.SIGINT, signal.SIGTERM)[_])
        os.kill(run.pid, signal.SIGCONT)
        out, err = run.communicate(timeout=60)
    assert "evaluations" in first
    assert run.returncode == 130
    assert ("stopping after this generation" in err, bool(out)) == (True, has_result)
    if has_result:
        report = json.loads(out)
        assert report["stopped"] == "interrupted"
        assert TunedPrompt.load(report["prompt_file"]).model == "mock"


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    """`lmaas --version` prints it."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == importlib.metadata.version("lmaas-sdk")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [["prices", "--json"], ["prices", "--provider", "openai", "--json"], ["prices"]],
    ids=["little", "much", "a table"],
)
def test_a_reader_may_have_seen_enough(command: list[str], unbuffered: str) -> None:
    """A reader of stdout who has gone ends a command without a complaint, by a code of its own."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lmaas_sdk.cli", *command],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.stderr, done.returncode) == (b"", 141)


def test_without_stdout_or_with_a_full_one_a_command_ends_as_it_should() -> None:
    """What was asked for is done; what could not be written is told, and not once more as Python ends."""
    for command, code, told in (
        ("prices --json >&-", 0, ""),
        ("prices >&-", 0, ""),
        ("prices --json >/dev/full", 2, "No space left on device"),
        ("prices >/dev/full", 2, "No space left on device"),
        ("ledger export none.db >&-", 2, "none.db"),
        ("--help >/dev/full", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f'"$0" -m lmaas_sdk.cli {command}', sys.executable],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            text=True,
            check=False,
        )
        assert (done.returncode, told in done.stderr, done.stderr.count("\n")) == (code, True, bool(told)), command


def test_a_broken_pipe_that_is_not_stdout_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that a command talks to has gone, say: no reason to be silent, or to call it done."""

    def broken(*_: object) -> None:
        raise BrokenPipeError("the other end of it has gone")

    monkeypatch.setattr("lmaas_sdk.cli.prices.read_price_table", broken)
    assert main(["prices", "--table", "any.toml"]) == 2
    assert capsys.readouterr().err == "lmaas prices: the other end of it has gone\n"


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
        (QuotaExceeded("never", wait_s=float("inf")), 2),
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


@pytest.mark.parametrize("command", ["tune", "demo"])
def test_help_names_the_presets_and_the_default(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives none knows what they get."""
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    helped = " ".join(capsys.readouterr().out.split())
    assert f"--preset {{{','.join(sorted(PRESETS))}}} settings of the search (default: default)" in helped
