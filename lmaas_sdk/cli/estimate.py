"""`lmaas estimate`: what a run will come to, before anything is sent."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.backend import Backend
from lmaas_sdk.cli.conditions_options import add_conditions_options, conditions_of, note_free_money
from lmaas_sdk.cli.estimate_report import Asked, Shape, show
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.cli.price_options import add_price_options, day_of, tables_of
from lmaas_sdk.cli.run_options import (
    Splits,
    add_limit_options,
    add_run_options,
    add_search_options,
    budget_of,
    preset_of,
    scheduling_of,
)
from lmaas_sdk.cli.tune import add_data_options, splits_of, task_of
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.counted import OnPaper
from lmaas_sdk.planning.estimate import estimate
from lmaas_sdk.planning.learned import History, read_history
from lmaas_sdk.registry import load_backend
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.traffic.retry import RetryPolicy

__all__ = ["add_command"]

_CANDIDATES = 64
_MOST_TEXTS = 100_000


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "estimate",
        help="what a run will cost and how long it will take",
        description="Takes the options of `lmaas tune` and sends nothing: counts the tokens of the data, and says what "
        "the run will come to, with 90 % intervals. With --tokens-a-text neither data nor a model is needed.",
    )
    add_data_options(parser)
    paper = parser.add_argument_group("without data or a model")
    paper.add_argument("--tokens-a-text", type=int, metavar="N", help="of a text in its template, without the prompt")
    paper.add_argument("--hidden-size", type=int, default=1024, metavar="D", help="of the model (default: %(default)s)")
    paper.add_argument(
        "--candidates-a-call",
        metavar="N,N,...",
        help=f"most of a call (default: {_CANDIDATES}); of several the first is estimated, and all are compared, "
        "with dev scoring and without",
    )
    add_run_options(parser, preset="default")
    add_search_options(parser)
    add_limit_options(parser)
    add_conditions_options(parser)
    parser.add_argument("--history", type=Path, metavar="LEDGER", help="learn failures and latency from a ledger file")
    parser.add_argument(
        "--probe", type=int, default=0, metavar="N", help="send N calls to learn the latency; they cost"
    )
    add_price_options(parser)
    asked = parser.add_argument_group("questions")
    asked.add_argument("--fits-usd", metavar="AMOUNT", help="what fits into so much money, such as 5.00")
    asked.add_argument("--evaluations", type=int, metavar="N", help="which budget reaches so many")
    parser.set_defaults(run=_run, ledger=None, budget_name="budget")


def _run(args: argparse.Namespace) -> int:
    _check(args)
    counts = _counts(args.candidates_a_call)
    task, conditions, on = task_of(args), conditions_of(args), day_of(args)
    preset_of(args), scheduling_of(args), budget_of(args)
    history = None if args.history is None else read_history(args.history)
    splits = splits_of(args, task) if args.tokens_a_text is None else _on_paper(args, task)
    found = asyncio.run(_estimates(args, counts, splits, conditions, history))
    first = next(one for _, has_dev, one in found if has_dev is (splits.dev is not None))
    note_free_money(args, is_priced=first.cost_usd is not None)
    asked = Asked(
        models=first.priced(args.models, on=on, tables=tables_of(args)),
        fits=None if args.fits_usd is None else first.fits(usd=args.fits_usd),
        fits_usd=args.fits_usd,
        budget=None if args.evaluations is None else first.budget_for(args.evaluations),
        shapes=tuple(found) if len(counts) > 1 else (),
    )
    if args.json:
        print(json.dumps(first.to_dict() | asked.to_dict(), indent=2))
    else:
        show(first, asked)
    return DONE


def _check(args: argparse.Namespace) -> None:
    """Refuses what can be seen to be wrong without looking at the data.

    Raises:
        ValueError: It names the options.
    """
    if args.task is None:
        raise ValueError("say which task: --task")
    if args.tokens_a_text is None:
        if args.data is None:
            raise ValueError("give the data (--data FOLDER), or say how long texts are (--tokens-a-text N)")
        if args.candidates_a_call is not None:
            raise ValueError(
                "how many candidates a call carries is the model's to say: --candidates-a-call goes with "
                "--tokens-a-text"
            )
    elif args.data is not None or args.probe:
        raise ValueError("--tokens-a-text is for planning without data and model: leave --data and --probe out")
    if args.fits_usd is not None and args.tokens_a_text is not None and not (args.models or args.price):
        raise ValueError("what fits into money depends on a price: name a model with --price or --models")


async def _estimates(
    args: argparse.Namespace,
    counts: Sequence[int],
    splits: Splits,
    conditions: Conditions,
    history: History | None,
) -> list[Shape]:
    """The run as it is asked about; where several numbers of candidates are given, with each, without dev and with."""
    found: list[Shape] = []
    dev = splits.train if splits.dev is None else splits.dev  # on paper, texts are alike
    with_dev = (splits.dev is not None,) if len(counts) == 1 else (False, True)
    for candidates, has_dev in itertools.product(counts, with_dev):
        async with _opened(args, candidates) as backend:
            one = await estimate(
                backend,
                splits.train,
                dev if has_dev else None,
                test=splits.test,
                compare_manual=splits.test is not None,
                budget=budget_of(args),
                preset=preset_of(args),
                seed=args.seed,
                scheduling=scheduling_of(args),
                retry=RetryPolicy(max_wait_s=args.max_wait_s),
                conditions=conditions,
                probe=args.probe,
                history=history,
            )
        found.append((candidates, has_dev, one))
    return found


@asynccontextmanager
async def _opened(args: argparse.Namespace, candidates: int) -> AsyncIterator[Backend]:
    if args.tokens_a_text is None:
        async with load_backend(args.model) as backend:
            yield backend
        return
    models, tables = args.models, tables_of(args)
    named = OnPaper(
        args.price or (models[0] if models else "a model on paper"),
        tokens_a_text=args.tokens_a_text,
        hidden_size=args.hidden_size,
        max_candidates=candidates,
        price=find_price(models[0], tables=tables, on=args.on) if models else None,
    )
    yield named


def _on_paper(args: argparse.Namespace, task: Task) -> Splits:
    """As many texts as a run would draw; what stands in them does not matter."""
    count = args.shots * len(task.labels)
    test = None if args.no_test or args.test_rows is None else _texts(task, args.test_rows)
    return Splits(_texts(task, count), None if args.no_dev else _texts(task, count), test)


def _texts(task: Task, count: int) -> Dataset:
    if count > _MOST_TEXTS:
        raise ValueError(f"--shots and --test-rows are for at most {_MOST_TEXTS:,} texts of a set, not {count}")
    fields = task.template.fields
    rows = [(dict.fromkeys(fields, f"text {number}"), number % len(task.labels)) for number in range(count)]
    return task.examples(rows)


def _counts(given: str | None) -> tuple[int, ...]:
    """Candidates a call.

    Raises:
        ValueError: One is no number, below 1, or there twice.
    """
    try:
        counts = (_CANDIDATES,) if given is None else tuple(map(int, given.split(",")))
    except ValueError as error:
        raise ValueError(f"--candidates-a-call are numbers with commas between them, not {given!r:.80}") from error
    if min(counts) < 1 or len(set(counts)) < len(counts):
        raise ValueError(f"--candidates-a-call are numbers of at least 1, none of them twice, not {given:.80}")
    return counts
