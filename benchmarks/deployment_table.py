"""The paper's second table with the bundled model: what each method costs in deployment, on SST-2 and AG's News.

    python -m benchmarks.deployment_table --data FOLDER      # FOLDER/SST-2/train.tsv, ...: measures what is missing
    python -m benchmarks.deployment_table --data FOLDER --configurations manual black-box:paper@2000 --tasks sst2
    python -m benchmarks.deployment_table                    # the table of what was measured

Samples are cut to 47 tokens on SST-2 and 107 on AG's News, as in the paper. Every row has a server and a user's process
of its own on this machine, one row after the other. A row that is done is not measured again, unless `--again` says so;
each keeps the load average it was measured under.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import environment
from lmaas_sdk.bench.configurations import CONFIGURATIONS, get_configuration
from lmaas_sdk.bench.deployment import DeploymentRow, measure_deployment

KEPT = Path(__file__).parent / "results" / "deployment.json"
MAX_LENGTHS = {"sst2": 47, "agnews": 107}
MODEL, SEED, SHOTS = "roberta-tiny", 42, 16
EVALUATIONS, TEST_ROWS, THREADS = 8000, 1000, 1
_PRESETS = "black-box:"


def table_configurations() -> list[str]:
    """All that can be measured, of black-box tuning the paper's preset alone."""
    return [name for name in CONFIGURATIONS if not name.startswith(_PRESETS) or name == f"{_PRESETS}paper"]


def asked(name: str, evaluations: int) -> str:
    """A configuration with the evaluations that its search is given."""
    configuration = get_configuration(name)
    if configuration.evaluations is not None or not configuration.searches:
        return name
    return f"{name}@{evaluations}"


def known(path: Path) -> dict[str, Any]:
    """The rows that were measured, by what they are of."""
    rows: dict[str, Any] = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else {}
    return rows


def keep(path: Path, row: DeploymentRow) -> None:
    """Adds a row, or puts it in the place of an older one; each is on the disk before the next is measured."""
    command = shlex.join(["python", "-m", "benchmarks.deployment_table", *sys.argv[1:]])
    entry = {"command": command, "environment": environment(), "row": row.to_dict()}
    rows = known(path) | {place(row.task, row.configuration): entry}
    path.write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")
    print(f"{row.task}: {row.configuration} is measured", flush=True)


def place(task: str, configuration: str) -> str:
    """What a row is kept under."""
    return f"{task}@{MAX_LENGTHS[task]} {configuration}"


async def fill(args: argparse.Namespace) -> None:
    """Measures what is missing."""
    for task in args.tasks:
        names = [asked(name, args.evaluations) for name in args.configurations]
        done = set() if args.again else known(args.results).keys()
        await measure_deployment(
            [name for name in names if place(task, name) not in done],
            task,
            data=args.data,
            max_length=MAX_LENGTHS[task],
            seed=SEED,
            shots=SHOTS,
            test_rows=args.test_rows,
            model=MODEL,
            threads=THREADS,
            on_row=partial(keep, args.results),
        )


def table(rows: Mapping[str, Any]) -> str:
    """The rows in the paper's columns, in Markdown; a query is one evaluation, or the training set's features once."""
    lines = [
        "| task | method | deployment-efficient | as-a-service | test | training | user | server | upload | download |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in rows.values():
        row = DeploymentRow.from_dict(entry["row"])
        marks = " | ".join("yes" if is_so else "no" for is_so in (row.deployment_efficient, row.as_a_service))
        sizes = " | ".join(
            map(_size, (row.user_memory_bytes, row.server_memory_bytes, row.upload_bytes, row.download_bytes))
        )
        lines.append(
            f"| {row.task}@{row.max_length} | {row.configuration} | {marks} | {100 * row.test_metric:.1f} "
            f"| {row.training_time_s:.1f} s | {sizes} |"
        )
    return "\n".join(lines)


def _size(size_bytes: float | None) -> str:
    """In units of 1,000."""
    if size_bytes is None:
        return "-"
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.2f} KB"
    return f"{size_bytes / 1e6:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of data sets; without it nothing is measured")
    parser.add_argument("--tasks", nargs="+", default=list(MAX_LENGTHS), choices=MAX_LENGTHS)
    parser.add_argument("--configurations", nargs="+", default=table_configurations(), metavar="NAME", help="or NAME@N")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of a search (default: %(default)s)")
    parser.add_argument("--test-rows", type=int, default=TEST_ROWS, help="most, drawn by seed 0 (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=KEPT, metavar="FILE")
    parser.add_argument("--again", action="store_true", help="measure rows that are done, too")
    args = parser.parse_args()
    if args.data is not None:
        asyncio.run(fill(args))
    print(table(known(args.results)))


if __name__ == "__main__":
    main()
