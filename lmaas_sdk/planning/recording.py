"""What a run's journal tells of the loss that the run searched: its candidates, asked for once more, and their losses.

A journal holds what the search was told. The search is a function of that, so that a fresh one of the same preset and
seed asks for the same candidates; the digests beside the values show that it does.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import JournalCorrupt, JournalError, JournalMismatch
from lmaas_sdk.planning.surrogate import Points
from lmaas_sdk.tuning.duplicates import digest_of
from lmaas_sdk.tuning.generation import as_sent
from lmaas_sdk.tuning.journal_file import Record, records_of
from lmaas_sdk.tuning.optimizer import MakeOptimizer, Optimizer
from lmaas_sdk.tuning.past import UNUSABLE
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.resumption import Recorded
from lmaas_sdk.tuning.searches import make_optimizer
from lmaas_sdk.tuning.subspace import Subspace
from lmaas_sdk.tuning.told import Told

__all__ = ["Looked", "Recording", "read_recording"]

_Z = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A candidate that was scored on the dev set.

    Args:
        z: (d,) float32.
        logits: (n_texts, n_labels) float32.
    """

    z: _Z
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A run as its journal tells it.

    Args:
        run: Its id.
        seed: Of its search and its subspace.
        preset: The settings of its search.
        subspace: What it searched.
        dev: Digest of its dev set; None: it had none.
        points: Its candidates with a loss of their own.
        looked: Its candidates that were scored on dev.
        is_over: Whether it had ended when the journal was read.
    """

    run: str
    seed: int
    preset: Preset
    subspace: Subspace
    dev: str | None
    points: Points
    looked: tuple[Looked, ...]
    is_over: bool

    @property
    def generations(self) -> int:
        """How many it had told its search of."""
        return int(self.points.generations[-1]) + 1


@dataclass(slots=True)
class _Records:
    """What is needed of the records of a journal."""

    told: dict[int, Told] = field(default_factory=dict)
    looks: dict[int, tuple[list[str], list[list[int]]]] = field(default_factory=dict)
    answers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    is_over: bool = False

    def add(self, record: Record) -> None:
        self.is_over = record["kind"] == "ended"
        match record["kind"]:
            case "told":
                self.told[int(record["generation"])] = Told.from_record(record)
            case "sent" if record["purpose"] == "dev":
                self.looks[int(record["label"])] = list(map(str, record["keys"])), list(map(list, record["spans"]))
            case "answer":
                self.answers[str(record["key"])] = _array(record["values"])

    def logits(self, generation: int) -> NDArray[np.float32] | None:
        """Of a look at dev, (n_candidates, n_texts, n_labels); None: there was none, or a part of it is missing."""
        keys, spans = self.looks.get(generation, ([], []))
        if not keys or any(key not in self.answers for key in keys):
            return None
        shape = max(span[1] for span in spans), max(span[3] for span in spans), self.answers[keys[0]].shape[-1]
        found = np.empty(shape, np.float32)
        for key, (first, last, row, last_row) in zip(keys, spans, strict=True):
            found[first:last, row:last_row] = self.answers[key]
        return found


def read_recording(path: Path, *, optimizer: MakeOptimizer | None = None) -> Recording:
    """Reads a journal, whoever has it open, and goes through its search once more; blocking.

    Args:
        path: The journal.
        optimizer: As the run had it, where it had one of its own.

    Raises:
        JournalError: It cannot be read, or does not hold what is needed; the message says what.
        JournalCorrupt: It is damaged.
        JournalMismatch: The search asks for other candidates than it did.
    """
    header, records = Recorded(path), _Records()
    for number, record in enumerate(records_of(path), 1):
        with _usable(path, number):
            records.add(record)
    with _usable(path, 1):
        subspace = Subspace.from_wire(header.header["subspace"]) if "subspace" in header.header else None
        dev = header.settings["data"].get("dev")
        _check(path, header, is_own=header.settings["search"] == "own", has_search=optimizer is not None)
    if subspace is None:
        raise JournalError(f"{path} was written by a version that did not keep the subspace: no landscape is in it")
    make = optimizer or (lambda d, seed: make_optimizer(header.preset, d, seed))
    search = make(subspace.d, header.seed)
    points, looked = _replayed(path, search, records, extra=header.scheduling.extra)
    return Recording(header.run, header.seed, header.preset, subspace, dev, points, looked, records.is_over)


@contextmanager
def _usable(path: Path, line: int) -> Iterator[None]:
    """What a record raises that is not made as this version makes it is a damaged journal."""
    try:
        yield
    except JournalError:
        raise
    except UNUSABLE as error:
        raise JournalCorrupt(
            f"{path}, line {line}: its check sum is right, but it is no record that a run writes ({error!r:.120})"
        ) from error


def _check(path: Path, header: Recorded, *, is_own: bool, has_search: bool) -> None:
    """Refuses runs whose journal does not hold a loss over z.

    Raises:
        JournalError: It says why.
    """
    if header.preset.objective != "ce":
        raise JournalError(
            f"the run of {path} minimised {header.preset.objective!r}: a landscape is made of cross entropies "
            "(objective 'ce')"
        )
    if header.layers is not None:
        raise JournalError(
            f"the run of {path} searched several layers: a landscape is that of one prompt, at the embedding output"
        )
    if is_own and not has_search:
        raise JournalError(
            f"the run of {path} had a search of its own: give recorded_landscape the optimizer= that it was begun with"
        )


def _replayed(path: Path, search: Optimizer, records: _Records, *, extra: int) -> tuple[Points, tuple[Looked, ...]]:
    """Candidates and losses of every generation that was told, and the candidates of every look."""
    Z: list[_Z] = []
    losses: list[float] = []
    generations: list[int] = []
    looked: list[Looked] = []
    for generation in range(len(records.told)):
        told = records.told.get(generation)
        batch = search.ask(extra)
        asked = as_sent(batch)
        if told is None or (told.asked and told.asked != digest_of(asked)):
            raise _other_search(path, generation)
        search.tell(generation, told.values)
        scored = told.scored
        Z += [asked[index] for index in scored]
        losses += scored.values()
        generations += [generation] * len(scored)
        best = asked[min(scored, key=scored.__getitem__)]
        looked += _looked(records, generation, (best, search.mean.astype(np.float32)))
    if not losses:
        raise JournalError(f"the run of {path} has done no generation yet: there is nothing to make a landscape of")
    points = Points(np.array(Z, np.float64), np.array(losses), np.array(generations, np.int64))
    return points, tuple(looked)


def _looked(records: _Records, generation: int, candidates: tuple[_Z, ...]) -> Iterator[Looked]:
    logits = records.logits(generation)
    if logits is not None and len(logits) == len(candidates):
        for z, answer in zip(candidates, logits, strict=True):
            yield Looked(z, answer)


def _other_search(path: Path, generation: int) -> JournalMismatch:
    return JournalMismatch(
        f"generation {generation} of {path} was asked for by another search: give recorded_landscape the optimizer= "
        "that the run was begun with, and use the versions of numpy and of the search that it had"
    )


def _array(packed: Mapping[str, Any]) -> NDArray[np.float32]:
    raw = np.frombuffer(base64.b64decode(packed["base64"]), dtype=packed["dtype"])
    found: NDArray[np.float32] = raw.reshape(packed["shape"]).astype(np.float32)
    return found
