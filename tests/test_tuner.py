"""The tuner, from training set to prompt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from inspect import signature

import cmaes
import numpy as np
import pytest
from tuning_cases import DEV, SMALL, TASK, TEST, TRAIN, examples, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import (
    PRESETS,
    AskTell,
    Budget,
    Limits,
    Optimizer,
    Predictor,
    Preset,
    Price,
    QuotaExceeded,
    RateLimited,
    RetryPolicy,
    Scheduling,
    Task,
    TaskError,
    TunedPrompt,
    Tuner,
    TunerGroup,
    TuningResult,
)
from lmaas_sdk.errors import (
    BackendError,
    BackendUnavailable,
    BudgetExceeded,
    BudgetTooSmall,
    EmptyClass,
    ProtocolError,
    ServerFault,
    Unsupported,
)
from lmaas_sdk.tasks import register_metric
from lmaas_sdk.tasks.intervals import wilson
from lmaas_sdk.testing import Fault, Faults, run_virtual
from lmaas_sdk.tuning.events import DevScored, Event, GenerationDone, RunPlanned, Waiting

PRICE = Price(400_000_000)  # $0.40 per million tokens


async def fit(
    backend: object = None, *, preset: Preset = SMALL, evaluations: int = 80, **options: object
) -> TuningResult:
    tuner = Tuner(backend or mock(), budget=Budget(evaluations=evaluations), preset=preset, seed=7)  # type: ignore[arg-type]
    return await tuner.fit(TRAIN, **options)  # type: ignore[arg-type]


async def test_defaults_alone_are_enough() -> None:
    """`await Tuner(backend).fit(train_set)`: at most 8000 evaluations of the default preset, sized for the model."""
    result = await Tuner(mock()).fit(TRAIN)
    assert (result.stopped, result.chosen_by, result.budget["evaluations"]) == ("plateau", "train_loss", 8000)
    assert result.core.settings["preset"] == PRESETS["default"].sized(mock().card).to_dict()
    assert result.generations[-1].lowest_loss < 0.5 * result.generations[0].best_loss


async def test_tuned_beats_manual_on_new_texts() -> None:
    """What was learned from 16 texts holds on others that share their words."""
    result = await fit(evaluations=400, dev=DEV, test=TEST, compare_manual=True)
    assert result.test is not None
    assert result.manual is not None
    assert result.test.value > result.manual.value
    assert result.test.value >= 0.75


async def test_generations_go_out_in_as_few_calls_as_the_card_allows() -> None:
    """20 candidates on 16 texts are 1 call, or 6 where a call takes 7 candidates and 10 texts."""
    result = await fit(preset=replace(SMALL, population=20), evaluations=40)
    assert result.spend.by_purpose["train"].calls == 2
    split = await fit(mock(max_candidates=7, max_texts=10), preset=replace(SMALL, population=20), evaluations=40)
    assert split.spend.by_purpose["train"].calls == 2 * 3 * 2
    assert split.evaluations == 40
    assert split.spend.by_purpose["train"].evaluations == 40
    assert split.core.to_bytes() == result.core.to_bytes()


@pytest.mark.parametrize("tokens_per_minute", [700, 90])
def test_generation_above_a_minutes_tokens_goes_out_in_parts(tokens_per_minute: int) -> None:
    """A call that could never be admitted is not made: candidates, then texts, are split; the result is the same."""

    async def run(limits: Limits) -> TuningResult:
        return await fit(mock(limits=limits), evaluations=16)

    limited = run_virtual(run(Limits(tokens_per_minute=tokens_per_minute)))
    free = run_virtual(run(Limits()))
    assert limited.core.to_bytes() == free.core.to_bytes()
    assert limited.spent.calls > free.spent.calls
    assert limited.spent.evaluations == 16


@pytest.mark.parametrize("preset", ["paper", "sep-tpa", "tpa-40"])
async def test_same_seed_same_bytes(preset: str) -> None:
    """Two runs with one seed agree in `result.core` and prompt file to the byte; another seed differs."""
    results = [
        await Tuner(mock(), budget=Budget(evaluations=400), preset=preset, seed=seed).fit(TRAIN, DEV)
        for seed in (5, 5, 6)
    ]
    cores, prompts = [r.core.to_bytes() for r in results], [r.prompt.to_bytes() for r in results]
    assert (cores[0], prompts[0]) == (cores[1], prompts[1])
    assert cores[0] != cores[2]
    assert prompts[0] != prompts[2]


def striking(number: int, kind: str) -> Faults:
    """Strikes one attempt of the run, counted over all of them."""
    return Faults(plan=lambda attempt: kind if attempt.number == number else None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("number", range(14))
@pytest.mark.parametrize("kind", ["server_fault", "timeout", "refused", "rate_limit"])
@pytest.mark.parametrize("limits", [{"evaluations": 72}, {"tokens": 17_600}], ids=["evaluations", "tokens"])
async def test_one_fault_anywhere_changes_nothing_of_the_result(number: int, kind: str, limits: dict[str, int]) -> None:
    """Wherever it strikes, training, dev or test, the core and both evaluations are those of a run without it."""
    results = []
    for faults in (Faults(), striking(number, kind)):
        backend = mock(faults=faults)
        preset, retry = replace(SMALL, dev_every=4), RetryPolicy(first_wait_s=0)
        tuner = Tuner(backend, budget=Budget(**limits), preset=preset, seed=7, retry=retry)  # type: ignore[arg-type]
        results.append(await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True))
        assert results[-1].spent.tokens == backend.book.tokens
        assert results[-1].spend.unknown_outcomes == 0
    calm, struck = results
    assert struck.core.to_bytes() == calm.core.to_bytes()
    assert (struck.stopped, struck.test, struck.manual) == (calm.stopped, calm.test, calm.manual)
    assert struck.test is not None


async def test_dev_still_decides_when_a_lost_attempt_has_cost_a_generation() -> None:
    """Where a repeated call is billed twice the run is shorter, and the choice is made on dev all the same."""
    capabilities = replace(mock().card.capabilities, idempotent=False)
    backend = mock(capabilities=capabilities, faults=striking(3, "timeout"))
    retry = RetryPolicy(first_wait_s=0)
    result = await Tuner(backend, budget=Budget(evaluations=72), preset=SMALL, retry=retry).fit(TRAIN, DEV, test=TEST)
    assert (len(result.generations), result.chosen_by) == (8, "dev_metric")
    assert result.test is not None
    assert result.spend.unknown_outcomes == 1


def test_backend_that_fails_for_good_later_on_leaves_the_result_so_far() -> None:
    """After two generations the backend is gone: what was paid for is returned, and the failure with it."""

    async def run() -> tuple[TuningResult, float]:
        faults = Faults(plan=lambda attempt: "server_fault" if attempt.number >= 2 else None)
        tuner = Tuner(mock(faults=faults), budget=Budget(), preset=SMALL, retry=RetryPolicy(outage_s=600))
        return await tuner.fit(TRAIN, DEV, test=TEST), asyncio.get_running_loop().time()

    result, seconds = run_virtual(run())
    assert (result.stopped, len(result.generations), result.test) == ("interrupted", 2, None)
    assert isinstance(result.failure, ServerFault)
    assert result.to_dict()["failure"] == str(result.failure)
    assert len(result.prompt.z) == SMALL.d
    assert 500 < seconds < 700


def test_backend_that_is_away_for_an_hour_changes_nothing_of_the_result() -> None:
    """It has worked before, so it is waited for; nobody is charged meanwhile."""

    async def run(away: Callable[[float], bool]) -> tuple[TuningResult, float, int]:
        loop = asyncio.get_running_loop()
        faults = Faults(plan=lambda attempt: "refused" if away(loop.time()) else None)
        backend = mock(latency_s=60.0, faults=faults)
        tuner = Tuner(backend, budget=Budget(evaluations=80), preset=SMALL)
        result = await tuner.fit(TRAIN, DEV)
        return result, loop.time(), backend.book.tokens - result.spent.tokens

    calm, calm_s, _ = run_virtual(run(lambda now_s: False))
    result, seconds, unpaid = run_virtual(run(lambda now_s: 150 < now_s < 3750))
    assert (calm.core.to_bytes(), calm.prompt.to_bytes()) == (result.core.to_bytes(), result.prompt.to_bytes())
    assert (calm.spent.tokens, 0) == (result.spent.tokens, unpaid)
    assert calm_s + 3500 < seconds < calm_s + 3800


async def test_an_answer_of_the_wrong_shape_is_asked_for_again() -> None:
    """It is paid for, and asked for again under another key; nothing is learned from it."""
    backend = mock(faults=striking(4, "wrong_shape"))
    result = await Tuner(backend, budget=Budget(calls=11), preset=SMALL, seed=7).fit(TRAIN)
    assert (result.stopped, len(result.generations), result.failure) == ("budget", 10, None)
    assert (result.core.losses, 11) == ((await fit()).core.losses, result.spent.calls)


async def test_wrong_shapes_for_good_leave_the_result_so_far() -> None:
    """A backend that answers nonsense from some moment on ends the run with what it has."""
    faults = Faults(plan=lambda attempt: "wrong_shape" if attempt.number >= 4 else None)
    result = await Tuner(mock(faults=faults), budget=Budget(evaluations=80), preset=SMALL).fit(TRAIN)
    assert (result.stopped, len(result.generations), type(result.failure)) == ("interrupted", 4, ProtocolError)


@pytest.mark.parametrize(("failed", "told"), [("drop", 7), ("impute", 8), ("resample", 8)])
async def test_a_candidate_answered_with_nan_is_the_only_one_that_is_lost(failed: str, told: int) -> None:
    """The others of its call are right, and nothing is sent twice for them."""
    backend = mock(faults=striking(4, "nan"))
    scheduling = Scheduling(failed=failed)  # type: ignore[arg-type]
    tuner = Tuner(backend, budget=Budget(evaluations=96), preset=SMALL, seed=7, scheduling=scheduling)
    result = await tuner.fit(TRAIN)
    losses = result.core.losses[4]
    assert (7, None) == (sum(loss is not None for loss in losses[:8]), losses[7])
    assert {"drop": 1, "impute": 1, "resample": 4}[failed] == losses.count(None)
    assert [0, 0, 0, 0, len(losses) - told if failed == "drop" else 1] == [
        event.missing for event in result.generations[:5]
    ]
    assert result.generations[-1].lowest_loss < result.generations[0].best_loss


async def test_balance_that_ends_is_a_budget_that_ends() -> None:
    """402 after some generations is no error: the account was the budget."""
    backend = mock(price=PRICE, balance_nanousd=3_000_000)
    result = await Tuner(backend, budget=Budget(evaluations=800), preset=SMALL).fit(TRAIN)
    assert result.stopped == "budget"
    assert result.failure is None
    assert 0 < result.spent.nanousd <= 3_000_000


async def test_stop_ends_the_search_after_its_generation() -> None:
    """`Tuner.stop` from a listener: the generation is finished, and neither dev nor test is looked at any more."""
    tuner = Tuner(mock(), budget=Budget(evaluations=800), preset=SMALL)

    def listener(event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation == 2:
            tuner.stop()

    result = await tuner.fit(TRAIN, DEV, test=TEST, on_event=listener)
    assert (result.stopped, len(result.generations), result.failure) == ("interrupted", 3, None)
    assert set(result.spend.by_purpose) == {"train"}


@pytest.mark.parametrize(("after", "spent"), [("dev", {"train", "dev"}), ("test", {"train", "dev", "test"})])
async def test_stop_is_heard_after_the_search_too(after: str, spent: set[str]) -> None:
    """Asked for while dev or test is looked at, it leaves out what comes behind."""
    tuner: Tuner

    class Stopping:
        def __init__(self) -> None:
            self.inner = mock()
            self.card = self.inner.card
            self.sizes = {len(TRAIN): "train", len(DEV): "dev", len(TEST): "test"}

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        async def score(self, query, *, key):  # type: ignore[no-untyped-def]
            if self.sizes[len(query.texts)] == after:
                tuner.stop()
            return await self.inner.score(query, key=key)

    tuner = Tuner(Stopping(), budget=Budget(evaluations=16), preset=SMALL)
    result = await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True)
    assert result.stopped == "interrupted"
    assert set(result.spend.by_purpose) == spent
    assert result.manual is None


async def test_stop_before_the_first_generation_leaves_one() -> None:
    """There has to be something to return."""
    tuner = Tuner(mock(), budget=Budget(evaluations=800), preset=SMALL)

    def listener(event: Event) -> None:
        if isinstance(event, RunPlanned):
            tuner.stop()

    result = await tuner.fit(TRAIN, DEV, test=TEST, on_event=listener)
    assert (result.stopped, len(result.generations)) == ("interrupted", 1)


@pytest.mark.parametrize("max_candidates", [1, 4, 64])
@pytest.mark.parametrize("wall_s", [30.0, 100.5])
def test_time_is_left_for_dev_and_test_however_calls_are_split(max_candidates: int, wall_s: float) -> None:
    """Calls that go side by side do not make the steps after the search look quicker than they are."""

    async def run() -> TuningResult:
        budget = Budget(wall_s=wall_s, clock=asyncio.get_running_loop().time)
        backend = mock(latency_s=1.0, max_candidates=max_candidates)
        return await Tuner(backend, budget=budget, preset=SMALL).fit(TRAIN, DEV, test=TEST, compare_manual=True)

    result = run_virtual(run())
    assert result.dev_scored[-1].generation == result.generations[-1].generation
    assert None not in {result.test, result.manual}
    assert result.spend.unknown_outcomes == 0
    assert result.wall_s <= wall_s


def test_result_can_be_used_in_another_event_loop() -> None:
    """What was fitted in one `asyncio.run` evaluates in the next."""
    tuner = Tuner(mock(max_texts=2, limits=Limits(concurrency=2)), budget=Budget(evaluations=16), preset=SMALL)
    result = asyncio.run(tuner.fit(TRAIN))
    assert asyncio.run(result.evaluate(TEST)).n_texts == len(TEST)


async def test_two_runs_share_the_concurrency_of_their_backend() -> None:
    """Two fits at once on a backend that takes one call at a time cause no 429 and end alike."""
    backend = mock(limits=Limits(concurrency=1))
    tuner = Tuner(backend, budget=Budget(evaluations=320), preset=SMALL)
    async with asyncio.TaskGroup() as group:
        fits = [group.create_task(tuner.fit(TRAIN, max_wait_s=0)) for _ in range(2)]
    assert backend.book.limited == 0
    assert sum(len(fit.result().generations) for fit in fits) == 40


def test_time_ends_a_registration_that_waits() -> None:
    """A server that is away when the texts are to be counted holds a run no longer than its wall time."""

    class Away:
        def __init__(self) -> None:
            self.inner = mock()
            self.card = self.inner.card

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        async def register(self, texts: object, subspace: object = None) -> object:
            raise BackendUnavailable("away", retry_after_s=3600)

    async def run() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(BudgetTooSmall):
            await Tuner(Away(), budget=Budget(wall_s=10, clock=loop.time), preset=SMALL).fit(TRAIN)
        return loop.time()

    assert run_virtual(run()) <= 10


def test_waits_are_told() -> None:
    """A run that waits for a rate limit says so before it does."""

    async def run() -> list[Event]:
        events: list[Event] = []
        tuner = Tuner(mock(limits=Limits(requests_per_minute=2)), budget=Budget(evaluations=24), preset=SMALL)
        await tuner.fit(TRAIN, on_event=events.append)
        return events

    (waiting,) = [event for event in run_virtual(run()) if isinstance(event, Waiting)]
    assert waiting.seconds == pytest.approx(60, abs=1)
    assert (waiting.cause, waiting.reason) == ("quota", "the quota")


async def test_no_more_calls_are_under_way_than_the_card_allows() -> None:
    """A set of many parts is sent a few at a time, so that a concurrency limit is met without a 429."""
    backend = mock(max_texts=2, limits=Limits(concurrency=3))
    result = await fit(backend, evaluations=16, test=TEST)
    assert result.test is not None
    assert backend.book.max_in_flight <= 3
    assert backend.book.received == backend.book.attempts


async def test_limits_above_a_budget_are_reported_with_its_own() -> None:
    """A child without limits of its own is bound by its parent's, and the report says so."""
    parent = Budget(evaluations=24, usd="2.00")
    result = await Tuner(mock(), budget=parent.child("run", Budget(calls=50)), preset=SMALL).fit(TRAIN)
    assert result.budget == {"calls": 50, "evaluations": 24, "tokens": None, "wall_s": None, "usd": 2.0}


