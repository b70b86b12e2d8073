"""Memory of a process that does nothing but load the engine and score with it.

    python -m benchmarks.engine_memory FOLDER [--variant packed] [--threads N] [--candidates N]

Printed as JSON, in GB of 10^9 bytes: resident memory after the imports, after loading, the most of it while scoring,
and the most there ever was, loading included. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_models import table_corpus
from benchmarks.engine_variants import D, engine_options, engine_variant, load_variant

__all__ = ["memory_of_a_child"]

_STATUS = Path("/proc/self/status")
_SAMPLE_S = 0.01


def memory_of_a_child(folder: Path, variant: str, *, threads: int, candidates: int) -> dict[str, Any]:
    """The figures of one variant, from a process of its own."""
    arguments = [str(folder), "--variant", variant, "--threads", str(threads), "--candidates", str(candidates)]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(folder: Path, variant: str, threads: int, candidates: int) -> dict[str, Any]:
    """The figures of this process."""
    imported = _resident_gb()
    corpus = table_corpus(folder)
    engine = load_variant(folder, variant, threads)
    loaded = _resident_gb()
    with _sampled() as samples:
        scoring = engine_variant(variant, engine, corpus, threads=threads)
        scoring.score(np.random.default_rng(0).standard_normal((candidates, D)).astype(np.float32))
    return {
        "variant": variant,
        "dtype": scoring.dtype,
        "threads": threads,
        "imported_gb": imported,
        "loaded_gb": loaded,
        "scoring_gb": max(samples),
        "peak_gb": _resident_gb("VmHWM"),
    }


def _resident_gb(field: str = "VmRSS") -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text("ascii"))
    assert found is not None
    return round(int(found[1]) * 1024 / 1e9, 3)


@contextmanager
def _sampled() -> Iterator[list[float]]:
    """Samples of resident memory, taken by a thread while this is open, and one at the end."""
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_S):
            samples.append(_resident_gb())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        samples.append(_resident_gb())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", choices=sorted(engine_options()), default=next(reversed(engine_options())))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(measure(args.folder, args.variant, args.threads, args.candidates)))


if __name__ == "__main__":
    main()
