"""A tuning run as a command does it: watch, save, draw, report."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.backend import Backend
from lmaas_sdk.cli.run_options import Splits
from lmaas_sdk.reporting.curves import draw_run
from lmaas_sdk.reporting.progress import RunProgress
from lmaas_sdk.tuning.predictor import Evaluation
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["report", "tune"]


async def tune(
    backend: Backend, splits: Splits, *, args: Namespace, preset: str | Preset, budget: Budget | None
) -> TuningResult:
    """Runs the search with a progress display on stderr and compares the tuned prompt with the manual one."""
    tuner = Tuner(backend, budget=budget, preset=preset, seed=args.seed)
    with RunProgress(budget) as progress:
        return await tuner.fit(
            splits.train,
            splits.dev,
            test=splits.test,
            compare_manual=splits.test is not None,
            max_wait_s=args.max_wait_s,
            on_event=progress.show,
        )


def report(result: TuningResult, *, prompt_file: Path, picture: Path | None, as_json: bool) -> None:
    """Writes the files and prints the result, as a table or as one JSON object."""
    for path in (prompt_file, picture):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    result.prompt.save(prompt_file)
    if picture is not None:
        draw_run(result, picture)
    if as_json:
        files = {"prompt_file": str(prompt_file), "picture": None if picture is None else str(picture)}
        print(json.dumps(result.to_dict() | files, indent=2))
        return
    console = Console()
    console.print(_accuracy_table(result))
    console.print(_spend_table(result))
    console.print(f"stopped: {result.stopped} after {result.wall_s:.1f} s; chosen by {result.chosen_by}")
    console.print(f"prompt file: {prompt_file}" + ("" if picture is None else f"\npicture: {picture}"), soft_wrap=True)


def _accuracy_table(result: TuningResult) -> Table:
    table = Table(title=f"{result.prompt.task.name} on {result.prompt.model}")
    table.add_column("prompt")
    table.add_column(f"test {result.prompt.task.metric}", justify="right")
    table.add_column("test texts", justify="right")
    for name, found in (("manual", result.manual), ("tuned", result.test)):
        table.add_row(name, *_evaluation_cells(found))
    return table


def _evaluation_cells(found: Evaluation | None) -> tuple[str, str]:
    return ("not evaluated", "-") if found is None else (f"{100 * found.value:.1f} %", str(found.n_texts))


def _spend_table(result: TuningResult) -> Table:
    table = Table(title="spend")
    for column in ("purpose", "calls", "evaluations", "tokens", "cost"):
        table.add_column(column, justify="left" if column == "purpose" else "right")
    for purpose, amounts in (*sorted(result.spend.by_purpose.items()), ("total", result.spent)):
        table.add_row(purpose, *_amount_cells(amounts))
    limits = {unit: limit for unit, limit in result.budget.items() if limit is not None}
    table.caption = "budget: " + (", ".join(f"{unit} {limit}" for unit, limit in limits.items()) or "none")
    return table


def _amount_cells(amounts: Amounts) -> tuple[str, str, str, str]:
    return str(amounts.calls), f"{amounts.evaluations}", f"{amounts.tokens:,}", format_usd(amounts.nanousd)
