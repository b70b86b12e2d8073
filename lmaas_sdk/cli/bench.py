"""`lmaas bench`: methods x tasks x seeds on one budget, into one results file, as the paper's tables."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from lmaas_sdk.backend import Backend, ModelCard
from lmaas_sdk.bench.benchmark import Benchmark, CellEnded
from lmaas_sdk.bench.cells import Cell, cells_of
from lmaas_sdk.bench.expected import Expected, expected_of
from lmaas_sdk.bench.missing import missing_of
from lmaas_sdk.bench.report import BenchReport
from lmaas_sdk.bench.results import done_cells
from lmaas_sdk.bench.store import open_results, read_results
from lmaas_sdk.cli.bench_deployment import run_deployment
from lmaas_sdk.cli.bench_options import Plan, add_bench_options, plan_of, recorded, seconds_of
from lmaas_sdk.cli.exit_codes import BUDGET_ENDED, DONE, INTERRUPTED, USAGE, exit_code_of_part, exit_code_of_parts
from lmaas_sdk.cli.folders import check_folder
from lmaas_sdk.cli.run_options import budget_of, opened_cache, opened_ledger
from lmaas_sdk.cli.session import stopping_on_signals
from lmaas_sdk.errors import BudgetExceeded
from lmaas_sdk.registry import load_backend
from lmaas_sdk.traffic.retry import RetryPolicy

__all__ = ["add_command"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "bench",
        help="measure methods beside one another, and print the paper's tables",
        description="Measures configurations on tasks with seeds. What FILE has is not measured again, so a command "
        "that was interrupted goes on when it is given again.",
    )
    add_bench_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_folder("--report", args.report)  # tables that cannot be written would be found out after all is measured
    if args.tables:
        _print(args, _of_file(args))
        return DONE
    if args.deployment is not None:
        code = run_deployment(args)
        if not args.dry_run:
            _print(args, BenchReport.of(read_results(args.out), with_paper=args.paper))
        return code
    seconds_of(args)  # a limit that is none is told before anything is read or opened
    budget_of(args)
    plan = plan_of(args)
    return asyncio.run(_dry_run(args, plan) if args.dry_run else _session(args, plan))


async def _dry_run(args: argparse.Namespace, plan: Plan) -> int:
    """Opens nothing but the model: what is there is left as it is, and to whoever adds to it."""
    async with _opened(args, plan) as backend:
        card = backend.card
        cells = await asyncio.to_thread(_planned, args, plan, card)
        records = await asyncio.to_thread(recorded, args.out)
        despite = args.despite_changes
        missing = missing_of(cells, records, path=args.out, fingerprint=card.fingerprint, despite_changes=despite)
        _say(args, cells, missing)
        expected = await expected_of(missing, backend)
    _list(missing, expected, as_json=args.json)
    return USAGE if expected.refused else DONE


def _planned(args: argparse.Namespace, plan: Plan, card: ModelCard) -> list[Cell]:
    return list(cells_of(plan.configurations, plan.tasks, plan.seeds, card=card, evaluations=args.evaluations))


async def _session(args: argparse.Namespace, plan: Plan) -> int:
    async with (
        opened_ledger(args) as ledger,
        opened_cache(args) as cache,
        _opened(args, plan) as backend,
    ):
        cells = await asyncio.to_thread(_planned, args, plan, backend.card)
        async with open_results(args.out) as results:
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
                on_cell=_tell,
            )
            _say(args, cells, bench.missing(cells))
            with stopping_on_signals(bench) as asked:
                ended = await bench.run(cells, seconds=seconds_of(args))
            left = bench.missing(cells)
    _say(args, cells, left)
    await asyncio.to_thread(lambda: _print(args, _report(args, plan, cells, results.records)))
    return _exit_code(ended, left, was_asked=asked.is_set())


def _opened(args: argparse.Namespace, plan: Plan) -> AbstractAsyncContextManager[Backend]:
    """A method that needs the weights has the model in this process, where that can be; else it fails by itself."""
    if "://" not in args.model and any(configuration.needs_weights for configuration in plan.configurations):
        with contextlib.suppress(TypeError):  # a backend that takes no such option
            return load_backend(args.model, in_process=True)
    return load_backend(args.model)


def _of_file(args: argparse.Namespace) -> BenchReport:
    """All that the results file has, or its sweeps of one setting.

    Raises:
        ValueError: It has none of that setting.
    """
    report = BenchReport.of(read_results(args.out), with_paper=args.paper)
    if args.sweep is None:
        return report
    sweeps = tuple(sweep for sweep in report.sweeps if sweep.name == args.sweep)
    if not sweeps:
        raise ValueError(f"{args.out} has no sweep of {args.sweep}: leave out --tables to measure one")
    return replace(report, sweeps=sweeps)


def _report(
    args: argparse.Namespace, plan: Plan, cells: Sequence[Cell], records: Iterable[Mapping[str, Any]]
) -> BenchReport:
    records = list(records)
    if plan.sweep is not None:
        sweeps = [plan.sweep.result(cells, done_cells(records))]
        return BenchReport.of(records, sweeps=sweeps, with_paper=args.paper)
    wanted = Counter((cell.row, cell.task.name) for cell in cells)
    return BenchReport.of(records, wanted=wanted, with_paper=args.paper)


def _print(args: argparse.Namespace, report: BenchReport) -> None:
    """Writes and prints the tables."""
    if args.report is not None:
        for path in report.write(args.report):
            print(path, file=sys.stderr)
    print(json.dumps(report.to_dict(), indent=2) if args.json else report.markdown())


def _say(args: argparse.Namespace, cells: Sequence[Cell], missing: Sequence[Cell]) -> None:
    total = len({cell.key for cell in cells})
    print(f"{total - len(missing)} of {total} cells are done, in {args.out}", file=sys.stderr)


def _tell(one: CellEnded) -> None:
    """A line on stderr for every cell that has ended."""
    found = one.record.get("test") if one.status in ("done", "cut") else None
    said = f"{100 * found['value']:.2f}" if found and found["value"] is not None else one.record["error"] or ""
    print(f"{one.cell.label}: {one.status} {said} ({one.record['wall_s']:.0f} s)", file=sys.stderr, flush=True)


def _list(missing: Sequence[Cell], expected: Expected, *, as_json: bool) -> None:
    for cell, error in expected.refused.items():
        print(f"{cell.label}: cannot be measured: {error}", file=sys.stderr)
    if as_json:
        told = {
            "missing": [{"label": cell.label, "key": cell.key} for cell in missing],
            "tokens": expected.tokens,
            "cost_usd": expected.cost_usd,
            "cells_without_estimate": expected.unknown,
            "refused": {cell.label: str(error) for cell, error in expected.refused.items()},
        }
        print(json.dumps(told, indent=2))
        return
    for cell in missing:
        print(cell.label)
    money = "" if expected.cost_usd is None else f" and ${expected.cost_usd:,.2f}"
    print(f"the searches are expected to take {expected.tokens:,.0f} tokens{money}, test rows included")


def _exit_code(ended: Sequence[CellEnded], left: Sequence[Cell], *, was_asked: bool) -> int:
    """Done where nothing is left; else what kept it from that.

    Raises:
        Exception: A cell has failed by a fault of a program, which ends the command as it would end a single run's.
    """
    if not left:
        return DONE
    codes = set[int]()
    for one in ended:
        if one.error is None:
            continue
        if (code := _exit_code_of(one, one.error)) is None:
            raise one.error
        codes.add(code)
    if was_asked:
        return INTERRUPTED
    return exit_code_of_parts(codes)


def _exit_code_of(one: CellEnded, error: Exception) -> int | None:
    """What a failed cell says."""
    if isinstance(error, BudgetExceeded):
        return BUDGET_ENDED if one.ends_all else USAGE
    return exit_code_of_part(error)
