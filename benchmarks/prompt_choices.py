"""What a better prompt brings on SST-2 and MR: template, label words, ensembles and calibration, bundled model.

    python -m benchmarks.prompt_choices --data FOLDER          # FOLDER/SST-2 and FOLDER/MR; 20 minutes of one core
    python -m benchmarks.prompt_choices --data FOLDER --more   # the dearer ways, too; 40 minutes
    python -m benchmarks.prompt_choices                        # the tables of what was run

16 shots a class for train and for dev, by five seeds; judged on at most 1000 test rows, drawn by seed 0. Every way of a
task and seed has the same rows, so differences are paired. What is chosen or tuned within 600 evaluations pays for the
choice from these 600. Intervals are of a bootstrap over seeds and test rows: they hold for this model, these two tasks
and few-shot sets like these. A cell (task, seed, ways) that is done is read from the results file, not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import environment
from lmaas_sdk import Backend, Budget, Dataset, few_shot, get_task, load_backend, read_folder, subsample
from lmaas_sdk.methods import (
    BlackBoxPredictor,
    BlackBoxTuning,
    EnsemblePredictor,
    ManualPrompt,
    MethodPredictor,
    PromptChoice,
    PromptEnsemble,
    best_candidates,
    choose_template,
    choose_words,
)
from lmaas_sdk.methods.calibrating import Calibrating, Calibration

SEEDS, TASKS = (13, 21, 42, 87, 100), ("sst2", "mr")
EVALUATIONS, MEMBERS, SHOTS, TEST_ROWS = 600, 5, 16, 1000
RESULTS = Path(__file__).parent / "results" / "prompt_choices.json"


@dataclass(frozen=True)
class Sets:
    """One task's examples by one seed."""

    train: Dataset
    dev: Dataset
    test: Dataset
    seed: int

    def asked(self, choice: PromptChoice) -> Sets:
        """The same, asked as was chosen."""
        return Sets(choice.asked(self.train), choice.asked(self.dev), choice.asked(self.test), self.seed)


def read(data: Path, name: str, seed: int) -> Sets:
    """Train and dev by the seed, and the test rows."""
    task = get_task(name)
    train, dev = few_shot(read_folder(data, task, "train"), SHOTS, seed=seed)
    return Sets(train, dev, subsample(read_folder(data, task), TEST_ROWS, seed=0), seed)


Row = dict[str, Any]


async def judged(predictor: MethodPredictor, test: Dataset, **more: object) -> Row:
    """What is kept of a predictor: which test rows it has right, and what it had spent before they were asked."""
    spent = predictor.spend.total
    right = (await predictor.logits(test.fields)).argmax(axis=1) == test.labels
    bits = np.packbits(right).tobytes().hex()
    return {"right": bits, "accuracy": float(right.mean()), "spend": spent.to_dict(), **more}


async def chosen(way: str, backend: Backend, sets: Sets, budget: Budget) -> tuple[Sets, dict[str, object]]:
    """The sets as they are best asked, and what was chosen."""
    if way in ("template", "both"):
        sets = sets.asked(await choose_template(backend, sets.train, sets.dev, budget=budget))
    if way in ("words", "both"):
        sets = sets.asked(await choose_words(backend, sets.train, sets.dev, budget=budget))
    task = sets.train.task
    return sets, {"template": task.template.text, "words": list(task.words)}


async def manual(backend: Backend, sets: Sets) -> dict[str, Row]:
    """The manual prompt as it is, and as it is best asked; each calibrated by the training texts, too."""
    rows = {}
    for way in ("own", "template", "words", "both"):
        budget = Budget(warn_at=())
        asked, what = await chosen(way, backend, sets, budget)
        took = budget.posted.to_dict()
        for name, calibration in (("", None), (", calibrated", "prior")):
            method = ManualPrompt(backend, calibration="prior" if calibration else None)
            predictor = await method.fit(asked.train)
            rows[f"manual, {way}{name}"] = await judged(predictor, asked.test, choice=took, **what)
    return rows


