"""Sequential random embeddings (Qian, Hu & Yu 2016): several searches, each in a random subspace of its own.

One random subspace of few dimensions may miss what matters. So a round's best prompt is where the next round starts,
in another subspace drawn anew: the prompt is p0 + A_1 z_1 + A_2 z_2 + ..., of which one z is searched at a time and
those before are frozen at their best (their algorithm 1, with the scalar alpha before what is frozen left at 1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypedDict, Unpack

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Spend
from lmaas_sdk.backend import Backend
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendError, BudgetExceeded, PaymentRequired, QuotaExceeded
from lmaas_sdk.logs import log_event
from lmaas_sdk.methods.black_box import BlackBoxPredictor, SearchOptions
from lmaas_sdk.methods.parts import Parts, most_parts, noted_parts, recorded_parts
from lmaas_sdk.seeding import raw_words, whole_number
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tuning.events import Listener
from lmaas_sdk.tuning.group_journals import Journals, holds_run
from lmaas_sdk.tuning.options import check_kinds
from lmaas_sdk.tuning.plan import plan_run
from lmaas_sdk.tuning.predictor import Predictor
from lmaas_sdk.tuning.preparation import costs_beforehand, effective_budget
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, get_preset
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.resumption import Recorded, check_same_settings
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.selection import DevRule, dev_rank
from lmaas_sdk.tuning.start import Base
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["SequentialRandomEmbeddings"]

_CUT_SHORT = ("interrupted", "quota", "target")
_ENDS = (BudgetExceeded, PaymentRequired, QuotaExceeded, BackendError)
_SEED_BITS = 32
_logger = logging.getLogger("lmaas_sdk.methods")


class RoundOptions(TypedDict, total=False):
    """What `Tuner.fit` takes that every round is given."""

    max_wait_s: float | None
    target: float | None
    on_event: Listener | None


class SequentialRandomEmbeddings:
    """Black-box tuning in several rounds, each in a random subspace of its own around the best prompt so far.

    Every round is an ordinary run on its part of what is left of the budget: of 4 rounds the first gets a fourth of
    each limit, the second a third of the rest, so that what one leaves goes to those after it. A budget that pays for
    fewer generations than rounds is one of fewer rounds.

    Args:
        backend: The model; it stores arrays and writes prompts out.
        budget: What all rounds together may spend; None, or where it limits nothing that is charged: 8000 evaluations.
        rounds: How many at most.
        journals: A folder, made if need be: every round keeps a journal there, and one that has a journal there goes
            on with it. So the same program, started again after a kill, goes on with what it was doing.
        options: As of `Tuner`; `seed` is the first round's, and those of the others follow from it.

    Raises:
        TypeError, ValueError, Unsupported: As of `Tuner`; or `rounds` is no whole number of at least 1.
    """

    name: ClassVar[str] = "sequential-embeddings"

    def __init__(
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        rounds: int = 4,
        journals: str | Path | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        check_kinds(budget=budget, journals=journals)
        self.rounds = whole_number("rounds", rounds, at_least=1)
        self._backend, self._budget, self._options = backend, budget or Budget(), options
        self._journals = None if journals is None else Path(journals)
        self._rule: DevRule = get_preset(options.get("preset", DEFAULT_PRESET)).choose_by
        self._plain = Tuner(backend, **options)  # what is wrong with an option is said now

    async def fit(
        self, train: Dataset, dev: Dataset | None = None, **options: Unpack[RoundOptions]
    ) -> BlackBoxPredictor:
        """Tunes round by round, and predicts with the best prompt of all rounds.

        It is the best on dev, else the one with the lowest train loss; an earlier round's where they are equal. A
        round that a quota, an outage or a target ends is the last.

        Args:
            train, dev: Examples to tune on, and to choose by.
            options: As of `Tuner.fit`, for every round.

        Returns:
            A predictor. Its `spend` is that of all rounds, its `rounds` has them one by one, and its `result` is the
            one whose prompt it uses.

        Raises:
            BudgetTooSmall: The budget cannot pay for one generation; nothing was sent.
            JournalMismatch: The journals are of another number of rounds, or of another seed or preset.
            LmaasError: As of `Tuner.fit`, from the first round. Once a round is done, a budget, quota or backend that
                ends before a generation of the next is no error: it ends the rounds, with a warning in the log.
        """
        results, lost = list[TuningResult](), Amounts()
        parts = await self._parts(train, dev)
        for number in range(parts.count):
            base = _best(results, self._rule).prompt if results else self._options.get("base")
            tuner = await asyncio.to_thread(self._tuner, parts, number, base)
            try:
                results.append(await tuner.fit(train, dev, **options))
            except _ENDS as end:
                if not results:
                    raise
                _log_end(number, end)
                lost = Amounts() if tuner.budget is None else tuner.budget.posted
                break
            if results[-1].stopped in _CUT_SHORT:
                break
        return self._predictor(results, lost)

    async def _parts(self, train: Dataset, dev: Dataset | None) -> Parts:
        """Into how many parts the budget goes; as many as at first, where there are journals of that.

        Raises:
            BudgetTooSmall: It cannot pay for one generation.
            JournalMismatch: The journals are of another number of rounds.
        """
        plain, scheduling, quotas = self._plain, self._options.get("scheduling"), self._options.get("quotas")
        await self._budget.ready()
        costs = await costs_beforehand(
            Client(self._backend, Budget(), quotas=quotas),
            plain.preset,
            {"train": train, "dev": dev},
            seed=plain.seed,
            over_ask=(scheduling or Scheduling()).over_ask,
            given=self._budget,
        )
        budget = effective_budget(self._budget, costs, plain.preset.population, unique=self._journals is None)
        await budget.ready()
        first = [] if (path := self._path(0)) is None else [path]
        count = await asyncio.to_thread(recorded_parts, first, self.name, self.rounds, of="rounds")
        if count is None:
            plan_run(budget, costs)
            count = most_parts(budget, costs.total(1), self.rounds)
        return Parts(budget, count)

    def _path(self, number: int) -> Path | None:
        """Of a round's journal; None: it keeps none."""
        return None if self._journals is None else self._journals / f"round-{number + 1}.journal"

    def _tuner(self, parts: Parts, number: int, base: Base | None) -> Tuner:
        """The round of a number, counted from 0; blocking: it may read a journal or a prompt."""
        options: SearchOptions = {**self._options, "base": base}
        if number:
            words = raw_words(options.get("seed", 42), "sequential-embeddings/1", number)
            options["seed"] = int(words[-1]) >> _SEED_BITS
        name, path = f"round-{number + 1}", self._path(number)
        if path is None:
            return Tuner(self._backend, budget=parts.budget.child(name, parts.part(number), unique=True), **options)
        Journals(path.parent).make_folder()
        if holds_run(path):
            recorded = Recorded(path)
            self._check_same(recorded, Tuner(self._backend, **options))
            return self._resumed(path, parts.budget.child(name, recorded.limits()), base)
        noted = noted_parts(self.name, self.rounds, parts.count)
        options["options"] = {**(options.get("options") or {}), **noted}
        return Tuner(self._backend, budget=parts.budget.child(name, parts.part(number)), journal=path, **options)

    def _check_same(self, recorded: Recorded, now: Tuner) -> None:
        """Refuses a journal that was begun with other settings than those given."""
        card = self._backend.card
        check_same_settings(
            {"seed": recorded.seed, "preset": recorded.preset.sized(card).to_dict()},
            {"seed": now.seed, "preset": now.preset.sized(card).to_dict()},
        )

    def _resumed(self, path: Path, budget: Budget, base: Base | None) -> Tuner:
        """The round of a journal. Its part is what it was at first, whatever of it is spent by now."""
        given = self._options
        return Tuner.resume(
            path,
            self._backend,
            budget=budget,
            optimizer=given.get("optimizer"),
            durability=given.get("durability", "generation"),
            retry=given.get("retry"),
            quotas=given.get("quotas"),
            cache=given.get("cache", True),
            base=base,
            projection=given.get("projection"),
        )

    def _predictor(self, results: Sequence[TuningResult], lost: Amounts) -> BlackBoxPredictor:
        best = _best(results, self._rule)
        given = self._options
        client = Client(
            self._backend,
            self._budget,
            retry=given.get("retry"),
            quotas=given.get("quotas"),
            cache=given.get("cache", True),
        )
        for result in results:
            client.spend.add_all(result.spend)
        if lost != Amounts():
            client.spend.add_all(Spend({"train": lost}))  # what of it was for dev, nobody tells any more
        return BlackBoxPredictor(Predictor(client, best.prompt.task, best.prompt), best, rounds=tuple(results))


def _log_end(done: int, end: Exception) -> None:
    message = "the rounds end after %(rounds)d: the next came to no generation (%(error)s)"
    log_event(_logger, logging.WARNING, "rounds_ended", message, rounds=done, error=type(end).__name__)


def _best(results: Sequence[TuningResult], rule: DevRule) -> TuningResult:
    """The first of those that are best."""
    return max(results, key=lambda result: _rank(result, rule))


def _rank(result: TuningResult, rule: DevRule) -> tuple[float, float]:
    choice = result.choice
    if choice.dev is not None:
        return dev_rank(choice.dev, rule)
    loss = choice.precise_loss if choice.precise_loss is not None else choice.train_loss
    return (float("-inf") if loss is None else -loss), 0.0