@pytest.mark.parametrize(
    ("train", "budget", "named"),
    [
        ([("a", "negative")], None, "task.examples"),
        (None, None, "train set is a Dataset"),
        (TRAIN, "5", r"budget is a Budget.*'5'"),
    ],
)
async def test_wrong_types_are_named(train: object, budget: object, named: str) -> None:
    """What is no data set or budget is refused with a hint, before anything is sent."""
    with pytest.raises(TypeError, match=named):
        await Tuner(mock(), budget=budget, preset=SMALL).fit(train)  # type: ignore[arg-type]


async def test_metric_that_is_no_number_is_refused_before_anything_is_sent() -> None:
    """A metric of the user's own is tried on the training labels first."""
    register_metric("broken-for-tests", lambda labels, predictions: float("nan"))
    task = Task("m", template="{text} <mask>", labels=["n", "y"], words=["bad", "great"], metric="broken-for-tests")
    backend = mock()
    with pytest.raises(TaskError, match="broken-for-tests"):
        await Tuner(backend, preset=SMALL).fit(task.examples([("a", 0), ("b", 1)]))
    assert backend.book.attempts == 0


@pytest.mark.parametrize("wall_s", [0, 0.0001])
async def test_wall_time_below_one_call_is_too_small(wall_s: float) -> None:
    """Time that is over before the first call sends nothing."""
    backend = mock()
    with pytest.raises(BudgetTooSmall):
        await Tuner(backend, budget=Budget(wall_s=wall_s), preset=SMALL).fit(TRAIN)
    assert backend.book.attempts == 0


