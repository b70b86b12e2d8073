"""`simulate(scenario)`: weeks of quota in seconds, with nothing sent and nothing spent."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import datetime, tzinfo
from typing import Any, TypeVar

from lmaas_sdk.outside import outside
from lmaas_sdk.planning.playing import Played, check_affordable, play
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.simulation import Quality, SimulatedRun, Simulation, Sweep
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.testing.virtual_loop import run_virtual
from lmaas_sdk.tuning.events import Event

__all__ = ["OnMoment", "SimulatedMoment", "simulate", "simulate_async", "sweep", "sweep_async"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SimulatedMoment:
    """Something happened in a simulated run.

    Args:
        setting: Which of a sweep; empty where there is one only.
        seed: Whose run it is.
        at: When, in the time zone of the quota.
        event: What.
        is_unlimited: Whether it is the run that the others are compared with.
    """

    setting: Mapping[str, object]
    seed: int
    at: datetime
    event: Event
    is_unlimited: bool


OnMoment = Callable[[SimulatedMoment], None]


def simulate(
    scenario: Scenario, *, seeds: Iterable[int] = (42,), compare: bool = True, on_moment: OnMoment | None = None
) -> Simulation:
    """Plays a scenario: tuner, client, ledger and quota are those of a real run, provider and time are not.

    Nothing is sent, nothing waits, and the same scenario, first moment and seeds have the same outcome. Inside a
    running event loop it works on a thread of its own, and the loop stands still meanwhile: there, await
    `simulate_async`.

    Args:
        scenario: What is played.
        seeds: A run each; of the search, the made-up data, failures and latencies.
        compare: Whether to play each seed once more with nothing in its way, for the quality that it has then.
        on_moment: Called with every event.

    Raises:
        BudgetTooSmall: The budget cannot pay for one generation.
        QuotaExceeded: The quota lets a call never through, however long it waits.
        LmaasError: The data or the preset cannot be used.
        ValueError: There is no seed, or one is there twice.
    """
    return _apart(
        lambda: _Player(_checked(seeds), compare=compare, on_moment=on_moment).played_all([({}, scenario)])[0]
    )


def sweep(
    scenario: Scenario,
    *,
    seeds: Iterable[int] = (42,),
    compare: bool = True,
    on_moment: OnMoment | None = None,
    **settings: Sequence[object],
) -> Sweep:
    """Plays a scenario with other values of some of its settings: each value of one with each of the others.

    ```python
    print(sweep(scenario, candidates_a_call=[1, 20], preset=["sep-tpa", "paper"]))
    ```

    Args:
        scenario: What all have in common.
        seeds, compare, on_moment: As of `simulate`.
        settings: Fields of `Scenario`, each with its values.

    Raises:
        ValueError: A scenario has no such field, or a value is out of its range; all are checked before any is played.
        LmaasError: As `simulate`.
    """
    swept = _settings(scenario, settings)
    player = _Player(_checked(seeds), compare=compare, on_moment=on_moment)
    return Sweep(tuple(setting for setting, _ in swept), tuple(_apart(lambda: player.played_all(swept))))


async def simulate_async(scenario: Scenario, **options: Any) -> Simulation:
    """As `simulate`, on a thread; the event loop goes on. Cancelled, it ends the simulation."""
    return await _on_a_thread(simulate, scenario, options)


async def sweep_async(scenario: Scenario, **options: Any) -> Sweep:
    """As `sweep`, on a thread; the event loop goes on. Cancelled, it ends the sweep."""
    return await _on_a_thread(sweep, scenario, options)


class _Player:
    """Plays scenarios; what a seed comes to with nothing in its way is worked out once for all that share it."""

    def __init__(self, seeds: tuple[int, ...], *, compare: bool, on_moment: OnMoment | None) -> None:
        self._seeds, self._compare, self._on_moment = seeds, compare, on_moment
        self._unlimited: dict[tuple[object, ...], Quality | None] = {}

    def played_all(self, scenarios: Sequence[tuple[Mapping[str, object], Scenario]]) -> list[Simulation]:
        """One of each, after all of them were checked."""
        for _, scenario in scenarios:
            run_virtual(check_affordable(scenario, self._seeds[0]), threads=False)
        return [self._simulation(setting, scenario) for setting, scenario in scenarios]

    def _simulation(self, setting: Mapping[str, object], scenario: Scenario) -> Simulation:
        began = scenario.began()
        runs = tuple(self._run(setting, scenario, seed, began=began) for seed in self._seeds)
        return Simulation(scenario, began, runs)

    def _run(self, setting: Mapping[str, object], scenario: Scenario, seed: int, *, began: datetime) -> SimulatedRun:
        played = self._played(setting, scenario, seed, began=began, is_unlimited=False)
        sent = [entry.key for entry in played.entries if entry.kind == "sent"]
        evaluations = 0 if played.result is None else played.result.evaluations
        return SimulatedRun(
            seed=seed,
            began=began,
            ended=_moment(began.timestamp() + played.elapsed_s, began.tzinfo),
            elapsed_s=played.elapsed_s,
            stopped=played.stopped,
            failure=None if played.failure is None else str(played.failure),
            spent=played.spent,
            evaluations=evaluations,
            calls=len(set(sent)),
            attempts=len(sent),
            waits=played.waits,
            found=_quality(played),
            unlimited=self._found_unlimited(setting, scenario, seed, int(evaluations)) if self._compare else None,
        )

    def _found_unlimited(
        self, setting: Mapping[str, object], scenario: Scenario, seed: int, evaluations: int
    ) -> Quality | None:
        free = scenario.unlimited(evaluations)
        same = (seed, free.search, free.evaluations, *map(id, (free.train, free.dev, free.landscape)))
        key = (*same, free.scheduling, free.retry)
        if key not in self._unlimited:
            played = self._played(setting, free, seed, began=free.began(), is_unlimited=True)
            self._unlimited[key] = _quality(played)
        return self._unlimited[key]

    def _played(
        self, setting: Mapping[str, object], scenario: Scenario, seed: int, *, began: datetime, is_unlimited: bool
    ) -> Played:
        def tell(event: Event) -> None:
            if self._on_moment is not None:
                at = _moment(outside().wall(), began.tzinfo)
                self._on_moment(SimulatedMoment(setting, seed, at, event, is_unlimited))

        return run_virtual(play(scenario, seed, began=began, on_event=tell), threads=False)


def _settings(
    scenario: Scenario, settings: Mapping[str, Sequence[object]]
) -> list[tuple[Mapping[str, object], Scenario]]:
    """Every combination of values, with its scenario."""
    known = sorted(each.name for each in fields(Scenario))
    for name, values in settings.items():
        if name not in known:
            raise ValueError(f"a sweep is over fields of Scenario ({', '.join(known)}), not {name!r}")
        if isinstance(values, str) or not len(values):
            raise ValueError(f"a sweep has a list of values of {name}, not {values!r:.80}")
        if any(value in values[:number] for number, value in enumerate(values)):
            raise ValueError(f"a sweep has a value of {name} twice: {values!r:.80}")
    if not settings:
        raise ValueError("a sweep is over at least one setting: sweep(scenario, candidates_a_call=[1, 20])")
    combined = [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    changes: list[dict[str, Any]] = combined
    return [(setting, replace(scenario, **setting)) for setting in changes]


def _moment(wall_s: float, zone: tzinfo | None) -> datetime:
    try:
        return datetime.fromtimestamp(wall_s, zone)
    except (OverflowError, ValueError, OSError) as error:
        raise ValueError("it would not be over before the year 10000: that is no plan to play through") from error


def _quality(played: Played) -> Quality | None:
    if played.result is None:
        return None
    dev = played.result.choice.dev
    return Quality(played.result.generations[-1].lowest_loss, None if dev is None else dev.value)


def _checked(seeds: Iterable[int]) -> tuple[int, ...]:
    checked = tuple(whole_number("seeds", seed) for seed in seeds)
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(f"seeds are at least one number, and none of them twice, not {checked}")
    return checked


def _apart(work: Callable[[], T]) -> T:
    """Does it here or, where an event loop runs in this thread, on one of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, work).result()


class _NobodyWaits(Exception):
    """Whoever asked for a simulation was cancelled."""


async def _on_a_thread(work: Callable[..., T], scenario: Scenario, options: dict[str, Any]) -> T:
    is_over, listen = threading.Event(), options.pop("on_moment", None)

    def tell(moment: SimulatedMoment) -> None:
        if is_over.is_set():
            raise _NobodyWaits
        if listen is not None:
            listen(moment)

    thread = asyncio.create_task(asyncio.to_thread(work, scenario, on_moment=tell, **options))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        is_over.set()
        await asyncio.wait([thread])  # it ends with the next event of its run
        if not thread.cancelled():
            thread.exception()  # nobody is left to be told
        raise
