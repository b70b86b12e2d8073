"""How long the paper's two tables take on a machine with nothing else to do, by one seed of every cell.

    python -m benchmarks.tables_plan --data FOLDER    # measures a part of each command, about two hours
    python -m benchmarks.tables_plan                  # what was measured, and what the whole plan comes to by that

Every part is a command of benchmarks/results/tables/README.md, with fewer seeds and into another file. The whole
is reckoned by tokens, as the results have them: a search or a training that reaches a plateau takes fewer with some
seeds. A token that is trained on counts three times, for the way back.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import environment
from benchmarks.paper_tables import RESULTS
from lmaas_sdk.bench import read_results
from lmaas_sdk.bench.results import CellResult, done_cells

KEPT = RESULTS.with_name("plan.json")
AGAIN = RESULTS.with_name("again.jsonl")
_SEEDS = (13, 21, 42, 87, 100)
_FOUR, _THREE = "sst2,mrpc,snli,yelp", "rte,agnews,dbpedia"
_QUICK = "manual,manual-calibrated,black-box:default@2000"
_IN_DEPLOYMENT = "manual,in-context,feature-linear,feature-bilstm,prompt-tuning,model-tuning,black-box:default@2000"


@dataclass(frozen=True, slots=True)
class Part:
    """A command of the plan.

    Args:
        name: For people.
        options: Of `lmaas bench`.
        seeds: How many the plan has.
        timed: Those that are measured here.
    """

    name: str
    options: Mapping[str, str]
    seeds: int
    timed: tuple[int, ...] = (13,)


def _cells(name: str, tasks: str, methods: str, seeds: int, timed: tuple[int, ...] = (13,)) -> Part:
    told = ",".join(map(str, timed))
    return Part(name, {"--tasks": tasks, "--methods": methods, "--seeds": told, "--jobs": "2"}, seeds, timed)


def _deployment(name: str, task: str, methods: str) -> Part:
    return Part(name, {"--deployment": task, "--methods": f"{_IN_DEPLOYMENT},{methods}"}, 1)


PARTS = (
    _cells("the default and what is quick, 5 seeds", _FOUR, f"{_QUICK},black-box:default@8000,feature-linear", 5),
    _cells("the default and what is quick, 3 seeds", _THREE, f"{_QUICK},feature-linear", 3),
    _cells("`paper` at 8,000", _FOUR, "black-box:paper@8000", 5),
    _cells("`paper` at 2,000", _THREE, "black-box:paper@2000", 3),
    _cells("prompt tuning on DBPedia", "dbpedia", "prompt-tuning", 3, (13, 21)),
    _cells(
        "the other methods",
        f"{_FOUR},{_THREE}",
        "deep@2000,in-context,model-tuning,feature-bilstm,prompt-tuning",
        3,
    ),
    _deployment("deployment, SST-2", "sst2:47", "black-box:paper@8000,deep@2000"),
    _deployment("deployment, AG's News", "agnews:107", "black-box:paper@2000,deep@2000"),
)


def measured(part: Part, data: Path, out: Path) -> dict[str, Any]:
    """Runs it; how long that took.

    Raises:
        CalledProcessError: It did not come to its end.
    """
    options = [word for option in part.options.items() for word in option]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lmaas_sdk.cli", "bench", *options, "--data", data, "--out", out],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall_s = round(time.perf_counter() - began, 1)
    load = [round(one, 2) for one in os.getloadavg()]
    return {"part": part.name, "seeds": part.timed, "wall_s": wall_s, "load_average": load}


def _has(part: Part, cell: CellResult) -> bool:
    tasks, methods = (part.options.get(name, "").split(",") for name in ("--tasks", "--methods"))
    return cell.task in tasks and str(cell.row) in methods


def tokens_of(cells: Sequence[CellResult]) -> dict[str, list[float]]:
    """By part: tokens of the seeds that are measured here, and of all that the results have."""
    found: dict[str, list[float]] = {part.name: [0.0, 0.0] for part in PARTS}
    for cell in cells:
        part = next((part for part in PARTS if _has(part, cell)), None)  # a later part finds it done
        if part is not None and "known_from" not in cell.record:
            took = cell.record["spend"]["total"]["tokens"] + 3 * cell.record.get("training", {}).get("tokens", 0)
            found[part.name][0] += took * (cell.seed in (None, *part.timed))
            found[part.name][1] += took * (cell.seed in (None, *_SEEDS[: part.seeds]))
    return found


def told(measured_s: Mapping[str, float], cells: Sequence[CellResult]) -> list[str]:
    """A Markdown table."""
    rows = ["| part | measured | seeds | tokens of all | the plan |", "| --- | ---: | ---: | ---: | ---: |"]
    all_s, tokens = 0.0, tokens_of(cells)
    for part in PARTS:
        timed, whole = tokens[part.name]
        part_s, times = measured_s[part.name], whole / timed if timed else 1.0
        all_s += part_s * times
        seeds = f"{len(part.timed)} of {part.seeds}"
        rows.append(f"| {part.name} | {_minutes(part_s)} | {seeds} | {times:.2f} x | {_minutes(part_s * times)} |")
    once = _minutes(sum(measured_s[part.name] for part in PARTS))
    return [*rows, f"| all | {once} | | | {_minutes(all_s)}: {all_s / 3600:.1f} hours |"]


def same(cells: Sequence[CellResult], again: Sequence[CellResult]) -> int:
    """How many of the cells that were measured again predict the same on every test row."""
    before = {cell.record["key"]: cell.predictions for cell in cells}
    return sum(np.array_equal(before.get(cell.record["key"], ()), cell.predictions) for cell in again)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def main() -> None:
    """Measures, or prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="has a folder for each task")
    data = parser.parse_args().data
    if data is not None:
        AGAIN.unlink(missing_ok=True)
        parts = [measured(part, data, AGAIN) for part in PARTS]
        KEPT.write_text(json.dumps({"environment": environment(), "parts": parts}, indent=1) + "\n", "utf-8")
    kept = {one["part"]: one["wall_s"] for one in json.loads(KEPT.read_text("utf-8"))["parts"]}
    cells, again = (done_cells(read_results(path)) for path in (RESULTS, AGAIN))
    print("\n".join(told(kept, cells)))
    print(f"\n{same(cells, again)} of {len(again)} cells predicted every test row as before")


if __name__ == "__main__":
    main()
