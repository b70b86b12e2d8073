"""What racing saves, and what it costs: the same searches with and without it, paired by task and seed.

    python -m benchmarks.racing --data FOLDER                 # FOLDER/SST-2/train.tsv and FOLDER/MR/train.tsv

Training and dev set are 16 shots a class of the train split. A search scores whole generations until its evaluations
are spent; the raced one of the same seed goes on until it has taken as many tokens, and is looked at after as many
generations, too. With `--fixed`, another has the same rungs in every generation. Every five generations the mean of the
search and the generation's best are scored on dev; those tokens are not counted. `lowest_dev` is the lowest loss that
any of these looks found. What stands in the results is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import environment
from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.loading import load_engine
from lmaas_sdk import PRESETS, Dataset, few_shot, get_task, read_folder
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.tuning.objective import losses
from lmaas_sdk.tuning.optimizer import Optimizer
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.racing import Race, Racing
from lmaas_sdk.tuning.searches import make_optimizer
from lmaas_sdk.tuning.subspace import Subspace

SEEDS = (13, 21, 42, 87, 100)
RESULTS = Path(__file__).parent / "results" / "racing.json"
SHOTS, LOOK_EVERY = 16, 5
RACING = Racing()


@dataclass(frozen=True, slots=True)
class Generation:
    """Where a search stands after a generation.

    Args:
        tokens: Of all training calls so far.
        lowest: The lowest train loss so far.
        dev_mean, dev_best: Cross entropy on dev of the mean and of the generation's best; None where not looked at.
    """

    tokens: int
    lowest: float
    dev_mean: float | None = None
    dev_best: float | None = None


class Search:
    """One search on one few-shot training set.

    Args:
        engine: Computes.
        preset: Its setting.
        data: Training and dev set.
        seed: Of subspace, search and rungs.
    """

    def __init__(self, engine: Engine, preset: Preset, data: tuple[Dataset, Dataset], seed: int) -> None:
        self._engine, self._preset, self._seed = engine, preset, seed
        self._train, self._dev = data
        self._subspace: Subspace = preset.subspace(engine.card, seed)
        self._counts = np.array(engine.register(self._train.text_set, self._subspace).token_counts)
        engine.register(self._dev.text_set, self._subspace)

    def generations(self, *, raced: bool, rotating: bool = True) -> Iterator[Generation]:
        """Goes on for ever. With `rotating` false, every generation has the same rungs."""
        optimizer = self._optimizer()
        tokens, lowest = 0, float("inf")
        while True:
            batch = optimizer.ask()
            order = batch.generation if rotating else 0
            values, taken = self._raced(optimizer, batch.X, order) if raced else self._whole(batch.X)
            optimizer.tell(batch.generation, dict(enumerate(values.tolist())))
            tokens, lowest = tokens + taken, min(lowest, float(values.min()))
            looks = (batch.generation + 1) % LOOK_EVERY == 0
            dev = self._look(np.stack([optimizer.mean, batch.X[values.argmin()]])) if looks else ()
            yield Generation(tokens, lowest, *dev)

    def _optimizer(self) -> Optimizer:
        return make_optimizer(self._preset, self._subspace.d, self._seed)

    def _whole(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
        logits = self._logits(self._train, X, None)
        return losses("ce", logits, self._train.labels, metric=""), len(X) * int(self._counts.sum())

    def _raced(self, optimizer: Optimizer, X: NDArray[np.float64], order: int) -> tuple[NDArray[np.float64], int]:
        race = Race(
            RACING,
            objective="ce",
            metric="",
            labels=self._train.labels,
            candidates=len(X),
            keep=optimizer.min_tell,
            must_keep=optimizer.must_have,
            seed=self._seed,
            generation=order,
        )
        tokens = 0
        while race.rows:
            tokens += len(race.alive) * int(self._counts[list(race.rows)].sum())
            race.scored(self._logits(self._train, X[list(race.alive)], race.rows))
        return race.values(), tokens

    def _look(self, X: NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(losses("ce", self._logits(self._dev, X, None), self._dev.labels, metric="").tolist())

    def _logits(self, dataset: Dataset, X: NDArray[np.float64], rows: tuple[int, ...] | None) -> NDArray[np.float32]:
        Z = X.astype(np.float32)
        return self._engine.score(ScoreQuery(dataset.text_set, rows=rows, subspace=self._subspace, Z=Z)).logits


def compare(search: Search, generations: int, *, fixed: bool) -> dict[str, Any]:
    """The searches of one seed: whole, raced and, if asked for, raced with the same rows in every generation."""
    cpu = time.process_time()
    whole = _first(search.generations(raced=False), generations)
    ways = {"raced": True} | ({"fixed": False} if fixed else {})
    found: dict[str, Any] = {"whole": _kept(whole)}
    for name, rotating in ways.items():
        steps = _until(search.generations(raced=True, rotating=rotating), whole[-1].tokens, generations)
        at = {"whole_tokens": whole[-1].tokens, "tokens_saved": 1 - steps[generations - 1].tokens / whole[-1].tokens}
        found[name] = _kept(steps) | at
        found[f"{name}_at_equal_generations"] = _kept(steps[:generations])["end"]
    return found | {"cpu_s": round(time.process_time() - cpu, 1)}


def _first(steps: Iterator[Generation], count: int) -> list[Generation]:
    return [next(steps) for _ in range(count)]


def _until(steps: Iterator[Generation], tokens: int, at_least: int) -> list[Generation]:
    """All generations that so many tokens pay for, and `at_least` of them."""
    found = _first(steps, at_least)
    while (step := next(steps)).tokens <= tokens:
        found.append(step)
    return found


def _kept(steps: list[Generation]) -> dict[str, Any]:
    looks = [step for step in steps if step.dev_mean is not None]
    end = {
        "generations": len(steps),
        "tokens": steps[-1].tokens,
        "lowest_train": round(steps[-1].lowest, 5),
        "dev_of_mean": looks[-1].dev_mean,
        "lowest_dev": min(min(step.dev_mean or 0.0, step.dev_best or 0.0) for step in looks),
    }
    return {"end": end, "curve": [asdict(step) for step in looks]}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over seeds by preset and task; differences to the whole search are paired, with their standard errors."""
    found: dict[str, dict[str, Any]] = {}
    for preset, task in sorted({(row["preset"], row["task"]) for row in rows}):
        chosen = [row for row in rows if (row["preset"], row["task"]) == (preset, task)]
        found[f"{preset}, {task}"] = _figures(chosen)
    return found


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"seeds": len(rows)}
    for way in ("raced", "fixed"):
        having = [row for row in rows if way in row]
        if not having:
            continue
        figures[f"{way}: tokens saved"] = round(statistics.mean(row[way]["tokens_saved"] for row in having), 4)
        for what in ("lowest_train", "dev_of_mean", "lowest_dev"):
            wholes = [row["whole"]["end"][what] for row in having]
            figures[f"{way}: {what}, whole"] = round(statistics.mean(wholes), 4)
            for at, ends in (
                ("equal generations", [row[f"{way}_at_equal_generations"] for row in having]),
                ("equal tokens", [row[way]["end"] for row in having]),
            ):
                pairs = zip(ends, wholes, strict=True)
                figures[f"{way}: {what}, more at {at}"] = _with_error([end[what] - whole for end, whole in pairs])
    return figures


