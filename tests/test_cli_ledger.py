"""`lmaas ledger`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from ledger_files import ASKED, damage, die_with, write_ledger, wrong

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.accounting.ledger_reader import LedgerReader
from lmaas_sdk.cli import main


@pytest.fixture
async def ledger_file(tmp_path: Path) -> str:
    return str(await write_ledger(tmp_path / "ledger.db"))


def rows_of(printed: str) -> list[list[str]]:
    """The cells of every row of the tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]


def test_show_prints_what_every_budget_stands_at(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Limit, posted, pending and free of each unit, as a tree; then purposes and unknown outcomes."""
    assert main(["ledger", "show", ledger_file]) == 0
    printed = capsys.readouterr().out
    rows = rows_of(printed)
    assert ["team", "calls", "100", "4", "0", "96", ""] in rows
    assert ["", "money", "$1.00", "$0.00000109", "$0.00", "$0.99999891", ""] in rows
    assert ["team/run", "calls", "-", "3", "0", "-", ""] in rows
    assert ["", "tokens", "10,000", "70", "0", "9,930", ""] in rows
    assert ["team/dev", "released"] in [[row[0].partition("#")[0], row[-1]] for row in rows]
    assert [["train", "3", "6", "70", "$0.000001"], ["total", "4", "6", "120", "$0.00000109"]] == rows[-2:]
    assert "unknown outcomes: 1, posted at $0.0000004, the worst case" in printed


def test_show_prints_one_account_as_json(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That and all below it; whole nano-dollars."""
    assert main(["ledger", "show", ledger_file, "--account", "team/run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ["team/run"] == [account["path"] for account in told["accounts"]]
    units = told["accounts"][0]["units"]
    assert {"limit": 10_000, "posted": 70, "pending": 0, "free": 9930} == units["tokens"]
    assert {"limit": None, "posted": 1000, "pending": 0, "free": None} == units["nanousd"]
    assert {"train": {"calls": 3, "evaluations": 6, "tokens": 70, "nanousd": 1000}} == told["by_purpose"]
    assert (1, 400) == (told["unknown_outcomes"]["count"], told["unknown_outcomes"]["worst"]["nanousd"])


def test_show_tells_who_has_the_file_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The living, and the dead with what they left, marks of an overrun and of what is set aside."""
    path = tmp_path / "ledger.db"
    die_with(path)
    assert main(["ledger", "show", str(path)]) == 0
    assert ": ended, 3 pending (2 sent), $0.0000012 at most; the next process" in capsys.readouterr().out
    with open_ledger(path) as ledger:
        other = Budget(name="other", calls=5, ledger=ledger)
        other.set_aside("later", Amounts(2))
        other.reserve(Amounts(1)).post(Amounts(4))
        ledger.run(lambda book: None)
        assert main(["ledger", "show", str(path)]) == 0
        printed = capsys.readouterr().out
        assert f"process {os.getpid()} on " in printed
        assert ": running, 0 pending\n" in printed
        rows = rows_of(printed)
        assert ["other", "calls", "5", "4", "2", "-1", "overrun"] in rows
        assert "set aside" in [row[-1] for row in rows]
    assert [] == wrong(path)


def test_names_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither markup nor control characters of a budget's name reach the terminal."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        Budget(name="\x1b[2J[red]team", calls=5, ledger=ledger)
    assert main(["ledger", "show", str(path)]) == 0
    assert "│ \N{REPLACEMENT CHARACTER}[2J[red]team │" in capsys.readouterr().out


def test_export_writes_every_entry(ledger_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV to stdout, JSON to a file."""
    assert main(["ledger", "export", ledger_file]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    out = tmp_path / "entries.json"
    assert main(["ledger", "export", ledger_file, "--format", "json", "--out", str(out)]) == 0
    entries = json.loads(out.read_text(encoding="utf-8"))["entries"]
    assert [entry["kind"] for entry in entries] == [row["kind"] for row in rows]
    assert ("post", "300", "0.0000003", "2026-09-21T14:13:20.250000+00:00") == tuple(
        rows[10][name] for name in ("kind", "nanousd", "usd", "at")
    )
    assert ("", None) == (capsys.readouterr().out, entries[0]["transfer"])


def test_export_does_not_overwrite_the_ledger(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor what lies beside it and belongs to it."""
    for out in (ledger_file, f"{ledger_file}-wal", f"{ledger_file}/../ledger.db"):
        assert main(["ledger", "export", ledger_file, "--out", out]) == 2
        assert "would be overwritten" in capsys.readouterr().err
    assert [] == wrong(Path(ledger_file))


def test_export_may_be_read_in_part(tmp_path: Path) -> None:
    """A reader that closes the pipe ends it without a complaint."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        Budget(name="team", ledger=ledger).reserve_all([ASKED] * 2000)
    command = [sys.executable, "-m", "lmaas_sdk.cli", "ledger", "export", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.readline().startswith(b"seq,at,kind,")
        export.stdout.close()
        assert (b"", 141) == (export.stderr.read(), export.wait(timeout=60))


def test_export_needs_somewhere_to_write(ledger_file: str) -> None:
    """Without a stdout that is a file."""
    command = f'"$0" -m lmaas_sdk.cli ledger export "{ledger_file}" >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, text=True, check=False)
    assert (2, "lmaas ledger: there is no stdout to write to: give --out FILE\n") == (done.returncode, done.stderr)


def test_verify_says_that_a_file_is_right(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In a line, or as JSON; exit code 0."""
    assert main(["ledger", "verify", ledger_file]) == 0
    assert capsys.readouterr().out == "21 entries, 5 transfers (0 pending), 3 budgets: all right\n"
    assert main(["ledger", "verify", ledger_file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (True, 21, []) == (told["is_right"], told["entries"], told["discrepancies"])


def test_verify_says_what_is_wrong(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, with what was expected and what is there; exit code 1."""
    damage(Path(ledger_file), "UPDATE accounts SET posted_tokens = 7, overrun = 1 WHERE path = 'team/run'")
    assert main(["ledger", "verify", ledger_file]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [
        "account 'team/run': posted tokens: expected 70, found 7",
        "account 'team/run': overrun: expected False, found True",
        "21 entries, 5 transfers (0 pending), 3 budgets: 2 wrong",
    ] == lines
    assert main(["ledger", "verify", ledger_file, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    first = {"what": "posted tokens", "where": "account 'team/run'", "expected": "70", "found": "7"}
    assert (False, 2, first) == (told["is_right"], told["count"], told["discrepancies"][0])


def test_limits_change_what_a_budget_allows(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are given; old and new are printed, and a budget with the new ones goes on."""
    assert main(["ledger", "limits", ledger_file, "team", "--calls", "150", "--none", "usd"]) == 0
    assert capsys.readouterr().out == "team: calls 100 -> 150\nteam: money $1.00 -> no limit\n"
    with open_ledger(ledger_file) as ledger:
        assert Budget(name="team", calls=150, ledger=ledger).posted.calls == 4
    assert main(["ledger", "limits", ledger_file, "team/run", "--usd", "0.25", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (None, 250_000_000) == (told["old"]["nanousd"], told["new"]["nanousd"])
    assert (30, 10_000) == (told["new"]["evaluations"], told["new"]["tokens"])
    assert [] == wrong(Path(ledger_file))


def test_limits_that_are_changed_at_once_are_both_kept(ledger_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else changes while the command starts stays as they have it."""

    def after_another(path: Path) -> SqliteLedger:
        with open_ledger(path) as other:
            other.set_limits("team", Budget(calls=150, usd="2.00"))
        return open_ledger(path)

    monkeypatch.setattr("lmaas_sdk.cli.ledger.open_ledger", after_another)
    assert main(["ledger", "limits", ledger_file, "team", "--tokens", "5000"]) == 0
    with LedgerReader(ledger_file) as reader:
        assert (150, None, 5000, 2 * 10**9) == reader.account("team").limits


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["team"], "no limit is given"),
        (["team", "--calls", "3"], "has 4 calls posted and pending"),
        (["team", "--calls", "-1"], "calls is at least 0, not -1"),
        (["team", "--usd", "five"], "'five'"),
        (["team", "--usd", "2", "--none", "usd"], "give one of the two"),
        (["team/nobody", "--calls", "3"], "has no budget 'team/nobody': it has team, team/dev#"),
    ],
)
def test_limits_that_cannot_be_are_refused(
    ledger_file: str, args: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and all is as before."""
    assert main(["ledger", "limits", ledger_file, *args]) == 2
    printed = capsys.readouterr()
    assert ("", True) == (printed.out, why in printed.err)
    assert 21 == len(entries_of(ledger_file))


def test_what_was_set_aside_keeps_its_limits(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are what was taken out of the budget above."""
    (path,) = {account for account in entries_of(ledger_file) if "#" in account}
    assert main(["ledger", "limits", ledger_file, path, "--calls", "9"]) == 2
    assert "was set aside" in capsys.readouterr().err


def entries_of(ledger_file: str) -> list[str]:
    """The account of every entry."""
    with closing(sqlite3.connect(ledger_file)) as connection:
        return [account for (account,) in connection.execute("SELECT account FROM entries")]


@pytest.mark.parametrize("command", [["show"], ["export"], ["verify"], ["limits", "team", "--calls", "1"]])
def test_what_is_no_ledger_ends_every_command(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, a line on stderr, and no file is made."""
    path = tmp_path / "absent.db"
    assert main(["ledger", command[0], str(path), *command[1:]]) == 2
    printed = capsys.readouterr()
    assert ("", f"lmaas ledger: there is no ledger file {path}\n") == (printed.out, printed.err)
    assert not path.exists()


def test_a_damaged_file_ends_show_with_a_message(ledger_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what tells more."""
    damage(Path(ledger_file), "DROP TABLE entries")
    assert main(["ledger", "show", ledger_file]) == 2
    assert "no such table: entries: see `lmaas ledger verify`" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["show", "export", "verify", "limits"])
def test_help_explains_every_action(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As for every command."""
    with pytest.raises(SystemExit, match="0"):
        main(["ledger", action, "--help"])
    assert f"usage: lmaas ledger {action}" in capsys.readouterr().out