async def test_dev_is_looked_at_on_schedule_and_at_the_end() -> None:
    """Every `dev_every` generations and after the last: the generation's best and the mean."""
    result = await fit(preset=replace(SMALL, dev_every=4), evaluations=8 * 10, dev=DEV)
    looks = [(choice.generation, choice.kind) for choice in result.dev_scored]
    assert looks == [(g, kind) for g in (3, 7, 9) for kind in ("best", "mean")]
    assert result.chosen_by == "dev_metric"
    assert result.choice.dev is not None
    assert result.choice.dev.value == max(choice.dev.value for choice in result.dev_scored if choice.dev)


async def test_no_dev_set_no_dev_calls() -> None:
    """Without a dev set nothing is spent on it, and the lowest train loss is returned."""
    result = await fit()
    assert set(result.spend.by_purpose) == {"train"}
    assert result.choice.train_loss == min(min(row) for row in result.core.losses)


async def test_spend_is_what_the_provider_billed() -> None:
    """Calls, tokens and money by purpose sum to the provider's own book."""
    backend = mock(price=PRICE)
    result = await fit(backend, dev=DEV, test=TEST, compare_manual=True)
    assert (result.spent.tokens, result.spent.nanousd) == (backend.book.tokens, backend.book.nanousd)
    assert result.spent.calls == backend.book.attempts
    assert result.spend.by_purpose["train"].evaluations == 80