async def tuned(backend: Backend, sets: Sets, ways: Sequence[str] = ("template", "words")) -> dict[str, Row]:
    """Black-box tuning as it is best asked: choice and tuning from one budget."""
    rows = {}
    for way in ways:
        budget = Budget(evaluations=EVALUATIONS, warn_at=())
        asked, what = await chosen(way, backend, sets, budget)
        took = budget.posted.to_dict()
        predictor = await BlackBoxTuning(backend, budget=budget, seed=sets.seed).fit(asked.train, asked.dev)
        rows[f"black-box, {way}"] = await judged(predictor, asked.test, choice=took, **what)
    return rows


async def tuned_both(backend: Backend, sets: Sets) -> dict[str, Row]:
    """The same with template and words."""
    return await tuned(backend, sets, ("both",))


async def black_box(backend: Backend, sets: Sets) -> dict[str, Row]:
    """The plain default; its best candidates together, and calibrated, for one call more."""
    run = await _run(backend, sets, sets.seed)
    rows = {"black-box, own": await judged(run, sets.test)}
    best = EnsemblePredictor(best_candidates(run, MEMBERS))
    rows[f"best {MEMBERS} of one run"] = await judged(best, sets.test, members=len(best.members))
    kinds: tuple[Calibration, ...] = ("prior", "contextual")
    for kind in kinds:
        calibrating = Calibrating.of(kind, sets.train.task, sets.train.fields, None)
        assert calibrating is not None
        rows[f"black-box, calibrated: {kind}"] = await judged(await calibrating.calibrated(run, Budget()), sets.test)
    return rows


async def members(backend: Backend, sets: Sets) -> dict[str, Row]:
    """Five runs of 600 each, by themselves and together."""
    runs = [await _run(backend, sets, sets.seed + number) for number in range(MEMBERS)]
    rows = {f"member {n}": await judged(run, sets.test) for n, run in enumerate(runs)}
    together = await judged(EnsemblePredictor(runs), sets.test)
    return rows | {f"ensemble of {MEMBERS}, {EVALUATIONS} each": together}


async def _run(backend: Backend, sets: Sets, seed: int) -> BlackBoxPredictor:
    budget = Budget(evaluations=EVALUATIONS, warn_at=())
    return await BlackBoxTuning(backend, budget=budget, seed=seed).fit(sets.train, sets.dev)


async def within_one_budget(backend: Backend, sets: Sets) -> dict[str, Row]:
    """Five runs that share the 600 evaluations of one."""
    budget = Budget(evaluations=EVALUATIONS, warn_at=())
    predictor = await PromptEnsemble(backend, members=MEMBERS, budget=budget, seed=sets.seed).fit(sets.train, sets.dev)
    found = {f"ensemble of {MEMBERS}, {EVALUATIONS} in all": await judged(predictor, sets.test)}
    alone = [await judged(member, sets.test) for member in predictor.members]
    return found | {f"small member {n}": row for n, row in enumerate(alone)}


Cell = Callable[[Backend, Sets], Awaitable[dict[str, Row]]]
FIRST: Mapping[str, Cell] = {"manual": manual}
CELLS: Mapping[str, Cell] = {"black-box": black_box, "tuned": tuned, "within one budget": within_one_budget}
MORE: Mapping[str, Cell] = {"members": members, "both": tuned_both}


async def fill(data: Path, seeds: Sequence[int], results: Path, cells: Mapping[str, Cell]) -> None:
    """Runs what is missing, and keeps each cell as soon as it is done."""
    async with load_backend("roberta-tiny", in_process=True, threads=1) as backend:
        for seed in seeds:
            for task in TASKS:
                sets = read(data, task, seed)
                for name, cell in cells.items():
                    key, done = f"{task} | {seed} | {name}", read_results(results)
                    if key not in done:
                        done[key] = {"rows": len(sets.test), "ways": await cell(backend, sets)}
                        await asyncio.to_thread(results.write_text, _json(done), "utf-8")
                        told = {way: round(100 * row["accuracy"], 1) for way, row in done[key]["ways"].items()}
                        print(key, told, flush=True)


def read_results(results: Path) -> dict[str, Any]:
    """The cells that are done, by key."""
    found: dict[str, Any] = json.loads(results.read_text("utf-8"))["cells"] if results.exists() else {}
    return found


def _json(done: dict[str, Any]) -> str:
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(done[key])}" for key in sorted(done))
    return f'{{"environment": {json.dumps(environment())},\n"cells": {{\n{lines}\n}}}}\n'


