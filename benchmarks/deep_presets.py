"""Which settings deep black-box tuning (BBTv2) has by default, on the bundled model.

    python -m benchmarks.deep_presets --data FOLDER [--minutes 30]    # FOLDER/MR/train.tsv and dev.tsv
    python -m benchmarks.deep_presets                                  # the table alone, from the results file

Only MR is read, a task for choosing, whose sentences are those that SST-2 was made of, and of it the splits train and
dev; the seeds are none that results are reported on. The results file is one of `lmaas bench`: cells that are done are
not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from lmaas_sdk import PRESETS, Dataset, Preset, Task, get_task, load_backend, read_folder
from lmaas_sdk.bench import (
    Benchmark,
    BenchReport,
    CellEnded,
    Configuration,
    TaskData,
    black_box,
    cells_of,
    open_results,
    read_results,
    read_task,
)
from lmaas_sdk.methods import DeepBlackBoxTuning

RESULTS = Path(__file__).parent / "results" / "deep_presets.jsonl"
SEEDS = (1, 2, 3)
EVALUATIONS = 2000
_PAPER = Preset("deep", projection="normal", scale=0.5)
_SIZED = replace(_PAPER, d=None, prompt_tokens=None)
SETTINGS = {
    "sized, alpha 0.5": _SIZED,
    "sized, alpha 0.2": replace(_SIZED, scale=0.2),
    "sized, alpha 0.1": replace(_SIZED, scale=0.1),
    "sized, alpha 1": replace(_SIZED, scale=1.0),
    "sized, alpha 2": replace(_SIZED, scale=2.0),
    "L 50, d 500, alpha 0.5": _PAPER,
    "L 50, d 500, alpha 0.2": replace(_PAPER, scale=0.2),
    "L 50, d 500, alpha 1": replace(_PAPER, scale=1.0),
}


def configurations() -> list[Configuration]:
    """The settings, and two searches of one prompt to stand beside them."""
    deep = [
        black_box(preset, name=f"deep: {name}", title=f"deep: {name}", method=DeepBlackBoxTuning)
        for name, preset in SETTINGS.items()
    ]
    return [*deep, *(black_box(PRESETS[name]) for name in ("default", "paper"))]


def _read(data: Path) -> TaskData:
    def read(task: Task, split: str | None) -> Dataset:
        return read_folder(data, task, split or "dev")

    return read_task(read, get_task("mr"))


def _tell(one: CellEnded) -> None:
    print(one.cell.label, one.status, one.record["error"] or "", file=sys.stderr, flush=True)


async def _measure(data: Path, minutes: float | None, only: str) -> None:
    async with load_backend("roberta-tiny") as backend, open_results(RESULTS) as results:
        bench = Benchmark(backend, results, work=RESULTS.with_suffix(".work"), on_cell=_tell)
        task = await asyncio.to_thread(_read, data)
        wanted = [one for one in configurations() if one.name.startswith(only)]
        found = list(cells_of(wanted, [task], SEEDS, card=backend.card, evaluations=EVALUATIONS))
        by_seed = sorted(found, key=lambda cell: cell.seed)  # an early stop leaves whole comparisons
        await bench.run(by_seed, seconds=None if minutes is None else 60 * minutes)


def main() -> None:
    """Measures what is missing, where data are given, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--only", default="", help="settings whose names begin so")
    args = parser.parse_args()
    if args.data is not None:
        asyncio.run(_measure(args.data, args.minutes, args.only))
    print(BenchReport.of(read_results(RESULTS)).markdown())


if __name__ == "__main__":
    main()
