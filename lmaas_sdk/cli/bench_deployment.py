"""`lmaas bench --deployment`: what methods cost in deployment, kept in the same results file."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Any

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.bench.cells import Cell, cells_of, read_task
from lmaas_sdk.bench.configurations import get_configuration
from lmaas_sdk.bench.deployment import DeploymentRow, measure_deployment
from lmaas_sdk.bench.results import DEPLOYMENT
from lmaas_sdk.bench.store import ResultsFile
from lmaas_sdk.bench.surroundings import environment_of
from lmaas_sdk.canonical import digest
from lmaas_sdk.cli.bench_options import lengths_of, names_of, reader_of, recorded, seconds_of, seeds_of
from lmaas_sdk.cli.exit_codes import DONE, exit_code_of_part, exit_code_of_parts
from lmaas_sdk.errors import BackendError, LmaasError, TaskError
from lmaas_sdk.registry import load_backend
from lmaas_sdk.tasks import get_task

__all__ = ["run_deployment"]

_OF_CELLS = {
    "jobs": 1,
    "ledger": None,
    **dict.fromkeys((f"budget_{unit}" for unit in ("calls", "evaluations", "tokens", "usd", "wall_s")), None),
    "budget_name": "budget",
    "quotas": None,
    "cache": None,
    "no_cache": False,
    "max_wait_s": None,
    "despite_changes": False,
    "tasks": None,
    "sweep": None,
    "values": None,
}
"""Options that a row of this table has no use for, as they are where nobody gives them."""
_SEED = "13"


@dataclass(frozen=True, eq=False)  # no slots: a key is kept once it is worked out
class _Planned:
    """A row that is to be there in the end: what a cell measures, on texts cut to a length, with costs besides."""

    cell: Cell
    length: int

    @property
    def configuration(self) -> str:
        return self.cell.row

    @property
    def setting(self) -> tuple[str, int]:
        """Its task and seed: rows that share them are measured together."""
        return self.cell.task.name, self.cell.seed

    @property
    def label(self) -> str:
        return f"{self.cell.task.name} at {self.length} tokens, {self.configuration}, seed {self.cell.seed}"

    @cached_property
    def key(self) -> str:
        """SHA-256 over all that decides its figures, in hex: the cell's key, and what a cell has no use for."""
        return digest(
            {
                "format": "lmaas-bench-deployment/2",
                "cell": self.cell.key,
                "configuration": self.configuration,
                "max_length": self.length,
                "seed": self.cell.seed,
                "inputs": self.inputs,  # those of a method without seeds, too, whose cell has no few-shot sample
            }
        )

    @property
    def inputs(self) -> str:
        """A digest of data and model, as cells name them; rows of one table have the same."""
        sets = (self.cell.train, self.cell.dev, self.cell.test)
        return digest([*(rows.digest for rows in sets), dict(self.cell.model)])


def run_deployment(args: argparse.Namespace) -> int:
    """Measures what the results file has not yet, one row after the other, and returns the exit code.

    Raises:
        ValueError: An option cannot be used, or not with this table.
    """
    _check(args)
    seconds = seconds_of(args)
    card = asyncio.run(_card(args.model))
    planned = _planned(args, card)
    if args.dry_run:
        _list(_missing(planned, recorded(args.out)), as_json=args.json)
        return DONE
    failed, end_s = list[LmaasError](), math.inf if seconds is None else monotonic() + seconds
    with ResultsFile(args.out) as results:
        for alike in dict.fromkeys(row.setting for row in planned):
            rows = [row for row in _missing(planned, results.records) if row.setting == alike]
            if rows and monotonic() < end_s:
                failed += asyncio.run(_measured(args, card, results, rows, is_over=lambda: monotonic() >= end_s))
        left = _missing(planned, results.records)
    print(f"{len(planned) - len(left)} of {len(planned)} rows are measured, in {args.out}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} failed: give the command again, or leave out of --methods what fails each time",
            file=sys.stderr,
        )
    return exit_code_of_parts(filter(None, map(exit_code_of_part, failed))) if left else DONE


def _check(args: argparse.Namespace) -> None:
    reader_of(args)
    given = [f"--{name.replace('_', '-')}" for name, unused in _OF_CELLS.items() if getattr(args, name) != unused]
    if given:
        raise ValueError(
            "--deployment TASK:TOKENS,... measures one row after the other, each with a server and a user of its own, "
            f"so leave out {', '.join(given)}"
        )
    if "://" in args.model:
        raise ValueError(
            "--deployment starts servers of its own, so --model is the name or the folder of a model, not a URL (by "
            "default it is $LMAAS_BASE_URL)"
        )


async def _card(model: str) -> ModelCard:
    async with load_backend(model) as backend:
        return backend.card


def _planned(args: argparse.Namespace, card: ModelCard) -> list[_Planned]:
    """Every row once; reads the data."""
    configurations = [get_configuration(name) for name in names_of(args)]
    rows = {
        row.key: row
        for task, length in lengths_of(args.deployment).items()
        for data in [read_task(reader_of(args), get_task(task), shots=args.shots, test_rows=args.test_rows)]
        for seed in seeds_of(args, _SEED)
        for cell in cells_of(configurations, [data], [seed], card=card, evaluations=args.evaluations)
        for row in [_Planned(cell, length)]
    }
    return list(rows.values())


def _missing(planned: Iterable[_Planned], records: Iterable[Mapping[str, Any]]) -> list[_Planned]:
    done = {record["key"] for record in records if record.get("kind") == DEPLOYMENT}
    return [row for row in planned if row.key not in done]


def _list(missing: Sequence[_Planned], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"missing": [{"label": row.label, "key": row.key} for row in missing]}, indent=2))
        return
    for row in missing:
        print(row.label)


async def _measured(
    args: argparse.Namespace,
    card: ModelCard,
    results: ResultsFile,
    rows: Sequence[_Planned],
    *,
    is_over: Callable[[], bool],
) -> list[LmaasError]:
    """Measures rows of one task and seed, until it is over, and returns what some of them failed by."""
    planned, first, failed = {row.configuration: row for row in rows}, rows[0], list[LmaasError]()
    environment = await asyncio.to_thread(environment_of, card, jobs=1)

    def keep(row: DeploymentRow) -> None:
        one = planned[row.configuration]
        record: dict[str, Any] = {"kind": DEPLOYMENT, "status": "done", "key": one.key, "inputs": one.inputs}
        results.add(record | {"row": row.to_dict(), "environment": environment})
        print(f"{one.label}: measured", file=sys.stderr, flush=True)

    def fail(name: str, error: LmaasError) -> None:
        failed.append(error)
        print(f"{planned[name].label}: failed {_named(error)}", file=sys.stderr, flush=True)

    try:
        await measure_deployment(
            list(planned),
            first.cell.task,
            data=reader_of(args),
            max_length=first.length,
            evaluations=args.evaluations,
            seed=first.cell.seed,
            shots=args.shots,
            test_rows=args.test_rows,
            model=args.model,
            on_row=keep,
            on_failure=fail,
            is_over=is_over,
        )
    except TaskError as error:  # the texts cannot be cut so short, for any row
        for name in planned:
            fail(name, error)
    return failed


def _named(error: LmaasError) -> str:
    """As `BudgetTooSmall: ...`; an error of another process says so itself."""
    is_named = type(error) in (LmaasError, BackendError)
    return str(error) if is_named else f"{type(error).__name__}: {error}"
