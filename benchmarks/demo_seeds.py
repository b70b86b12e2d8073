"""How surely `lmaas demo` shows a tuned prompt that beats the manual one: its task and its data, over 100 seeds.

    python -m benchmarks.demo_seeds [--seeds 100] [--evaluations 400] [--preset default]

The bundled model computes in this process, with the demo's training and dev set and without its price and rate limit,
which only add waiting. Both prompts are evaluated on its 400 test reviews; accuracies are those. The bar: above the
manual prompt in at least 95 of 100 seeds. What was chosen is counted by kind; the manual prompt is no candidate on the
dev set, so it is never among them. A seed that stands in the results is not run again, so this can be stopped and
started at will.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures import environment
from lmaas_sdk import PRESETS, Budget, Preset, Tuner, load_backend
from lmaas_sdk.backend import Backend
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.cli.run_options import Splits

RESULTS = Path(__file__).parent / "results" / "demo_seeds"
MODEL, PRESET = "roberta-tiny", "default"


async def run_seed(backend: Backend, splits: Splits, preset: Preset, *, evaluations: int, seed: int) -> dict[str, Any]:
    """One run, as the demo does it: what was chosen, and what it and the manual prompt are worth on test."""
    began = time.process_time()
    tuner = Tuner(backend, budget=Budget(evaluations=evaluations), preset=preset, seed=seed)
    result = await tuner.fit(splits.train, splits.dev, test=splits.test, compare_manual=True)
    if result.test is None or result.manual is None:
        raise RuntimeError(f"seed {seed} was not evaluated: {result.warnings}")
    return {
        "seed": seed,
        "tuned": result.test.value,
        "manual": result.manual.value,
        "chosen_by": result.chosen_by,
        "kind": result.choice.kind,
        "generation": result.choice.generation,
        "dev": result.choice.dev.value if result.choice.dev else None,
        "stopped": result.stopped,
        "evaluations": int(result.evaluations),
        "cpu_s": round(time.process_time() - began, 1),
    }


class Results:
    """The rows in a file; those of other settings are not looked at, and written over.

    Args:
        path: Of the file.
        settings: What the rows depend on, beside their seeds.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.rows: list[dict[str, Any]] = kept["rows"] if kept.get("settings") == settings else []

    def keep(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        kept = {"summary": summary(self.rows), "settings": self._settings, "environment": environment()}
        self._path.write_text(json.dumps(kept | {"rows": self.rows}, indent=1) + "\n", "utf-8")


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In how many seeds tuning pays, and by how much; in points of test accuracy."""
    gains = [100 * (row["tuned"] - row["manual"]) for row in rows]
    tuned = [100 * row["tuned"] for row in rows]
    return {
        "seeds": len(rows),
        "above_manual": sum(gain > 0 for gain in gains),
        "equal_to_manual": sum(gain == 0 for gain in gains),
        "below_manual": sum(gain < 0 for gain in gains),
        "manual": sorted({round(100 * row["manual"], 2) for row in rows}),
        "tuned": _spread(tuned),
        "gain": _spread(gains),
        "chosen": dict(Counter(f"{row['kind']} by {row['chosen_by']}" for row in rows)),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    middle = {"median": statistics.median(values), "mean": statistics.mean(values)}
    return {name: round(value, 2) for name, value in (middle | {"worst": min(values), "best": max(values)}).items()}


async def run(
    preset: Preset, seeds: Sequence[int], *, splits: Splits, evaluations: int, results: Results
) -> dict[str, Any]:
    """Every seed that is not in the results yet; they are written after each."""
    done = {row["seed"] for row in results.rows}
    async with load_backend(MODEL, in_process=True, threads=1) as backend:
        for seed in seeds:
            if seed not in done:
                results.keep(await run_seed(backend, splits, preset, evaluations=evaluations, seed=seed))
    return summary([row for row in results.rows if row["seed"] in seeds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="the seeds from 0 on (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--preset", default=PRESET, choices=sorted(PRESETS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder with a file a preset")
    args = parser.parse_args()
    preset, seeds = PRESETS[args.preset], range(args.seeds)
    settings = {"preset": asdict(preset), "evaluations": args.evaluations, "model": MODEL}
    args.results.mkdir(parents=True, exist_ok=True)
    results = Results(args.results / f"{args.preset}.json", settings)
    ran = run(preset, seeds, splits=demo_splits(), evaluations=args.evaluations, results=results)
    print(json.dumps(asyncio.run(ran), indent=1))


if __name__ == "__main__":
    main()
