"""The search of a run and its journal share a thread: what the one does to the other, and what it does not."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import Budget, Tuner, open_ledger
from lmaas_sdk.testing import FaultInjectingBackend, Faults
from lmaas_sdk.tuning.optimizer import Batch
from lmaas_sdk.tuning.random_search import RandomSearch
from lmaas_sdk.tuning.result import ResultCore


class OneBuffer(RandomSearch):
    """Every generation is in the same memory, as of a search that spares itself an allocation."""

    _buffer: NDArray[np.float64] | None = None

    def ask(self, extra: int = 0) -> Batch:
        batch = super().ask(extra)
        if self._buffer is None:
            self._buffer = np.empty_like(batch.X)
        self._buffer[:] = batch.X
        return Batch(batch.generation, self._buffer.view())


class ByColumns(RandomSearch):
    """Candidates lie column by column in memory."""

    def ask(self, extra: int = 0) -> Batch:
        batch = super().ask(extra)
        return Batch(batch.generation, np.asfortranarray(batch.X))


@pytest.mark.parametrize("journalled", [False, True])
@pytest.mark.parametrize("kind", [OneBuffer, ByColumns])
async def test_where_candidates_lie_in_memory_changes_nothing(
    kind: type[RandomSearch], journalled: bool, tmp_path: Path
) -> None:
    """The next generation is asked for before the last one is recorded."""

    async def core(of: type[RandomSearch]) -> ResultCore:
        tuner = Tuner(
            mock(),
            budget=Budget(evaluations=40),
            preset=replace(SMALL, dev_every=2),
            optimizer=lambda d, seed: of(d, population=8, sigma0=1.0, seed=seed),
            journal=tmp_path / of.__name__ if journalled else None,
        )
        return (await tuner.fit(TRAIN, DEV)).core

    assert await core(RandomSearch) == await core(kind)


class Stuck(RandomSearch):
    """A search that does not come back from asking for its third generation until it is let go."""

    is_stuck, let_go = threading.Event(), threading.Event()

    def ask(self, extra: int = 0) -> Batch:
        batch = super().ask(extra)
        if batch.generation == 2:
            self.is_stuck.set()
            self.let_go.wait()
        return batch


async def test_a_cancelled_run_waits_for_no_search(tmp_path: Path) -> None:
    """Its journal is closed, has all that was told, and can be gone on with."""
    path = tmp_path / "run.journal"
    tuner = Tuner(
        mock(),
        budget=Budget(evaluations=40),
        preset=SMALL,
        optimizer=lambda d, seed: Stuck(d, population=8, sigma0=1.0, seed=seed),
        journal=path,
    )
    fit = asyncio.create_task(tuner.fit(TRAIN))
    try:
        assert await asyncio.to_thread(Stuck.is_stuck.wait, 60)
        fit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(fit, 60)
        assert not Stuck.let_go.is_set()
    finally:
        Stuck.let_go.set()
    told = await asyncio.to_thread(path.read_text, "utf-8")
    assert 2 == told.count('"kind":"told"')


@pytest.mark.parametrize("attempt", [16, 18, 19])
async def test_a_ledger_file_changes_nothing_where_the_last_of_a_budget_is_asked_for_again(
    attempt: int, tmp_path: Path
) -> None:
    """An answer of no use cannot be paid for once more: the candidates are lost, and the generation is not."""

    async def core(**where: Any) -> ResultCore:
        faults = Faults(plan=lambda one: "wrong_shape" if one.number == attempt else None)
        backend = FaultInjectingBackend(mock(max_candidates=2), faults)
        tuner = Tuner(backend, budget=Budget(evaluations=40, **where), preset=SMALL, seed=7)
        return (await tuner.fit(TRAIN)).core

    in_memory = await core()
    async with open_ledger(tmp_path / "spend.ledger") as ledger:
        assert in_memory == await core(ledger=ledger)
