"""A bill above its reservation: what it closes, how that is opened again, and what a file says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import ONE, check_books, rows_of
from ledger_files import damage, wrong

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.cli import main
from lmaas_sdk.errors import BudgetExceeded


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind; a file is verified in the end."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    with open_ledger(tmp_path / "ledger.db") as opened:
        yield opened
    assert [] == wrong(tmp_path / "ledger.db")


def overrun(budget: Budget, asked: int = 10, billed: int = 11) -> None:
    """Is billed more tokens than it has reserved."""
    budget.reserve(Amounts(1, 0, asked)).post(Amounts(1, 0, billed))
    budget.ledger.run(lambda book: None)


def test_the_refusal_says_what_closed_it_and_what_opens_it(ledger: Ledger) -> None:
    """No unit binds: all that is posted, pending and asked for is told."""
    team = Budget(tokens=1000, name="team", ledger=ledger)
    overrun(team)
    with pytest.raises(BudgetExceeded, match=r"a bill above its reservation closed it.*--reopen") as refused:
        team.reserve(ONE)
    error = refused.value
    assert ("overrun", None, Amounts(1, 0, 11), ONE) == (error.unit, error.limit, error.posted, error.asked)


def test_what_is_reopened_grants_again_and_closes_again(ledger: Ledger) -> None:
    """It and its children alone; a budget below that was billed too much stays closed until it is reopened as well."""
    team = Budget(tokens=1000, name="team", ledger=ledger)
    run, other = team.child("run"), team.child("other")
    overrun(run)
    ledger.set_limits("team", Budget(tokens=2000), reopen=True)
    assert (False, True, 2000) == (team.overrun, run.overrun, team.limits["tokens"])
    other.reserve(ONE).void()
    with pytest.raises(BudgetExceeded, match="'run' is closed"):
        run.reserve(ONE)
    ledger.set_limits("team/run", Budget(), reopen=True)
    run.reserve(ONE).void()
    overrun(other)
    assert (True, False, True) == (team.overrun, run.overrun, other.overrun)


def test_limits_alone_open_nothing(ledger: Ledger) -> None:
    """Whoever allows more has not said that the bill is right."""
    team = Budget(tokens=10, name="team", ledger=ledger)
    overrun(team)
    ledger.set_limits("team", Budget(tokens=100))
    with pytest.raises(BudgetExceeded, match="closed"):
        team.reserve(ONE)


def test_a_reopening_that_cannot_be_is_refused(ledger: Ledger) -> None:
    """What is spent has to fit, something has to be closed, and what was set aside ends by its release."""
    team = Budget(tokens=100, name="team", ledger=ledger)
    with pytest.raises(ValueError, match="not closed"):
        ledger.set_limits("team", Budget(tokens=100), reopen=True)
    aside = team.set_aside("dev", Amounts(5, 0, 50))
    overrun(aside, 50, 200)
    with pytest.raises(ValueError, match="has 200 tokens posted and pending: allow at least that"):
        ledger.set_limits("team", Budget(tokens=100), reopen=True)
    with pytest.raises(ValueError, match="was set aside"):
        ledger.set_limits(aside.path, Budget(), reopen=True)
    assert team.overrun


def test_what_was_spent_beyond_an_amount_set_aside_counts_above(ledger: Ledger) -> None:
    """To the last token: before its release, by what is posted later, after a correction, and after the release."""
    team = Budget(tokens=100, name="team", ledger=ledger)
    aside = team.set_aside("dev", Amounts(9, 0, 20))
    inner = aside.set_aside("inner", Amounts(3, 0, 10))
    late, lost = inner.reserve(Amounts(1, 0, 3)), inner.reserve(Amounts(1, 0, 3))
    overrun(inner, 4, 30)
    lost.post_unknown()
    ledger.set_limits("team", Budget(tokens=100), reopen=True)
    late.post(Amounts(1, 0, 3))
    lost.correct(Amounts(1, 0, 1))
    ledger.run(lambda book: None)
    assert (34, 66) == (team.posted.tokens, team.free("tokens"))
    hold = team.reserve(Amounts(1, 0, 66))
    with pytest.raises(BudgetExceeded, match="100 tokens"):
        team.reserve(Amounts(1, 0, 1))
    hold.void()
    inner.release()
    aside.release()
    team.reserve(Amounts(1, 0, 66))


def test_verify_knows_what_may_be_reopened(tmp_path: Path) -> None:
    """What nothing has closed, and what has not the room, is found."""
    path = tmp_path / "ledger.db"
    with open_ledger(path) as ledger:
        team = Budget(tokens=10, name="team", ledger=ledger)
        overrun(team)
        ledger.set_limits("team", Budget(tokens=100), reopen=True)
    assert [] == wrong(path)
    assert 100 == check_books(path)["team"]["posted"][2] + 89
    assert ["limits", "pending", "post", "limits", "reopen"] == [kind for (kind,) in rows_of(path, KINDS)]
    damage(path, "UPDATE entries SET tokens = 10 WHERE seq = 4", "UPDATE entries SET tokens = 1 WHERE seq = 5")
    found = str(wrong(path))
    assert "entry 5: reopen: expected at most 10 tokens, found 1 calls" in found
    assert "entry 5: amounts: expected none" in found
    damage(path, "UPDATE entries SET tokens = 11 WHERE seq = 2")
    assert "entry 5: reopen: expected of a budget that an overrun has closed, found 'team'" in str(wrong(path))


KINDS = "SELECT kind FROM entries ORDER BY seq"


def test_the_command_reopens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With new limits or with those that there are; it names what stays closed, here and above."""
    path = str(tmp_path / "ledger.db")
    with open_ledger(path) as ledger:
        overrun(Budget(tokens=1000, name="team", ledger=ledger).child("run"))
    assert main(["ledger", "limits", path, "team/run", "--tokens", "500"]) == 0
    closed = "closed by a bill above its reservation, until --reopen accepts that"
    expected = ["team/run: tokens no limit -> 500", f"team/run: {closed}", f"team: {closed}"]
    assert expected == capsys.readouterr().out.splitlines()
    assert main(["ledger", "limits", path, "team/run", "--reopen", "--json"]) == 0
    assert ["team"] == json.loads(capsys.readouterr().out)["closed"]
    assert main(["ledger", "limits", path, "team", "--reopen", "--tokens", "2000"]) == 0
    assert "team: tokens 1,000 -> 2,000\n" == capsys.readouterr().out
    assert main(["ledger", "limits", path, "team", "--reopen"]) == 2
    assert "not closed" in capsys.readouterr().err
    with open_ledger(path) as ledger:
        Budget(tokens=2000, name="team", ledger=ledger).child("run", Budget(tokens=500)).reserve(ONE)
    assert [] == wrong(Path(path))
