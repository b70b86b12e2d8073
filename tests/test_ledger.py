"""What every ledger does, in memory and in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from ledger_cases import NOTHING, ONE, check_books

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget, BudgetWarning
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BudgetExceeded, LedgerConflict, LedgerError


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind; a file's balances are added up from its entries in the end."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    with open_ledger(tmp_path / "ledger.db") as opened:
        yield opened
    check_books(tmp_path / "ledger.db")


def settle(ledger: Ledger) -> None:
    """Waits until all that was told is booked."""
    ledger.run(lambda book: None)


def test_what_is_reserved_is_posted_and_the_rest_is_free(ledger: Ledger) -> None:
    """A child's reservation counts in its parent, in either ledger."""
    team = Budget(tokens=100, usd="0.000001", name="team", ledger=ledger)
    run = team.child("run", Budget(calls=2))
    hold = run.reserve(ONE)
    assert (run.pending, team.pending, team.free("nanousd")) == (ONE, ONE, 600)
    hold.post(Amounts(1, 2, 20, 300))
    settle(ledger)
    assert (run.posted, run.pending, team.free("tokens")) == (Amounts(1, 2, 20, 300), NOTHING, 80)
    assert (team.path, run.path, run.name) == ("team", "team/run", "run")


def test_a_refusal_names_the_budget_and_the_limit(ledger: Ledger) -> None:
    """And leaves everything as it was, here and above."""
    team = Budget(calls=5, name="team", ledger=ledger)
    run = team.child("run", Budget(calls=2))
    run.reserve(Amounts(1))
    with pytest.raises(BudgetExceeded, match="'run' allows 2 calls: 0 posted, 1 pending, 2 more"):
        run.reserve_all([Amounts(1), Amounts(1)])
    assert (team.pending, run.pending) == (Amounts(1), Amounts(1))


async def test_what_is_awaited_does_the_same(ledger: Ledger) -> None:
    """Reserving and setting aside on an event loop, sending, and what comes of it."""
    budget = Budget(calls=5, name="team", ledger=ledger)
    first, second = await budget.hold_all([Amounts(1), Amounts(1)], [Label("train"), Label("dev")])
    aside = await budget.hold_aside("dev", Amounts(2))
    with pytest.raises(BudgetExceeded, match="2 more"):
        await budget.hold_all([Amounts(2)])
    await first.mark_sent()
    first.post(Amounts(1))
    second.void()
    aside.release()
    await ledger.flush()
    assert (budget.posted, budget.pending, first.label, aside.name) == (Amounts(1), NOTHING, Label("train"), "dev")


async def test_sending_and_being_refused_alternate(ledger: Ledger) -> None:
    """What is under way is not sent again, what is not cannot have been refused, and nothing of it is after the end."""
    (hold,) = await Budget(name="team", ledger=ledger).hold_all([ONE])
    with pytest.raises(ValueError, match="not under way"):
        hold.refused()
    await hold.mark_sent()
    with pytest.raises(ValueError, match="sent already"):
        await hold.mark_sent()
    hold.refused()
    await hold.mark_sent()
    hold.post(ONE)
    with pytest.raises(ValueError, match="resolved"):
        await hold.mark_sent()
    with pytest.raises(ValueError, match="not under way"):
        hold.refused()


def test_an_unknown_outcome_waits_under_its_key_for_a_correction(ledger: Ledger) -> None:
    """It is posted in full; a correction under the key lowers it, once, and then it is known."""
    budget = Budget(name="team", ledger=ledger)
    label = Label("train", "mock/score", "k1")
    for one in (label, Label("train", "mock/features", "k1"), Label("train", "mock/score")):
        budget.reserve(ONE, one).post_unknown()
    (found,) = ledger.unknown("mock/score", "k1")
    assert (found.amounts, found.label, found.is_pending) == (ONE, label, False)
    found.correct(Amounts(1))
    with pytest.raises(ValueError, match="cannot be corrected"):
        found.correct(Amounts(1))
    settle(ledger)
    assert ledger.unknown("mock/score", "k1") == ledger.unknown("mock/score", "") == []
    assert budget.posted == Amounts(1) + ONE.times(2)