async def test_first_generation_is_the_optimizers_own() -> None:
    """The candidates on the wire are those of ask, as float32."""
    seen = []

    class Listening:
        def __init__(self) -> None:
            self.inner = mock()
            self.card = self.inner.card

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        async def score(self, query, *, key):  # type: ignore[no-untyped-def]
            seen.append(query.Z)
            return await self.inner.score(query, key=key)

    result = await fit(Listening(), evaluations=8)
    from lmaas_sdk.tuning.cmaes import PycmaOptimizer

    expected = PycmaOptimizer(20, population=8, sigma0=1.0, diagonal=True, step_size="tpa", seed=7).ask().X
    np.testing.assert_array_equal(seen[0], expected.astype(np.float32))
    np.testing.assert_array_equal(result.prompt.z, seen[0][int(np.argmin(result.core.losses[0]))])


@pytest.mark.parametrize(
    ("budget", "unit"),
    [
        (Budget(calls=7), "calls"),
        (Budget(evaluations=37), "evaluations"),
        (Budget(tokens=20_000), "tokens"),
        (Budget(usd="0.01"), "nanousd"),
    ],
)
async def test_every_limit_ends_the_run_with_a_result(budget: Budget, unit: str) -> None:
    """The run stops by itself within the limit, dev and test included, and uses most of what it may."""
    backend = mock(price=PRICE)
    result = await Tuner(backend, budget=budget, preset=SMALL).fit(TRAIN, DEV, test=TEST)
    limit, posted = budget.limits[unit], getattr(budget.posted, unit)
    assert result.stopped == "budget"
    assert posted <= limit  # type: ignore[operator]
    assert budget.pending.calls == 0
    assert result.test is not None
    one_more = result.spend.by_purpose["train"]
    generation = getattr(one_more, unit) / len(result.generations)
    assert posted + 2 * generation + getattr(result.spend.by_purpose["dev"], unit) > limit  # type: ignore[operator]