def _with_error(differences: list[float]) -> list[float | None]:
    """The mean and its standard error."""
    error = round(statistics.stdev(differences) / len(differences) ** 0.5, 4) if len(differences) > 1 else None
    return [round(statistics.mean(differences), 4), error]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--tasks", nargs="*", default=["sst2", "mr"])
    parser.add_argument("--presets", nargs="*", default=["small-model", "paper"], choices=list(PRESETS))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--evaluations", type=int, default=600, help="of the whole search (default: %(default)s)")
    parser.add_argument("--fixed", action="store_true", help="also race on the same rows in every generation")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = json.loads(args.results.read_text())["rows"] if args.results.exists() else []
    engine = load_engine("roberta-tiny", threads=1)
    for named in ((preset, task, seed) for preset in args.presets for task in args.tasks for seed in args.seeds):
        key = dict(zip(("preset", "task", "seed"), named, strict=True)) | {"evaluations": args.evaluations}
        if any(key.items() <= row.items() for row in rows):
            continue
        preset, (_, task, seed) = PRESETS[named[0]], named
        data = few_shot(read_folder(args.data, get_task(task), "train"), SHOTS, seed=seed)
        search = Search(engine, preset, data, seed)
        rows.append(key | compare(search, args.evaluations // preset.population, fixed=args.fixed))
        kept = {"racing": asdict(RACING), "summary": summary(rows), "environment": environment(), "rows": rows}
        args.results.write_text(json.dumps(kept, indent=1) + "\n")
    engine.close()
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
