"""Verifying a ledger file: every right one is right, and every kind of damage is found."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_files import damage, write_ledger, writing_process, wrong

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.accounting.verification import verify_ledger
from lmaas_sdk.errors import BudgetExceeded

LARGE = 3 * 2**64


@pytest.fixture
async def ledger_file(tmp_path: Path) -> Path:
    return await write_ledger(tmp_path / "ledger.db")


def test_a_ledgers_own_file_is_right(ledger_file: Path) -> None:
    """All kinds of entries are counted, and nothing is found."""
    result = verify_ledger(ledger_file)
    assert ([], True) == (list(result.discrepancies), result.is_right)
    assert (21, 3, 5, 0) == (result.entries, result.accounts, result.transfers, result.pending)


async def test_balances_follow_from_fractions_and_large_numbers(tmp_path: Path) -> None:
    """Part of an evaluation and more than 64 bits are added up exactly."""
    path = tmp_path / "ledger.db"
    async with open_ledger(path) as ledger:
        budget = Budget(name="team", ledger=ledger)
        part = Amounts(1, Fraction(1, 3), LARGE, LARGE)
        for hold in await budget.hold_all([part] * 2):
            hold.post(part)
    assert [] == await asyncio.to_thread(wrong, path)


ANOTHER = "INSERT INTO owners VALUES ('x', 1, 'h', 1.0, 2.0, 'closed'); UPDATE entries SET owner = 'x' WHERE seq = "
TAKEN = "INSERT INTO quota_events SELECT 1, 's', 'take', 'g', {}, 0.0, {} FROM owners"
DAMAGES = {
    "a balance": ("UPDATE accounts SET posted_tokens = posted_tokens - 1 WHERE path = 'team/run'", "posted tokens"),
    "a balance above": ("UPDATE accounts SET pending_calls = 1 WHERE path = 'team'", "pending calls"),
    "a limit": ("UPDATE accounts SET limit_nanousd = 2000000000 WHERE path = 'team'", "limit nanousd"),
    "a limit taken away": ("UPDATE accounts SET limit_calls = NULL WHERE path = 'team'", "limit calls"),
    "a mark": ("UPDATE accounts SET overrun = 1 WHERE path = 'team/run'", "overrun"),
    "a mark taken away": ("UPDATE accounts SET released = 0 WHERE aside = 1", "released"),
    "a deleted entry": ("DELETE FROM entries WHERE kind = 'refused'", "without a gap"),
    "the last entry": ("DELETE FROM entries WHERE seq = 21", "last entry"),
    "a raised post": ("UPDATE entries SET nanousd = 350 WHERE kind = 'post' AND nanousd = 300", "posted nanousd"),
    "a post above its reservation": ("UPDATE entries SET tokens = 31 WHERE seq = 11", "overrun"),
    "a lowered worst case": ("UPDATE entries SET nanousd = 1 WHERE seq = 14 AND unknown = 1", "unknown outcome"),
    "a raised correction": ("UPDATE entries SET tokens = 31 WHERE kind = 'correct'", "correction: expected at most"),
    "a raised limit": ("UPDATE entries SET calls = 1000 WHERE seq = 1", "limit calls"),
    "a raised reservation": ("UPDATE entries SET calls = 101 WHERE seq = 3", "granted: expected at most 100 calls"),
    "an amount that is none": ("UPDATE entries SET tokens = 'many' WHERE seq = 11", "an amount from 0 up"),
    "an amount below 0": ("UPDATE entries SET tokens = -5 WHERE seq = 11", "an amount from 0 up"),
    "an amount left out": ("UPDATE entries SET tokens = NULL WHERE seq = 11", "an amount from 0 up"),
    "another purpose": ("UPDATE entries SET purpose = 'dev' WHERE seq = 11", "account and label"),
    "another account": ("UPDATE entries SET account = 'team' WHERE seq = 11", "account and label"),
    "an account that is not there": ("UPDATE entries SET account = 'nobody' WHERE seq = 11", "account: expected one"),
    "an owner that is not there": ("UPDATE entries SET owner = 'nobody' WHERE seq = 11", "owner: expected one"),
    "a deleted account": ("DELETE FROM accounts WHERE aside = 1", "account: expected one that there is"),
    "an account below another": ("UPDATE accounts SET parent = NULL WHERE path = 'team/run'", "parent"),
    "a balance that is none": ("UPDATE accounts SET posted_calls = 'x' WHERE path = 'team'", "'x' is not an amount"),
    "a release that keeps something": ("UPDATE entries SET calls = 0 WHERE kind = 'release'", "release"),
    "a recovered owner": ("DELETE FROM entries WHERE seq IN (12, 13)", "resolved, its owner has ended"),
    "an account of nothing": (
        "INSERT INTO accounts SELECT 'b', NULL, 'b', 0, NULL, 0, 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0",
        "account 'b': account: expected an entry with its limits",
    ),
    "an amount for what moves none": ("UPDATE entries SET calls = 5 WHERE seq = 7", "entry 7: amounts: expected none"),
    "a part of a token": ("UPDATE entries SET tokens = '41/2' WHERE seq = 11", "an amount from 0 up"),
    "a text for a time": ("UPDATE entries SET at = 'noon' WHERE seq = 11", "entry 11: at: expected seconds"),
    "a time without a date": ("UPDATE entries SET at = 9e999 WHERE seq = 11", "entry 11: at: expected seconds"),
    "an id for limits": ("UPDATE entries SET transfer = 'x' WHERE seq = 1", "entry 1: transfer: expected none"),
    "bytes for an id": ("UPDATE entries SET transfer = x'00' WHERE seq = 11", "entry 11: transfer: expected its id"),
    "bytes for a key": ("UPDATE entries SET key = x'00' WHERE seq = 11", "entry 11: key: expected a text, found X'00'"),
    "a label for limits": ("UPDATE entries SET purpose = 'dev' WHERE seq = 1", "entry 1: label: expected none"),
    "an unknown that is none": ("UPDATE entries SET unknown = 2 WHERE seq = 11", "entry 11: unknown: expected 0 or 1"),
    "an unknown that is no post": ("UPDATE entries SET unknown = 1 WHERE seq = 7", "entry 7: unknown: expected 0"),
    "a mark that is none": ("UPDATE accounts SET overrun = 2 WHERE path = 'team'", "overrun: expected 0 or 1, found 2"),
    "another name": ("UPDATE accounts SET name = 'tea' WHERE path = 'team'", "'team': name: expected as in its path"),
    "an amount aside of nothing": ("UPDATE accounts SET aside = 1 WHERE path = 'team'", "'team': parent: expected"),
    "nobody to release it": ("UPDATE accounts SET owner = NULL WHERE aside = 1", "owner: expected who set it aside"),
    "another to release it": ("UPDATE accounts SET owner = 'x' WHERE aside = 1", "entry 17: owner: expected 'x', who"),
    "somebody to release nothing": ("UPDATE accounts SET owner = 'x' WHERE aside = 0", "none, it was not set aside"),
    "a path that is none": ("UPDATE accounts SET path = x'00' WHERE path = 'team/run'", "is no budget's path"),
    "an end that is none": ("UPDATE owners SET ended = 'gone'", "ended: expected closed or recovered, found 'gone'"),
    "an end without a time": ("UPDATE owners SET ended_at = NULL", "a time if and only if it ended, found NULL"),
    "somebody else's sending": (ANOTHER + "7", "7: owner: expected '"),
    "somebody else's outcome": (ANOTHER + "11", "11: owner: expected '"),
    "somebody else's release": (ANOTHER + "21", "21: owner: expected '"),
    "a quota of nobody": (TAKEN.format("'x'", 5), "quota event 1: owner: expected one that has opened the file"),
    "a quota below 0": (TAKEN.format("id", -5), "quota event 1: tokens: expected at least 0, found -5"),
    "a table": ("DROP TABLE quota_events", "table quota_events"),
    "all entries": ("DROP TABLE entries", "to be read to the end"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_kind_of_damage_is_found(ledger_file: Path, kind: str) -> None:
    """Behind the triggers' back, which are there again afterwards."""
    statement, what = DAMAGES[kind]
    damage(ledger_file, *statement.split(";"))
    found = wrong(ledger_file)
    assert [] != [line for line in found if what in line], found


