"""Several processes on one ledger file: one cap for all, and what the killed ones leave is put in order."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ledger_cases import NOTHING, check_books, rows_of
from ledger_process import CAP, WORST

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.errors import BudgetExceeded

SCRIPT = Path(__file__).with_name("ledger_process.py")


def command(what: str, path: Path) -> list[str]:
    return [sys.executable, str(SCRIPT), what, str(path)]


@contextmanager
def process(what: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that is killed in the end, if it still lives."""
    with subprocess.Popen(command(what, path), stdout=subprocess.PIPE, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


def test_four_processes_share_one_cap(tmp_path: Path) -> None:
    """Together they spend exactly what is allowed, none meets a locked file, and nothing is left of any of them."""
    path = tmp_path / "ledger.db"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command("spend", path), text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    ends = [(*one.communicate(), one.returncode) for one in processes]
    assert [(errors, code) for _, errors, code in ends] == [("", 0)] * 4
    assert sum(int(calls) for calls, _, _ in ends) == CAP
    books = check_books(path)
    spent = {"posted": (CAP, CAP, 30 * CAP, 400 * CAP), "pending": (0, 0, 0, 0)}
    assert books == {"team": spent, "team/run": spent}
    assert rows_of(path, "SELECT ended, count(*) FROM owners GROUP BY ended") == [("closed", 4)]
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("kills", [pytest.param(5, id="some"), pytest.param(50, id="many", marks=pytest.mark.long)])
def test_a_killed_process_loses_nothing(tmp_path: Path, kills: int) -> None:
    """What was sent is posted, what was not is void, what was set aside is free; all of it at the next opening."""
    path, points = tmp_path / "ledger.db", random.Random(7)
    for _ in range(kills):
        said = _said_until_killed(path, points.randint(1, 60))
        with open_ledger(path) as ledger:
            budget = Budget(calls=10**9, name="team", ledger=ledger)
            assert budget.pending == NOTHING
        check_books(path)
        _check_what_became(path, said)
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]


def _said_until_killed(path: Path, lines: int) -> list[tuple[str, str]]:
    with process("go_on", path) as one:
        assert one.stdout is not None
        said = [one.stdout.readline() for _ in range(lines)]
        one.kill()
        said += one.stdout.readlines()
    return [(step, number) for step, number in (line.split() for line in said)]


def _check_what_became(path: Path, said: list[tuple[str, str]]) -> None:
    """What the process said is so, and what it had no time to say is one of what may have been."""
    last = {number: step for step, number in said}
    sql = "SELECT transfer, kind, unknown, tokens FROM entries WHERE kind IN ('post', 'void')"
    became = {number: (kind, unknown, tokens) for number, kind, unknown, tokens in rows_of(path, sql)}
    posted, lost, void = ("post", 0, 10), ("post", 1, WORST.tokens), ("void", 0, None)
    may_be = {"reserved": {posted, lost, void}, "sent": {posted, lost, void}, "posted": {posted}}
    for number, step in last.items():
        assert became[number] in may_be[step]
    sent = {number for (number,) in rows_of(path, "SELECT transfer FROM entries WHERE kind = 'sent'")}
    refused = {number for (number,) in rows_of(path, "SELECT transfer FROM entries WHERE kind = 'refused'")}
    assert {number for step, number in said if step == "sent"} <= sent
    assert not {number for number in sent - refused if became[number] == void}


def test_a_living_process_frees_what_a_dead_one_held(tmp_path: Path) -> None:
    """It need not be opened anew: every refusal makes it look, however soon after the one before."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger, process("hold_and_wait", path) as other:
        assert other.stdout is not None
        owner = other.stdout.readline().strip()
        budget = Budget(calls=CAP, name="team", ledger=ledger)
        with pytest.raises(BudgetExceeded):
            budget.reserve(Amounts(1))
        assert ledger.is_alive(owner)
        other.kill()
        other.wait()
        assert not ledger.is_alive(owner)
        budget.reserve(Amounts(CAP)).void()
    check_books(path)
    assert rows_of(path, "SELECT id, ended FROM owners WHERE ended = 'recovered'") == [(owner, "recovered")]
