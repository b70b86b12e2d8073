"""What the paper names as next, each against the plain default at the same evaluations: SST-2 and MR, 16 shots.

    python -m benchmarks.next_steps --data FOLDER     # FOLDER/Yelp, SST-2 and MR: train.tsv, test.tsv (SST-2: dev.tsv)
    python -m benchmarks.next_steps                   # the tables of what was run

The source are Yelp's reviews of at most 60 words, five seeds: neither target's texts are in it (SST-2's sentences are
MR's, so these two are no source for each other). A run on a target starts from the Yelp prompt of its own seed, or
searches the principal subspace of all five. What the source runs have cost is a column of its own, and in no other. A
cell (option, task, seed) that is done is read from the results file. Differences are by seed, and intervals a bootstrap
over the pairs, which are few.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.default_preset import interval
from benchmarks.figures import environment
from lmaas_sdk import PRESETS, Backend, Budget, Dataset, Predictor, TunedPrompt, Tuner, few_shot, get_task, load_backend
from lmaas_sdk import read_folder as read
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.client import Client
from lmaas_sdk.methods import BlackBoxTuning, SequentialRandomEmbeddings, principal_projection
from lmaas_sdk.methods.black_box import SearchOptions
from lmaas_sdk.tasks import subsample
from lmaas_sdk.tuning.learned_projection import moves_of
from lmaas_sdk.tuning.presets import DEFAULT_PRESET

SEEDS = (13, 21, 42, 87, 100)
SOURCE, TARGETS, SHOTS, TEST_ROWS = "yelp", ("sst2", "mr"), 16, 1000
EVALUATIONS, SOURCE_EVALUATIONS = 400, 200
AXES, ROUNDS, MOST_WORDS = 16, 2, 60
NEAR = replace(PRESETS[DEFAULT_PRESET], sigma0=0.3)
PLAIN, NEARBY_END = "default", "sigma0 0.3"
OPTIONS = {
    PLAIN: "",
    "default, sigma0 0.3": "",
    "sequential": "",
    "base": "base=",
    "base, sigma0 0.3": "base=",
    "projection": "projection=",
}
RESULTS = Path(__file__).parent / "results" / "next_steps.json"
_Cell = dict[str, Any]


@cache
def splits(data: Path, name: str, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Train and dev by seed, and the rows to judge by."""
    task = get_task(name)
    whole = read(data, task, "train")
    if name == SOURCE:
        whole = whole.subset([row for row, (text,) in enumerate(whole.fields) if len(text.split()) <= MOST_WORDS])
    train, dev = few_shot(whole, SHOTS, seed=seed)
    test = read(data, task)
    return train, dev, subsample(test, TEST_ROWS, seed=0) if len(test) > TEST_ROWS else test


async def run_source(backend: Backend, data: Path, seed: int) -> _Cell:
    """A run on the source task, its prompt, and how far its candidates went."""
    train, dev, _ = splits(data, SOURCE, seed)
    tuner = Tuner(backend, budget=Budget(evaluations=SOURCE_EVALUATIONS, warn_at=()), seed=seed)
    result = await tuner.fit(train, dev)
    moves = await moves_of(Client(backend, Budget()), result)
    return {
        "option": "source",
        "task": SOURCE,
        "seed": seed,
        "evaluations": result.evaluations,
        "dev": result.choice.dev.value if result.choice.dev else None,
        "spend": result.spend.to_dict(),
        "prompt": result.prompt.to_wire(),
        "moves": moves.tolist(),
    }


async def run_target(
    backend: Backend, data: Path, option: str, name: str, seed: int, *, sources: Sequence[_Cell]
) -> _Cell:
    """A run on a target, and what its prompt is worth."""
    train, dev, test = splits(data, name, seed)
    budget = Budget(evaluations=EVALUATIONS, warn_at=())
    given = options_of(option, seed, sources)
    method: BlackBoxTuning | SequentialRandomEmbeddings
    if option == "sequential":
        method = SequentialRandomEmbeddings(backend, budget=budget, rounds=ROUNDS, **given)
    else:
        method = BlackBoxTuning(backend, budget=budget, **given)
    predictor = await method.fit(train, dev)
    spend, result = predictor.spend.to_dict(), predictor.result
    tuned = await predictor.evaluate(test)
    base = replace(prompt_of(sources, seed), task=test.task)
    beside = {"manual": Predictor.manual(backend, test.task), "reused": Predictor.tuned(backend, base)}
    others = {name: (await one.evaluate(test)).value for name, one in beside.items()} if option == "base" else {}
    return {
        "option": option,
        "task": name,
        "seed": seed,
        "evaluations": spend["train"]["evaluations"],
        "tuned": tuned.value,
        "cross_entropy": tuned.cross_entropy,
        **others,
        "dev": result.choice.dev.value if result and result.choice.dev else None,
        "test_rows": len(test),
        "spend": spend,
    }