def test_the_same_name_and_limits_are_the_same_budget(ledger: Ledger) -> None:
    """Whoever asks gets a handle on it; a unique child is another one all the same."""
    team = Budget(calls=9, name="team", ledger=ledger)
    team.child("run", Budget(calls=5)).reserve(Amounts(2))
    other = Budget(calls=9, name="team", ledger=ledger)
    assert (other.pending, other.child("run", Budget(calls=5)).pending) == (Amounts(2), Amounts(2))
    unique = team.child("run", Budget(calls=1), unique=True)
    assert (unique.name, unique.pending, unique.path.startswith("team/run#")) == ("run", NOTHING, True)


@pytest.mark.parametrize("limits", [{}, {"calls": 8}, {"calls": 9, "tokens": 1}])
def test_other_limits_under_the_same_name_are_refused(ledger: Ledger, limits: dict[str, Any]) -> None:
    """For a budget and for a child; both limits are named."""
    team = Budget(calls=9, name="team", ledger=ledger)
    team.child("run", Budget(calls=9))
    with pytest.raises(LedgerConflict, match="'team' is in the ledger with calls=9, and"):
        Budget(name="team", ledger=ledger, **limits)
    with pytest.raises(LedgerConflict, match=r"another name, or `lmaas ledger limits FILE team/run`"):
        team.child("run", Budget(**limits))


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_is_no_part_of_a_path_is_refused(ledger: Ledger, name: str) -> None:
    """Of a budget, a child, or an amount set aside."""
    team = Budget(name="team", ledger=ledger)
    for act in (lambda: Budget(name=name), lambda: team.child(name), lambda: team.set_aside(name, ONE)):
        with pytest.raises(ValueError, match="not empty"):
            act()


def test_limits_can_be_changed_for_everyone(ledger: Ledger) -> None:
    """Those who have the budget open are bound by the new ones at once."""
    team = Budget(calls=1, name="team", ledger=ledger)
    team.reserve(Amounts(1))
    ledger.set_limits("team", Budget(calls=2))
    team.reserve(Amounts(1))
    assert (team.limits["calls"], Budget(calls=2, name="team", ledger=ledger).pending) == (2, Amounts(2))
    with pytest.raises(ValueError, match="allow at least that"):
        ledger.set_limits("team", Budget(calls=1))
    with pytest.raises(LedgerError, match=r"no budget 'tram': it has team"):
        ledger.set_limits("tram", Budget(calls=1))


def test_release_sees_what_is_not_booked_yet(ledger: Ledger) -> None:
    """Neither a reservation inside nor an amount set aside from it may be open; a resolved one is no hindrance."""
    team = Budget(calls=9, name="team", ledger=ledger)
    aside = team.set_aside("dev", Amounts(5))
    inner, hold = aside.set_aside("inner", Amounts(2)), aside.child("child").reserve(Amounts(1))
    with pytest.raises(ValueError, match="still has"):
        aside.release()
    inner.release()
    with pytest.raises(ValueError, match="still has"):
        aside.release()
    hold.void()
    other = aside.set_aside("other", Amounts(2))
    with pytest.raises(ValueError, match="still has"):
        aside.release()
    other.release()
    aside.release()
    settle(ledger)
    assert (team.pending, team.free("calls")) == (NOTHING, 9)


def test_what_is_released_is_forgotten(ledger: Ledger) -> None:
    """Neither it nor what was below it is kept, so that a long run with many of them stays small and quick."""
    team = Budget(name="team", ledger=ledger)
    for _ in range(50):
        aside = team.set_aside("dev", ONE)
        aside.child("run").reserve(ONE).post(ONE)
        aside.release()
        aside.release()
    with pytest.raises(BudgetExceeded):
        Budget(calls=1, name="small", ledger=ledger).set_aside("dev", Amounts(2))
    settle(ledger)
    assert {"team", "small"} == set(ledger._accounts)
    assert ONE.times(50) == team.posted


