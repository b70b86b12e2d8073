"""Random operations on a ledger file, with crashes in between, and schedules of calls at once in either ledger."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from budget_tree import BudgetTree, Node
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from ledger_cases import NOTHING, check_books, crash

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BudgetExceeded


class BudgetTreeInFile(BudgetTree):
    """The same tree in a file, whose process may die and start again at any step."""

    ledger: SqliteLedger

    def new_ledger(self) -> Ledger:
        self.folder = Path(tempfile.mkdtemp())
        return self._opened()

    def _opened(self) -> SqliteLedger:
        return open_ledger(self.folder / "ledger.db").__enter__()

    @rule()
    def crash(self) -> None:
        """What was not sent is void, what was sent is posted in full, and what was set aside goes back."""
        crash(self.ledger)
        self.ledger = self._opened()
        for node in list(self.living()):
            self._die(node)
        for node in self.living():
            self._reopen(node)
        self.settle()
        check_books(self.ledger.path)

    def _die(self, node: Node) -> None:
        node.reachable = not any(above.aside is not None for above in node.line())
        node.released = node.aside is not None
        for hold in node.holds:
            if hold.state == "pending":
                hold.unknown = hold.sent
                hold.state, hold.posted = ("posted", hold.reservation.amounts) if hold.sent else ("void", NOTHING)
            hold.reachable = hold.unknown
            if hold.unknown:
                (hold.reservation,) = self.ledger.unknown(hold.reservation.label.endpoint, hold.reservation.label.key)

    def _reopen(self, node: Node) -> None:
        if node.parent is None:
            node.budget = self.new_top()
            return
        limits = {unit: node.budget.limits[unit] for unit in ("calls", "tokens")}
        name = node.budget.path.rpartition("/")[2]
        node.budget = node.parent.budget.child(name, Budget(**limits))  # type: ignore[arg-type]

    def teardown(self) -> None:
        super().teardown()
        self.ledger.close()
        check_books(self.ledger.path)
        shutil.rmtree(self.folder)


BudgetTreeInFile.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
test_a_tree_of_budgets_in_a_file = BudgetTreeInFile.TestCase


class Schedule:
    """Some calls at once, each of which goes its own way; at every step the books are looked at.

    Args:
        budget: What they draw on.
        seed: Decides what each does.
    """

    def __init__(self, budget: Budget, seed: int) -> None:
        self.budget, self.random = budget, random.Random(seed)
        self.posted = NOTHING

    async def run(self, calls: int) -> None:
        """Runs that many calls, some of which are cancelled on the way."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._call(number)) for number in range(calls)]
            for task in tasks:
                if self.random.random() < 0.2:
                    asyncio.get_running_loop().call_soon(task.cancel)
                if self.random.random() < 0.05:
                    await asyncio.sleep(0)
        await self.budget.ledger.flush()

    def look(self) -> None:
        """Nothing is above a limit, so posted + pending + free = limit has room for all three."""
        for unit in UNITS:
            free = self.budget.free(unit)
            assert free is None or free >= 0

    async def _call(self, number: int) -> None:
        worst = Amounts(1, self.random.choice((0, 1, 20)), self.random.randint(0, 50), self.random.randint(0, 5000))
        where = self.budget if self.random.random() < 0.5 else self.budget.child(f"run-{number % 3}")
        self.look()
        try:
            holds = await where.hold_all([worst], [Label("train", "mock/score", f"k{number}")])
        except BudgetExceeded:
            return
        try:
            await self._go(holds[0], Amounts(1, 0, worst.tokens // 2, worst.nanousd // 3))
        finally:
            self._end(holds[0], worst)
            self.look()

    async def _go(self, hold: Reservation, actual: Amounts) -> None:
        while self.random.random() < 0.3:
            await hold.mark_sent()
            hold.refused()
            await asyncio.sleep(0)
        await hold.mark_sent()
        await asyncio.sleep(0)
        if self.random.random() < 0.7:
            hold.post(actual)
            self.posted += actual

    def _end(self, hold: Reservation, worst: Amounts) -> None:
        if not hold.is_pending:
            return
        if self.random.random() < 0.5:
            hold.void()
            return
        hold.post_unknown()
        if self.random.random() < 0.5:
            (again,) = self.budget.ledger.unknown(hold.label.endpoint, hold.label.key)
            again.correct(Amounts(1))
            worst = Amounts(1)
        self.posted += worst


def budget_of(ledger: Ledger) -> Budget:
    """What a schedule draws on: a few of its calls fit, or a few hundred."""
    return Budget(calls=400, evaluations=3000, tokens=9000, usd="0.001", name="team", ledger=ledger)


SIZES = st.sampled_from([1, 2, 3, 5, 8, 20, 50, 120, 300, 1000])
SEEDS = st.integers(0, 2**32)


def _in_memory(calls: int, seed: int) -> None:
    async def main() -> None:
        schedule = Schedule(budget_of(MemoryLedger()), seed)
        await schedule.run(calls)
        assert (schedule.budget.posted, schedule.budget.pending) == (schedule.posted, NOTHING)

    asyncio.run(main())


def _in_a_file(calls: int, seed: int) -> None:
    async def main(path: Path) -> None:
        async with open_ledger(path) as ledger:
            schedule = Schedule(budget_of(ledger), seed)
            await schedule.run(calls)
            assert (schedule.budget.posted, schedule.budget.pending) == (schedule.posted, NOTHING)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "ledger.db"))
        check_books(Path(folder) / "ledger.db")


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        pytest.param(_in_memory, 60, id="memory"),
        pytest.param(_in_a_file, 25, id="file"),
        pytest.param(_in_memory, 9_000, id="memory-long", marks=pytest.mark.long),
        pytest.param(_in_a_file, 1_500, id="file-long", marks=pytest.mark.long),
    ],
)
def test_any_schedule_of_calls_at_once_leaves_exact_books(kind: Callable[[int, int], None], examples: int) -> None:
    """Sent, refused, answered, lost, corrected, cancelled: nothing is ever over, and nothing is left pending."""

    @settings(max_examples=examples)
    @given(calls=SIZES, seed=SEEDS)
    def check(calls: int, seed: int) -> None:
        kind(calls, seed)

    check()