def again(seq: int, kind: str, **changes: object) -> str:
    """A statement that writes an entry once more, at the end."""
    columns = ("at", "kind", "transfer", "account", "owner", "calls", "evaluations", "tokens", "nanousd", "purpose",
               "endpoint", "key", "unknown")  # fmt: skip
    values = {**{name: name for name in columns}, "kind": f"'{kind}'", **changes}
    listed = ", ".join(str(values[name]) for name in columns)
    return f"INSERT INTO entries ({', '.join(columns)}) SELECT {listed} FROM entries WHERE seq = {seq}"  # noqa: S608  (our own)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (again(3, "pending"), "pending: expected one, found 2"),
        (again(11, "post"), "entry 22: post: expected a transfer that is pending, found resolved by entry 11"),
        (again(11, "void"), "entry 22: void: expected a transfer that is pending"),
        (again(11, "sent"), "entry 22: sent: expected a transfer that is pending"),
        (again(11, "post", transfer="'new'"), "found never reserved"),
        (again(16, "correct"), "correct: expected one, found 2"),
        (again(4, "correct", transfer="'new'"), "entry 22: correction: expected a post before, found none"),
        (again(3, "pending", transfer="NULL"), "once, under an id"),
        (again(3, "pending", transfer="'new'", account="'team/dev'"), "account: expected one that there is"),
        (again(21, "release"), "release: expected once"),
        (again(17, "limits"), "never changed for what was set aside"),
        (again(1, "limits", calls="3"), "entry 22: limits: expected at least 4 calls"),
        (again(18, "pending", transfer="'new'"), "is released"),
    ],
)
def test_an_entry_too_many_is_found(ledger_file: Path, statement: str, what: str) -> None:
    """Doubled, or of something that was never reserved."""
    damage(ledger_file, statement)
    found = wrong(ledger_file)
    assert [] != [line for line in found if what in line], found


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (("sent",), "entry 24: sent: expected refused before it is sent again, found sent twice"),
        (("refused", "refused"), "entry 25: refused: expected sent before, found not sent"),
    ],
)
def test_sent_and_refused_alternate(ledger_file: Path, rows: tuple[str, ...], what: str) -> None:
    """What is under way is not sent again; what is not cannot have been refused."""
    damage(
        ledger_file,
        again(3, "pending", transfer="'new'"),
        *(again(7, kind, transfer="'new'") for kind in ("sent", *rows)),
    )
    assert what in wrong(ledger_file)


