"""`lmaas demo`: one real run in a minute or two, on the bundled model and a small set of reviews."""

from __future__ import annotations

import argparse
import asyncio
import importlib.resources
import sys
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.cli.exit_codes import DONE, exit_code_of_run
from lmaas_sdk.cli.run_options import Splits, add_run_options
from lmaas_sdk.cli.session import OutputFiles, report, tune
from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.registry import load_backend
from lmaas_sdk.reporting.curves import check_can_draw
from lmaas_sdk.tasks import Task, read_folder
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["REVIEWS_TASK", "add_command", "demo_splits"]

_MODEL = "roberta-tiny"
_PRICE_USD_PER_1K_TOKENS = "0.0004"
_REQUESTS_PER_MINUTE = 240
_BUDGET_USD = "1.00"
_BUDGET_EVALUATIONS = 600

REVIEWS_TASK = Task(
    "demo-reviews", template="{text} It was <mask> .", labels=["negative", "positive"], words=["bad", "great"]
)


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "demo",
        help="tune the bundled model on a small set of reviews",
        description="Serves the bundled model on loopback with a price per token and a rate limit, tunes a prompt "
        "within a budget, and compares it with the manual prompt.",
    )
    parser.add_argument("--out", type=Path, default=Path("lmaas-demo"), metavar="FOLDER", help="where the files go")
    add_run_options(parser, preset="default")
    parser.set_defaults(run=_run)


def demo_splits() -> Splits:
    """The reviews that were written for this project: 56 to train on, 56 to choose by, 400 to test on."""
    reviews = importlib.resources.files("lmaas_sdk.cli") / "demo_reviews"
    with importlib.resources.as_file(reviews) as folder:
        return Splits(*(read_folder(folder, REVIEWS_TASK, split) for split in ("train", "dev", "test")))


def _run(args: argparse.Namespace) -> int:
    splits, files = demo_splits(), OutputFiles.checked(args.out, "demo", picture=_can_draw())
    budget = Budget(evaluations=_BUDGET_EVALUATIONS, usd=_BUDGET_USD, warn_at=())  # the display shows it

    async def session() -> int:
        served = load_backend(
            _MODEL, price_usd_per_1k_tokens=_PRICE_USD_PER_1K_TOKENS, requests_per_minute=_REQUESTS_PER_MINUTE
        )
        async with served as backend:
            tuner = Tuner(backend, budget=budget, preset=args.preset, seed=args.seed)
            result = await tune(tuner, splits, max_wait_s=args.max_wait_s)
        report(result, files, as_json=args.json)
        return DONE if result.stopped == "budget" else exit_code_of_run(result)  # its budget's end is how a demo ends

    return asyncio.run(session())


def _can_draw() -> bool:
    """The demo does without its picture, and says so, where matplotlib is missing."""
    try:
        check_can_draw()
    except MissingExtra as missing:
        print(f"no picture will be drawn: {missing}", file=sys.stderr)
        return False
    return True