PLAIN, TUNED = "manual, own", "black-box, own"
COMPARED: Sequence[tuple[str, str]] = (
    ("manual, template", PLAIN),
    ("manual, words", PLAIN),
    ("manual, both", PLAIN),
    ("manual, own, calibrated", PLAIN),
    ("manual, template, calibrated", "manual, own, calibrated"),
    ("manual, words, calibrated", "manual, own, calibrated"),
    ("manual, both, calibrated", "manual, own, calibrated"),
    (TUNED, PLAIN),
    ("black-box, template", TUNED),
    ("black-box, words", TUNED),
    ("black-box, both", TUNED),
    ("black-box, calibrated: prior", TUNED),
    ("black-box, calibrated: contextual", TUNED),
    (f"best {MEMBERS} of one run", TUNED),
    (f"ensemble of {MEMBERS}, {EVALUATIONS} in all", "mean of the small members"),
    (f"ensemble of {MEMBERS}, {EVALUATIONS} in all", TUNED),
    (f"ensemble of {MEMBERS}, {EVALUATIONS} each", "mean of the members"),
    (f"ensemble of {MEMBERS}, {EVALUATIONS} each", TUNED),
)
_MEANS = {"mean of the small members": "small member ", "mean of the members": "member "}


def right_of(cells: Mapping[str, Any], task: str) -> dict[str, dict[int, NDArray[np.float64]]]:
    """By way and seed, which test rows are right: 1 and 0, and for a mean of members the part that has it right."""
    found: dict[str, dict[int, NDArray[np.float64]]] = {}
    for key, cell in cells.items():
        name, seed, _ = key.split(" | ")
        if name != task:
            continue
        bits = {way: _unpacked(row["right"], cell["rows"]) for way, row in cell["ways"].items()}
        for mean, prefix in _MEANS.items():
            if each := [right for way, right in bits.items() if way.startswith(prefix)]:
                bits[mean] = np.mean(each, axis=0)
        for way, right in bits.items():
            found.setdefault(way, {})[int(seed)] = right
    return found


def _unpacked(bits: str, rows: int) -> NDArray[np.float64]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=rows).astype(np.float64)


def interval(differences: NDArray[np.float64], draws: int = 10_000) -> tuple[float, float]:
    """The middle 95 % of the means over drawn seeds and drawn test rows.

    Args:
        differences: (seeds, rows).
        draws: How often.
    """
    seeds, rows = differences.shape
    chance = np.random.default_rng(0)
    of_seeds = chance.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    of_rows = chance.multinomial(rows, np.full(rows, 1 / rows), size=draws) / rows
    low, high = np.percentile(((of_seeds @ differences) * of_rows).sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def table(cells: Mapping[str, Any], task: str) -> str:
    """Accuracy in points of every way, and its difference from what it is compared with."""
    right = right_of(cells, task)
    lines = [
        f"### {task}",
        "",
        "| way | accuracy | compared with | difference | 95 % | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    if PLAIN in right:
        lines.append(f"| {PLAIN} | {_spread(right[PLAIN])} | | | | {len(right[PLAIN])} |")
    for way, other in COMPARED:
        if seeds := sorted(right.get(way, {}).keys() & right.get(other, {}).keys()):
            differences = 100 * np.stack([right[way][seed] - right[other][seed] for seed in seeds])
            low, high = interval(differences)
            lines.append(
                f"| {way} | {_spread(right[way])} | {other} | {differences.mean():+.2f} | {low:+.2f} .. {high:+.2f} "
                f"| {len(seeds)} |"
            )
    return "\n".join(lines)


def _spread(by_seed: Mapping[int, NDArray[np.float64]]) -> str:
    values = [100 * float(right.mean()) for right in by_seed.values()]
    spread = f" +- {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="run what is missing; else only the tables")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--more", action="store_true", help="the dearer cells, too: five runs of 600, and both choices")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.data is not None:
        for cells in (FIRST, CELLS, MORE) if args.more else (FIRST, CELLS):
            asyncio.run(fill(args.data, args.seeds, args.results, cells))
    done = read_results(args.results)
    print("\n\n".join(table(done, task) for task in TASKS))


if __name__ == "__main__":
    main()
