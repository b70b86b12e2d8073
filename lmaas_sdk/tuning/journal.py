"""The journal of a run: all that is needed to go on with it after a kill, and to pay for nothing twice.

| record | when | |
| --- | --- | --- |
| `run` | before the first call | id, settings, plan, versions, engine |
| `sent` | before calls go out | their purpose, label and spans, from which their keys follow; the worst they may cost |
| `answer` | when one is answered | its key, the losses or logits learned from it, what it cost |
| `failed` | when one failed for good | its key, why, what it cost |
| `told` | before the optimiser is told | the generation's values and what was decided about the rest |
| `looked` | after the dev set was looked at | spend and time at that moment |
| `resumed` | when another process goes on | versions and engine |
| `left` | when the run ends in any way | what the calls cost of which no other record says it, as they were cut short |
| `ended` | when the run has its result | why it stopped |

What calls cost is `paid`, by purpose: added up over all records it is what the run has spent. Attempts whose outcome
nobody knows are in it at their worst case, and in `unknown` by key, as a later answer may put them right.

The optimiser is not in it: told the same values, it asks for the same candidates.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.spend import Purpose, Taken
from lmaas_sdk.errors import JournalError, NotFinite, ProtocolError
from lmaas_sdk.tuning.journal_file import JournalFile, first_record
from lmaas_sdk.tuning.told import Told

__all__ = ["FORMAT", "Durability", "Journal", "Moment", "Past", "header_of"]

FORMAT = "lmaas-journal/1"
Durability = Literal["generation", "always", "never"]
Spans = list[list[int]]
_Values = NDArray[np.float64] | NDArray[np.float32]
_T = TypeVar("_T")
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
        useless: Keys whose answer was no answer.
        paid: What was posted, by purpose.
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
    useless: set[str] = field(default_factory=set)
    paid: dict[Purpose, Amounts] = field(default_factory=dict)
    elapsed_s: float = 0.0
    ended: str | None = None
    is_resumed: bool = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes the next record, oldest first."""
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

    @property
    def reached(self) -> int:
        """Generations that are told, and the one that was begun."""
        begun = [one.generation for one in self.sent.values() if one.generation is not None]
        return max([*self.told, *begun], default=-1) + 1

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
            if key not in self.unanswered and key not in self.unknown:
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
            self.unknown.pop(key, None)
        for key, rows in record.get("unknown", {}).items():
            self.unknown[key] = self.sent[key].purpose, list(map(Amounts.from_exact, rows))

    def _sent(self, record: Mapping[str, Any]) -> None:
        purpose, label, keys = record["purpose"], record["label"], record["keys"]
        self.spans[purpose, label] = record["spans"]
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


