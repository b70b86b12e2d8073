"""What the journal of a run held when it was opened."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.errors import JournalCorrupt, JournalMismatch, NotFinite, ProtocolError
from lmaas_sdk.tuning.journal_file import JournalFile
from lmaas_sdk.tuning.told import Told

__all__ = ["UNUSABLE", "Moment", "Past", "Sent", "Spans", "read_past"]

Spans = list[list[int]]
_Values = NDArray[np.float64] | NDArray[np.float32]
_KINDS = ("run", "sent", "answer", "failed", "told", "looked", "resumed", "left", "ended")
UNUSABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What a record raises that is not made as this version makes it."""
_USELESS = (ProtocolError.__name__, NotFinite.__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run stood: what was posted by then, and for how long it had been running."""

    spent: Amounts
    elapsed_s: float

    def to_record(self) -> dict[str, Any]:
        return {"spent": self.spent.to_exact(), "elapsed_s": self.elapsed_s}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Moment:
        return cls(Amounts.from_exact(record["spent"]), float(record["elapsed_s"]))


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that went out.

    Args:
        purpose: What for.
        worst: The most that one attempt may cost.
        generation: Of which it is a part; None: it was paid from what was set aside beside the generations.
    """

    purpose: Purpose
    worst: Amounts
    generation: int | None


@dataclass(slots=True)
class Past:
    """What a journal held when it was opened.

    Args:
        told: By generation.
        looked: When dev was looked at, by generation.
        answers: By key, of calls whose generation is not told yet, and of those on dev and test.
        spans: How calls were cut, by purpose and label.
        sent: By key, but for those of generations that are told.
        unanswered: Keys that were sent, and no record says what they cost.
        unknown: By key, the attempts that nobody knows the cost of.
        settled: Keys whose answer was booked, and was not there to be written down.
        useless: Keys whose answer was no answer.
        paid: What was posted, by purpose.
        versions: What other processes went on with.
        elapsed_s: For how long the run had been running.
        ended: Why it stopped, if it has.
        is_resumed: Whether there was anything, and nobody has said yet that it is done.
    """

    told: dict[int, tuple[Told, Moment]] = field(default_factory=dict)
    looked: dict[int, Moment] = field(default_factory=dict)
    answers: dict[str, _Values] = field(default_factory=dict)
    spans: dict[tuple[str, str], Spans] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    unknown: dict[str, tuple[Purpose, list[Amounts]]] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    useless: set[str] = field(default_factory=set)
    paid: dict[Purpose, Amounts] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)
    elapsed_s: float = 0.0
    ended: str | None = None
    is_resumed: bool = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes the next record, oldest first.

        Raises:
            JournalMismatch: It is of a kind that this version does not know, and so cannot do without.
        """
        _check_kind(record["kind"])
        self._add_paid(record)
        self.is_resumed = self.is_resumed or record["kind"] == "told"
        self.elapsed_s = max(self.elapsed_s, float(record.get("elapsed_s", 0.0)))
        match record["kind"]:
            case "sent":
                self._sent(record)
            case "answer" | "failed":
                self._answered(record)
            case "told":
                self._told(record)
            case "looked":
                self.looked[record["generation"]] = Moment.from_record(record)
            case "ended":
                self.ended = record["stopped"]
            case "resumed":
                self.ended = None
                self.versions.append(dict(record["versions"]))

    @property
    def reached(self) -> int:
        """Generations that are told, and the one that was begun."""
        begun = [one.generation for one in self.sent.values() if one.generation is not None]
        return max([*self.told, *begun], default=-1) + 1

    @property
    def spent(self) -> Amounts:
        """What was posted, for whatever purpose."""
        return sum(self.paid.values(), Amounts())

    @property
    def lost(self) -> Amounts:
        """The worst case of what was on its way when it ended."""
        return sum((self.sent[key].worst for key in self.unanswered), Amounts())

    @property
    def answered(self) -> Fraction:
        """Evaluations whose losses it holds; what else was spent on evaluations has brought none."""
        told = (one.evaluations for one, _ in self.told.values())
        kept = (self.sent[key].worst.evaluations for key in self.answers if key in self.sent)
        return sum((Fraction(amount) for amount in (*told, *kept)), Fraction())

    @property
    def unsettled(self) -> dict[str, Sent]:
        """Calls that went out, by key, and have no answer here."""
        keys = self.unanswered | self.settled | self.unknown.keys()
        return {key: self.sent[key] for key in sorted(keys) if key in self.sent}

    def keys_of(self, generation: int) -> set[str]:
        """Of the calls of a generation that went out before it was told."""
        return {key for key, one in self.sent.items() if one.generation == generation}

    def covered(self, generation: int | None, *, bills_once: bool) -> Amounts:
        """The worst case that need not be set aside again, for a generation or (None) for what stands beside them.

        Args:
            generation: Which.
            bills_once: Whether the provider bills a key once, so that a call which was lost takes one more at most.
        """
        covered = Amounts()
        for key, one in self.sent.items():
            if one.generation != generation:
                continue
            if key not in self.unanswered | self.settled and key not in self.unknown:
                covered += one.worst
            elif bills_once:
                covered += one.worst - Amounts(calls=1)
        return covered

    def _add_paid(self, record: Mapping[str, Any]) -> None:
        for purpose, row in record.get("paid", {}).items():
            self.paid[purpose] = self.paid.get(purpose, Amounts()) + Amounts.from_exact(row)
        if record["kind"] == "sent":
            return
        for key in [record["key"]] if "key" in record else record.get("keys", []):
            self.unanswered.discard(key)
            self.settled.discard(key)
            self.unknown.pop(key, None)
        self.settled.update(record.get("settled", ()))
        for key, rows in record.get("unknown", {}).items():
            self.unknown[key] = self.sent[key].purpose, list(map(Amounts.from_exact, rows))

    def _sent(self, record: Mapping[str, Any]) -> None:
        purpose, label, keys = record["purpose"], record["label"], record["keys"]
        self.spans[purpose, label] = [list(map(int, span)) for span in record["spans"]]
        self.unanswered.update(keys)
        is_aside = record["aside"] or purpose != "train"
        generation = None if is_aside else int(label.partition("/")[0])
        for key, worst in zip(keys, record["worst"], strict=True):
            self.sent[key] = Sent(purpose, Amounts.from_exact(worst), generation)

    def _answered(self, record: Mapping[str, Any]) -> None:
        if "values" in record:
            self.answers[record["key"]] = _array(record["values"])
        elif record["why"] in _USELESS:
            self.useless.add(record["key"])

    def _told(self, record: Mapping[str, Any]) -> None:
        """What was learned from single calls of the generation is needed no more."""
        self.told[record["generation"]] = Told.from_record(record), Moment.from_record(record)
        for key in self.keys_of(record["generation"]) - self.unanswered:
            del self.sent[key]
        for key in record["keys"]:
            self.answers.pop(key, None)
            self.useless.discard(key)


def _check_kind(kind: object) -> None:
    if not isinstance(kind, str):
        raise TypeError(f"a kind is a word, not {kind!r:.80}")
    if kind not in _KINDS:
        raise JournalMismatch(
            f"this version knows no record of the kind {kind!r:.80}: was it written by a newer version of lmaas-sdk? "
            "Go on with that one"
        )


def read_past(file: JournalFile) -> Past:
    """All that a journal holds; blocking.

    Raises:
        JournalCorrupt: A line was changed, lost or moved, or is no record of a run though its check sum is right.
        JournalMismatch: A record is of a kind that this version does not know.
    """
    past = Past()
    for number, record in enumerate(file.records(), 1):
        place = f"{file.path}, line {number}"
        try:
            past.add(record)
        except JournalMismatch as error:
            raise JournalMismatch(f"{place}: {error}") from error
        except UNUSABLE as error:
            raise JournalCorrupt(
                f"{place}: its check sum is right, but it is no record that a run writes ({error!r:.120}); use a copy "
                "from before, or begin anew"
            ) from error
    return past


def _array(packed: Mapping[str, Any]) -> _Values:
    raw = np.frombuffer(base64.b64decode(packed["base64"]), dtype=packed["dtype"])
    return raw.reshape(packed["shape"]).astype(raw.dtype.newbyteorder("="))
