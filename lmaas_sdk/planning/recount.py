"""What a ledger's entries say of several runs: counted from them alone, apart from all that ran."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from lmaas_sdk.accounting.accounts import Entry
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.quantities import ZERO, Quantities, added, as_amounts, less

__all__ = ["RunRows", "Sent", "most_in_a_day", "most_in_any", "peak", "rows_by_run", "sent_of"]

_Moment = tuple[int, float]  # the number of an entry, and its time


@dataclass(slots=True)
class RunRows:
    """One run's entries.

    It wants something from when its share is made, or grows, until the last call before its share is too small or
    closed: thinking takes no time in a simulation, so there is nothing else that it could be doing.

    Attributes:
        wanted: The first and the last entry of every time in which it wanted something, by their numbers.
        posted: Numbers of the entries that say what it was served, and what.
        turns: What every call of a turn came to, by its key: those of a generation, and of what came after it.
        ended_s: When its last call was over, in seconds since 1970; None: it had none.
        waits: Seconds by what for: "turn" (others'), "quota" (until a call that is paid for may go out), "retry".
    """

    wanted: list[tuple[int, int]] = field(default_factory=list)
    posted: list[tuple[int, Amounts]] = field(default_factory=list)
    turns: list[dict[str, Amounts]] = field(default_factory=list)
    ended_s: float | None = None
    waits: dict[str, float] = field(default_factory=dict)

    def waited(self, what_for: str, seconds: float) -> None:
        """It did so once more."""
        if seconds > 0:
            self.waits[what_for] = self.waits.get(what_for, 0.0) + seconds


class _Reader:
    """Goes through the entries of one run."""

    def __init__(self) -> None:
        self.rows = RunRows()
        self._share = ""
        self._last: _Moment | None = None  # the latest entry about a call
        self._since: _Moment | None = None  # from when on it wants something, or will have if another call comes
        self._is_idle = True
        self._keys: set[str] = set()
        self._pending: set[str] = set()
        self._unsent: dict[str, tuple[float, str]] = {}  # since when transfers wait to go out, and what for

    def take(self, number: int, entry: Entry) -> None:
        """The next one."""
        if entry.transfer is None:
            self._account_changed(number, entry)
            return
        if entry.kind == "pending":
            self._asked(number, entry, entry.transfer)
        elif entry.kind == "sent":
            since_s, what_for = self._unsent.pop(entry.transfer)
            self.rows.waited(what_for, entry.at - since_s)
        elif entry.kind == "refused":
            self._unsent[entry.transfer] = entry.at, "retry"
        elif entry.kind in ("post", "void"):
            self._pending.discard(entry.transfer)
        if entry.kind == "post":
            self._served(number, entry)
        self._last = number, entry.at

    def _served(self, number: int, entry: Entry) -> None:
        amounts = as_amounts(_row(entry))
        self.rows.posted.append((number, amounts))
        self.rows.turns[-1][entry.key] = amounts

    def end(self) -> RunRows:
        """All of them were taken."""
        if self._last is not None:
            self._pauses(*self._last)
        self.rows.ended_s = None if self._last is None else self._last[1]
        return self.rows

    def _account_changed(self, number: int, entry: Entry) -> None:
        if not self._share and "/share#" in entry.account:
            self._share = entry.account
        if entry.account == self._share:
            self._pauses(number, entry.at)

    def _asked(self, number: int, entry: Entry, transfer: str) -> None:
        is_search = entry.purpose == "train"
        is_new = is_search and entry.key not in self._keys
        if not self.rows.turns or (is_new and not self._pending):
            self.rows.turns.append({})
        if not is_search and self._last is not None and entry.at > self._last[1]:
            self._pauses(number, entry.at)  # it had waited for what others leave, in vain
        before = self._since if self._is_idle else self._last
        if before is not None:
            self.rows.waited("turn" if is_new else "retry", entry.at - before[1])
        self._is_idle = False
        self._keys.add(entry.key)
        self._pending.add(transfer)
        self._unsent[transfer] = entry.at, "quota"

    def _pauses(self, number: int, at_s: float) -> None:
        """It has wanted nothing since its last call, and may want something from now on."""
        if not self._is_idle and self._since is not None and self._last is not None:
            self.rows.wanted.append((self._since[0], self._last[0]))
        self._since, self._is_idle = (number, at_s), True


def rows_by_run(entries: Iterable[Entry]) -> dict[str, RunRows]:
    """The entries of every run of a group, by its name, which is that of its account under the group's budget."""
    readers: defaultdict[str, _Reader] = defaultdict(_Reader)
    for number, entry in enumerate(entries):
        name = entry.account.split("/", 2)[1:2]
        if name:
            readers[name[0]].take(number, entry)
    return {name: reader.end() for name, reader in readers.items()}


def peak(entries: Iterable[Entry]) -> Amounts:
    """The most that was spent and on its way together, at any moment."""
    held: dict[str, Quantities] = {}  # by transfer: what it may take or, once it is resolved, took
    now = most = ZERO
    for entry in entries:
        if entry.transfer is None or entry.kind in ("sent", "refused"):
            continue
        after = ZERO if entry.kind == "void" else _row(entry)
        now = added(less(now, held.get(entry.transfer, ZERO)), after)
        held[entry.transfer] = after
        most = (max(most[0], now[0]), max(most[1], now[1]), max(most[2], now[2]), max(most[3], now[3]))
    return as_amounts(most)


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt that a provider took up.

    Args:
        at_s: When, in seconds since 1970.
        tokens: That were billed, or may have been.
    """

    at_s: float
    tokens: int


def sent_of(entries: Iterable[Entry]) -> list[Sent]:
    """All attempts but those that were refused, in the order in which they went out."""
    sent: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for entry in entries:
        transfer = entry.transfer or ""
        if entry.kind == "sent":
            sent[transfer] = entry.at
        elif entry.kind in ("refused", "void"):
            sent.pop(transfer, None)
        elif entry.kind == "post":
            tokens[transfer] = _row(entry)[2]
    return [Sent(at_s, tokens.get(transfer, 0)) for transfer, at_s in sorted(sent.items(), key=lambda one: one[1])]


def most_in_any(span_s: float, taken: Iterable[tuple[float, int]]) -> int:
    """The most in any such stretch of time, of amounts with their times in order."""
    within: deque[tuple[float, int]] = deque()
    now = most = 0
    for at_s, amount in taken:
        while within and within[0][0] <= at_s - span_s:
            now -= within.popleft()[1]
        within.append((at_s, amount))
        now += amount
        most = max(most, now)
    return most


def most_in_a_day(zone: str, sent: Iterable[Sent]) -> int:
    """The most attempts on a day of the zone's calendar."""
    days = Counter(datetime.fromtimestamp(one.at_s, ZoneInfo(zone)).date() for one in sent)
    return max(days.values(), default=0)


def _row(entry: Entry) -> Quantities:
    return (entry.calls or 0, entry.evaluations or 0, entry.tokens or 0, entry.nanousd or 0)  # type: ignore[return-value]
