"""The two gradient methods on SST-2 with the bundled model: 16 shots, three seeds, 400 test sentences drawn by seed 0.

    python -m benchmarks.gradient_methods --data FOLDER        # FOLDER/SST-2/train.tsv and dev.tsv
    python -m benchmarks.gradient_methods                      # the table of what was run

Each has a dev set of 16 shots to choose the epoch by. A cell that is done is not run again. `seconds` are of a machine
that was busy with other things, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import environment
from lmaas_sdk import Backend, few_shot, get_task, load_backend, read_folder, subsample
from lmaas_sdk.methods import ManualPrompt, Method, ModelTuning, PromptTuning

SEEDS = (13, 21, 42)
TEST_ROWS = 400
KEPT = Path(__file__).parent / "results" / "gradient_methods.json"

# The settings of Sun et al. 2022, and a fifth of the epochs of a prompt at ten times the rate.
CELLS: Mapping[str, Callable[[Backend, int], Method]] = {
    "manual": lambda backend, seed: ManualPrompt(backend),
    "manual, calibrated": lambda backend, seed: ManualPrompt(backend, calibration="prior"),
    "model tuning, 1e-5": lambda backend, seed: ModelTuning(backend, seed=seed),
    "prompt tuning, 5e-4": lambda backend, seed: PromptTuning(backend, seed=seed),
    "prompt tuning, 5e-3": lambda backend, seed: PromptTuning(backend, seed=seed, learning_rate=5e-3, epochs=200),
}


async def run(data: Path, cell: str, seed: int) -> dict[str, Any]:
    """One fit, judged on the test sentences."""
    task = get_task("sst2")
    train, dev = few_shot(read_folder(data, task, "train"), 16, seed=seed)
    test = subsample(read_folder(data, task), TEST_ROWS, seed=0)
    async with load_backend("roberta-tiny", in_process=True, threads=1) as backend:
        began = time.perf_counter()
        predictor = await CELLS[cell](backend, seed).fit(train, dev)
        seconds = time.perf_counter() - began
        found = await predictor.evaluate(test)
    row: dict[str, Any] = {"cell": cell, "seed": seed, "accuracy": found.value, "seconds": round(seconds, 2)}
    record = getattr(predictor, "training", None)
    if record is None:
        return row
    told = {name: getattr(record, name) for name in ("epochs", "steps", "tokens", "chosen", "stopped")}
    return row | told | {"dev": record.dev.value, "first_loss": record.losses[0], "last_loss": record.losses[-1]}


def known() -> list[dict[str, Any]]:
    """What was run."""
    rows: list[dict[str, Any]] = json.loads(KEPT.read_text("utf-8"))["cells"] if KEPT.exists() else []
    return rows


def fill(data: Path, cells: Sequence[str]) -> None:
    """Runs what is missing, and keeps each cell when it is done."""
    for cell in cells:
        for seed in SEEDS:
            rows = known()
            if any((row["cell"], row["seed"]) == (cell, seed) for row in rows):
                continue
            rows.append(asyncio.run(run(data, cell, seed)))
            kept = {"command": "python -m benchmarks.gradient_methods --data FOLDER", "cells": rows}
            KEPT.write_text(json.dumps(kept | {"environment": environment()}, indent=1) + "\n", "utf-8")
            print(rows[-1], flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy in points, and what it took."""
    lines = [
        "| method, learning rate | accuracy | worst | epochs | chosen | train loss | seconds an epoch | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in CELLS:
        of = [row for row in rows if row["cell"] == cell]
        if of:
            lines.append(_line(cell, of))
    return "\n".join(lines)


def _line(cell: str, rows: Sequence[Mapping[str, Any]]) -> str:
    points = [100 * row["accuracy"] for row in rows]
    spread = f" +- {statistics.stdev(points):.2f}" if len(points) > 1 else ""
    line = f"| {cell} | {statistics.mean(points):.2f}{spread} | {min(points):.2f} |"
    if "epochs" not in rows[0]:
        return f"{line} | | | | {len(rows)} |"
    first, last = (statistics.mean(row[name] for row in rows) for name in ("first_loss", "last_loss"))
    chosen = ", ".join(str(row["chosen"]) for row in rows)
    pace = min(row["seconds"] / row["epochs"] for row in rows)
    return f"{line} {rows[0]['epochs']} | {chosen} | {first:.2f} .. {last:.2f} | {pace:.2f} | {len(rows)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    args = parser.parse_args()
    if args.data is not None:
        fill(args.data, args.cells)
    print(table(known()))


if __name__ == "__main__":
    main()
