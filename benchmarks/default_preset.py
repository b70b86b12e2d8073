"""The default preset against the paper's on SST-2: 16 shots, five seeds, judged on the 872 sentences of the dev set.

    python -m benchmarks.default_preset --data FOLDER          # FOLDER/SST-2/train.tsv and dev.tsv
    python -m benchmarks.default_preset                        # the table of what was run

The default was chosen on other rows (benchmarks/presets.py). Runs of `paper` with 8000 evaluations are from
benchmarks/sst2_paper.py; `--check` runs the beginning of one again and compares its curve with what is kept. A cell
that is done is not run again, and neither is one that is known from another: a longer run of a search that had stopped
by itself, a shorter one of `paper` where the prompt was found early enough. Differences are by seed; intervals are of a
bootstrap over the five pairs, which is few: read them as a hint.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import environment
from lmaas_sdk import Budget, Predictor, Tuner, TuningResult, few_shot, get_task, load_backend, read_folder

SEEDS = (13, 21, 42, 87, 100)
CELLS = (("default", 2000), ("default", 8000), ("paper", 2000))
RESULTS = Path(__file__).parent / "results"
KEPT, PAPER = RESULTS / "default_preset.json", RESULTS / "sst2_paper"
_Cells = dict[tuple[str, int, int], dict[str, Any]]


async def run(data: Path, preset: str, evaluations: int, seed: int) -> tuple[TuningResult, dict[str, Any]]:
    """One run of the bundled model, and what is kept of it."""
    task = get_task("sst2")
    train, dev = few_shot(read_folder(data, task, "train"), 16, seed=seed)
    test = read_folder(data, task)
    async with load_backend("roberta-tiny", in_process=True, threads=1) as backend:
        tuner = Tuner(backend, budget=Budget(evaluations=evaluations, warn_at=()), preset=preset, seed=seed)
        result = await tuner.fit(train, dev)
        tuned, manual = await result.evaluate(test), await Predictor.manual(backend, task).evaluate(test)
    return result, {
        "preset": preset,
        "evaluations": evaluations,
        "seed": seed,
        "tuned": tuned.value,
        "manual": manual.value,
        "dev": result.choice.dev.value if result.choice.dev else None,
        "found_at": result.generations[result.choice.generation].evaluations,
        "stopped": result.stopped,
        "done": result.evaluations,
        "tokens": result.to_dict()["spend"],
        "settings": result.core.settings,
    }


def known() -> _Cells:
    """What was run, by preset, evaluations and seed."""
    rows = json.loads(KEPT.read_text("utf-8"))["cells"] if KEPT.exists() else []
    cells = {(row["preset"], row["evaluations"], row["seed"]): row for row in rows}
    for seed in SEEDS:
        row = json.loads((PAPER / f"seed-{seed}.json").read_text("utf-8"))
        found_at = row["curve"][row["report"]["choice"]["generation"]]["evaluations"]
        paper = {"tuned": row["tuned_accuracy"], "manual": row["manual_accuracy"], "done": 8000}
        cells["paper", 8000, seed] = paper
        if found_at <= 2000:  # dev is looked at after 2000 in either
            cells["paper", 2000, seed] = paper | {"done": 2000}
        default = cells.get(("default", 2000, seed))
        if default is not None and default["stopped"] == "plateau":
            cells["default", 8000, seed] = default
    return cells


def table(cells: _Cells) -> str:
    """Accuracy in points, and differences from the paper's setting at 8000."""
    lines = [
        "| preset | evaluations | done | tuned | worst | minus `paper` at 8000 | 95 % | pairs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for preset, evaluations in (("paper", 8000), ("paper", 2000), ("default", 2000), ("default", 8000)):
        of = {seed: cells[preset, evaluations, seed] for seed in SEEDS if (preset, evaluations, seed) in cells}
        if of:
            lines.append(_line(preset, evaluations, of, cells))
    return "\n".join(lines)


def _line(preset: str, evaluations: int, of: Mapping[int, dict[str, Any]], cells: _Cells) -> str:
    tuned = [100 * row["tuned"] for row in of.values()]
    spread = f" +- {statistics.stdev(tuned):.2f}" if len(tuned) > 1 else ""
    differences = [100 * (row["tuned"] - cells["paper", 8000, seed]["tuned"]) for seed, row in of.items()]
    low, high = interval(differences)
    done = statistics.mean(row["done"] for row in of.values())
    return (
        f"| `{preset}` | {evaluations} | {done:.0f} | {statistics.mean(tuned):.2f}{spread} | {min(tuned):.2f} "
        f"| {statistics.mean(differences):+.2f} | {low:+.2f} .. {high:+.2f} | {len(tuned)} |"
    )


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of the means of 10,000 draws of the pairs."""
    draws = np.random.default_rng(0).integers(len(differences), size=(10_000, len(differences)))
    low, high = np.percentile(np.array(differences)[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def fill(data: Path, seeds: Sequence[int]) -> None:
    """Runs what is missing, and keeps each cell when it is done."""
    for preset, evaluations in CELLS:
        for seed in seeds:
            if (preset, evaluations, seed) in known():
                continue
            _, row = asyncio.run(run(data, preset, evaluations, seed))
            cells = json.loads(KEPT.read_text("utf-8"))["cells"] if KEPT.exists() else []
            kept = {"cells": [*cells, row], "environment": environment()}
            KEPT.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
            print(preset, evaluations, seed, f"{100 * row['tuned']:.2f}", row["stopped"], row["done"], flush=True)


def check(data: Path, seed: int, evaluations: int = 200) -> bool:
    """Whether a run of `paper` begins as the one that was kept."""
    result, _ = asyncio.run(run(data, "paper", evaluations, seed))
    kept = json.loads((PAPER / f"seed-{seed}.json").read_text("utf-8"))["curve"][: len(result.generations)]
    names = ("best_loss", "median_loss", "sigma")
    return [[row[name] for name in names] for row in kept] == [
        [row[name] for name in names] for row in result.core.curve
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--check", action="store_true", help="compare the beginning of a run of `paper`")
    args = parser.parse_args()
    if args.check:
        print("as it was kept:", check(args.data, SEEDS[0]))
    elif args.data is not None:
        fill(args.data, args.seeds)
    print(table(known()))


if __name__ == "__main__":
    main()
