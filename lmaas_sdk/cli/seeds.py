"""`lmaas tune --seeds 13,21,42`: a run a seed, on one budget."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.cli.console import stdout_console
from lmaas_sdk.cli.exit_codes import exit_code_of_group
from lmaas_sdk.cli.journal_options import how_to_go_on, options_to_keep
from lmaas_sdk.cli.run_options import Splits, budget_of, opened_cache, opened_ledger, preset_of, scheduling_of
from lmaas_sdk.cli.session import OutputFiles, stopping_on_signals
from lmaas_sdk.errors import BackendError, QuotaExceeded
from lmaas_sdk.registry import load_backend
from lmaas_sdk.reporting.progress import GroupProgress
from lmaas_sdk.tuning.group import TunerGroup
from lmaas_sdk.tuning.group_result import GroupResult, in_words
from lmaas_sdk.tuning.plan import DEFAULT_EVALUATIONS

__all__ = ["add_seeds_options", "seeds_of", "tune_seeds"]


def add_seeds_options(parser: argparse.ArgumentParser) -> None:
    """Several seeds, and where their runs keep journals."""
    group = parser.add_argument_group("several seeds (a run each, which share the budget)")
    group.add_argument(
        "--seeds", metavar="N,N,...", help="in the place of --seed: of the data, the search, the subspace"
    )
    group.add_argument(
        "--journals", type=Path, metavar="FOLDER", help="each run keeps a journal there, or goes on with the one it has"
    )


def seeds_of(args: argparse.Namespace) -> list[int]:
    """The seeds that the options ask for; none: it is one run.

    Raises:
        ValueError: One is no number, or there twice; or journals are asked for without seeds.
    """
    if args.seeds is None:
        if args.journals is not None:
            raise ValueError("--journals FOLDER is for several seeds: give them by --seeds")
        return []
    try:
        seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError as error:
        raise ValueError(f"--seeds are numbers with commas between them, not {args.seeds!r:.80}") from error
    if args.journal is not None or args.resume is not None:
        raise ValueError("--journal and --resume are for one run: with --seeds give --journals FOLDER, again to go on")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds has one of them twice: {args.seeds:.80}")
    return seeds


async def tune_seeds(args: argparse.Namespace, splits: Mapping[int, Splits], files: Mapping[int, OutputFiles]) -> int:
    """Runs all of them, writes what they found, and returns the exit code."""
    async with opened_ledger(args) as ledger, opened_cache(args) as cache, load_backend(args.model) as backend:
        budget = budget_of(args, ledger) or Budget(evaluations=len(splits) * DEFAULT_EVALUATIONS, warn_at=())
        group = TunerGroup(
            budget=budget,
            journals=args.journals,
            durability=args.durability,
            despite_changes=args.despite_changes,
        )
        options = await asyncio.to_thread(options_to_keep, args)
        for seed, data in splits.items():
            group.add(
                f"seed-{seed}",
                backend,
                data.train,
                data.dev,
                test=data.test,
                compare_manual=data.test is not None,
                target=args.target,
                preset=preset_of(args),
                scheduling=scheduling_of(args),
                seed=seed,
                quotas=args.quotas,
                cache=cache,
                options=options,
            )
        with GroupProgress(budget) as progress, stopping_on_signals(group):
            result = await group.fit(max_wait_s=args.max_wait_s, on_event=progress.show)
    _report(result, {f"seed-{seed}": one for seed, one in files.items()}, as_json=args.json)
    if _goes_on(result) and (hint := await asyncio.to_thread(how_to_go_on, args)) is not None:
        print(hint, file=sys.stderr)
    return exit_code_of_group(result)


def _goes_on(result: GroupResult) -> bool:
    """Whether there is something left to do that another day or a working backend would allow."""
    is_cut_short = any(run.stopped in ("interrupted", "quota") for run in result.values())
    return is_cut_short or any(isinstance(error, BackendError | QuotaExceeded) for error in result.failures.values())


def _report(result: GroupResult, files: Mapping[str, OutputFiles], *, as_json: bool) -> None:
    written = {name: files[name].write(run) for name, run in result.items()}
    if as_json:
        told = result.to_dict()
        runs = {name: run.to_dict() | written[name] for name, run in result.items()}
        print(json.dumps(told | {"runs": runs}, indent=2))
        return
    console = stdout_console()
    console.print(result.table())
    for name, error in result.failures.items():
        console.print(f"{name} failed: {in_words(error)}", soft_wrap=True, highlight=False, markup=False)
    for name, paths in written.items():
        console.print(f"{name}: prompt file: {paths['prompt_file']}", soft_wrap=True, highlight=False, markup=False)
