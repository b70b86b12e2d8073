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

from benchmarks.figures import environment
from benchmarks.paper_tables import RESULTS
from lmaas_sdk.bench import read_results

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


def _has(part: Part, record: Mapping[str, Any]) -> bool:
    if "--tasks" not in part.options or record["task"] not in part.options["--tasks"].split(","):
        return False
    limit = record["evaluations_limit"]
    row = record["configuration"] if limit is None else f"{record['configuration']}@{limit}"
    return row in part.options["--methods"].split(",")


def tokens_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By part: tokens of the seeds that are measured here, and of all that the results have."""
    found: dict[str, list[float]] = {part.name: [0.0, 0.0] for part in PARTS}
    for one in records:
        if "spend" not in one or "known_from" in one or one["status"] != "done":
            continue
        part = next((part for part in PARTS if _has(part, one)), None)  # a later part finds it done
        if part is not None:
            took = one["spend"]["total"]["tokens"] + 3 * one.get("training", {}).get("tokens", 0)
            found[part.name][0] += took * (one["seed"] in (None, *part.timed))
            found[part.name][1] += took * (one["seed"] in (None, *_SEEDS[: part.seeds]))
    return found


def told(measured_s: Mapping[str, float], records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table."""
    rows = ["| part | measured | seeds | tokens of all | the plan |", "| --- | ---: | ---: | ---: | ---: |"]
    all_s, tokens = 0.0, tokens_of(records)
    for part in PARTS:
        timed, whole = tokens[part.name]
        part_s, times = measured_s[part.name], whole / timed if timed else 1.0
        all_s += part_s * times
        seeds = f"{len(part.timed)} of {part.seeds}"
        rows.append(f"| {part.name} | {_minutes(part_s)} | {seeds} | {times:.2f} x | {_minutes(part_s * times)} |")
    once = _minutes(sum(measured_s[part.name] for part in PARTS))
    return [*rows, f"| all | {once} | | | {_minutes(all_s)}: {all_s / 3600:.1f} hours |"]


def same(records: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many of the cells that are done again predict the same on every test row, and how many there are."""
    before = {one["key"]: one["test"]["predictions"] for one in records if one["status"] == "done" and "test" in one}
    found = [one for one in again if one["status"] == "done" and "test" in one]
    return sum(before.get(one["key"]) == one["test"]["predictions"] for one in found), len(found)


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
    results = read_results(RESULTS)
    print("\n".join(told(kept, results)))
    print("\n{} of {} cells predicted every test row as before".format(*same(results, read_results(AGAIN))))


if __name__ == "__main__":
    main()
