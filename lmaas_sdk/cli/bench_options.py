"""The options of `lmaas bench`, and what they ask for."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmaas_sdk.bench.cells import ReadSplit, TaskData, folder_reader, read_task
from lmaas_sdk.bench.configurations import CONFIGURATIONS, Configuration, get_configuration
from lmaas_sdk.bench.store import read_results
from lmaas_sdk.bench.sweep_settings import SETTINGS
from lmaas_sdk.bench.sweeps import Sweep, sweep_of
from lmaas_sdk.cli.run_options import add_budget_options, add_traffic_options
from lmaas_sdk.tasks import PAPER_TASKS, get_task, read_hub
from lmaas_sdk.tuning.presets import PRESETS

__all__ = [
    "Plan",
    "add_bench_options",
    "lengths_of",
    "names_of",
    "plan_of",
    "reader_of",
    "recorded",
    "seconds_of",
    "seeds_of",
]

_METHODS = ",".join(name for name in CONFIGURATIONS if not name.startswith("black-box:") or name.endswith(":paper"))
_BLACK_BOX = "black-box:"
_SWEPT = "black-box:paper"
_SEEDS = "13,21,42,87,100"
_LENGTHS = "sst2:47,agnews:107"  # as in Sun et al. 2022, table 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    Args:
        configurations: Which.
        tasks: On what.
        seeds: Of data and methods.
        sweep: What the configurations are of; None: of none.
    """

    configurations: tuple[Configuration, ...]
    tasks: tuple[TaskData, ...]
    seeds: tuple[int, ...]
    sweep: Sweep | None = None


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """All of them."""
    _add_plan(parser)
    _add_slice(parser)
    _add_output(parser)
    add_budget_options(parser, without="no limit that all share; each search has its --evaluations")
    add_traffic_options(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is measured")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, metavar="FOLDER", help="has a folder for each task; GLUE's own will do")
    source.add_argument("--hub", action="store_true", help="read the tasks from the Hugging Face hub")
    group.add_argument(
        "--methods",
        metavar="NAME,NAME,...",
        help=f"of {', '.join(CONFIGURATIONS)}; NAME@N gives one N evaluations (default: {_METHODS})",
    )
    group.add_argument("--tasks", metavar="NAME,...", help=f"(default: {','.join(PAPER_TASKS)})")
    group.add_argument("--seeds", metavar="N,N,...", help=f"(default: {_SEEDS})")
    group.add_argument("--evaluations", type=int, default=8000, metavar="N", help="of a search (default: %(default)s)")
    group.add_argument("--shots", type=int, default=16, help="examples a class, for train and for dev each")
    group.add_argument("--test-rows", type=int, default=1000, metavar="N", help="most rows to report on, by seed 0")
    group.add_argument(
        "--sweep", choices=list(SETTINGS), help=f"the effect of one setting, of one method (default: {_SWEPT})"
    )
    group.add_argument("--values", metavar="V,V,...", help="of the setting (default: the usual ones)")
    group.add_argument(
        "--deployment",
        nargs="?",
        const=_LENGTHS,
        metavar="TASK:TOKENS,...",
        help=f"measure what the methods cost in deployment instead, on texts cut to so many tokens ({_LENGTHS})",
    )
    group.add_argument(
        "--model",
        default=os.environ.get("LMAAS_BASE_URL", "roberta-tiny"),
        help="as of tune (default: $LMAAS_BASE_URL, else roberta-tiny)",
    )


def _add_slice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how")
    group.add_argument("--jobs", type=int, default=1, metavar="N", help="cells at once (default: %(default)s)")
    group.add_argument("--minutes", type=float, metavar="M", help="of this slice; the next one goes on")
    group.add_argument("--dry-run", action="store_true", help="list what there is to do and cost, and send nothing")
    group.add_argument("--despite-changes", action="store_true", help="mix with what another engine has measured")
    group.add_argument("--max-wait-s", type=float, help="most seconds a call may wait for the provider's rate limit")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    group.add_argument("--out", type=Path, default=Path("bench.jsonl"), metavar="FILE", help="(default: %(default)s)")
    group.add_argument("--tables", action="store_true", help="print what FILE has, and measure nothing")
    group.add_argument("--paper", action="store_true", help="with what others published, of RoBERTa-large")
    group.add_argument("--report", type=Path, metavar="FOLDER", help="write the tables there as .md, .json and .html")
    group.add_argument("--json", action="store_true", help="print one JSON object and nothing else to stdout")


def plan_of(args: argparse.Namespace) -> Plan:
    """Reads the data too.

    Raises:
        ValueError: An option cannot be used.
        TaskError: The data cannot be.
    """
    sweep = _sweep(args)
    configurations = tuple(map(get_configuration, names_of(args))) if sweep is None else sweep.configurations
    seeds, read = seeds_of(args), reader_of(args)
    names = PAPER_TASKS if args.tasks is None else args.tasks.split(",")
    tasks = tuple(dict.fromkeys(get_task(name).name for name in names))
    data = tuple(read_task(read, get_task(name), shots=args.shots, test_rows=args.test_rows) for name in tasks)
    return Plan(configurations, data, seeds, sweep)


def names_of(args: argparse.Namespace) -> list[str]:
    """The names of the configurations that the options ask for."""
    return list(dict.fromkeys((args.methods or _METHODS).split(",")))


def reader_of(args: argparse.Namespace) -> ReadSplit:
    """Where the data come from.

    Raises:
        ValueError: Nobody said.
    """
    if args.hub:
        return read_hub
    if args.data is None:
        raise ValueError("say where the data lie: --data FOLDER or --hub (or --tables, to print what FILE has)")
    return folder_reader(args.data)


def seeds_of(args: argparse.Namespace, default: str = _SEEDS) -> tuple[int, ...]:
    """Whole numbers with commas between them.

    Raises:
        ValueError: One is none, or there twice.
    """
    given = default if args.seeds is None else args.seeds
    try:
        numbers = tuple(int(number) for number in given.split(","))
    except ValueError as error:
        raise ValueError(f"--seeds are numbers with commas between them, not {given!r:.80}") from error
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--seeds has one of them twice: {given:.80}")
    return numbers


def seconds_of(args: argparse.Namespace) -> float | None:
    """Of this slice; None: as long as it takes.

    Raises:
        ValueError: It is no time that a slice can take.
    """
    if args.minutes is None:
        return None
    if not 0 <= args.minutes < math.inf:
        raise ValueError(f"--minutes is how long this slice may take, 0 or more, not {args.minutes:g}")
    return float(60 * args.minutes)


def recorded(path: Path) -> list[dict[str, Any]]:
    """What a results file has, nothing where there is none; a dry run neither makes one nor keeps it from others.

    Raises:
        RunFileError: It cannot be read, is none, or was changed.
    """
    return read_results(path) if path.exists() else []


def lengths_of(given: str) -> dict[str, int]:
    """The most tokens of a text, by task: "sst2:47,agnews:107".

    Raises:
        ValueError: It is of another form.
        UnknownTask: There is no such task.
    """
    pairs = [one.partition(":") for one in given.split(",")]
    if not all(length.isdecimal() and int(length) for _, _, length in pairs):
        raise ValueError(f"--deployment takes TASK:TOKENS with commas between them, not {given!r:.80}")
    lengths = {get_task(name).name: int(length) for name, _, length in pairs}
    if len(lengths) < len(pairs):
        raise ValueError(f"--deployment takes one length of a task at a time, not {given!r:.80}")
    return lengths


def _sweep(args: argparse.Namespace) -> Sweep | None:
    if args.sweep is None:
        if args.values is not None:
            raise ValueError("--values are of a setting: say which by --sweep")
        return None
    name = args.methods or _SWEPT
    if "," in name or not name.startswith(_BLACK_BOX):
        raise ValueError(f"--sweep varies one black-box:PRESET, not {name!r:.80}")
    configuration = get_configuration(name)
    preset = PRESETS[configuration.name.removeprefix(_BLACK_BOX)]
    found = sweep_of(args.sweep, preset, _values(args))
    own = configuration.evaluations
    return replace(found, configurations=tuple(replace(one, evaluations=own) for one in found.configurations))


def _values(args: argparse.Namespace) -> Sequence[Any] | None:
    if args.values is None:
        return None
    read = SETTINGS[args.sweep].read
    try:
        return [read(value) for value in args.values.split(",")]
    except ValueError as error:
        raise ValueError(f"--values of {args.sweep} are whole numbers, not {args.values!r:.80}") from error
