"""Black-box tuning of the bundled model on SST-2 at the paper's setting: five seeds, 16 shots, 8000 evaluations.

    python -m benchmarks.sst2_paper --data FOLDER            # FOLDER/SST-2/train.tsv and dev.tsv

A seed that is done is read from the results folder, not run again, so the script can be stopped and started at will.
`--seeds 13 42` runs some of them; two such commands side by side fill one results folder together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from lmaas_sdk import Budget, Dataset, Predictor, Tuner, TuningResult, few_shot, get_task, load_backend, read_folder
from lmaas_sdk.reporting.progress import RunProgress

SEEDS = (13, 21, 42, 87, 100)
RESULTS = Path(__file__).parent / "results" / "sst2_paper"
EVALUATIONS, SHOTS, PRESET, MODEL = 8000, 16, "paper", "roberta-tiny"


async def run_seed(data: Path, seed: int, threads: int) -> dict[str, Any]:
    """One seed, from a server that is started for it to the row that is kept."""
    task = get_task("sst2")
    train, dev = few_shot(read_folder(data, task, "train"), SHOTS, seed=seed)
    test = read_folder(data, task)
    before = _server_cpu_s()
    async with load_backend(MODEL, threads=threads) as backend:
        result, row = await _measured(backend, (train, dev, test), seed)
    row["cpu_s_server"] = round(_server_cpu_s() - before, 1)
    return row | {"report": result.to_dict(), "dev": list(result.core.dev), "curve": list(result.core.curve)}


async def _measured(
    backend: Any, data: tuple[Dataset, Dataset, Dataset], seed: int
) -> tuple[TuningResult, dict[str, Any]]:
    train, dev, test = data
    budget = Budget(evaluations=EVALUATIONS)
    tuner = Tuner(backend, budget=budget, preset=PRESET, seed=seed)
    cpu, wall = time.process_time(), time.perf_counter()
    with RunProgress(budget) as progress:
        result = await tuner.fit(train, dev, on_event=progress.show)
    row: dict[str, Any] = {
        "seed": seed,
        "wall_s": round(time.perf_counter() - wall, 1),
        "cpu_s_client": round(time.process_time() - cpu, 1),
        "bytes_up_per_evaluation": round(backend.bytes_up / result.evaluations, 1),
        "bytes_down_per_evaluation": round(backend.bytes_down / result.evaluations, 1),
    }
    tuned, manual = await result.evaluate(test), await Predictor.manual(backend, test.task).evaluate(test)
    lowest = min(event.lowest_loss for event in result.generations)
    return result, row | {
        "manual_accuracy": manual.value,
        "tuned_accuracy": tuned.value,
        "dev_accuracy": result.choice.dev.value if result.choice.dev else None,
        "lowest_train_loss": lowest,
        "test_texts": tuned.n_texts,
    }


def _server_cpu_s() -> float:
    """CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(names),
        "threads": threads,
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def summary(rows: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = [
        "| seed | manual | tuned | dev | chosen at evaluation | wall s | server CPU s | up B/eval | down B/eval |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: SEEDS.index(row["seed"])):
        at = (row["report"]["choice"]["generation"] + 1) * 20
        lines.append(
            f"| {row['seed']} | {100 * row['manual_accuracy']:.2f} | {100 * row['tuned_accuracy']:.2f} "
            f"| {100 * row['dev_accuracy']:.1f} | {at} | {row['wall_s']:.0f} | {row['cpu_s_server']:.0f} "
            f"| {row['bytes_up_per_evaluation']:.0f} | {row['bytes_down_per_evaluation']:.0f} |"
        )
    for name in ("manual_accuracy", "tuned_accuracy"):
        values = [100 * row[name] for row in rows]
        spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        lines.append(
            f"\n{name}: {statistics.mean(values):.2f}{spread} ({len(values)} seeds, {rows[0]['test_texts']} texts)"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--threads", type=int, default=1, help="of the server (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="run seeds that are done, too")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        file = args.results / f"seed-{seed}.json"
        if args.again or not file.exists():
            row = asyncio.run(run_seed(args.data, seed, args.threads)) | {"environment": environment(args.threads)}
            file.write_text(json.dumps(row, indent=1) + "\n")
    rows = [json.loads(file.read_text()) for file in sorted(args.results.glob("seed-*.json"))]
    print(summary(rows))
    (args.results / "README.md").write_text(f"{__doc__}\n{summary(rows)}\n")


if __name__ == "__main__":
    main()
