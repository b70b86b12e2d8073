"""Which settings of a search generalise: held-out accuracy of the bundled model on MR and TREC, 16 shots, by seed.

    python -m benchmarks.presets --data FOLDER              # FOLDER/MR and FOLDER/TREC, train.tsv and test.tsv each
    python -m benchmarks.presets --table                    # of the cells that are done

The defaults are chosen by these two and by training rows of SST-2 (`sst2-train`), by none of the seven test sets that
results are reported on. A cell (setting, task, seed, evaluations) that is done is read from the results file, not run
again. Beside the choice that the product makes it tells what others would have come to: the lowest cross entropy on
dev, the last mean, and a search that had stopped when dev got no better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import environment
from lmaas_sdk import (
    PRESETS,
    Budget,
    Dataset,
    Predictor,
    Preset,
    TunedPrompt,
    Tuner,
    few_shot,
    get_task,
    load_backend,
    read_folder,
)
from lmaas_sdk.tasks import subsample
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.selection import Choice

SEEDS = (13, 21, 42, 87, 100)
RESULTS = Path(__file__).parent / "results" / "presets.json"
TASKS, SHOTS, TEST_ROWS = ("mr", "trec"), 16, 500
SPLITS = {"sst2-train": ("sst2", 500)}  # a task's training rows that no few-shot set has

PAPER, SMALL = PRESETS["paper"], replace(PRESETS["small-model"], dev_every=5)
SETTINGS: dict[str, Preset] = {
    "paper": PAPER,
    "paper-looks-often": replace(PAPER, dev_every=2),
    "cat": replace(PAPER, layout="cat", dev_every=5),
    "cat-normal1": replace(PAPER, layout="cat", projection="normal", dev_every=5),
    "d50-L10": SMALL,
    "d50-L10-often": replace(SMALL, dev_every=2),
    "d50-L10-add": replace(SMALL, layout="add"),
    "d50-L10-tpa": replace(SMALL, step_size="tpa"),
    "d50-L10-sep-tpa": replace(SMALL, covariance="diagonal", step_size="tpa"),
    "d50-L10-normal1": replace(SMALL, projection="normal"),
    "d50-L10-normal2": replace(SMALL, projection="normal", scale=2.0),
    "d50-L10-normal4": replace(SMALL, projection="normal", scale=4.0),
    "d50-L10-scale2": replace(SMALL, scale=2.0),
    "d50-L10-sigma.3": replace(SMALL, sigma0=0.3),
    "d50-L10-hinge": replace(SMALL, objective="hinge"),
    "d50-L10-pop10": replace(SMALL, population=10, dev_every=10),
    "d50-L10-pop40": replace(SMALL, population=40, dev_every=3),
    "d20-L3": replace(SMALL, d=20, prompt_tokens=3),
    "d20-L10": replace(SMALL, d=20),
    "d20-L1": replace(SMALL, d=20, prompt_tokens=1),
    "d50-L1": replace(SMALL, prompt_tokens=1),
    "d100-L1": replace(SMALL, d=100, prompt_tokens=1),
    "d20-L1-sigma.3": replace(SMALL, d=20, prompt_tokens=1, sigma0=0.3),
    "d50-L1-normal2": replace(SMALL, prompt_tokens=1, projection="normal", scale=2.0),
    "d100-L1-normal2": replace(SMALL, d=100, prompt_tokens=1, projection="normal", scale=2.0),
    "d60-L1-normal4": replace(SMALL, d=60, prompt_tokens=1, projection="normal", scale=4.0),
    "d60-L1-normal2-tpa": replace(SMALL, d=60, prompt_tokens=1, projection="normal", scale=2.0, step_size="tpa"),
    "d100-L1-tpa": replace(SMALL, d=100, prompt_tokens=1, step_size="tpa"),
    "d60-L1": replace(SMALL, d=60, prompt_tokens=1),
    "d20-L1-add": replace(SMALL, d=20, prompt_tokens=1, layout="add"),
    "d20-L2": replace(SMALL, d=20, prompt_tokens=2),
    "d10-L3": replace(SMALL, d=10, prompt_tokens=3),
    "d100-L10": replace(SMALL, d=100),
    "d200-L20": replace(SMALL, d=200, prompt_tokens=20),
    "d50-L5": replace(SMALL, prompt_tokens=5),
    "d50-L3": replace(SMALL, prompt_tokens=3),
    "d50-L50": replace(SMALL, prompt_tokens=50),
}


async def run_cell(data: Path, setting: str, task: str, seed: int, evaluations: int) -> dict[str, Any]:
    """One search and what its candidates are worth on the test rows."""
    train, dev, test = splits(data, task, seed)
    async with load_backend("roberta-tiny", in_process=True, threads=1) as backend:
        tuner = Tuner(backend, budget=Budget(evaluations=evaluations), preset=SETTINGS[setting], seed=seed)
        result = await tuner.fit(train, dev)
        manual = await Predictor.manual(backend, test.task).evaluate(test)
        wanted = choices(result)
        by_z = {choice.z.tobytes(): choice for choice in wanted.values()}
        accuracies = {z: await _accuracy(backend, result, choice, test) for z, choice in by_z.items()}
        worth = {name: accuracies[choice.z.tobytes()] for name, choice in wanted.items()}
    return {
        "setting": setting,
        "task": task,
        "seed": seed,
        "evaluations": evaluations,
        "test": worth,
        "manual": manual.value,
        "found_at": {name: _evaluations_at(result, choice) for name, choice in wanted.items()},
        "tokens": result.spent.tokens,
        "lowest_train_loss": result.generations[-1].lowest_loss,
        "dev": [choice.to_row() for choice in result.dev_scored],
    }


def splits(data: Path, task: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Train and dev by seed, and the rows to judge by."""
    if task not in SPLITS:
        known = get_task(task)
        train, dev = few_shot(read_folder(data, known, "train"), SHOTS, seed=seed)
        test = read_folder(data, known, "test")
        return train, dev, subsample(test, TEST_ROWS, seed=0) if len(test) > TEST_ROWS else test
    name, rows = SPLITS[task]
    whole = read_folder(data, get_task(name), "train")
    train, dev = few_shot(whole, SHOTS, seed=seed)
    taken = set(train.fields) | set(dev.fields)
    left = [row for row, fields in enumerate(whole.fields) if fields not in taken]
    return train, dev, subsample(whole.subset(left), rows, seed=0)