async def test_last_generation_that_does_not_fit_whole_is_not_sent() -> None:
    """30 evaluations are three generations of 8, and the other 6 are not begun."""
    result = await fit(evaluations=30)
    assert (result.evaluations, result.spent.evaluations) == (24, 24)


@pytest.mark.parametrize(
    "budget", [Budget(evaluations=7), Budget(calls=0), Budget(tokens=100), Budget(usd="0.0000001")]
)
async def test_budget_below_one_generation_sends_nothing(budget: Budget) -> None:
    """BudgetTooSmall comes before the first call."""
    backend = mock(price=PRICE)
    with pytest.raises(BudgetTooSmall):
        await Tuner(backend, budget=budget, preset=SMALL).fit(TRAIN)
    assert backend.book.attempts == 0
    assert budget.posted == budget.pending


async def test_dev_and_test_are_set_aside_before_the_first_generation() -> None:
    """A budget that would pay for training alone is too small when dev and test do not fit beside it."""
    alone = Budget(calls=1)
    assert (await Tuner(mock(), budget=alone, preset=SMALL).fit(TRAIN)).spent.calls == 1
    with pytest.raises(BudgetTooSmall):
        await Tuner(mock(), budget=Budget(calls=2), preset=SMALL).fit(TRAIN, DEV, test=TEST)
    enough = await Tuner(mock(), budget=Budget(calls=3), preset=SMALL).fit(TRAIN, DEV, test=TEST)
    assert {name: spent.calls for name, spent in enough.spend.by_purpose.items()} == {"train": 1, "dev": 1, "test": 1}


async def test_what_was_set_aside_and_not_used_comes_back() -> None:
    """After the run nothing is pending, however it ended."""
    budget = Budget(tokens=50_000)
    await Tuner(mock(), budget=budget, preset=SMALL).fit(TRAIN, DEV, test=TEST)
    assert budget.pending.tokens == 0
    hanging = Budget(tokens=50_000)
    faults = Faults(script=["wrong_shape"] * 3)
    with pytest.raises(ProtocolError):
        await Tuner(mock(faults=faults), budget=hanging, preset=SMALL).fit(TRAIN, DEV, test=TEST)
    assert hanging.pending.tokens == 0


