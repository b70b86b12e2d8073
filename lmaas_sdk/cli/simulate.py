"""`lmaas simulate`: how a run would go, and when it would end, without sending anything."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.cli.conditions_options import add_conditions_options, conditions_of, note_free_money
from lmaas_sdk.cli.console import stdout_console
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.planning.recorded import RecordedLandscape, recorded_landscape
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.simulate import simulate, sweep
from lmaas_sdk.planning.simulation import Simulation, Sweep
from lmaas_sdk.planning.synthetic import SyntheticLandscape, SyntheticTexts
from lmaas_sdk.reporting.progress import CountProgress
from lmaas_sdk.reporting.simulation_progress import RunMoments
from lmaas_sdk.tasks import few_shot, get_task, read_folder
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, PRESETS

__all__ = ["add_command"]

_SEED = 42
_WIDTH_OF_A_FILE = 180  # where there is no terminal, no line is broken
_SWEPT: dict[str, Callable[[str], object]] = {
    "candidates-a-call": int,
    "concurrency": int,
    "population": int,
    "preset": str,
    "max-wait-s": float,
}


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "simulate",
        help="play a run through against quotas, prices and failures, in virtual time",
        description="Plays tuning runs with the real tuner, client, ledger and quota in front of a synthetic model: "
        "weeks pass in seconds, nothing is sent and nothing is spent.",
    )
    _add_data(parser.add_argument_group("data"))
    _add_search(parser.add_argument_group("search"))
    _add_budget(parser.add_argument_group("budget (none given: 8000 evaluations)"))
    add_conditions_options(parser)
    _add_landscape(parser.add_argument_group("landscape"))
    parser.add_argument("--seeds", metavar="N,N,...", help="a run each (default: that of the journal's run, else 42)")
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="NAME=V,V",
        help=f"a row for each value of {', '.join(_SWEPT)}; repeatable, each with each",
    )
    parser.add_argument("--no-compare", action="store_true", help="leave out what a run finds with nothing in its way")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else to stdout")
    parser.set_defaults(run=_run)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--train-texts", type=int, default=32, metavar="N", help="made-up texts (default: %(default)s)")
    group.add_argument("--dev-texts", type=int, default=0, metavar="N", help="as many to choose by; 0: none")
    group.add_argument(
        "--tokens",
        default="25",
        metavar="N,N,...",
        help="of each text by itself, or of one after another (default: %(default)s)",
    )
    group.add_argument("--classes", type=int, default=2, help="of the made-up texts (default: %(default)s)")
    group.add_argument("--task", help="real texts in their place, such as sst2")
    group.add_argument("--data", type=Path, metavar="FOLDER", help="where the task's train split is")
    group.add_argument("--shots", type=int, default=16, help="examples a class, for train and for dev each")
    group.add_argument("--no-dev", action="store_true", help="of real texts: choose by train loss")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help=f"settings of the search (default: those of the journal's run, else {DEFAULT_PRESET})",
    )
    group.add_argument("--population", type=int, metavar="N", help="candidates of a generation, if not the preset's")
    group.add_argument("--candidates-a-call", type=int, metavar="N", help="at most (default: a whole generation)")
    group.add_argument("--max-wait-s", type=float, metavar="SECONDS", help="most that a call may wait for the quota")


def _add_budget(group: argparse._ArgumentGroup) -> None:
    for unit in ("evaluations", "calls", "tokens"):
        group.add_argument(f"--budget-{unit}", type=int, metavar="N")
    group.add_argument("--budget-usd", metavar="AMOUNT", help="such as 5.00")
    group.add_argument("--budget-wall-s", type=float, metavar="SECONDS")


def _add_landscape(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--landscape", type=Path, metavar="JOURNAL", help="what a run saw, in the place of a made-up one"
    )
    group.add_argument("--effective-dim", type=int, default=10, metavar="N", help="directions that matter")
    group.add_argument("--ruggedness", type=float, default=0.0, metavar="X", help="above 0: many local minima")
    group.add_argument("--noise", type=float, default=0.0, metavar="X", help="deviation of a logit")
    group.add_argument("--hidden-size", type=int, default=1024, metavar="N", help="the model's width")


def _run(args: argparse.Namespace) -> int:
    recorded = None if args.landscape is None else recorded_landscape(args.landscape)
    seeds = [_SEED if recorded is None else recorded.seed] if args.seeds is None else _numbers("--seeds", args.seeds)
    settings = _settings(args.sweep)
    args = argparse.Namespace(**(vars(args) | dict.fromkeys(settings)))  # a sweep is in the place of the option
    scenario = _scenario(args, recorded, seeds[0])
    note_free_money(args, is_priced=scenario.conditions.price is not None)
    runs = math.prod((len(seeds), *map(len, settings.values())))
    with _without_warnings(), CountProgress("simulated runs", runs) as progress:
        on_moment = RunMoments(progress, seeds, compare=not args.no_compare).show
        options: dict[str, Any] = {"seeds": seeds, "compare": not args.no_compare, "on_moment": on_moment}
        found = sweep(scenario, **options, **settings) if settings else simulate(scenario, **options)
        progress.show(runs)
    if args.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        _print(found, recorded)
    return DONE


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What a run would warn of is in the table: nothing of it has happened."""
    logger = logging.getLogger("lmaas_sdk")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _print(found: Simulation | Sweep, recorded: RecordedLandscape | None) -> None:
    stdout_console(file_width=_WIDTH_OF_A_FILE).print(found.table())
    if recorded is not None:
        print(recorded)


