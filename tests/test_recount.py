"""Counting again, from a ledger's entries alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from lmaas_sdk.accounting.accounts import Entry
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.planning.recount import Sent, most_in_a_day, most_in_any, peak, rows_by_run, sent_of

SHARE = "budget/run/share#1"


def entry(at: float, kind: str, transfer: str | None = "t", account: str = SHARE, **more: object) -> Entry:
    return Entry(at, kind, transfer, account, "owner", **more)  # type: ignore[arg-type]


def call(
    start_s: float, sent_s: float, end_s: float, *, key: str, tokens: int = 5, purpose: str = "train"
) -> list[Entry]:
    """A call that was reserved, sent and answered."""
    return [
        entry(start_s, "pending", key, calls=1, evaluations=4, tokens=tokens, purpose=purpose, key=key),
        entry(sent_s, "sent", key, purpose=purpose, key=key),
        entry(end_s, "post", key, calls=1, evaluations=4, tokens=tokens, purpose=purpose, key=key),
    ]


def test_the_peak_is_of_what_was_spent_and_held_together() -> None:
    """What is voided or comes cheaper than its worst case is no longer held; what is corrected neither."""
    entries = [
        entry(0, "limits", None, "budget", tokens=100),
        entry(1, "pending", "a", calls=1, tokens=30),
        entry(1, "pending", "b", calls=1, tokens=40),
        entry(2, "sent", "a"),
        entry(3, "post", "a", calls=1, tokens=20),
        entry(3, "void", "b"),
        entry(4, "pending", "c", calls=1, tokens=45),
        entry(5, "post", "c", calls=1, tokens=45, unknown=1),
        entry(6, "correct", "c", calls=1, tokens=1),
        entry(7, "pending", "d", calls=1, tokens=10),
    ]
    assert Amounts(calls=3, tokens=70) == peak(entries)


def test_what_was_refused_was_not_sent() -> None:
    """Attempts are in the order of their going out, each with what was billed for it."""
    entries = [
        *call(0, 4, 9, key="late", tokens=7),
        entry(1, "pending", "again", tokens=3),
        entry(1, "sent", "again"),
        entry(2, "refused", "again"),
        entry(3, "sent", "again"),
        entry(5, "post", "again", tokens=3),
        entry(5, "pending", "never"),
        entry(5, "sent", "never"),
        entry(6, "refused", "never"),
        entry(6, "void", "never"),
    ]
    assert [Sent(3, 3), Sent(4, 7)] == sent_of(entries)


def test_the_most_in_any_minute_is_found_wherever_it_lies() -> None:
    """Sixty seconds after the first it counts no longer."""
    assert 3 == most_in_any(60, [(0, 1), (59, 1), (59.9, 1), (60, 1), (130, 1)])
    assert 11 == most_in_any(60, [(0, 5), (30, 6), (70, 5), (100, 4)])
    assert 0 == most_in_any(60, [])


def test_a_day_is_the_zones_even_where_it_has_23_hours() -> None:
    """In Berlin the 29th of March 2026 ends 23 hours after it began."""
    begins = datetime(2026, 3, 28, 23, tzinfo=UTC)
    hours = [0, 1, 22.9, 23.1, 23.5, 24, 24.5]
    sent = [Sent((begins + timedelta(hours=hour)).timestamp(), 0) for hour in hours]
    assert 4 == most_in_a_day("Europe/Berlin", sent)
    assert 6 == most_in_a_day("UTC", sent[1:])


def test_waits_are_told_by_what_for() -> None:
    """From the share's making to the first turn, from answer to next turn, from reservation to sending, and retries."""
    entries = [
        entry(0, "limits", None),
        *call(10, 12, 13, key="0"),
        *call(20, 20, 21, key="1"),
        entry(30, "pending", "2a", key="2", purpose="train"),
        entry(30, "sent", "2a"),
        entry(31, "refused", "2a"),
        entry(33, "sent", "2a"),
        entry(34, "post", "2a", key="2", unknown=1),
        entry(36, "pending", "2b", key="2", purpose="train"),
        entry(36, "sent", "2b"),
        entry(37, "post", "2b", key="2"),
    ]
    (rows,) = rows_by_run(entries).values()
    assert {"turn": 10 + 7 + 9, "quota": 2, "retry": 2 + 2} == rows.waits
    assert 37 == rows.ended_s
    assert [(0, 14)] == rows.wanted


def grown() -> list[Entry]:
    """It gets more, and goes on."""
    return [entry(50, "limits", None), *call(55, 55, 56, key="1"), entry(90, "limits", None)]


def in_vain() -> list[Entry]:
    """It gets no more, and is tested."""
    return [*call(50, 50, 51, key="1", purpose="test"), entry(90, "limits", None)]


@pytest.mark.parametrize(
    ("then", "wanted", "waits"),
    [(grown, [(0, 3), (4, 7)], {"turn": 5.0 + 1}), (in_vain, [(0, 3), (4, 6)], {"turn": 1.0})],
)
def test_who_waits_for_what_others_leave_wants_nothing_meanwhile(
    then: Callable[[], list[Entry]], wanted: list[tuple[int, int]], waits: dict[str, float]
) -> None:
    """Not from its last call until there is more, or it is clear that no more comes."""
    entries = [entry(0, "limits", None), *call(1, 1, 2, key="0"), *then()]
    (rows,) = rows_by_run(entries).values()
    assert wanted == rows.wanted
    assert waits == rows.waits


def test_accounts_of_the_group_and_of_what_is_set_aside_are_no_runs() -> None:
    """Runs are told apart by the account under the group's; what is aside below their share is theirs."""
    entries = [
        entry(0, "limits", None, "budget"),
        entry(0, "limits", None, "budget/one"),
        entry(0, "limits", None, "budget/one/share#1"),
        entry(0, "limits", None, "budget/one/share#1/dev and test#2"),
        entry(0, "limits", None, "budget/two/share#3"),
        *call(1, 1, 2, key="0"),
    ]
    assert ["one", "two", "run"] == list(rows_by_run(entries))
    assert [] == rows_by_run(entries)["two"].wanted