async def test_without_a_budget_money_is_capped_and_announced(caplog: pytest.LogCaptureFixture) -> None:
    """A priced model and no budget: the cost of 8000 evaluations is the cap, and it is logged before the first call."""
    result = await Tuner(mock(price=PRICE), preset=SMALL).fit(TRAIN)
    assert result.evaluations == 8000
    assert result.budget["usd"] == pytest.approx(result.to_dict()["cost_usd"])
    assert "no budget was given: 8000 evaluations" in caplog.text


async def test_a_limit_on_what_costs_nothing_does_not_run_for_ever() -> None:
    """Dollars on a free model limit nothing, so 8000 evaluations do."""
    result = await Tuner(mock(), budget=Budget(usd="1.00"), preset=SMALL).fit(TRAIN)
    assert result.evaluations == 8000


def test_wall_time_ends_the_run() -> None:
    """In virtual time: calls of 10 s and 35 s in all leave three generations; a fourth is not begun."""

    async def run() -> TuningResult:
        clock = asyncio.get_running_loop().time
        budget = Budget(wall_s=35, clock=clock)
        return await Tuner(mock(latency_s=10.0), budget=budget, preset=SMALL).fit(TRAIN)

    result = run_virtual(run())
    assert (result.stopped, len(result.generations)) == ("budget", 3)
    assert result.wall_s == pytest.approx(30, abs=0.01)
    assert result.spend.unknown_outcomes == 0


def test_wall_time_is_hard_and_leaves_time_for_dev_and_test() -> None:
    """With nothing but time limited the search ends early enough for the last look at dev, the test and the manual."""

    async def run() -> TuningResult:
        budget = Budget(wall_s=100, clock=asyncio.get_running_loop().time)
        tuner = Tuner(mock(latency_s=1.0), budget=budget, preset=replace(SMALL, dev_every=10))
        return await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True)

    result = run_virtual(run())
    assert 80 <= len(result.generations) < 90
    assert result.dev_scored[-1].generation == result.generations[-1].generation
    assert result.test is not None
    assert result.manual is not None
    assert result.wall_s <= 100


def test_quota_that_waits_too_long_ends_the_run() -> None:
    """A minute's quota of 5 calls and no patience: five generations and `stopped="quota"`."""

    async def run(max_wait_s: float | None) -> TuningResult:
        backend = mock(limits=Limits(requests_per_minute=5))
        tuner = Tuner(backend, budget=Budget(evaluations=8 * 12), preset=SMALL)
        return await tuner.fit(TRAIN, max_wait_s=max_wait_s)

    impatient, patient = run_virtual(run(10)), run_virtual(run(None))
    assert (impatient.stopped, len(impatient.generations)) == ("quota", 5)
    assert (patient.stopped, len(patient.generations)) == ("budget", 12)
    assert patient.wall_s == pytest.approx(120, abs=1)


def test_quota_before_the_first_generation_is_an_error() -> None:
    """With nothing to return, the quota's error comes out."""

    async def run() -> TuningResult:
        faults = Faults(script=[Fault("rate_limit", retry_after_s=3600)])
        return await fit(mock(faults=faults), max_wait_s=5)

    with pytest.raises(QuotaExceeded) as stopped:
        run_virtual(run())
    assert stopped.value.wait_s == 3600
    assert isinstance(stopped.value.__cause__, RateLimited)


async def test_provider_that_overbills_stops_the_run() -> None:
    """A bill above the worst case is booked in full, closes the budget and ends the run."""

    class Greedy:
        def __init__(self) -> None:
            self.inner = mock()
            self.card = self.inner.card
            self.calls = 0

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        async def score(self, query, *, key):  # type: ignore[no-untyped-def]
            self.calls += 1
            reply = await self.inner.score(query, key=key)
            extra = 1_000_000 if self.calls == 3 else 0
            return replace(reply, usage=replace(reply.usage, input_tokens=reply.usage.input_tokens + extra))

    budget = Budget(tokens=100_000)
    result = await Tuner(Greedy(), budget=budget, preset=SMALL).fit(TRAIN)
    assert (result.stopped, len(result.generations), budget.overrun) == ("budget", 2, True)
    assert budget.posted.tokens > 1_000_000


def broken() -> MockBackend:
    """A backend whose every answer is a fault of the server."""
    return mock(faults=Faults(plan=lambda attempt: "server_fault"))