async def test_what_an_overrun_closes_grants_nothing(tmp_path: Path) -> None:
    """A bill above its reservation is right as such; something reserved after it is not."""
    path = tmp_path / "ledger.db"
    async with open_ledger(path) as ledger:
        team = Budget(calls=1, name="team", ledger=ledger)
        (hold,) = await team.child("run").hold_all([Amounts(1)])
        hold.post(Amounts(3, 0, 5))
    assert [] == await asyncio.to_thread(wrong, path)
    await asyncio.to_thread(damage, path, again(3, "pending", transfer="'new'"))
    assert "entry 5: granted: expected nothing, 'team/run' is overrun" in str(await asyncio.to_thread(wrong, path))


def test_what_is_released_can_be_used_again_and_no_more(tmp_path: Path) -> None:
    """What a release and a correction after it give back is granted to the last call; one more is found."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        team = Budget(calls=5, name="team", ledger=ledger)
        aside = team.set_aside("part", Amounts(3))
        hold = aside.reserve(Amounts(2))
        hold.post_unknown()
        aside.release()
        hold.correct(Amounts(1))
        team.reserve(Amounts(4))
        assert [] == wrong(path)
        damage(path, again(7, "pending", transfer="'new'", calls=1))
        assert "entry 8: granted: expected at most 5 calls in 'team'" in str(wrong(path))


def test_a_file_is_right_at_every_moment_it_is_written(tmp_path: Path) -> None:
    """Each time it is looked at, while a process books on it, it is of one moment; and the process is not disturbed."""
    path = tmp_path / "ledger.db"
    with writing_process(path) as process:
        seen = [verify_ledger(path)]
        while process.poll() is None:
            seen.append(verify_ledger(path))
    assert {()} == {result.discrepancies for result in seen}
    assert 2 + 300 * 4 == verify_ledger(path).entries


def test_a_missing_trigger_and_a_strange_one_are_found(ledger_file: Path) -> None:
    """Whoever takes away what keeps entries as they are is found, whether or not they have used it."""
    with closing(sqlite3.connect(ledger_file)) as connection:
        connection.execute("DROP TRIGGER entries_are_not_deleted")
        connection.execute("CREATE TRIGGER sneaky AFTER INSERT ON entries BEGIN DELETE FROM owners; END")
    assert [
        "the file: trigger entries_are_not_deleted: expected as a ledger is made, found missing",
        "the file: trigger sneaky: expected none of that name, found one that changes what is written",
    ] == wrong(ledger_file)


def test_damaged_pages_are_found(ledger_file: Path) -> None:
    """A file whose middle is overwritten is wrong, not a fault of the program."""
    content = bytearray(ledger_file.read_bytes())
    content[4096 * 2 : 4096 * 4] = b"\xa5" * 8192
    ledger_file.write_bytes(content)
    assert "database disk image is malformed" in wrong(ledger_file)[0]


def test_what_is_listed_ends_and_what_is_counted_does_not(ledger_file: Path) -> None:
    """One wrong place can make thousands of entries wrong."""
    damage(ledger_file, *(again(11, "post", transfer=f"'new{n}'") for n in range(1100)))
    result = verify_ledger(ledger_file)
    assert (1000, 1100, False) == (len(result.discrepancies), result.count, result.is_right)


amounts = st.builds(
    Amounts,
    calls=st.integers(0, 3),
    evaluations=st.integers(0, 3) | st.fractions(0, 3, max_denominator=7),
    tokens=st.integers(0, 40),
    nanousd=st.integers(0, 900) | st.just(2**70),
)
Step = tuple[str, int, Amounts]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["reserve"] * 4 + ["sent"] * 3 + ["post"] * 3
            + ["refused", "unknown", "void", "correct", "aside", "aside", "release", "release", "child", "limits"]
        ),
        st.integers(0, 99),
        amounts,
    ),
    min_size=20,
    max_size=60,
)  # fmt: skip


class Players:
    """Two openings of a file, and what they have reserved and set aside."""

    def __init__(self, ledgers: list[SqliteLedger]) -> None:
        limits = {"calls": 40, "tokens": 600}
        self.ledgers = ledgers
        self.budgets = [Budget(**limits, name="team", ledger=ledger) for ledger in ledgers]  # type: ignore[arg-type]
        self.holds: list[Reservation] = []

    async def play(self, step: Step) -> None:
        """One step; what the books refuse is no step."""
        kind, which, asked = step
        with suppress(BudgetExceeded, ValueError):
            if kind in ("reserve", "aside", "release", "child", "limits"):
                await self._on_budget(kind, which, asked)
            elif holds := [hold for hold in self.holds if hold.is_pending == (kind != "correct")]:
                await self._on_hold(kind, holds[which % len(holds)], asked)

    async def _on_budget(self, kind: str, which: int, asked: Amounts) -> None:
        budget = self.budgets[which % len(self.budgets)]
        if kind == "reserve":
            self.holds += await budget.hold_all([asked, asked][: 1 + which % 2])
        elif kind == "aside":
            self.budgets.append(await budget.hold_aside("part", asked))
        elif kind == "release":
            budget.release()
        elif kind == "child":
            self.budgets.append(budget.child(f"child{which % 3}", Budget(calls=10)))
        else:
            ledger, limits = self.ledgers[which % 2], Budget(calls=30 + which, tokens=500 + which)
            reopen = self.budgets[which % 2].overrun
            await asyncio.to_thread(ledger.set_limits, "team", limits, reopen=reopen)

    async def _on_hold(self, kind: str, hold: Reservation, asked: Amounts) -> None:
        actions: dict[str, Callable[[], Awaitable[None] | None]] = {
            "sent": hold.mark_sent,
            "refused": hold.refused,
            "post": lambda: hold.post(asked if asked.tokens == 40 else asked.at_most(hold.amounts)),
            "unknown": hold.post_unknown,
            "void": hold.void,
            "correct": lambda: hold.correct(asked.at_most(hold.amounts)),
        }
        outcome = actions[kind]()
        if outcome is not None:
            await outcome


async def replayed(path: Path, played: list[Step]) -> None:
    """Plays a sequence, and verifies the file while it is open, after a crash, and closed."""
    async with open_ledger(path) as first, open_ledger(path) as second:
        players = Players([first, second])
        for at, step in enumerate(played):
            await players.play(step)
            if at % 10 == 9:
                assert [] == await asyncio.to_thread(wrong, path)
        for ledger in (first, second):
            await ledger.flush()
        crashed = path.with_name("crashed.db")  # as a machine that stops now leaves it; nobody holds its locks
        for suffix in ("", "-wal"):
            await asyncio.to_thread(shutil.copy, f"{path}{suffix}", f"{crashed}{suffix}")
        assert [] == await asyncio.to_thread(wrong, crashed)
    async with open_ledger(crashed):
        pass
    for file in (path, crashed):
        result = await asyncio.to_thread(verify_ledger, file)
        assert ((), 0) == (result.discrepancies, result.pending)


@pytest.mark.parametrize("examples", [25, pytest.param(1000, marks=pytest.mark.long)])
def test_whatever_budgets_book_is_right(examples: int) -> None:
    """Any sequence of reservations, outcomes, set-asides and limits by two openings of a file."""

    @settings(max_examples=examples)
    @given(steps)
    def check(played: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(replayed(Path(folder) / "ledger.db", played))

    check()