def choices(result: TuningResult) -> dict[str, Choice]:
    """The product's choice, and others."""
    scored = result.dev_scored
    found = {"chosen": result.choice, "last mean": scored[-1]}
    found["lowest dev ce"] = min(scored, key=lambda choice: choice.dev.cross_entropy if choice.dev else np.inf)
    for patience in (400, 800):
        found[f"plateau {patience}"] = plateaued(result, patience)
    return found


def plateaued(result: TuningResult, patience: int) -> Choice:
    """The choice of a search that had stopped when dev got no better for so many evaluations."""
    best, rank, at = result.dev_scored[0], (-np.inf, -np.inf, False), 0
    for choice in result.dev_scored:
        now = _evaluations_at(result, choice)
        if choice.dev is None or now - at > patience:
            break
        found = (choice.dev.value, -choice.dev.cross_entropy, choice.kind == "mean")
        if found > rank:
            best, rank, at = choice, found, now
    return best


def _evaluations_at(result: TuningResult, choice: Choice) -> int:
    return int(result.generations[choice.generation].evaluations)


async def _accuracy(backend: Any, result: TuningResult, choice: Choice, test: Dataset) -> float:
    prompt = result.prompt
    other = TunedPrompt(prompt.task, prompt.subspace, choice.z, prompt.model, prompt.tokenizer_digest)
    return (await Predictor.tuned(backend, other).evaluate(test)).value


def table(rows: Sequence[dict[str, Any]], evaluations: int) -> str:
    """Mean over the seeds of each setting and task, in points."""
    rows = [row for row in rows if row["evaluations"] == evaluations]
    tasks = sorted({row["task"] for row in rows})
    heads = ["chosen", "lowest dev ce", "last mean", "plateau 400", "plateau 800"]
    lines = ["| setting | task | seeds | manual | " + " | ".join(heads) + " | found at | tokens |"]
    lines.append("|---" * (len(heads) + 6) + "|")
    for setting in SETTINGS:
        for task in tasks:
            cells = [row for row in rows if (row["setting"], row["task"]) == (setting, task)]
            if cells:
                lines.append(_line(setting, task, cells, heads))
    return "\n".join(lines)


def _line(setting: str, task: str, cells: Sequence[dict[str, Any]], heads: Sequence[str]) -> str:
    means = [f"{100 * statistics.mean(cell['test'][head] for cell in cells):.1f}" for head in heads]
    manual = 100 * statistics.mean(cell["manual"] for cell in cells)
    found_at = statistics.mean(cell["found_at"]["chosen"] for cell in cells)
    tokens = statistics.mean(cell["tokens"] for cell in cells)
    start = f"| {setting} | {task} | {len(cells)} | {manual:.1f} | "
    return start + " | ".join(means) + f" | {found_at:.0f} | {tokens / 1e6:.2f} M |"


def paired(rows: Sequence[dict[str, Any]], setting: tuple[str, int], other: tuple[str, int]) -> str:
    """The difference of two (setting, evaluations), seed by seed and task by task, with a bootstrap interval."""
    found = {(row["setting"], row["evaluations"], row["task"], row["seed"]): row["test"]["chosen"] for row in rows}
    cells = sorted({key[2:] for key in found if key[:2] == setting} & {key[2:] for key in found if key[:2] == other})
    differences = np.array([100 * (found[(*setting, *cell)] - found[(*other, *cell)]) for cell in cells])
    draws = np.random.default_rng(0).integers(len(cells), size=(10_000, len(cells)))
    low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
    return f"{setting} - {other}: {differences.mean():+.2f} ({low:+.2f} .. {high:+.2f}) points, {len(cells)} pairs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=[*TASKS, *SPLITS])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    kept = json.loads(args.results.read_text("utf-8")) if args.results.exists() else {"cells": []}
    if not args.table:
        _run_cells(args, kept)
    print(table(kept["cells"], args.evaluations))
    for setting in SETTINGS:
        names = {cell["setting"] for cell in kept["cells"] if cell["evaluations"] == args.evaluations}
        if setting in names - {"paper"} and "paper" in names:
            print(paired(kept["cells"], (setting, args.evaluations), ("paper", args.evaluations)))


def _run_cells(args: argparse.Namespace, kept: dict[str, Any]) -> None:
    names = ("setting", "task", "seed", "evaluations")
    done = {tuple(cell[name] for name in names) for cell in kept["cells"]}
    for seed in args.seeds:
        for setting in args.settings:
            for task in args.tasks:
                if (setting, task, seed, args.evaluations) in done:
                    continue
                cell = asyncio.run(run_cell(args.data, setting, task, seed, args.evaluations))
                kept["cells"].append(cell)
                kept["environment"] = environment()
                args.results.write_text(json.dumps(kept) + "\n", "utf-8")
                print(
                    setting, task, seed, {name: round(100 * one, 1) for name, one in cell["test"].items()}, flush=True
                )


if __name__ == "__main__":
    main()
