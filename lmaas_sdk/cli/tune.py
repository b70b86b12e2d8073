"""`lmaas tune`: tune a prompt on a task's data, within a budget."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend
from lmaas_sdk.cli.exit_codes import exit_code_of_run
from lmaas_sdk.cli.journal_options import (
    add_journal_options,
    again,
    check_same_options,
    how_to_go_on,
    noting_how_to_go_on,
    options_to_keep,
    take_options_of_journal,
)
from lmaas_sdk.cli.run_options import (
    Splits,
    add_budget_options,
    add_run_options,
    add_search_options,
    add_traffic_options,
    budget_of,
    opened_cache,
    opened_ledger,
    preset_of,
    scheduling_of,
)
from lmaas_sdk.cli.seeds import add_seeds_options, seeds_of, tune_seeds
from lmaas_sdk.cli.session import OutputFiles, report, tune
from lmaas_sdk.errors import TaskError
from lmaas_sdk.registry import load_backend
from lmaas_sdk.tasks import Dataset, Task, few_shot, get_task, read_folder, subsample
from lmaas_sdk.tasks.source import squash
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.tuning.stopping import checked_target
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["add_command", "add_data_options", "splits_of", "task_of"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "tune",
        help="tune a prompt on your data",
        description="Draws a few-shot train and dev set from FOLDER/train, tunes, and compares with the manual prompt.",
    )
    add_data_options(parser)
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where files go (default: here)")
    parser.add_argument("--plot", action="store_true", help="draw the run as a PNG (needs the extra 'plot')")
    add_run_options(parser, preset="default")
    add_seeds_options(parser)
    add_search_options(parser)
    add_budget_options(parser)
    add_traffic_options(parser)
    add_journal_options(parser)
    parser.set_defaults(
        run=_run, recall=partial(take_options_of_journal, parser), again=partial(again, parser), kept={}
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Task, data and model."""
    parser.add_argument("--task", help="sst2, yelp, agnews, dbpedia, mrpc, rte, snli, mr, trec, or a name")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="has train.tsv (csv, jsonl) and a test split")
    own = parser.add_argument_group("a task of your own")
    own.add_argument("--template", help="such as '{text} . It was <mask> .'")
    own.add_argument("--labels", help="the labels as they stand in the data, comma-separated")
    own.add_argument("--words", help="the word at the mask for each label, comma-separated")
    own.add_argument("--metric", help="accuracy (the default) or f1")
    parser.add_argument("--shots", type=int, default=16, help="examples a class, for train and for dev each")
    parser.add_argument("--no-dev", action="store_true", help="choose by train loss")
    parser.add_argument("--no-test", action="store_true", help="evaluate on nothing")
    parser.add_argument("--test-split", metavar="NAME", help="the split to evaluate on (default: the task's own)")
    parser.add_argument("--test-rows", type=int, metavar="N", help="evaluate on N rows drawn by the seed")
    parser.add_argument(
        "--model",
        default=os.environ.get("LMAAS_BASE_URL", "roberta-tiny"),
        help="roberta-tiny, a folder, a hub name, or the URL of a server (or of several, with commas between them; "
        "default: $LMAAS_BASE_URL, else roberta-tiny)",
    )


def _run(args: argparse.Namespace) -> int:
    _check(args)
    task = task_of(args)
    if seeds := seeds_of(args):
        return _run_seeds(args, task, seeds)
    splits = splits_of(args, task)
    budget_of(args)  # a limit that is none is told before anything is opened
    stem = f"{squash(task.name)}-{args.preset}-{args.seed}"
    files = OutputFiles.checked(args.out, stem, picture=args.plot)

    async def session() -> int:
        async with opened_ledger(args) as ledger, opened_cache(args) as cache, load_backend(args.model) as backend:
            tuner = await asyncio.to_thread(_tuner, args, backend, budget_of(args, ledger), cache)
            result = await tune(tuner, splits, max_wait_s=args.max_wait_s, target=args.target)
        report(result, files, as_json=args.json)
        if result.stopped in ("interrupted", "quota") and (hint := how_to_go_on(args)) is not None:
            print(hint, file=sys.stderr)
        return exit_code_of_run(result)

    with noting_how_to_go_on(args):
        return asyncio.run(session())


def _check(args: argparse.Namespace) -> None:
    """Refuses what can be seen to be wrong without looking at the data.

    Raises:
        ValueError: It names the options.
    """
    if args.task is None or args.data is None:
        raise ValueError("say which task and data: --task and --data (or --resume, to go on with a run)")
    if args.target is not None and args.no_dev:
        raise ValueError("--target is a metric on dev, and --no-dev leaves it out")
    checked_target(args.target, has_dev=not args.no_dev)
    check_same_options(args)
    preset_of(args)
    scheduling_of(args)


def _tuner(args: argparse.Namespace, backend: Backend, budget: Budget | None, cache: ReplyCache | bool) -> Tuner:
    """A tuner that begins the run, or goes on with it; reads the journal."""
    if args.resume is not None:
        return Tuner.resume(
            args.resume,
            backend,
            budget=budget,
            durability=args.durability,
            despite_changes=args.despite_changes,
            quotas=args.quotas,
            cache=cache,
        )
    return Tuner(
        backend,
        budget=budget,
        preset=preset_of(args),
        seed=args.seed,
        scheduling=scheduling_of(args),
        journal=args.journal,
        durability=args.durability,
        quotas=args.quotas,
        cache=cache,
        options=options_to_keep(args),
    )


def _run_seeds(args: argparse.Namespace, task: Task, seeds: list[int]) -> int:
    """A run a seed, each on data that its seed has drawn."""
    budget_of(args)
    splits = {seed: splits_of(argparse.Namespace(**{**vars(args), "seed": seed}), task) for seed in seeds}
    stems = {seed: f"{squash(task.name)}-{args.preset}-{seed}" for seed in seeds}
    files = {seed: OutputFiles.checked(args.out, stem, picture=args.plot) for seed, stem in stems.items()}
    with noting_how_to_go_on(args):
        return asyncio.run(tune_seeds(args, splits, files))


def task_of(args: argparse.Namespace) -> Task:
    """The task that the options name, or describe.

    Raises:
        TaskError: There is none of that name, or one of one's own lacks something.
    """
    own = {"template": args.template, "labels": args.labels, "words": args.words}
    if not any(own.values()) and not args.metric:
        return get_task(args.task)
    missing = [f"--{name}" for name, value in own.items() if not value]
    if missing:
        raise TaskError(f"a task of your own also needs {', '.join(missing)}")
    labels, words = args.labels.split(","), args.words.split(",")
    return Task(args.task, template=args.template, labels=labels, words=words, metric=args.metric or "accuracy")


def splits_of(args: argparse.Namespace, task: Task) -> Splits:
    """The data of a run, read and drawn.

    Raises:
        TaskError: They cannot be used.
    """
    train, dev = few_shot(read_folder(args.data, task, "train"), args.shots, seed=args.seed)
    return Splits(train, None if args.no_dev else dev, _test(args, task))


def _test(args: argparse.Namespace, task: Task) -> Dataset | None:
    if args.no_test:
        return None
    test = read_folder(args.data, task, args.test_split)
    rows = args.test_rows
    return test if rows is None or rows >= len(test) else subsample(test, rows, seed=args.seed)
