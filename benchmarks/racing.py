"""What racing saves, and what it costs: runs of `Tuner.fit` with and without it, paired by preset, task and seed.

    python -m benchmarks.racing [--data FOLDER] [--json FILE]     # FOLDER/SST-2/train.tsv and FOLDER/MR/train.tsv

Training and dev set are 16 shots a class of the train split, and the bundled model computes in this process. The whole
run takes so many evaluations. The raced one of the same seed may take as many tokens as that was billed, looks at dev
included, and is looked at after as many generations, too. `tokens` are those billed for the training set. Every five
generations the mean of the search and the generation's best are scored on dev; `lowest_dev` is the lowest cross entropy
that any of these looks found. A pair that stands in FILE, measured alike, is not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import environment
from lmaas_sdk import (
    PRESETS,
    Backend,
    Budget,
    Dataset,
    GenerationDone,
    Preset,
    Tuner,
    TuningResult,
    few_shot,
    get_task,
    load_backend,
    read_folder,
)
from lmaas_sdk.tuning.presets import RacingChoice
from lmaas_sdk.tuning.racing import Racing

SEEDS = (13, 21, 42, 87, 100)
SHOTS, LOOK_EVERY, MODEL = 16, 5, "roberta-tiny"
DATA = Path(os.environ.get("LMAAS_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
_COMPARED = ("lowest_train", "dev_of_mean", "lowest_dev")


@dataclass(frozen=True, slots=True)
class Look:
    """A look at dev.

    Args:
        generations: Done before it.
        dev_best, dev_mean: Cross entropy of the generation's best and of the mean.
    """

    generations: int
    dev_best: float
    dev_mean: float


@dataclass(frozen=True, slots=True)
class Course:
    """What there is to see of a run.

    Args:
        tokens: Billed for the training set up to the end of each generation.
        lowest: The lowest train loss up to each.
        looks: In their order.
    """

    tokens: tuple[int, ...]
    lowest: tuple[float, ...]
    looks: tuple[Look, ...]

    @classmethod
    def of(cls, result: TuningResult) -> Course:
        """From a run's history, where generations and looks take turns.

        Raises:
            RuntimeError: The generations do not come to what was billed for the training set.
        """
        tokens = tuple(_train_tokens(result))
        if tokens[-1] != (billed := result.spend.by_purpose["train"].tokens):
            raise RuntimeError(f"the generations took {tokens[-1]} tokens, and {billed} were billed: {result.stopped}")
        return cls(tokens, tuple(event.lowest_loss for event in result.generations), tuple(_looks(result)))

    def after(self, generations: int) -> dict[str, Any]:
        """Where it stands after so many."""
        looks = [look for look in self.looks if look.generations <= generations]
        return {
            "generations": generations,
            "tokens": self.tokens[generations - 1],
            "lowest_train": self.lowest[generations - 1],
            "dev_of_mean": looks[-1].dev_mean,
            "lowest_dev": min(min(look.dev_mean, look.dev_best) for look in looks),
        }

    def to_dict(self) -> dict[str, Any]:
        return {"end": self.after(len(self.tokens)), **asdict(self)}


def _train_tokens(result: TuningResult) -> Iterator[int]:
    taken = before = 0
    for event in result.history:
        if isinstance(event, GenerationDone):
            taken += event.spent.tokens - before
            yield taken
        before = event.spent.tokens


def _looks(result: TuningResult) -> Iterator[Look]:
    scored = {(choice.generation, choice.kind): choice.dev for choice in result.dev_scored}
    for generation in sorted({generation for generation, _ in scored}):
        best, mean = scored[generation, "best"], scored[generation, "mean"]
        if best is not None and mean is not None:
            yield Look(generation + 1, best.cross_entropy, mean.cross_entropy)


async def compare(
    backend: Backend, preset: Preset, data: tuple[Dataset, Dataset], *, seed: int, evaluations: int
) -> dict[str, Any]:
    """The runs of one seed, whole and raced."""
    cpu, generations = time.process_time(), evaluations // preset.population
    preset = replace(preset, dev_every=math.gcd(LOOK_EVERY, generations))  # the whole run ends with a look

    async def run(racing: RacingChoice, budget: Budget) -> tuple[TuningResult, Course]:
        tuner = Tuner(backend, budget=budget, preset=replace(preset, racing=racing), seed=seed)
        result = await tuner.fit(*data)
        return result, Course.of(result)

    result, whole = await run("off", Budget(evaluations=generations * preset.population, warn_at=()))
    _, raced = await run("on", Budget(tokens=result.spent.tokens, warn_at=()))
    at_equal_generations = raced.after(generations)
    return {
        "whole": whole.to_dict(),
        "raced": raced.to_dict(),
        "raced_at_equal_generations": at_equal_generations,
        "tokens_saved": 1 - at_equal_generations["tokens"] / whole.tokens[-1],
        "cpu_s": round(time.process_time() - cpu, 1),
    }


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over seeds by preset and task; differences to the whole run are paired, with their standard errors."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['preset']}, {row['task']}", []).append(row)
    return {name: _figures(group) for name, group in sorted(groups.items())}


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "seeds": len(rows),
        "tokens saved": _with_error([row["tokens_saved"] for row in rows]),
        "generations, more at equal tokens": _with_error([_more(row, "raced", "generations") for row in rows]),
    }
    for what in _COMPARED:
        figures[f"{what}, whole"] = round(statistics.mean(row["whole"]["end"][what] for row in rows), 4)
        for at, way in (("generations", "raced_at_equal_generations"), ("tokens", "raced")):
            figures[f"{what}, more at equal {at}"] = _with_error([_more(row, way, what) for row in rows])
    return figures


def _more(row: dict[str, Any], way: str, what: str) -> float:
    end = row[way].get("end", row[way])
    return float(end[what] - row["whole"]["end"][what])


def _with_error(values: Sequence[float]) -> list[float | None]:
    """The mean and its standard error."""
    error = round(statistics.stdev(values) / len(values) ** 0.5, 4) if len(values) > 1 else None
    return [round(statistics.mean(values), 4), error]


class Results:
    """The rows in a file; those of other settings are not looked at, and written over.

    Args:
        path: Of the file; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        of_racing = asdict(Racing()) | {"parts": list(Racing().parts)}
        self._settings = {"model": MODEL, "shots": SHOTS, "look_every": LOOK_EVERY, "racing": of_racing}
        kept = json.loads(path.read_text("utf-8")) if path is not None and path.exists() else {}
        self.rows: list[dict[str, Any]] = kept["rows"] if kept.get("settings") == self._settings else []

    def has(self, key: dict[str, Any]) -> bool:
        return any(key.items() <= row.items() for row in self.rows)

    def keep(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        kept = {"summary": summary(self.rows), "settings": self._settings, "environment": environment()}
        if self._path is not None:
            self._path.write_text(json.dumps(kept | {"rows": self.rows}, indent=1) + "\n", "utf-8")


async def measure(args: argparse.Namespace, results: Results) -> None:
    """Every pair that is not in the results yet."""
    async with load_backend(MODEL, in_process=True, threads=1) as backend:
        for named in ((preset, task, seed) for preset in args.presets for task in args.tasks for seed in args.seeds):
            key = dict(zip(("preset", "task", "seed"), named, strict=True)) | {"evaluations": args.evaluations}
            if results.has(key):
                continue
            preset, task, seed = named
            data = few_shot(read_folder(args.data, get_task(task), "train"), SHOTS, seed=seed)
            found = await compare(backend, PRESETS[preset], data, seed=seed, evaluations=args.evaluations)
            results.keep(key | found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="(default: %(default)s)")
    parser.add_argument("--tasks", nargs="*", default=["sst2", "mr"])
    parser.add_argument("--presets", nargs="*", default=["small-model", "paper"], choices=list(PRESETS))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--evaluations", type=int, default=600, help="of the whole run (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures and every pair there")
    args = parser.parse_args()
    results = Results(args.json)
    asyncio.run(measure(args, results))
    print(json.dumps(summary(results.rows), indent=1))


if __name__ == "__main__":
    main()
