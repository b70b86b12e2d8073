"""`lmaas bench`: methods x tasks x seeds on one budget, into one results file."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.bench.benchmark import Benchmark, CellEnded
from lmaas_sdk.bench.cells import Cell, TaskData, cells_of, folder_reader, read_task
from lmaas_sdk.bench.configurations import CONFIGURATIONS, Configuration, get_configuration
from lmaas_sdk.bench.store import ResultsFile
from lmaas_sdk.cli.exit_codes import BUDGET_ENDED, DONE, INTERRUPTED, UNAVAILABLE, exit_code_of
from lmaas_sdk.cli.run_options import add_budget_options, add_traffic_options, budget_of, opened_cache, opened_ledger
from lmaas_sdk.cli.session import stopping_on_signals
from lmaas_sdk.registry import load_backend
from lmaas_sdk.tasks import PAPER_TASKS, get_task
from lmaas_sdk.traffic.retry import RetryPolicy

__all__ = ["add_command"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "bench",
        help="measure methods beside one another",
        description="Measures configurations on tasks with seeds; what FILE has is not measured again.",
    )
    _add_plan_options(parser)
    parser.add_argument("--out", type=Path, default=Path("bench.jsonl"), metavar="FILE", help="the results file")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cells at once (default: %(default)s)")
    parser.add_argument("--minutes", type=float, metavar="M", help="of this slice; the next one goes on")
    parser.add_argument("--dry-run", action="store_true", help="list what there is to do, and send nothing")
    parser.add_argument("--despite-changes", action="store_true", help="mix with what another engine has measured")
    parser.add_argument("--max-wait-s", type=float, help="most seconds a call may wait for the provider's rate limit")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else to stdout")
    add_budget_options(parser)
    add_traffic_options(parser)
    parser.set_defaults(run=_run)


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="has a folder for each task")
    parser.add_argument(
        "--methods",
        default="manual,manual-calibrated,in-context,black-box:paper,black-box:default",
        metavar="NAME,NAME,...",
        help=f"of {', '.join(CONFIGURATIONS)}; NAME@N gives one N evaluations (default: %(default)s)",
    )
    parser.add_argument("--tasks", default=",".join(PAPER_TASKS), metavar="NAME,...", help="(default: %(default)s)")
    parser.add_argument("--seeds", default="13,21,42,87,100", metavar="N,N,...", help="(default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=8000, metavar="N", help="of a search (default: %(default)s)")
    parser.add_argument("--shots", type=int, default=16, help="examples a class, for train and for dev each")
    parser.add_argument("--test-rows", type=int, default=1000, metavar="N", help="most rows to report on, by seed 0")
    parser.add_argument(
        "--model",
        default=os.environ.get("LMAAS_BASE_URL", "roberta-tiny"),
        help="as of tune (default: $LMAAS_BASE_URL, else roberta-tiny)",
    )


def _run(args: argparse.Namespace) -> int:
    if args.data is None:
        raise ValueError("say where the tasks' data lie: --data FOLDER")
    configurations = [get_configuration(name) for name in args.methods.split(",")]
    seeds = _numbers("--seeds", args.seeds)
    tasks = _tasks(args)
    budget_of(args)  # a limit that is none is told before anything is opened
    return asyncio.run(_session(args, configurations, tasks, seeds))


def _numbers(option: str, given: str) -> list[int]:
    try:
        numbers = [int(number) for number in given.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} are numbers with commas between them, not {given!r:.80}") from error
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{option} has one of them twice: {given:.80}")
    return numbers


def _tasks(args: argparse.Namespace) -> list[TaskData]:
    read = folder_reader(args.data)
    named = [get_task(name) for name in args.tasks.split(",")]
    return [read_task(read, task, shots=args.shots, test_rows=args.test_rows) for task in named]


async def _session(
    args: argparse.Namespace, configurations: Sequence[Configuration], tasks: Sequence[TaskData], seeds: Sequence[int]
) -> int:
    def planned(card: ModelCard) -> list[Cell]:
        return list(cells_of(configurations, tasks, seeds, card=card, evaluations=args.evaluations))

    async with opened_ledger(args) as ledger, opened_cache(args) as cache, load_backend(args.model) as backend:
        cells = await asyncio.to_thread(planned, backend.card)
        with await asyncio.to_thread(ResultsFile, args.out) as results:
            bench = Benchmark(
                backend,
                results,
                work=args.out.with_name(f"{args.out.name}.work"),
                budget=budget_of(args, ledger),
                jobs=args.jobs,
                despite_changes=args.despite_changes,
                retry=None if args.max_wait_s is None else replace(RetryPolicy(), max_wait_s=args.max_wait_s),
                quotas=args.quotas,
                cache=cache,
                on_cell=_told,
            )
            missing = bench.missing(cells)
            print(f"{len(cells) - len(missing)} of {len(cells)} cells are done", file=sys.stderr)
            if args.dry_run:
                return _listed(missing, as_json=args.json)
            with stopping_on_signals(bench) as asked:
                ended = await bench.run(cells, seconds=None if args.minutes is None else 60 * args.minutes)
            left = bench.missing(cells)
    print(f"{len(cells) - len(left)} of {len(cells)} cells are done, in {args.out}", file=sys.stderr)
    return _exit_code(ended, left, was_asked=asked.is_set())


def _told(one: CellEnded) -> None:
    """A line on stderr for every cell that has ended."""
    found = one.record.get("test")
    value = f"{100 * found['value']:.2f}" if one.status in ("done", "cut") and found else one.record["error"] or ""
    print(f"{one.cell.label}: {one.status} {value} ({one.record['wall_s']:.0f} s)", file=sys.stderr, flush=True)


def _listed(missing: Sequence[Cell], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"missing": [{"label": cell.label, "key": cell.key} for cell in missing]}, indent=2))
    else:
        for cell in missing:
            print(cell.label)
    return DONE


def _exit_code(ended: Sequence[CellEnded], left: Sequence[Cell], *, was_asked: bool) -> int:
    """Done where nothing is left; else what kept it from that."""
    if not left:
        return DONE
    if was_asked:
        return INTERRUPTED
    codes = [exit_code_of(one.error) or UNAVAILABLE for one in ended if one.error is not None]
    return next((code for code in codes if code == UNAVAILABLE), BUDGET_ENDED)
