"""`lmaas bench --deployment`: what methods cost in deployment, kept in the same results file."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from lmaas_sdk.bench.configurations import get_configuration
from lmaas_sdk.bench.deployment import DeploymentRow, measure_deployment
from lmaas_sdk.bench.results import DEPLOYMENT
from lmaas_sdk.bench.store import ResultsFile
from lmaas_sdk.canonical import digest
from lmaas_sdk.cli.bench_options import lengths_of, names_of, numbers_of, reader_of
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.tasks import get_task

__all__ = ["run_deployment"]


def run_deployment(args: argparse.Namespace) -> int:
    """Measures what the results file has not yet, one row after the other, and returns the exit code."""
    reader_of(args)
    lengths = lengths_of(args.deployment)
    with ResultsFile(args.out) as results:
        for task, length in lengths.items():
            asyncio.run(_measured(args, results, task, length))
    return DONE


async def _measured(args: argparse.Namespace, results: ResultsFile, task: str, length: int) -> None:
    done = {record["key"] for record in results.records if record.get("kind") == DEPLOYMENT}
    names = [_with_budget(name, args.evaluations) for name in names_of(args)]
    seed = numbers_of("--seeds", args.seeds)[0]
    keys = {name: _key(args, name, task, length=length, seed=seed) for name in names}

    def keep(row: DeploymentRow) -> None:
        record: dict[str, Any] = {"kind": DEPLOYMENT, "status": "done", "key": keys[row.configuration]}
        results.add(record | {"row": row.to_dict()})
        print(f"{task}, {row.configuration}: measured", file=sys.stderr, flush=True)

    await measure_deployment(
        [name for name in names if keys[name] not in done],
        get_task(task),
        data=reader_of(args),
        max_length=length,
        evaluations=args.evaluations,
        seed=seed,
        shots=args.shots,
        test_rows=args.test_rows,
        model=args.model,
        on_row=keep,
    )


def _with_budget(name: str, evaluations: int) -> str:
    """A row of a search says how many evaluations it had."""
    configuration = get_configuration(name)
    is_settled = configuration.evaluations is not None or not configuration.searches
    return name if is_settled else f"{name}@{evaluations}"


def _key(args: argparse.Namespace, name: str, task: str, *, length: int, seed: int) -> str:
    return digest(
        {
            "format": "lmaas-bench-deployment/1",
            "configuration": name,
            "task": task,
            "max_length": length,
            "seed": seed,
            "shots": args.shots,
            "test_rows": args.test_rows,
            "model": args.model,
        }
    )
