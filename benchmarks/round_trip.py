"""Wall time of one generation's call over loopback: encode, HTTP, the server's books, decode. No optimiser, no model.

    python -m benchmarks.round_trip [--calls 500] [--rounds 5] [--json FILE]

20 candidates (d = 500) on 32 registered texts go as one call, one after another, from the real client to `lmaas serve`
in another process, whose engine answers at once (benchmarks/instant_server.py); with API key, idempotency key and
quotas. `cpu` is what this process computes in that time; the rest is the server, the kernel and waiting for a core.

Bar: at most 3 ms in the median, in every form.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client_overhead import SUBSPACE, TEXT_SET, D
from benchmarks.figures import tell
from lmaas_backends.remote import Encoding, ZDtype, open_backend
from lmaas_sdk import Backend, ScoreQuery

BAR_MS = 3.0
CANDIDATES = 20
KEY = "test-key-benchmark"
FORMS: dict[str, tuple[Encoding, ZDtype]] = {
    "raw float32": ("raw", "float32"),
    "raw float16": ("raw", "float16"),
    "base64 float32": ("base64", "float32"),
}
_QUOTAS = ("--requests-per-minute", "1000000", "--tokens-per-minute", "1000000000", "--requests-per-day", "100000000")


@dataclass
class Timings:
    """Seconds of every call: by the clock and of this process's CPU."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float | bool]:
        wall_ms = [taken * 1000 for taken in self.wall_s]
        median_ms = statistics.median(wall_ms)
        return {
            "median_ms": round(median_ms, 3),
            "p90_ms": round(statistics.quantiles(wall_ms, n=10)[-1], 3),
            "cpu_median_ms": round(statistics.median(self.cpu_s) * 1000, 3),
            "within_bar": median_ms <= BAR_MS,
        }


async def measure(url: str, *, calls: int, rounds: int) -> dict[str, dict[str, float | bool]]:
    """The figures of every form; the forms take turns, and the first turn of each warms up."""
    timings = {form: Timings() for form in FORMS}
    for turn in range(rounds + 1):
        for form, (encoding, z_dtype) in FORMS.items():
            async with open_backend(url, api_key=KEY, encoding=encoding, z_dtype=z_dtype) as backend:
                await backend.register(TEXT_SET, SUBSPACE)
                gc.collect()
                kept = timings[form] if turn else Timings()
                await time_calls(backend, kept, calls=calls, first=f"{turn}-{form}")
    return {form: found.summary() for form, found in timings.items()}


async def time_calls(backend: Backend, kept: Timings, *, calls: int, first: str) -> None:
    """Times calls one by one, each with candidates and a key of its own."""
    random = np.random.Generator(np.random.Philox(1))
    for number in range(calls):
        Z = random.standard_normal((CANDIDATES, D)).astype(np.float32)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        reply = await backend.score(ScoreQuery(TEXT_SET, subspace=SUBSPACE, Z=Z), key=f"{first}-{number}")
        kept.wall_s.append(time.perf_counter() - started_s)
        kept.cpu_s.append(time.process_time() - started_cpu_s)
        assert len(reply.logits) == CANDIDATES


@contextmanager
def instant_server() -> Iterator[str]:
    """The server's URL while it runs."""
    command = [sys.executable, "-m", "benchmarks.instant_server", "--exit-with-parent", *_QUOTAS]
    environment = os.environ | {"LMAAS_SERVER_API_KEYS": f"benchmark={KEY}"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    with instant_server() as url:
        forms: dict[str, Any] = asyncio.run(measure(url, calls=args.calls, rounds=args.rounds))
    found = {"forms": forms, "bar_ms": BAR_MS, "calls": args.calls, "rounds": args.rounds}
    tell(found, "benchmarks.round_trip", args.json)


if __name__ == "__main__":
    main()
