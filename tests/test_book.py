"""The rules of the books: what every operation changes, and what a refused one leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lmaas_sdk.accounting.book import Account, Balances, Book, Entry, EntryRow
from lmaas_sdk.accounting.quantities import NO_LIMITS, Limits, Quantities
from lmaas_sdk.accounting.transfers import Label, Transfer
from lmaas_sdk.errors import BudgetExceeded, LedgerConflict

LIMITS: Limits = (10, None, 100, None)
ONE: Quantities = (1, 2, 30, 400)
LABEL = Label("train", "mock/score", "k1")


class Books:
    """A book with two accounts, "top" and "top/low", at a standing clock."""

    def __init__(self) -> None:
        self.rows: list[EntryRow] = []
        self.book = Book("me", lambda: 7.5, self.rows)
        self.top = Account("top", "top", None, limits=LIMITS)
        self.low = Account("top/low", "low", self.top, limits=NO_LIMITS)
        self.book.open(self.top, LIMITS)
        self.book.open(self.low, NO_LIMITS)
        self.rows.clear()

    def reserved(self, amounts: Quantities = ONE, account: Account | None = None) -> Transfer:
        transfer = Transfer(account or self.low, amounts, LABEL)
        self.book.reserve(transfer.account, [transfer])
        return transfer

    def aside(self, amounts: Quantities) -> Account:
        account = Account("top/dev#1", "dev", self.top, limits=amounts, is_aside=True)
        self.book.set_aside(account, amounts)
        return account

    @property
    def entries(self) -> list[Entry]:
        return [Entry._make(row) for row in self.rows]

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries]


@pytest.fixture
def books() -> Books:
    return Books()


def test_a_reservation_stands_in_every_account_of_the_line(books: Books) -> None:
    """It is pending below and above; posting moves what was used and frees the rest."""
    transfer = books.reserved()
    assert (books.low.now.pending, books.top.now.pending) == (ONE, ONE)
    books.book.post(transfer, (1, 2, 20, 300))
    assert books.low.now == Balances(NO_LIMITS, (1, 2, 20, 300))
    assert books.top.now == Balances(LIMITS, (1, 2, 20, 300))


def test_what_happened_is_told_entry_by_entry(books: Books) -> None:
    """Asked for, sent, refused, sent again, posted as unknown, corrected: each with its amounts and label."""
    transfer = books.reserved()
    books.book.sent(transfer)
    books.book.refused(transfer)
    books.book.sent(transfer)
    books.book.post(transfer, ONE, unknown=True)
    books.book.correct(transfer, (1, 2, 3, 4))
    told = [(entry.kind, entry[5:9], entry.unknown) for entry in books.entries]
    none = (None,) * 4
    assert told == [
        ("pending", ONE, 0),
        ("sent", none, 0),
        ("refused", none, 0),
        ("sent", none, 0),
        ("post", ONE, 1),
        ("correct", (1, 2, 3, 4), 0),
    ]
    assert {
        (one.at, one.transfer, one.account, one.owner, one.purpose, one.endpoint, one.key) for one in books.entries
    } == {(7.5, transfer.id, "top/low", "me", "train", "mock/score", "k1")}


@pytest.mark.parametrize(
    "refused",
    [
        lambda books: books.reserved((11, 0, 0, 0)),
        lambda books: books.reserved((0, 0, 101, 0), books.top),
        lambda books: books.aside((0, 0, 101, 0)),
    ],
    ids=["above", "here", "aside"],
)
def test_what_is_refused_leaves_nothing(books: Books, refused: Callable[[Books], object]) -> None:
    """Neither a balance nor an entry."""
    before = (books.top.now, books.low.now)
    with pytest.raises(BudgetExceeded):
        refused(books)
    assert (books.top.now, books.low.now, books.entries) == (*before, [])


def test_a_transfer_resolves_once(books: Books) -> None:
    """What is posted can neither be voided, posted nor sent."""
    transfer = books.reserved()
    books.book.post(transfer, ONE)
    again: list[Callable[[], object]] = [
        lambda: books.book.post(transfer, ONE),
        lambda: books.book.void(transfer),
        lambda: books.book.sent(transfer),
    ]
    for act in again:
        with pytest.raises(ValueError, match="posted already"):
            act()
    assert books.kinds == ["pending", "post"]


def test_a_correction_comes_once_and_only_lowers(books: Books) -> None:
    """A second one, or a higher one, changes nothing."""
    transfer = books.reserved()
    books.book.post(transfer, (1, 2, 20, 300), unknown=True)
    with pytest.raises(ValueError, match="cannot be corrected"):
        books.book.correct(transfer, (1, 2, 21, 300))
    books.book.correct(transfer, (1, 0, 5, 0))
    with pytest.raises(ValueError, match="cannot be corrected"):
        books.book.correct(transfer, (0, 0, 0, 0))
    assert books.top.now.posted == (1, 0, 5, 0)


def test_an_amount_set_aside_is_pending_above_until_it_is_spent(books: Books) -> None:
    """What is reserved inside moves nothing above; what is posted inside moves from pending to posted there."""
    aside = books.aside((2, 4, 60, 800))
    transfer = books.reserved(ONE, aside)
    assert (books.top.now.pending, aside.now.pending) == ((2, 4, 60, 800), ONE)
    books.book.post(transfer, (1, 1, 10, 100))
    assert (books.top.now.posted, books.top.now.pending) == ((1, 1, 10, 100), (1, 3, 50, 700))
    books.book.release(aside)
    books.book.release(aside)
    assert (books.top.now.pending, aside.now.released) == ((0, 0, 0, 0), True)
    assert aside.now.limits == aside.now.posted == (1, 1, 10, 100)
    assert books.kinds == ["limits", "pending", "post", "release"]


def test_release_waits_for_what_is_pending(books: Books) -> None:
    """Else the same amount could be spent twice."""
    aside = books.aside(ONE)
    books.reserved(ONE, aside)
    with pytest.raises(ValueError, match="still has"):
        books.book.release(aside)
    assert not aside.now.released


def test_a_bill_above_its_reservation_closes_the_line(books: Books) -> None:
    """It is booked in full, and nothing more is granted there."""
    books.book.post(books.reserved(), (1, 2, 31, 400))
    assert (books.top.now.overrun, books.low.now.overrun, books.top.now.posted[2]) == (True, True, 31)
    with pytest.raises(BudgetExceeded, match="a bill above its reservation closed it"):
        books.reserved((0, 0, 0, 0))


def test_an_account_is_found_with_its_limits_and_refused_with_others(books: Books) -> None:
    """The message names both and says what to do."""
    books.book.open(books.top, LIMITS)
    with pytest.raises(LedgerConflict, match=r"calls=10, tokens=100, and calls=11 was asked for: use the same limits"):
        books.book.open(books.top, (11, None, None, None))


def test_new_limits_hold_what_is_spent_already(books: Books) -> None:
    """Below what is posted and pending they are refused; those of an amount set aside are never changed."""
    books.reserved()
    aside = books.aside((1, 0, 0, 0))
    with pytest.raises(ValueError, match="has 30 tokens posted and pending"):
        books.book.change_limits(books.top, lambda _: (10, None, 29, None))
    with pytest.raises(ValueError, match="was set aside"):
        books.book.change_limits(aside, lambda _: (2, 0, 0, 0))
    books.book.change_limits(books.top, lambda _: (10, None, 30, None))
    assert books.top.now.limits == (10, None, 30, None)


def test_balances_are_read_anew_when_others_have_written() -> None:
    """Each account once after every change of the version, and before it is relied on."""
    there = {"top": Balances((10, None, None, None), posted=(9, 0, 0, 0))}

    def load(account: Account) -> bool:
        account.now, account.version = there[account.path], book.version
        return True

    book = Book("me", lambda: 0.0, [], load)
    top = Account("top", "top", None, limits=NO_LIMITS)
    book.open(top, (10, None, None, None))
    with pytest.raises(BudgetExceeded):
        book.reserve(top, [Transfer(top, (2, 0, 0, 0), LABEL)])
    there["top"] = Balances((10, None, None, None), posted=(8, 0, 0, 0))
    book.version += 1
    book.reserve(top, [Transfer(top, (2, 0, 0, 0), LABEL)])
    assert top.now.pending == (2, 0, 0, 0)