async def test_backend_that_stays_broken_raises_its_error() -> None:
    """After the last attempt the error of the backend comes out, and its worst case is booked."""
    budget = Budget(evaluations=100)
    retry = RetryPolicy(attempts=3, first_wait_s=0, patience_s=0)
    with pytest.raises(ServerFault):
        await Tuner(broken(), budget=budget, preset=SMALL, retry=retry).fit(TRAIN)
    assert (budget.posted.calls, budget.pending.calls) == (3, 0)


def test_backend_that_stays_broken_is_asked_until_patience_ends() -> None:
    """Not once more after that: every attempt is booked, and nothing stays pending."""

    async def main() -> tuple[float, int, int, int]:
        backend, budget = broken(), Budget()
        with pytest.raises(BackendError):
            await Tuner(backend, budget=budget, preset=SMALL, retry=RetryPolicy(patience_s=300)).fit(TRAIN)
        seconds = asyncio.get_running_loop().time()
        return seconds, budget.posted.calls, budget.pending.calls, backend.book.received

    seconds, posted, pending, received = run_virtual(main())
    assert 200 < seconds < 400
    assert (posted, pending) == (received, 0)
    assert received > 6


async def test_cancelling_leaves_nothing_behind() -> None:
    """A cancelled fit books what it had sent, frees the rest and leaves no task."""
    budget, sent = Budget(tokens=10**6), asyncio.Event()

    def latency_s(query: object, words: object) -> float:
        sent.set()
        return 30.0

    task = asyncio.create_task(Tuner(mock(latency_s=latency_s), budget=budget, preset=SMALL).fit(TRAIN, DEV))
    await sent.wait()
    assert budget.pending.evaluations == 8
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.pending.tokens == 0
    assert len(asyncio.all_tasks()) == 1


async def test_events_tell_the_whole_run() -> None:
    """Plan, generations and dev scorings arrive in order, with the spend so far."""
    events: list[Event] = []
    result = await fit(preset=replace(SMALL, dev_every=5), evaluations=40, dev=DEV, on_event=events.append)
    assert events[0] == RunPlanned(5, 8)
    assert [type(event) for event in events[1:]] == [GenerationDone] * 5 + [DevScored] * 2
    assert tuple(events[1:]) == result.history
    tokens = [event.spent.tokens for event in result.history]
    assert tokens == sorted(tokens)
    assert tokens[-1] == result.spent.tokens


async def test_result_predicts_and_evaluates_and_so_does_its_file() -> None:
    """Predictions of the result and of a prompt loaded from its bytes agree, and are paid for."""
    backend = mock()
    result = await fit(backend, evaluations=160, dev=DEV)
    texts = ["a lovely thing", "a dull thing", "<mask> </s> {text}"]
    elsewhere = Predictor.tuned(mock(), TunedPrompt.from_bytes(result.prompt.to_bytes()))
    assert await result.predict(texts) == await elsewhere.predict(texts)
    assert await result.predict([]) == []
    before = result.spend.by_purpose["predict"].calls
    evaluation = await result.evaluate(TEST)
    assert evaluation == await elsewhere.evaluate(TEST)
    assert result.spend.by_purpose["test"].calls == 1
    assert before == 1


async def test_predictions_are_refused_when_the_budget_is_gone() -> None:
    """The budget of the run holds for its result too; another connection brings its own."""
    result = await Tuner(mock(), budget=Budget(calls=2), preset=SMALL).fit(TRAIN)
    with pytest.raises(BudgetExceeded):
        await result.predict(["a fine thing"])
    assert len(await result.use(mock(), budget=Budget(calls=1)).predict(["a fine thing"])) == 1


async def test_report_has_the_keys_that_every_command_promises() -> None:
    """The JSON form is plain and complete."""
    report = (await fit(mock(price=PRICE), dev=DEV, test=TEST, compare_manual=True)).to_dict()
    promised = {"manual_accuracy", "tuned_accuracy", "evaluations", "calls", "tokens", "cost_usd", "budget"}
    promised |= {"stopped", "wall_s", "prompt_file"}
    assert promised <= report.keys()
    assert json.loads(json.dumps(report)) == report


async def test_report_tells_how_far_each_metric_may_be_off() -> None:
    """Of the choice on dev, of both prompts on the test set; the core keeps it for the choice, not for every look."""
    result = await fit(dev=DEV, test=TEST, compare_manual=True)
    report = result.to_dict()
    found = (result.choice.dev, result.test, result.manual)
    told = (report["choice"]["dev_interval"], report["tuned_interval"], report["manual_interval"])  # type: ignore[index]
    expected = [wilson(round(judged.value * judged.n_texts), judged.n_texts) for judged in found if judged]
    assert [tuple(ends) for ends in told] == expected
    assert result.core.choice["dev_interval"] == told[0]
    assert {"dev_metric"} == {name for row in result.core.dev for name in row if name in {"dev_metric", "dev_interval"}}


