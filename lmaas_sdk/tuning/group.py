"""`TunerGroup`: several runs that share one budget and their backends' quotas, by priority."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.events import Event
from lmaas_sdk.tuning.group_journals import Journals
from lmaas_sdk.tuning.group_result import GroupResult
from lmaas_sdk.tuning.group_run import GroupRun, Job
from lmaas_sdk.tuning.journal import Durability, check_durability
from lmaas_sdk.tuning.listening import Listening, RunEvents
from lmaas_sdk.tuning.optimizer import MakeOptimizer
from lmaas_sdk.tuning.options import check_kinds, checked_priority, plain_options
from lmaas_sdk.tuning.preparation import check_comparison, given_datasets
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, Preset
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.start import Base, Projection
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["TunerGroup"]

_NAME = re.compile(r"\w[\w.+=@-]{0,99}")


class TunerGroup:
    """Runs that share a budget.

    Each is planned on its share of what is free in the budget, by priority and in every unit that is limited; what one
    leaves, because it ends early, fails or costs less than its worst case, goes to those that still run. The budget as
    a whole is never exceeded. On each backend the runs take turns, so that each gets its part of the quota.

    Args:
        budget: What all of them together may spend.
        journals: A folder, made if need be: every run keeps a journal there, and one that has a journal there goes on
            with it. So the same program, started again after a kill, goes on with what it was doing.
        durability: Of the journals; see `Tuner`.
        despite_changes: Whether to go on with journals that another version or engine has begun.

    Raises:
        TypeError: The budget is none, or the folder no path.
        ValueError: There is no such durability.
    """

    def __init__(
        self,
        *,
        budget: Budget,
        journals: str | Path | None = None,
        durability: Durability = "generation",
        despite_changes: bool = False,
    ) -> None:
        if not isinstance(budget, Budget):
            raise TypeError(f"budget is a Budget, such as Budget(usd='20.00'), not {budget!r:.80}")
        check_kinds(journals=journals)
        check_durability(durability)
        self.budget = budget
        self._journals = None if journals is None else Journals(Path(journals), durability, despite_changes)
        self._jobs: dict[str, Job] = {}
        self._run: GroupRun | None = None

    def add(  # noqa: PLR0913  (all by name)
        self,
        name: str,
        backend: Backend,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        test: Dataset | None = None,
        compare_manual: bool = False,
        target: float | None = None,
        priority: float = 1.0,
        preset: str | Preset = DEFAULT_PRESET,
        seed: int = 42,
        scheduling: Scheduling | None = None,
        optimizer: MakeOptimizer | None = None,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
        options: Mapping[str, Any] | None = None,
        base: Base | None = None,
        projection: Projection | None = None,
    ) -> None:
        """Adds a run.

        Args:
            name: Of its own: what the run is called in the result, the ledger and the folder of journals.
            backend, preset, seed, scheduling, optimizer, retry, quotas, cache, options: As of `Tuner`.
            base, projection: As of `Tuner`.
            train, dev, test, compare_manual, target: As of `Tuner.fit`.
            priority: Its part of budget and quota, in relation to those of the others.

        Raises:
            ValueError: The name is taken or cannot be that of a file, the priority is not above 0 and finite, the
                preset is unknown, or there is no test set to compare on.
            TypeError: A set of examples is no `Dataset`, or an option is of another type; the message names it.
            Unsupported: The backend takes no such soft prompts.
        """
        if self._run is not None:
            raise ValueError("the group is under way: add runs before `fit`, or to another group")
        self._check_name(name)
        exact = checked_priority(priority)
        given_datasets({"train": train, "dev": dev, "test": test})
        check_comparison(compare_manual=compare_manual, has_test=test is not None)
        tuner = Tuner(
            backend,
            preset=preset,
            seed=seed,
            scheduling=scheduling,
            optimizer=optimizer,
            retry=retry,
            quotas=quotas,
            cache=cache,
            base=base,
            projection=projection,
        )
        given = {"test": test, "compare_manual": compare_manual, "target": target}
        self._jobs[name] = Job(name, tuner, train, dev, given, exact, quotas=quotas, options=plain_options(options))

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name is a string, such as 'seed-42', not {name!r:.80} of {type(name).__name__}")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"a run's name begins with a letter or digit, goes on with these or . _ + = @ - and has at most 100 of "
                f"them; this has not: {name!r:.120}"
            )
        if name in self._jobs:
            raise ValueError(f"there is a run {name!r} in the group already: give each a name of its own")

    async def fit(
        self,
        *,
        max_wait_s: float | None = None,
        on_event: Callable[[str, Event], Awaitable[None] | None] | None = None,
    ) -> GroupResult:
        """Runs them all, side by side.

        What ends one of them is in `failures` and the others go on, whatever it is: what a search or a listener of your
        own raises, too. If every one has failed, the first one's error is raised, with notes of the others. A run that
        has come to the end of its share waits for what others may leave, and only then looks at dev for the last time
        and at test; so all end at about the same time.

        When it returns, shares are no more: predictions made from a result are paid from what is left of the budget.

        Args:
            max_wait_s: As of `Tuner.fit`.
            on_event: Called with the name of a run and each of its events; else as of `Tuner.fit`.

        Raises:
            ValueError: There is nothing to run, or it is under way already.
            LmaasError: Every run has failed; or the budget or the folder of journals cannot be used, and nothing was
                sent.
            Exception: Every run has failed, and the first one by what code of your own has raised; or what `on_event`
                raised.
        """
        if not self._jobs:
            raise ValueError("the group has no runs: add some")
        if self._run is not None:
            raise ValueError("the group is under way already: wait for it, or make another")
        listening = Listening(on_event or _ignore)
        self._run = GroupRun(self.budget, list(self._jobs.values()), self._journals, listening.tell)
        try:
            return await listening.during(self._run.result(max_wait_s))
        finally:
            self._run = None

    def events(self, *, max_wait_s: float | None = None) -> RunEvents[tuple[str, Event], GroupResult]:
        """The same runs, to iterate over: pairs of a run's name and an event of it; else as `Tuner.events`."""
        return RunEvents(lambda tell: self.fit(max_wait_s=max_wait_s, on_event=lambda name, event: tell((name, event))))

    def stop(self) -> None:
        """Ends every run after its generation, as `Tuner.stop` does; one that has done none yet does one."""
        if self._run is not None:
            self._run.stop()


def _ignore(name: str, event: Event) -> None:
    pass
