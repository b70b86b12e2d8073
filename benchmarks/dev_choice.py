"""What decides among the candidates of a search, how often dev is looked at, and when to stop, on the bundled model.

    python -m benchmarks.dev_choice --data FOLDER                  # FOLDER/MR/train.tsv and dev.tsv: 16 shots, 600
    python -m benchmarks.dev_choice --data FOLDER --plan few       # 4 shots
    python -m benchmarks.dev_choice --data FOLDER --plan long      # 2000 evaluations
    python -m benchmarks.dev_choice                                # the tables alone, from the results file

A cell (setting, task, shots, evaluations, seed) that is done is read from the results file, not run again, so the
script can be stopped and started at will. Only MR and TREC are read, the tasks for choosing; MR's sentences are those
that SST-2 was made of, so what is chosen on MR is not independent of SST-2.

Every generation of a run is scored on dev. A search does not depend on that, so what any rarer look at dev would have
chosen, and what a smaller budget would have, follows from the one run; each candidate that some such rule chooses is
then scored on the held-out rows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import dev_choice_tables
from benchmarks.dev_choice_tables import CE, Table
from benchmarks.figures import environment
from lmaas_sdk import (
    PRESETS,
    Backend,
    Budget,
    Dataset,
    Evaluation,
    Predictor,
    Preset,
    Tuner,
    TuningResult,
    few_shot,
    get_task,
    load_backend,
    read_folder,
    subsample,
)
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.tuning.events import dev_scored_of
from lmaas_sdk.tuning.selection import Choice

RESULTS = Path(__file__).parent / "results" / "dev_choice.json"
MODEL = "roberta-tiny"
MARKS = (300, 600, 1000, 2000)  # budgets that a longer run also answers for
LOOKS, LOOK = (2, 5, 10), 5  # generations between two looks at dev

_PAPER = PRESETS["paper"]
_CAT = replace(_PAPER, layout="cat")
SETTINGS: dict[str, Preset] = {
    "paper": _PAPER,
    "cat d50 L10": replace(_CAT, d=50, prompt_tokens=10),
    "cat d20 L3": replace(_CAT, d=20, prompt_tokens=3),
    "cat d10 L1": replace(_CAT, d=10, prompt_tokens=1),
    "cat d20 L1": replace(_CAT, d=20, prompt_tokens=1),
    "cat d50 L1": replace(_CAT, d=50, prompt_tokens=1),
    "cat d100 L1": replace(_CAT, d=100, prompt_tokens=1),
    "cat d20 L1 sigma .3": replace(_CAT, d=20, prompt_tokens=1, sigma0=0.3),
}


@dataclass(frozen=True)
class Plan:
    """Which cells: settings x tasks x seeds, at one budget."""

    settings: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    evaluations: int
    held_out: str
    shots: int = 16


_FEW = ("paper", "cat d50 L10", "cat d20 L3")
PLANS = {
    "screen": Plan(tuple(SETTINGS), ("mr",), (1, 2, 3), 600, "dev"),
    "few": Plan(_FEW, ("mr",), (1, 2, 3), 600, "dev", shots=4),
    "long": Plan(("cat d50 L10", "cat d100 L1"), ("mr",), (1, 2), 2000, "dev"),
}


@dataclass(frozen=True)
class Cell:
    """One run."""

    setting: str
    task: str
    shots: int
    evaluations: int
    seed: int
    held_out: str

    @property
    def key(self) -> str:
        return f"{self.setting} | {self.task} | {self.held_out} | {self.shots} | {self.evaluations} | {self.seed}"


def cells(plan: Plan) -> Iterator[Cell]:
    """The plan's cells, the seeds outermost, so that an early stop leaves whole comparisons."""
    for seed in plan.seeds:
        for task in plan.tasks:
            for setting in plan.settings:
                yield Cell(setting, task, plan.shots, plan.evaluations, seed, plan.held_out)


def read(data: Path, cell: Cell) -> tuple[Dataset, Dataset, Dataset]:
    """Train and dev by seed, and the held-out rows."""
    task = get_task(cell.task)
    train, dev = few_shot(read_folder(data, task, "train"), cell.shots, seed=cell.seed)
    return train, dev, subsample(read_folder(data, task, cell.held_out), 1000, seed=0)


async def run_cell(backend: Backend, data: Path, cell: Cell) -> dict[str, Any]:
    """A run, and the held-out accuracy of whatever some rule would have chosen from it."""
    train, dev, held_out = read(data, cell)
    preset = replace(SETTINGS[cell.setting], dev_every=1)
    tuner = Tuner(backend, budget=Budget(evaluations=cell.evaluations), preset=preset, seed=cell.seed)
    result = await tuner.fit(train, dev)
    looks = dev_scored_of(result.history)
    found = chosen(looks, preset.population, cell.evaluations)
    tested: dict[int, float] = {}
    for choice in found.values():
        if id(choice) not in tested:
            tested[id(choice)] = await _held_out(backend, result, choice, held_out)
    return {
        "manual": round((await Predictor.manual(backend, held_out.task).evaluate(held_out)).value, 5),
        "rows": len(held_out),
        "population": preset.population,
        "tokens_an_evaluation": _tokens(result, "train") / result.evaluations,
        "tokens_a_dev_score": _tokens(result, "dev") / len(looks),
        "dev": [_look(choice) for choice in looks],
        "chosen": {name: _row(choice, tested[id(choice)]) for name, choice in found.items()},
    }


async def _held_out(backend: Backend, result: TuningResult, choice: Choice, rows: Dataset) -> float:
    return (await Predictor.tuned(backend, replace(result.prompt, z=choice.z)).evaluate(rows)).value


def _tokens(result: TuningResult, purpose: Purpose) -> int:
    return result.spend.by_purpose[purpose].tokens


