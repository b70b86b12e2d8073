"""What a tuning run adds to the memory of the user's process, beside what pycma needs for d = 500.

    python -m benchmarks.tuner_memory [--generations 400] [--rounds 3] [--json FILE]

The checkout is installed without extras into a virtual environment of its own, made for this and removed again: no
torch, no scipy, no matplotlib. Fresh processes of it (benchmarks/memory_of_a_run.py) make the paper's run, 8000
evaluations of d = 500 in calls of 20 candidates, on a server in another process that answers at once. Others run pycma
alone for as many generations. Resident memory before the run, when everything is imported and the client open, is taken
off from the most of it during the run (`peak_grown_mb`, with pycma's matrices) and from what is left after it
(`grown_mb`; the search is gone then). Bar: a run takes at most 9 MB (of 10^6 bytes) more than pycma alone, by either.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import tell
from benchmarks.round_trip import instant_server

ROOT = Path(__file__).resolve().parent.parent
CHILD = ROOT / "benchmarks" / "memory_of_a_run.py"
BAR_MB = 9.0
WAYS = ("pycma alone", "run", "run with ledger file and journal")


@contextmanager
def environment_without_extras() -> Iterator[Path]:
    """The interpreter of a virtual environment that has the SDK and what it needs."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
        subprocess.run(install, check=True, env=_environment())
        yield python


def _environment() -> dict[str, str]:
    """This process's, but for what would let the other find packages of this one; BLAS on one thread."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def grown(python: Path, way: str, *, url: str, generations: int) -> dict[str, Any]:
    """The figures of one process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["pycma"] if way == WAYS[0] else ["run", "--url", url]
        arguments += ["--folder", folder] if way == WAYS[2] else []
        command = [str(python), "-I", str(CHILD), *arguments, "--generations", str(generations)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_environment())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(python: Path, *, generations: int, rounds: int) -> dict[str, Any]:
    """Each way in turns, and the medians of what it grows."""
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with instant_server() as url:
        for _ in range(rounds):
            for way in WAYS:
                taken[way].append(grown(python, way, url=url, generations=generations))
    figures = ("peak_grown_mb", "grown_mb")
    medians = {
        way: {what: statistics.median(one[what] for one in of_way) for what in figures} for way, of_way in taken.items()
    }
    alone = medians[WAYS[0]]
    beside = {way: {what: round(medians[way][what] - alone[what], 2) for what in figures} for way in WAYS[1:]}
    within = all(mb <= BAR_MB for of_way in beside.values() for mb in of_way.values())
    return {"beside_pycma": beside, "within_bar": within, "medians": medians, "processes": taken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--python", type=Path, help="an interpreter that has the SDK already (default: it is installed)"
    )
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    if args.python is None:
        with environment_without_extras() as python:
            found = measure(python, generations=args.generations, rounds=args.rounds)
    else:
        found = measure(args.python, generations=args.generations, rounds=args.rounds)
    tell({"bar_mb": BAR_MB, "generations": args.generations, **found}, "benchmarks.tuner_memory", args.json)


if __name__ == "__main__":
    main()
