"""The journal of a run: all that is needed to go on with it after a kill, and to pay for nothing twice.

| record | when | |
| --- | --- | --- |
| `run` | before the first call | id, settings, subspace, plan, versions, engine |
| `sent` | before calls go out | their purpose, label and spans, from which their keys follow; the worst they may cost |
| `answer` | when one of several is answered | its key, the losses or logits learned from it, what it cost |
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
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.spend import Taken
from lmaas_sdk.errors import JournalError, LedgerError
from lmaas_sdk.settled import settled
from lmaas_sdk.side_thread import SideThread
from lmaas_sdk.tuning.journal_file import JournalFile, first_record
from lmaas_sdk.tuning.past import Moment, Past, Spans, read_past
from lmaas_sdk.tuning.told import Told

__all__ = ["FORMAT", "Durability", "Journal", "Moment", "Past", "check_durability", "header_of"]

FORMAT = "lmaas-journal/2"
_THREAD, _LOOK_S = "lmaas-journal", 0.005
Durability = Literal["generation", "always", "never"]
"""When a journal waits for the disk: after each generation that is told, after every record, or never."""
_Values = NDArray[np.float64] | NDArray[np.float32]
_T = TypeVar("_T")


def check_durability(durability: object) -> None:
    """Refuses what is no `Durability`.

    Raises:
        ValueError: It says what there is.
    """
    if durability not in get_args(Durability):
        raise ValueError(f"durability is {' or '.join(map(repr, get_args(Durability)))}, not {durability!r:.80}")


class Journal:
    """A run's journal, open; every method returns once its record is written.

    Args:
        file: The file, open.
        durability: When to wait for the disk: after each `generation` that is told, `always`, or `never`. Every record
            outlasts the death of the process, however it dies; this is about the loss of power. What is lost then is
            asked for again under the same keys.
    """

    def __init__(self, file: JournalFile, durability: Durability, thread: SideThread) -> None:
        self._file, self._durability, self._thread = file, durability, thread
        self._ledger: Ledger | None = None
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
            JournalMismatch: A newer version wrote it.
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
        check_durability(durability)
        thread = SideThread(_THREAD)
        opening = thread.run(lambda: JournalFile(path, exists=exists))
        try:
            return cls(await _done(opening), durability, thread)
        except BaseException:
            if opening.exception() is None:  # it was opened, and nobody wants it any more
                try:
                    await _done(thread.run(opening.result().close))
                finally:
                    thread.end()
            thread.end()
            raise

    def _read(self) -> None:
        self.past = read_past(self._file)

    @contextmanager
    def lending(self) -> Iterator[SideThread]:
        """The journal's thread, for a search that is told in the turn in which that is written.

        Afterwards the journal has another one: whatever the search may still be doing, nobody waits for it.
        """
        with self._thread as lent:
            try:
                yield lent
            finally:
                self._thread = SideThread(_THREAD)

    def follow(self, ledger: Ledger) -> None:
        """Writes nothing of what calls cost before the ledger has it.

        Else a process that dies between the two would leave a call in the ledger that nobody knows the cost of, and
        that nobody asks for again.
        """
        self._ledger = ledger

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

    async def left(self, keys: Sequence[str], paid: Taken, *, settled: Sequence[str]) -> None:
        """The run ends, and nothing was written yet of what these calls cost.

        Args:
            keys: Of all.
            paid: What they cost.
            settled: Of those whose answer was booked, and is lost.
        """
        if keys:
            await self._write({"kind": "left", "keys": list(keys), **paid.to_record(), "settled": list(settled)})

    async def told(
        self, generation: int, told: Told, *, keys: Sequence[str], paid: Taken, at: Moment, tell: Callable[[], _T]
    ) -> _T:
        """The optimiser is told this now.

        Args:
            generation: Which.
            told: What it is told.
            keys: All that the generation sent.
            paid: What those that nobody waited for cost.
            at: This moment.
            tell: Tells it, on the journal's thread, once the record is written.

        Returns:
            What `tell` returns.
        """
        record = {"kind": "told", "generation": generation, "keys": list(keys), **paid.to_record()}
        self._wait_for(record | told.to_record() | at.to_record(), durable=self._durability != "never")
        async with self._writing:
            return await self._taken().then(tell, self._thread)

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
            with contextlib.suppress(JournalError, LedgerError):  # said before, to whoever wrote
                await self._write_waiting()
        finally:
            try:
                await self._on_thread(self._file.close)
            finally:
                self._thread.end()

    async def _write(self, record: dict[str, Any], *, durable: bool = False) -> None:
        """Adds a record; those that come while one is being written are written together."""
        self._wait_for(record, durable=durable)
        await self._write_waiting()

    def _wait_for(self, record: dict[str, Any], *, durable: bool) -> None:
        self._waiting.append((record, durable or self._durability == "always"))

    async def _write_waiting(self) -> None:
        async with self._writing:
            if not self._waiting:
                return
            write = self._taken()
            if write.waits:
                await self._on_thread(write.append)
            else:  # a line that waits for nothing is a copy of some hundred bytes: handing it over would take longer
                write.append()

    def _taken(self) -> _Write:
        """All that waits to be written."""
        waiting, self._waiting = self._waiting, []
        records = [record for record, _ in waiting]
        ledger = self._ledger if any("paid" in record for record in records) else None
        return _Write(self._file, records, durable=any(durable for _, durable in waiting), ledger=ledger)

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        return await _done(self._thread.run(work))


@dataclass(frozen=True, slots=True)
class _Write:
    """Records to be added.

    Args:
        file: Where to.
        records: What.
        durable: Whether to wait for the disk.
        ledger: What has to be booked before; None: nothing. It is waited for where the records are written, as each
            turn of the event loop's thread costs more than the writing.
    """

    file: JournalFile
    records: Sequence[dict[str, Any]]
    durable: bool
    ledger: Ledger | None

    @property
    def waits(self) -> bool:
        """Whether it is nothing for the event loop's thread."""
        return self.durable or self.ledger is not None

    async def then(self, work: Callable[[], _T], thread: SideThread) -> _T:
        """Adds them on a thread and does `work` there; what that returns.

        Who is cancelled waits until they are added, and no longer: the work may be anybody's, and take its time.
        """
        added = threading.Event()

        def add_and_work() -> _T:
            try:
                self.append()
            finally:
                added.set()
            return work()

        working = thread.run(add_and_work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            working.add_done_callback(_heard)
            while not (added.is_set() or working.done()):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([working], timeout=_LOOK_S)
            raise

    def append(self) -> None:
        """Adds them."""
        if self.ledger is not None:
            self.ledger.wait_until_booked()
        self.file.append(self.records, durable=self.durable)


def _heard(work: asyncio.Future[Any]) -> None:
    """What nobody waits for any more may fail."""
    if not work.cancelled():
        work.exception()


async def _done(work: asyncio.Future[_T]) -> _T:
    """What the work returns. What was begun is done: who is cancelled meanwhile waits for its end all the same."""
    if await settled(work):
        raise asyncio.CancelledError
    return work.result()


def header_of(path: Path) -> dict[str, Any]:
    """What a journal says of its run: the settings that it was begun with; blocking.

    Raises:
        JournalError: It cannot be read, or is of another format.
        JournalCorrupt: It was changed.
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
