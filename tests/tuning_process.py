"""A run that tests kill: `python tuning_process.py URL JOURNAL [LEDGER]` begins it or goes on with it.

It prints what became of it as one JSON object.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tuning_cases import DEV, TEST, TRAIN

from lmaas_backends.remote import RemoteBackend
from lmaas_sdk import PRESETS, Budget, Tuner, load_backend, open_ledger
from lmaas_sdk.errors import JournalError
from lmaas_sdk.tuning.journal import header_of

EVALUATIONS = 200
CALLS_A_GENERATION = 4
PRESET = replace(PRESETS["small-model"], name="killed", d=8, prompt_tokens=2, population=10, dev_every=5)


def tuner_of(backend: RemoteBackend, budget: Budget, journal: Path) -> Tuner:
    """The run: a new one, if the one before was killed before it had begun."""
    try:
        header_of(journal)
    except JournalError:
        return Tuner(backend, budget=budget, preset=PRESET, seed=5, journal=journal)
    return Tuner.resume(journal, backend, budget=budget)


async def main(url: str, journal: str, ledger_file: str | None = None) -> None:
    """Runs it to its end."""
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(load_backend(url))
        assert isinstance(backend, RemoteBackend)
        backend.card = replace(backend.card, max_candidates=-(-PRESET.population // CALLS_A_GENERATION))
        ledger = None if ledger_file is None else await stack.enter_async_context(open_ledger(ledger_file))
        budget = Budget(evaluations=EVALUATIONS, name="run", ledger=ledger)
        tuner = await asyncio.to_thread(tuner_of, backend, budget, Path(journal))
        result = await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True)
    told = {
        "core": hashlib.sha256(result.core.to_bytes()).hexdigest(),
        "prompt": hashlib.sha256(result.prompt.to_bytes()).hexdigest(),
        "tokens": result.spent.tokens,
        "evaluations": int(result.spent.evaluations),
        "warnings": result.warnings,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