class Journal:
    """A run's journal, open; every method returns once its record is written.

    Args:
        file: The file, open.
        durability: When to wait for the disk: after each `generation` that is told, `always`, or `never`. Every record
            outlasts the death of the process, however it dies; this is about the loss of power. What is lost then is
            asked for again under the same keys.
    """

    def __init__(self, file: JournalFile, durability: Durability, pool: ThreadPoolExecutor) -> None:
        self._file, self._durability, self._pool = file, durability, pool
        self._waiting: list[tuple[dict[str, Any], bool]] = []
        self._writing = asyncio.Lock()
        self.past = Past()

    @classmethod
    async def begin(cls, path: Path, header: Mapping[str, Any], durability: Durability) -> Journal:
        """Makes a journal.

        Raises:
            JournalError: There is one of that name already, or none can be kept there.
        """
        journal = await cls._opened(path, durability, exists=False)
        try:
            await journal._write({"kind": "run", "format": FORMAT, **header}, durable=durability != "never")
        except BaseException:
            await journal.close()
            raise
        return journal

    @classmethod
    async def resume(cls, path: Path, durability: Durability) -> Journal:
        """Opens one that is there; what it held is in `past`.

        Raises:
            JournalCorrupt: It is damaged.
            JournalInUse: Another run has it open.
            JournalError: It cannot be read.
        """
        journal = await cls._opened(path, durability, exists=True)
        try:
            await journal._on_thread(journal._read)
        except BaseException:
            await journal.close()
            raise
        return journal

    @classmethod
    async def _opened(cls, path: Path, durability: Durability, *, exists: bool) -> Journal:
        if durability not in get_args(Durability):
            raise ValueError(f"durability is {' or '.join(map(repr, get_args(Durability)))}, not {durability!r:.80}")
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lmaas-journal")
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(pool, lambda: JournalFile(path, exists=exists))
        try:
            return cls(await _done(opening), durability, pool)
        except BaseException:
            if opening.exception() is None:  # it was opened, and nobody wants it any more
                await _done(loop.run_in_executor(pool, opening.result().close))
            pool.shutdown(wait=False)
            raise

    def _read(self) -> None:
        for record in self._file.records():
            self.past.add(record)

    async def resumed(self, versions: Mapping[str, str]) -> None:
        """Another process goes on."""
        await self._write({"kind": "resumed", "versions": dict(versions)})

    async def sent(
        self, purpose: str, label: str, *, spans: Spans, keys: Sequence[str], worst: Sequence[Amounts], aside: bool
    ) -> None:
        """Calls go out now."""
        rows = [amounts.to_exact() for amounts in worst]
        record = {"kind": "sent", "purpose": purpose, "label": label, "spans": spans, "keys": list(keys)}
        await self._write(record | {"worst": rows, "aside": aside})

    async def answered(self, key: str, values: _Values, paid: Taken) -> None:
        """A call was answered, and cost so much with all its attempts."""
        await self._write({"kind": "answer", "key": key, "values": _packed(values), **paid.to_record()})

    async def failed(self, key: str, why: str, paid: Taken) -> None:
        """A call failed for good."""
        await self._write({"kind": "failed", "key": key, "why": why, **paid.to_record()})

    async def left(self, keys: Sequence[str], paid: Taken) -> None:
        """The run ends, and nothing was written yet of what these calls cost."""
        if keys:
            await self._write({"kind": "left", "keys": list(keys), **paid.to_record()})

    async def told(self, generation: int, told: Told, *, keys: Sequence[str], paid: Taken, at: Moment) -> None:
        """The optimiser is told this now.

        Args:
            generation: Which.
            told: What it is told.
            keys: All that the generation sent.
            paid: What those that nobody waited for cost.
            at: This moment.
        """
        record = {"kind": "told", "generation": generation, "keys": list(keys), **paid.to_record()}
        await self._write(record | told.to_record() | at.to_record(), durable=self._durability != "never")

    async def looked(self, generation: int, at: Moment) -> None:
        """The dev set was looked at."""
        await self._write({"kind": "looked", "generation": generation, **at.to_record()})

    async def ended(self, stopped: str, elapsed_s: float) -> None:
        """The run has its result."""
        durable = self._durability != "never"
        await self._write({"kind": "ended", "stopped": stopped, "elapsed_s": elapsed_s}, durable=durable)

    async def close(self) -> None:
        """Closes it, once what waits is written; others may go on with it then."""
        try:
            with contextlib.suppress(JournalError):  # said before, to whoever wrote
                await self._write_waiting()
        finally:
            await self._on_thread(self._file.close)
            self._pool.shutdown(wait=False)

    async def _write(self, record: dict[str, Any], *, durable: bool = False) -> None:
        """Adds a record; those that come while one is being written are written together."""
        self._waiting.append((record, durable or self._durability == "always"))
        await self._write_waiting()

    async def _write_waiting(self) -> None:
        async with self._writing:
            waiting, self._waiting = self._waiting, []
            if waiting:
                records, wait = [record for record, _ in waiting], any(durable for _, durable in waiting)
                await self._on_thread(lambda: self._file.append(records, durable=wait))

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        return await _done(asyncio.get_running_loop().run_in_executor(self._pool, work))


async def _done(work: asyncio.Future[_T]) -> _T:
    """What the work returns. What was begun is done: who is cancelled meanwhile waits for its end all the same."""
    was_cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        raise asyncio.CancelledError
    return work.result()


def header_of(path: Path) -> dict[str, Any]:
    """What a journal says of its run: the settings that it was begun with; blocking.

    Raises:
        JournalError: It cannot be read, or is of another format.
    """
    header = first_record(path)
    if header.get("kind") != "run" or header.get("format") != FORMAT:
        raise JournalError(f"{path} is of the format {header.get('format')!r:.80}; this version reads {FORMAT!r}")
    return header


def _packed(values: _Values) -> dict[str, Any]:
    """An array for a record, to the last bit."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    content = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(little.shape), "base64": content}


def _array(packed: Mapping[str, Any]) -> _Values:
    raw = np.frombuffer(base64.b64decode(packed["base64"]), dtype=packed["dtype"])
    return raw.reshape(packed["shape"]).astype(raw.dtype.newbyteorder("="))