def _scenario(args: argparse.Namespace, recorded: RecordedLandscape | None, seed: int) -> Scenario:
    """What the options describe.

    Args:
        args: The options.
        recorded: The landscape of a journal, if one is named.
        seed: Of the choice of real texts.

    Raises:
        ValueError: One of them cannot be; the message names it.
    """
    return Scenario(
        **_data(args, seed),
        preset=args.preset or (DEFAULT_PRESET if recorded is None else recorded.preset),
        population=args.population,
        budget=_budget(args),
        conditions=conditions_of(args),
        candidates_a_call=args.candidates_a_call,
        landscape=recorded or SyntheticLandscape(args.effective_dim, args.ruggedness, args.noise, args.hidden_size),
        max_wait_s=args.max_wait_s,
    )


def _data(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    if (args.task is None) != (args.data is None):
        raise ValueError("real texts need both --task and --data FOLDER")
    if args.task is not None:
        task = get_task(args.task)
        train, dev = few_shot(read_folder(args.data, task, "train"), args.shots, seed=seed)
        return {"train": train, "dev": None if args.no_dev else dev}
    tokens = tuple(_numbers("--tokens", args.tokens))
    made_up = {name: getattr(args, f"{name}_texts") for name in ("train", "dev")}
    return {
        name: SyntheticTexts(count, tokens, args.classes) for name, count in made_up.items() if count or name == "train"
    }


def _budget(args: argparse.Namespace) -> Budget | None:
    units = ("calls", "evaluations", "tokens", "usd", "wall_s")
    limits = {unit: limit for unit in units if (limit := getattr(args, f"budget_{unit}")) is not None}
    return Budget(**limits, warn_at=()) if limits else None


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} are numbers with commas between them, not {text!r:.80}") from error


def _settings(sweeps: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, values in map(_swept, sweeps):
        if name in settings:
            raise ValueError(f"--sweep {name} is there twice: give all its values in one")
        settings[name] = values
    return settings


def _swept(text: str) -> tuple[str, list[object]]:
    name, _, values = text.partition("=")
    if name not in _SWEPT or not values:
        raise ValueError(f"--sweep is NAME=V,V with a NAME of {', '.join(_SWEPT)}, not {text!r:.80}")
    try:
        return name.replace("-", "_"), [_SWEPT[name](value) for value in values.split(",")]
    except ValueError as error:
        raise ValueError(f"--sweep {name} has numbers with commas between them, not {values!r:.80}") from error