async def test_what_was_not_evaluated_has_no_interval() -> None:
    """Nor is there noise where a backend repeats itself: None where there is a key for it."""
    report = (await fit()).to_dict()
    assert (report["tuned_interval"], report["manual_interval"], report["evaluation_noise"]) == (None, None, None)
    assert "dev_interval" not in report["choice"]  # type: ignore[operator]


async def test_shortened_texts_are_counted() -> None:
    """Texts over the model's length are tuned on, and the result says how many lost words."""
    long = TASK.examples([("word " * 900 + str(label), label) for label in (0, 1)] * 3)
    result = await Tuner(mock(), budget=Budget(evaluations=8), preset=SMALL).fit(long)
    assert result.shortened == {"train": 6}


async def test_bad_data_is_refused_before_anything_is_sent() -> None:
    """An empty class, another task's dev set and an empty test set are named."""
    backend = mock()
    tuner = Tuner(backend, preset=SMALL)
    other = Task("other", template="{text} <mask>", labels=["a", "b"], words=["x", "y"])
    with pytest.raises(EmptyClass, match="positive"):
        await tuner.fit(TASK.examples([("a text", 0)]))
    with pytest.raises(TaskError, match="'other'"):
        await tuner.fit(TRAIN, examples(0, 4, other))
    with pytest.raises(TaskError, match="test set has no examples"):
        await tuner.fit(TRAIN, test=TASK.examples([]))
    assert backend.book.attempts == 0


def test_what_a_backend_cannot_do_is_said_when_the_tuner_is_made() -> None:
    """A layout that the card does not list is Unsupported."""
    card = mock().card
    backend = mock(capabilities=replace(card.capabilities, layouts=("cat",)))
    with pytest.raises(Unsupported, match="layout 'add'"):
        Tuner(backend, preset="paper")


@pytest.mark.parametrize("objective", ["ce", "hinge", "metric"])
async def test_every_objective_runs(objective: str) -> None:
    """Cross entropy, hinge and the negative metric all lead somewhere."""
    result = await fit(preset=replace(SMALL, objective=objective), evaluations=240)  # type: ignore[arg-type]
    assert result.generations[-1].lowest_loss < result.generations[0].median_loss


@pytest.mark.parametrize("target", ["x", float("nan"), True])
async def test_a_target_is_a_number(target: object) -> None:
    """What cannot be reached is refused before anything is sent."""
    backend = mock()
    with pytest.raises(ValueError, match="target is a value of the metric"):
        await Tuner(backend, preset=SMALL).fit(TRAIN, DEV, target=target)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is none"):
        await Tuner(backend, preset=SMALL).fit(TRAIN, target=0.9)
    assert 0 == backend.book.attempts


async def test_the_manual_prompt_is_compared_on_a_test_set() -> None:
    """Without one it is refused before anything is sent."""
    backend = mock()
    with pytest.raises(ValueError, match=r"compare_manual .* test set, and there is none: give test="):
        await Tuner(backend, preset=SMALL).fit(TRAIN, DEV, compare_manual=True)
    assert 0 == backend.book.attempts


def own(d: int, seed: int) -> Optimizer:
    """A search that is asked for its population, and for no more."""
    return AskTell(cmaes.CMA(np.zeros(d), 0.5, seed=seed, population_size=8), d=d, population=8)


async def test_a_search_that_gives_no_more_is_not_over_asked() -> None:
    """It is told what it cannot do before anything is sent; one that can is asked for more."""
    backend, scheduling = mock(), Scheduling(over_ask=2)
    with pytest.raises(ValueError, match=r"over_ask=2 asks for 10 candidates a generation, .* gives 8: leave over_ask"):
        await Tuner(backend, preset=SMALL, scheduling=scheduling, optimizer=own).fit(TRAIN)
    assert 0 == backend.book.attempts
    result = await Tuner(backend, budget=Budget(evaluations=20), preset=SMALL, scheduling=scheduling).fit(TRAIN)
    assert (2, 20) == (len(result.generations), result.core.evaluations)


def test_a_tuner_has_no_other_methods_than_these() -> None:
    """What a group does with it is no affair of those who use it."""
    assert {"estimate", "events", "fit", "resume", "stop"} == {name for name in vars(Tuner) if not name.startswith("_")}


def test_a_seed_may_be_of_numpys_kind() -> None:
    """It is kept as a plain number."""
    assert int is type(Tuner(mock(), seed=np.int64(3)).seed)  # type: ignore[arg-type]


def test_a_group_takes_the_preset_that_a_tuner_takes() -> None:
    """By default the same."""
    (tuner, group) = (signature(one).parameters["preset"].default for one in (Tuner, TunerGroup.add))
    assert tuner == group == "default"
