"""Adds a ledger file up from its entries alone, and notes every entry that cannot be.

It shares no code with `book.py`, whose work it judges. The rule, unit by unit:

    posted(account) = its own posts, each as corrected, + posted(children)
    pending(account) = its own open transfers + pending(ordinary children)
                       + what is unspent of those set aside and not released, limit - min(posted, limit)

Whatever was granted must have fitted at that moment. To know that at every entry, each account carries what is
committed, posted + pending: that of an amount set aside is its limit as long as it is not released, whatever goes on
within, so a change ends there. Only an overrun breaks that: what is posted beyond the limit of an amount set aside is
its parent's to pay, and closes all above until an entry `reopen` says that the bill is accepted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.discrepancies import Discrepancies
from lmaas_sdk.accounting.ledger_reader import OwnerRow, parse_amount
from lmaas_sdk.accounting.places import Place, as_far_as_readable
from lmaas_sdk.accounting.quantities import ZERO, Limits, Quantities, added, is_over, less

__all__ = ["Replay"]

# Written so that each finds its index.
_ENDED = """SELECT kind, account, purpose, endpoint, key, calls, evaluations, tokens, nanousd FROM entries
  WHERE transfer = ? AND kind IN ('post', 'void') AND seq < ? ORDER BY seq DESC LIMIT 1"""
_CORRECTED = """SELECT calls, evaluations, tokens, nanousd FROM entries
  WHERE transfer = ? AND kind = 'correct' AND seq < ? ORDER BY seq DESC LIMIT 1"""
_RESOLVED = "SELECT seq FROM entries WHERE transfer = ? AND kind IN ('post', 'void') AND seq < ? ORDER BY seq LIMIT 1"


class _Open:
    """A transfer that is reserved and not resolved."""

    __slots__ = ("asked", "is_sent", "label", "owner", "place", "seq")

    def __init__(self, seq: int, place: Place, owner: str, asked: Quantities, label: tuple[str, str, str]) -> None:
        self.seq, self.place, self.owner, self.asked, self.label = seq, place, owner, asked, label
        self.is_sent = False


class Replay:
    """Takes the entries of a file, oldest first.

    Args:
        connection: To look up what a correction corrects: transfers that are resolved are not kept in memory.
        places: Every account, by path.
        owners: All of them, by id.
        found: Takes what is wrong.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        places: Mapping[str, Place],
        owners: Mapping[str, OwnerRow],
        *,
        found: Discrepancies,
    ) -> None:
        self.open: dict[str, _Open] = {}
        self.entries = self.transfers = self.last_seq = 0
        self._connection, self._places, self._owners, self._found = connection, places, owners, found
        self._excess: dict[str, Quantities] = {}  # what is posted beyond amounts set aside, by path
        self._has_overrun = False
        self._take = {
            "pending": self._pending,
            "sent": self._sent,
            "refused": self._refused,
            "post": self._post,
            "void": self._void,
            "correct": self._correct,
            "limits": self._limits,
            "reopen": self._reopen,
            "release": self._release,
        }

    def take(self, row: tuple[Any, ...]) -> None:
        """The next one, as `LedgerReader.entries` has it."""
        seq, place = row[0], self._places.get(row[4])
        self.entries += 1
        if seq != self.last_seq + 1:
            missing = f"{self.last_seq + 1} to {seq - 1}" if seq - self.last_seq > 2 else f"{self.last_seq + 1}"
            self._found.add("entries without a gap", f"entry {seq}", expected=f"entry {missing}", found="none")
        self.last_seq = seq
        if row[5] not in self._owners:
            self._add("owner", seq, expected="one that has opened the file", found=repr(row[5]))
        take = self._take.get(row[2])
        if take is None or place is None:
            what, found = ("kind", row[2]) if take is None else ("account", row[4])
            self._add(what, seq, expected="one that there is", found=repr(found))
            return
        if not place.opened and take != self._limits:
            self._add("account", seq, expected="an entry with its limits before", found="none")
            place.opened = True
        take(row, place)

    def pending_of(self) -> dict[str, Quantities]:
        """What is open in each account, without its children."""
        pending: dict[str, Quantities] = {}
        for transfer in self.open.values():
            path = transfer.place.path
            pending[path] = added(pending.get(path, ZERO), transfer.asked)
        return pending

    def _pending(self, row: tuple[Any, ...], place: Place) -> None:
        seq, transfer, asked = row[0], row[3], self._amounts(row)
        self.transfers += 1
        if transfer is None or transfer in self.open:
            self._add("reserved", seq, expected="once, under an id", found=f"{transfer!r} again")
            return
        self.open[transfer] = _Open(seq, place, row[5], asked, row[10:13])
        self._grant(seq, place, asked)

    def _sent(self, row: tuple[Any, ...], place: Place) -> None:
        held = self._held(row, place)
        if held is not None:
            self._check_owner(row, held.owner, may_be_recovered=False)
            if held.is_sent:
                self._add("sent", row[0], expected="refused before it is sent again", found="sent twice")
            held.is_sent = True

    def _refused(self, row: tuple[Any, ...], place: Place) -> None:
        held = self._held(row, place)
        if held is not None:
            self._check_owner(row, held.owner, may_be_recovered=False)
            if not held.is_sent:
                self._add("refused", row[0], expected="sent before", found="not sent")
            held.is_sent = False

    def _post(self, row: tuple[Any, ...], place: Place) -> None:
        held = self._held(row, place)
        if held is None:
            return
        del self.open[row[3]]
        self._check_owner(row, held.owner)
        actual, asked = self._amounts(row), held.asked
        if row[13] and actual != asked:
            self._add("unknown outcome", row[0], expected=f"the worst case {_shown(asked)}", found=_shown(actual))
        if is_over(actual, asked):
            self._has_overrun = True
            for here in held.place.line:
                here.is_overrun = True
        held.place.posted = added(held.place.posted, actual)
        self._commit_posted(held.place, less(actual, asked))

    def _void(self, row: tuple[Any, ...], place: Place) -> None:
        held = self._held(row, place)
        if held is not None:
            del self.open[row[3]]
            self._check_owner(row, held.owner)
            held.place.commit(less(ZERO, held.asked))

    def _correct(self, row: tuple[Any, ...], place: Place) -> None:
        seq, transfer, actual = row[0], row[3], self._amounts(row)
        kind, *posted = self._connection.execute(_ENDED, (transfer, seq)).fetchone() or (None,)
        if kind != "post":
            self._add("correction", seq, expected="a post before", found="none")
            return
        again = self._connection.execute(_CORRECTED, (transfer, seq)).fetchone()
        before = as_far_as_readable(posted[4:] if again is None else again)
        if again is not None:
            self._add("correction", seq, expected="one", found="a second one")
        if [place.path, *row[10:13]] != posted[:4]:
            self._add("account and label", seq, expected=tuple(posted[:4]), found=(place.path, *row[10:13]))
        if is_over(actual, before):
            self._add("correction", seq, expected=f"at most {_shown(before)}", found=_shown(actual))
        place = self._places.get(posted[0], place)
        place.posted = added(place.posted, less(actual, before))
        self._commit_posted(place, less(actual, before))

    def _limits(self, row: tuple[Any, ...], place: Place) -> None:
        limits: Limits = tuple(self._amount(row, at, may_be_none=True) for at in range(4))  # type: ignore[assignment]
        if place.is_aside and place.opened:
            self._add("limits", row[0], expected="never changed for what was set aside", found=_shown(limits))
        elif place.is_aside and len(place.line) > 1:
            if place.owner not in (None, row[5]):
                self._add("owner", row[0], expected=f"{place.owner!r}, who has to release it", found=repr(row[5]))
            self._grant(row[0], place.line[1], as_far_as_readable(limits))
        place.allow(limits)
        place.opened = True
        if place.is_above_limits():
            self._add("limits", row[0], expected=f"at least {_shown(place.committed)}", found=_shown(limits))

    def _reopen(self, row: tuple[Any, ...], place: Place) -> None:
        if place.is_aside or not place.is_overrun:
            self._add("reopen", row[0], expected="of a budget that an overrun has closed", found=repr(place.path))
        if place.is_above_limits():
            self._add("reopen", row[0], expected=f"at most {_shown(place.limits)}", found=_shown(place.committed))
        place.is_overrun = False

    def _release(self, row: tuple[Any, ...], place: Place) -> None:
        spent, posted = self._amounts(row), place.all_posted()
        if not place.is_aside or place.is_released:
            self._add("release", row[0], expected="once, of what was set aside", found=repr(place.path))
            return
        self._check_owner(row, place.owner)
        if spent != posted:
            self._add("release", row[0], expected=f"{_shown(posted)} spent", found=_shown(spent))
        if place.committed != posted:
            self._add("release", row[0], expected="nothing pending", found=_shown(less(place.committed, posted)))
        counted = added(as_far_as_readable(place.limits), self._excess.pop(place.path, ZERO))
        place.allow(spent)
        place.is_released = True
        place.choose_paying()
        for here in place.paying[1:]:
            here.committed = added(here.committed, less(posted, counted))

    def _grant(self, seq: int, place: Place, asked: Quantities) -> None:
        """Something is taken from an account: it, and all above that pay, must be open and have room."""
        for here in place.line:
            if here.is_overrun or here.is_released:
                why = "overrun" if here.is_overrun else "released"
                self._add("granted", seq, expected=f"nothing, {here.path!r} is {why}", found=_shown(asked))
                break
        place.commit(asked)
        for here in place.paying:
            if not here.is_told and here.is_above_limits():
                here.is_told = True  # said once an account
                self._add(
                    "granted",
                    seq,
                    expected=f"at most {_shown(here.limits)} in {here.path!r}",
                    found=f"{_shown(here.committed)} with {_shown(asked)}",
                )

    def _commit_posted(self, place: Place, change: Quantities) -> None:
        place.commit(change)
        if self._has_overrun:
            for here in place.line:
                if here.is_aside and not here.is_released:
                    self._charge_excess(here)

    def _charge_excess(self, aside: Place) -> None:
        """What is posted beyond an amount set aside was not set aside: whoever pays for it pays that too."""
        pairs = zip(aside.all_posted(), as_far_as_readable(aside.limits), strict=True)
        excess: Quantities = tuple(max(0, spent - limit) for spent, limit in pairs)  # type: ignore[assignment]
        before = self._excess.get(aside.path, ZERO)
        if excess != before and len(aside.line) > 1:
            self._excess[aside.path] = excess
            aside.line[1].commit(less(excess, before))

    def _check_owner(self, row: tuple[Any, ...], owner: str | None, *, may_be_recovered: bool = True) -> None:
        """What somebody holds, nobody else touches, unless to put in order what is left of the dead."""
        if row[5] == owner or owner is None:
            return
        known = self._owners.get(owner)
        if not (may_be_recovered and known is not None and known.ended == "recovered"):
            self._add("owner", row[0], expected=f"{owner!r}, who holds it", found=repr(row[5]))

    def _held(self, row: tuple[Any, ...], place: Place) -> _Open | None:
        """The open transfer that an entry is about."""
        seq, kind, transfer, label = row[0], row[2], row[3], row[10:13]
        held = self.open.get(transfer)
        if held is None:
            before = self._connection.execute(_RESOLVED, (transfer, seq)).fetchone()
            found = "never reserved" if before is None else f"resolved by entry {before[0]}"
            self._add(kind, seq, expected="a transfer that is pending", found=found)
            return None
        if held.place is not place or held.label != label:
            expected = (held.place.path, *held.label)
            self._add("account and label", seq, expected=expected, found=(place.path, *label))
        return held

    def _amounts(self, row: tuple[Any, ...]) -> Quantities:
        amounts: Quantities = row[6:10]
        for amount in amounts:
            if type(amount) is not int or amount < 0:
                return tuple(self._amount(row, at) for at in range(4))  # type: ignore[return-value]
        return amounts

    def _amount(self, row: tuple[Any, ...], at: int, *, may_be_none: bool = False) -> int | Fraction | None:
        try:
            amount = parse_amount(row[6 + at])
        except ValueError:
            amount = -1
        if amount is None and may_be_none:
            return None
        if amount is not None and amount >= 0 and (type(amount) is int or UNITS[at] == "evaluations"):
            return amount
        self._add(UNITS[at], row[0], expected="an amount from 0 up", found=repr(row[6 + at]))
        return 0

    def _add(self, what: str, seq: int, *, expected: object, found: object) -> None:
        self._found.add(what, f"entry {seq}", expected=expected, found=found)


def _shown(amounts: Limits) -> str:
    shown = [f"{amount} {unit}" for unit, amount in zip(UNITS, amounts, strict=True) if amount is not None]
    return ", ".join(shown) or "no limits"
