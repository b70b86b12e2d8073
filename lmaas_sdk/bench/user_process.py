"""A user's process, whose memory is measured: `python -m lmaas_sdk.bench.user_process`.

It reads a job, one line of JSON, fits and tests one method, and imports nothing else than that takes. Lines it writes:
`{"fitted": true}` after `fit`, upon which it waits for a line; then `{"report": ...}`. Or `{"error": {"type",
"message"}}` with exit code 4.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
import time
from collections import Counter
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.backend import Backend
from lmaas_sdk.bench.configurations import Setup, get_configuration
from lmaas_sdk.bench.memory import peak_of_this_process
from lmaas_sdk.bench.user_job import UserJob, UserReport
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.methods.method import MethodPredictor
from lmaas_sdk.registry import load_backend

__all__ = ["main"]

_EXIT_FAILED = 4
_CHUNK_BYTES = 1 << 20
_KEPT_ENTRIES = 10_000_000


def main() -> int:
    """Does the job that stdin tells, and returns the exit code."""
    lines = _lines_of_parent()
    job = UserJob.from_wire(json.loads(lines.get()))
    try:
        report = asyncio.run(_done(job, lines))
    except (LmaasError, ValueError) as error:
        _say({"error": {"type": type(error).__name__, "message": str(error)}})
        return _EXIT_FAILED
    _say({"report": report.to_wire()})
    return 0


def _lines_of_parent() -> queue.SimpleQueue[bytes]:
    """The lines of stdin as they come; when it closes, whoever wanted the figures is gone, and so is this process."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        begun = b""
        while chunk := os.read(0, _CHUNK_BYTES):  # not sys.stdin: the interpreter cannot end while one waits in that
            *whole, begun = (begun + chunk).split(b"\n")
            for line in whole:
                lines.put(line)
        os._exit(_EXIT_FAILED)

    threading.Thread(target=read, name="parent", daemon=True).start()
    return lines


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _done(job: UserJob, lines: queue.SimpleQueue[bytes]) -> UserReport:
    ledger = MemoryLedger(keep=_KEPT_ENTRIES)
    budget = Budget(evaluations=job.evaluations, ledger=ledger)
    computing = {"in_process": True, "threads": job.threads} if job.in_process else {}
    async with load_backend(job.model, **computing) as backend:
        return await _measured(job, backend, budget, lines=lines)


async def _measured(job: UserJob, backend: Backend, budget: Budget, *, lines: queue.SimpleQueue[bytes]) -> UserReport:
    method = get_configuration(job.configuration).make(Setup(backend, budget, job.seed))
    peak_before_fit = await asyncio.to_thread(peak_of_this_process)
    began_s = time.perf_counter()
    predictor = await method.fit(job.train, job.dev)
    training_time_s = time.perf_counter() - began_s
    peak_after_fit = await asyncio.to_thread(peak_of_this_process)
    _say({"fitted": True})
    await asyncio.to_thread(lines.get)
    found = await predictor.evaluate(job.test)
    peak = await asyncio.to_thread(peak_of_this_process)
    purposes, attempts = _sent(budget)
    total = predictor.spend.total
    return UserReport(
        method=method.name,
        metric=found.metric,
        test_metric=found.value,
        training_time_s=training_time_s,
        evaluations=float(total.evaluations),
        tokens=total.tokens,
        shortened=predictor.shortened,
        kept_bytes=_kept_bytes(predictor),
        peak_before_fit=peak_before_fit,
        peak_after_fit=peak_after_fit,
        peak=peak,
        loads_torch="torch" in sys.modules,
        purposes=purposes,
        attempts=attempts,
    )


def _sent(budget: Budget) -> tuple[dict[str, str], dict[str, int]]:
    """What for each key was sent, and how many attempts the ledger has for each purpose."""
    ledger = budget.ledger
    entries = ledger.entries() if isinstance(ledger, MemoryLedger) else ()
    sent = [entry for entry in entries if entry.kind == "sent"]
    return {entry.key: entry.purpose for entry in sent}, dict(Counter(entry.purpose for entry in sent))


def _kept_bytes(predictor: MethodPredictor) -> int:
    settings, arrays = predictor.kept()
    return len(canonical_json(dict(settings))) + sum(array.nbytes for array in arrays.values())


if __name__ == "__main__":
    sys.exit(main())