def _row(choice: Choice, accuracy: float) -> list[object]:
    return [*_look(choice), round(accuracy, 5)]


def _look(choice: Choice) -> list[object]:
    dev = _dev(choice)
    return [choice.generation, choice.kind, round(dev.value, 4), round(dev.cross_entropy, 4)]


def chosen(looks: Sequence[Choice], population: int, evaluations: int) -> dict[str, Choice]:
    """What each rule chooses at each budget, and every choice on the way, looked at every 5th generation."""
    marks = sorted({mark for mark in MARKS if mark < evaluations} | {evaluations})
    found: dict[str, Choice] = {}
    for mark in marks:
        seen = [choice for choice in looks if (choice.generation + 1) * population <= mark]
        last = seen[-1].generation
        for every, rule in itertools.product(LOOKS, RULES):
            looked_at = [c for c in seen if (c.generation + 1) % every == 0 or c.generation == last]
            found[f"{rule} {every} at {mark}"] = max(looked_at, key=RULES[rule])
        found[f"train at {mark}"] = min((c for c in seen if c.kind == "best"), key=_train_loss)
        found[f"mean at {mark}"] = seen[-1]
    for rule in RULES:
        for number, choice in enumerate(records(looks, rule, every=LOOK)):
            found[f"{rule} record {number}"] = choice
    return found


def records(looks: Iterable[Choice], rule: str, every: int) -> Iterator[Choice]:
    """Each candidate that was the best on dev when it was scored."""
    kept: Choice | None = None
    for choice in looks:
        if (choice.generation + 1) % every == 0 and (kept is None or RULES[rule](choice) > RULES[rule](kept)):
            kept = choice
            yield choice


def _metric(choice: Choice) -> tuple[float, float, bool]:
    dev = _dev(choice)
    return dev.value, -dev.cross_entropy, choice.kind == "mean"


def _cross_entropy(choice: Choice) -> tuple[float, float, bool]:
    dev = _dev(choice)
    return -dev.cross_entropy, dev.value, choice.kind == "mean"


def _dev(choice: Choice) -> Evaluation:
    if choice.dev is None:
        raise ValueError("a choice without a dev evaluation cannot be ranked on dev")
    return choice.dev


RULES: dict[str, Callable[[Choice], tuple[float, float, bool]]] = {"metric": _metric, "ce": _cross_entropy}
"""What decides among the candidates that were scored on dev."""


def _train_loss(choice: Choice) -> float:
    return np.inf if choice.train_loss is None else choice.train_loss


async def fill(data: Path, plan: Plan, results: Path, done: dict[str, Any]) -> None:
    """Runs what is missing, and keeps each cell as soon as it is done."""
    async with load_backend(MODEL, threads=1) as backend:
        for cell in cells(plan):
            if cell.key not in done:
                row = await run_cell(backend, data, cell)
                done |= {**read_results(results), cell.key: row}  # another such command may have added some
                await asyncio.to_thread(results.write_text, _json(done), "utf-8")
                print(cell.key, row["chosen"][f"{CE} at {cell.evaluations}"], flush=True)


def read_results(results: Path) -> dict[str, Any]:
    """The cells that are done, by key."""
    found: dict[str, Any] = json.loads(results.read_text("utf-8"))["cells"] if results.exists() else {}
    return found


def _json(done: dict[str, Any]) -> str:
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(done[key])}" for key in sorted(done))
    return f'{{"environment": {json.dumps(environment())},\n"cells": {{\n{lines}\n}}}}\n'


def report(done: dict[str, Any]) -> str:
    """All that was measured, in Markdown."""
    parts = [dev_choice_tables.settings(table) for table in tables(done)]
    parts += ["### What decides, over all runs", dev_choice_tables.rules(done.values())]
    for evaluations in sorted({_cell(key).evaluations for key in done}):
        rows = [row for key, row in done.items() if _cell(key).evaluations == evaluations]
        parts.append(f"### When to stop, over the runs of {evaluations} evaluations")
        parts += [dev_choice_tables.plateaus(rows, rule) for rule in RULES]
    return "\n\n".join(parts)


def tables(done: dict[str, Any]) -> list[Table]:
    """One a task, split, number of shots and budget; a longer run stands in those of smaller budgets, too."""
    grouped: dict[tuple[str, int], dict[tuple[str, int], Any]] = {}
    for key, row in done.items():
        cell = _cell(key)
        for mark in {*MARKS, cell.evaluations}:
            if f"train at {mark}" in row["chosen"]:
                title = f"{cell.task} ({cell.held_out} rows), {cell.shots} shots"
                grouped.setdefault((title, mark), {})[cell.setting, cell.seed] = row
    return [Table(f"{title}, {mark} evaluations", mark, rows) for (title, mark), rows in sorted(grouped.items())]


def _cell(key: str) -> Cell:
    setting, task, held_out, *numbers = key.split(" | ")
    shots, evaluations, seed = map(int, numbers)
    return Cell(setting, task, shots, evaluations, seed, held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="run what is missing; else only the tables")
    parser.add_argument("--plan", choices=PLANS, default="screen")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=None)
    parser.add_argument("--tasks", nargs="*", choices=("mr", "trec"), default=None)
    parser.add_argument("--seeds", nargs="*", type=int, default=None)
    parser.add_argument("--shots", type=int, default=None)
    parser.add_argument("--evaluations", type=int, default=None)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    asked = {name: getattr(args, name) for name in ("settings", "tasks", "seeds", "shots", "evaluations")}
    plan = replace(PLANS[args.plan], **{name: value for name, value in asked.items() if value is not None})
    done = read_results(args.results)
    if args.data is not None:
        asyncio.run(fill(args.data, plan, args.results, done))
    print(report(done))


if __name__ == "__main__":
    main()