def options_of(option: str, seed: int, sources: Sequence[_Cell]) -> SearchOptions:
    """What is given to the search."""
    preset = NEAR if option.endswith(NEARBY_END) else PRESETS[DEFAULT_PRESET]
    given: SearchOptions = {"seed": seed, "preset": preset}
    if option.startswith("base"):
        given["base"] = prompt_of(sources, seed)
    if option == "projection":
        given["projection"] = principal_projection(moves_in(sources), AXES)
    return given


def prompt_of(sources: Sequence[_Cell], seed: int) -> TunedPrompt:
    """The source prompt of a seed."""
    (wire,) = (cell["prompt"] for cell in sources if cell["seed"] == seed)
    return TunedPrompt.from_bytes(canonical_json(wire))


def moves_in(sources: Sequence[_Cell]) -> list[NDArray[np.float32]]:
    """How far the candidates of all source runs went: (L, D) each."""
    return [np.array(move, np.float32) for cell in sources for move in cell["moves"]]


async def fill(data: Path, path: Path, kept: dict[str, Any]) -> None:
    """Runs what is missing, a seed after the other, and keeps each cell when it is done."""
    cells: list[_Cell] = kept["cells"]
    done = {(cell["option"], cell["task"], cell["seed"]) for cell in cells}

    def keep(cell: _Cell) -> None:
        cells.append(cell)
        kept["environment"] = environment()
        path.write_text(json.dumps(kept) + "\n", "utf-8")
        print(cell["option"], cell["task"], cell["seed"], cell.get("tuned", cell["dev"]), flush=True)

    main = [option for option in OPTIONS if not option.endswith(NEARBY_END)]
    beside = [option for option in OPTIONS if option.endswith(NEARBY_END)]
    wanted = [(one, name, seed) for kind in (main, beside) for seed in SEEDS for name in TARGETS for one in kind]
    async with load_backend("roberta-tiny", in_process=True, threads=1) as backend:
        for seed in SEEDS:
            if ("source", SOURCE, seed) not in done:
                keep(await run_source(backend, data, seed))
        sources = [cell for cell in cells if cell["option"] == "source"]
        for option, name, seed in wanted:
            if (option, name, seed) not in done:
                keep(await run_target(backend, data, option, name, seed, sources=sources))


def table(cells: Sequence[_Cell]) -> str:
    """Accuracy in points by option and task, and paired differences from the plain default."""
    lines = [
        "| option | task | evaluations | source evaluations | tuned | minus `default` | 95 % | pairs |",
        "|---" * 8 + "|",
    ]
    for option, learned in OPTIONS.items():
        for name in (*TARGETS, "both"):
            of = _by_pair(cells, option, name)
            if of:
                lines.append(_line(option, name, of, _by_pair(cells, PLAIN, name), learned=learned))
    reused, manual = [_mean(cells, "base", column) for column in ("reused", "manual")]
    lines += ["", f"Manual prompt: {manual}. Yelp's prompt as it is, no run on the target: {reused}."]
    return "\n".join(lines)


def _by_pair(cells: Sequence[_Cell], option: str, name: str) -> dict[tuple[str, int], _Cell]:
    of = [cell for cell in cells if cell["option"] == option and name in (cell["task"], "both")]
    return {(cell["task"], cell["seed"]): cell for cell in of}


def _line(
    option: str,
    name: str,
    of: Mapping[tuple[str, int], _Cell],
    plain: Mapping[tuple[str, int], _Cell],
    *,
    learned: str,
) -> str:
    tuned = [100 * cell["tuned"] for cell in of.values()]
    spread = f" +- {statistics.stdev(tuned):.2f}" if len(tuned) > 1 else ""
    differences = [100 * (cell["tuned"] - plain[pair]["tuned"]) for pair, cell in of.items() if pair in plain]
    low, high = interval(differences)
    done = statistics.mean(cell["evaluations"] for cell in of.values())
    paid = {"base=": SOURCE_EVALUATIONS, "projection=": SOURCE_EVALUATIONS * len(SEEDS)}.get(learned, 0)
    return (
        f"| {option} | {name} | {done:.0f} | {paid} | {statistics.mean(tuned):.2f}{spread} "
        f"| {statistics.mean(differences):+.2f} | {low:+.2f} .. {high:+.2f} | {len(differences)} |"
    )


def _mean(cells: Sequence[_Cell], option: str, column: str) -> str:
    told = []
    for name in TARGETS:
        found = [100 * cell[column] for cell in _by_pair(cells, option, name).values()]
        told += [f"{name} {statistics.mean(found):.2f}"] if found else []
    return ", ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    kept = json.loads(args.results.read_text("utf-8")) if args.results.exists() else {"cells": []}
    if args.data is not None:
        asyncio.run(fill(args.data, args.results, kept))
    print(table(kept["cells"]))


if __name__ == "__main__":
    main()
