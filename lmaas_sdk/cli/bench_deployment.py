"""`lmaas bench --deployment`: what methods cost in deployment, kept in the same results file."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.bench.configurations import get_configuration
from lmaas_sdk.bench.deployment import DeploymentRow, measure_deployment
from lmaas_sdk.bench.results import DEPLOYMENT
from lmaas_sdk.bench.store import ResultsFile
from lmaas_sdk.bench.surroundings import environment_of
from lmaas_sdk.canonical import digest
from lmaas_sdk.cli.bench_options import lengths_of, names_of, reader_of, recorded, seconds_of, seeds_of
from lmaas_sdk.cli.exit_codes import BUDGET_ENDED, DONE
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


@dataclass(frozen=True, slots=True)
class _Planned:
    """A row that is to be there in the end, by its key in the results file."""

    configuration: str
    task: str
    length: int
    seed: int
    key: str

    @property
    def label(self) -> str:
        return f"{self.task} at {self.length} tokens, {self.configuration}, seed {self.seed}"


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
    end_s = math.inf if seconds is None else monotonic() + seconds
    with ResultsFile(args.out) as results:
        for alike in dict.fromkeys((row.task, row.seed) for row in planned):
            rows = [row for row in _missing(planned, results.records) if (row.task, row.seed) == alike]
            if rows and monotonic() < end_s:
                asyncio.run(_measured(args, card, results, rows, is_over=lambda: monotonic() >= end_s))
        left = _missing(planned, results.records)
    print(f"{len(planned) - len(left)} of {len(planned)} rows are measured, in {args.out}", file=sys.stderr)
    return BUDGET_ENDED if left else DONE


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
    names = [_with_budget(name, args.evaluations) for name in names_of(args)]
    return [
        _Planned(name, task, length, seed, _key(args, card, name, task, length=length, seed=seed))
        for task, length in lengths_of(args.deployment).items()
        for seed in seeds_of(args, _SEED)
        for name in names
    ]


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
) -> None:
    """Measures rows of one task and seed, until it is over."""
    keys, first = {row.configuration: row.key for row in rows}, rows[0]
    environment = await asyncio.to_thread(environment_of, card, jobs=1)

    def keep(row: DeploymentRow) -> None:
        record: dict[str, Any] = {"kind": DEPLOYMENT, "status": "done", "key": keys[row.configuration]}
        results.add(record | {"row": row.to_dict(), "environment": environment})
        print(f"{first.task}, {row.configuration}, seed {first.seed}: measured", file=sys.stderr, flush=True)

    await measure_deployment(
        list(keys),
        get_task(first.task),
        data=reader_of(args),
        max_length=first.length,
        evaluations=args.evaluations,
        seed=first.seed,
        shots=args.shots,
        test_rows=args.test_rows,
        model=args.model,
        on_row=keep,
        is_over=is_over,
    )


def _with_budget(name: str, evaluations: int) -> str:
    """A row of a search says how many evaluations it had."""
    configuration = get_configuration(name)
    is_settled = configuration.evaluations is not None or not configuration.searches
    return name if is_settled else f"{name}@{evaluations}"


def _key(args: argparse.Namespace, card: ModelCard, name: str, task: str, *, length: int, seed: int) -> str:
    return digest(
        {
            "format": "lmaas-bench-deployment/1",
            "configuration": name,
            "settings": dict(get_configuration(name).settings(card)),
            "task": task,
            "max_length": length,
            "seed": seed,
            "shots": args.shots,
            "test_rows": args.test_rows,
            "model": args.model,
        }
    )