def test_books_in_memory_keep_no_account_that_is_gone() -> None:
    """There is no file to which a changed balance would have to be written."""
    ledger = MemoryLedger()
    Budget(name="team", ledger=ledger).set_aside("dev", ONE).release()
    assert {} == ledger._book.changed


def test_amounts_of_any_size_are_exact(ledger: Ledger) -> None:
    """Fractions of an evaluation, and more than 64 bits."""
    budget = Budget(evaluations=1, name="team", ledger=ledger)
    for part in (Fraction(1, 3), Fraction(1, 6), Fraction(1, 2)):
        budget.reserve(Amounts(1, part, 10**20)).post(Amounts(1, part, 10**20))
    settle(ledger)
    assert budget.posted == Amounts(3, 1, 3 * 10**20)
    with pytest.raises(BudgetExceeded, match="evaluations"):
        budget.reserve(Amounts(1, Fraction(1, 1000)))


def test_a_warning_comes_once_a_threshold_and_unit(ledger: Ledger) -> None:
    """When what is posted passes it; a pending reservation alone does not."""
    heard: list[BudgetWarning] = []
    team = Budget(calls=4, tokens=1000, name="team", ledger=ledger, warn_at=(0.5, 1.0), on_warning=heard.append)
    for hold in team.child("run").reserve_all([Amounts(1, 0, 10)] * 4):
        hold.post(Amounts(1, 0, 10))
    assert [(one.budget, one.unit, one.fraction, one.limit) for one in heard] == [
        ("team", "calls", 0.5, 4),
        ("team", "calls", 1.0, 4),
    ]
    assert heard[0].posted >= 2


def test_a_warning_may_book_and_may_fail(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """It is called under no lock; what it raises is logged, and the booking stands."""

    def reserve_and_fail(warning: BudgetWarning) -> None:
        team.reserve(Amounts(1)).void()
        raise RuntimeError("no pager")

    team = Budget(calls=2, name="team", ledger=ledger, on_warning=reserve_and_fail)
    team.reserve(Amounts(1)).post(Amounts(1))
    settle(ledger)
    assert (team.posted, caplog.records[0].getMessage()) == (Amounts(1), "on_warning of budget 'team' failed")


async def test_a_warning_on_an_event_loop_comes_on_its_thread(ledger: Ledger) -> None:
    """So a callback may use the loop."""
    heard: asyncio.Queue[BudgetWarning] = asyncio.Queue()

    def note(warning: BudgetWarning) -> None:
        asyncio.get_running_loop()
        heard.put_nowait(warning)

    team = Budget(calls=2, name="team", ledger=ledger, on_warning=note)
    (hold,) = await team.hold_all([Amounts(1)])
    hold.post(Amounts(1))
    assert (await heard.get()).unit == "calls"


@pytest.mark.parametrize("part", [0, -0.5, 1.5])
def test_a_senseless_threshold_is_refused(part: float) -> None:
    """A part of a limit is above 0 and at most 1."""
    with pytest.raises(ValueError, match=str(part)):
        Budget(warn_at=(part,))


def test_a_label_is_given_to_each_request(ledger: Ledger) -> None:
    """Too few, and nothing is reserved."""
    team = Budget(name="team", ledger=ledger)
    with pytest.raises(ValueError, match="2 requests have 1 labels"):
        team.reserve_all([ONE, ONE], [Label()])
    assert team.pending == NOTHING


def test_memory_keeps_the_newest_entries_and_exact_balances() -> None:
    """However many there were."""
    ledger = MemoryLedger(wall=lambda: 5.0, keep=3)
    budget = Budget(name="team", ledger=ledger)
    for _ in range(10):
        budget.reserve(ONE).post(ONE)
    assert [entry.kind for entry in ledger.entries()] == ["post", "pending", "post"]
    assert (budget.posted, ledger.entries()[0].at) == (ONE.times(10), 5.0)
