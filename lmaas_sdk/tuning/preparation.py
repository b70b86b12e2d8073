"""All that happens before the first call: check the data, count its tokens, see how far the budget reaches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import format_usd, usd
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend
from lmaas_sdk.client import Client
from lmaas_sdk.errors import TaskError
from lmaas_sdk.logs import log_event
from lmaas_sdk.tasks import Dataset, check_metric
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.deep_subspace import Space
from lmaas_sdk.tuning.parts import Scorable
from lmaas_sdk.tuning.plan import DEFAULT_EVALUATIONS, RunCosts, is_limited
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.racing import Racing, can_drop, pays, rungs
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.selection import MOST_RESCORED

__all__ = [
    "LabelledTexts",
    "check_comparison",
    "costs_beforehand",
    "effective_budget",
    "given_datasets",
    "prepare",
    "run_costs",
    "will_race",
    "worst_of_generation",
]

_logger = logging.getLogger("lmaas_sdk.tuning")
_DEV_CANDIDATES = 2  # the generation's best and the mean


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTexts:
    """A data set, ready to be scored."""

    dataset: Dataset
    scorable: Scorable


async def prepare(
    client: Client, subspace: Space, *, datasets: Mapping[str, Dataset | None]
) -> dict[str, LabelledTexts]:
    """Has every data set counted, by its name (train, dev, test; manual is the test under the manual prompt); free.

    What decides and what is reported is scored in float32; what the search learns from need not be.

    Raises:
        EmptyClass: A class has no training example.
        TaskError: The sets are of different tasks, or one is empty.
    """
    given = given_datasets(datasets)
    await asyncio.to_thread(_check_they_fit, given)
    scheduler = Scheduler(client, "counting")

    async def ready(name: str, texts: TextSet) -> Scorable:
        return await scheduler.prepare(texts, None if name == "manual" else subspace, precise=name != "train")

    return {name: LabelledTexts(dataset, await ready(name, dataset.text_set)) for name, dataset in given.items()}


def given_datasets(datasets: Mapping[str, object]) -> dict[str, Dataset]:
    """Those that there are, by name; the train set must be one of them.

    Raises:
        TypeError: One is no `Dataset`.
    """
    found: dict[str, Dataset] = {}
    for name, dataset in datasets.items():
        if isinstance(dataset, Dataset):
            found[name] = dataset
        elif dataset is not None or name == "train":
            raise TypeError(
                f"the {name} set is a Dataset, made by task.examples([...]) or read_folder, not {dataset!r:.80} of "
                f"{type(dataset).__name__}"
            )
    return found


def _check_they_fit(datasets: Mapping[str, Dataset]) -> None:
    train = datasets["train"]
    train.require_every_class()
    check_metric(train.task.metric, train.labels)
    for name, dataset in datasets.items():
        if not len(dataset):
            raise TaskError(f"the {name} set has no examples: leave it out, or read it again")
        if dataset.task != train.task:
            raise TaskError(f"the {name} set is of task {dataset.task.name!r}, the train set of {train.task.name!r}")
        _ = dataset.digest, dataset.text_set.digest  # rendered and hashed here, off the event loop's thread


def check_comparison(*, compare_manual: bool, has_test: bool) -> None:
    """Refuses a comparison of prompts on nothing.

    Raises:
        ValueError: The manual prompt is to be evaluated, and there is no test set.
    """
    if compare_manual and not has_test:
        raise ValueError("compare_manual evaluates the manual prompt on the test set, and there is none: give test=")


def will_race(client: Client, preset: Preset, train: LabelledTexts, *, given: Budget | None) -> bool:
    """Whether candidates are raced: where the preset says so or it pays, and somebody can be dropped.

    Args:
        client: Sends.
        preset: The settings.
        train: The training set.
        given: The budget that the run was given; None: none.
    """
    if preset.racing == "off":
        return False
    if can_drop(Racing(), train.dataset.labels):
        return preset.racing == "on" or _pays_to_race(client, preset, train, given or Budget())
    if preset.racing == "on":
        _log_no_race(train.dataset)
    return False


def _pays_to_race(client: Client, preset: Preset, train: LabelledTexts, budget: Budget) -> bool:
    scheduler = Scheduler(client, "pricing")
    return pays(
        Racing(),
        objective=preset.objective,
        n_texts=len(train.dataset),
        generation=worst_of_generation(scheduler, train, preset.population, racing=None),
        free={unit: budget.least_free(unit) for unit in ("calls", "tokens", "nanousd")},
        limits=client.limits("score"),
        price=client.backend.card.price,
    )


def _log_no_race(train: Dataset) -> None:
    log_event(
        _logger,
        logging.WARNING,
        "no_race",
        "%(texts)d texts of %(classes)d classes are too few for a race: it takes three of some class",
        texts=len(train),
        classes=len(set(train.labels.tolist())),
    )


def run_costs(
    backend: Backend, preset: Preset, data: Mapping[str, LabelledTexts], *, candidates: int, racing: Racing | None
) -> RunCosts:
    """The worst case of every step of a run on this data.

    Args:
        backend: Where calls go.
        preset: The settings.
        data: The sets, by name.
        candidates: Of a generation.
        racing: How they are raced.
    """
    scheduler = Scheduler(Client(backend, Budget()), "pricing")
    can = backend.card.capabilities

    def worst(name: str, candidates: int, purpose: Purpose) -> Amounts:
        return scheduler.worst(data[name].scorable, candidates, purpose, apart=True) if name in data else Amounts()

    is_chosen_by_loss = "dev" not in data
    again = range(2, MOST_RESCORED + 1) if scheduler.sees_fewer_bits and is_chosen_by_loss else ()
    repeat = Amounts() if can.deterministic else worst("train", 1, "train")
    return RunCosts(
        generation=worst_of_generation(scheduler, data["train"], candidates, racing=racing),
        dev_scoring=worst("dev", _DEV_CANDIDATES, "dev") + repeat,
        dev_every=preset.dev_every,
        test=worst("test", 1, "test"),
        manual=worst("manual", 1, "test"),
        rescoring=tuple(worst("train", candidates, "train") for candidates in again),
    )


async def costs_beforehand(
    client: Client,
    preset: Preset,
    datasets: Mapping[str, Dataset | None],
    *,
    seed: int,
    given: Budget,
    over_ask: int = 0,
) -> RunCosts:
    """The worst case of every step of a run that searches one prompt, before there is one; free.

    Args:
        client: As the run's.
        preset, seed: The run's settings.
        datasets: The sets, by name; None where there is none.
        given: The budget that the run is given.
        over_ask: Candidates beyond the population.

    Raises:
        EmptyClass, TaskError: As of `prepare`.
    """
    card = client.backend.card
    data = await prepare(client, preset.subspace(card, seed), datasets=datasets)
    racing = Racing() if will_race(client, preset, data["train"], given=given) else None
    return run_costs(client.backend, preset, data, candidates=preset.population + over_ask, racing=racing)


def worst_of_generation(
    scheduler: Scheduler,
    train: LabelledTexts,
    candidates: int,
    *,
    racing: Racing | None,
    seed: int = 0,
    generation: int = 0,
) -> Amounts:
    """The most that scoring a generation may take; a race is at its dearest when nobody is dropped."""
    if racing is None:
        return scheduler.worst(train.scorable, candidates, "train")
    steps = rungs(racing, train.dataset.labels, seed=seed, generation=generation)
    return sum((scheduler.worst(train.scorable, candidates, "train", rows=rows) for rows in steps), Amounts())


def effective_budget(given: Budget | None, costs: RunCosts, population: int, *, unique: bool = True) -> Budget:
    """The budget of a run.

    Without one: 8000 evaluations and, where they cost anything, no more money than that. With one that limits nothing
    that is charged here (dollars on a free model, say) and no time: 8000 evaluations within it.

    Args:
        given: What it was given.
        costs: Of its steps.
        population: Candidates of a generation.
        unique: Whether those 8000 are its own; else they are those of every run of the budget that is asked about so.
    """
    budget = given or _default_budget(costs, population)
    if not is_limited(budget, costs) and budget.limits["wall_s"] is None:
        return budget.child("default", Budget(evaluations=DEFAULT_EVALUATIONS, warn_at=()), unique=unique)
    return budget


def _default_budget(costs: RunCosts, population: int) -> Budget:
    total = costs.total(DEFAULT_EVALUATIONS // population)
    if not total.nanousd:
        return Budget(evaluations=DEFAULT_EVALUATIONS, name="default", warn_at=())
    log_event(
        _logger,
        logging.WARNING,
        "default_budget",
        "no budget was given: %(evaluations)d evaluations of at most %(tokens)d tokens, at most %(usd)s",
        evaluations=DEFAULT_EVALUATIONS,
        tokens=total.tokens,
        usd=format_usd(total.nanousd),
    )
    return Budget(evaluations=DEFAULT_EVALUATIONS, usd=usd(total.nanousd), name="default", warn_at=())
