"""The tuner on a backend that computes in fewer bits than float32: float32 decides, and is paid for beforehand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tuning_cases import DEV, SMALL, TASK, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Amounts, Budget, BudgetTooSmall, Limits, Preset, Price, RetryPolicy, Tuner, TuningResult
from lmaas_sdk.backend import ScoreQuery, ScoreReply
from lmaas_sdk.testing import Attempt, Faults, run_virtual
from lmaas_sdk.tuning.events import Event, GenerationDone
from lmaas_sdk.tuning.objective import losses
from lmaas_sdk.tuning.predictor import evaluation
from lmaas_sdk.tuning.selection import MOST_RESCORED, Selection

PRICE = Price(400_000_000, call_nanousd=1_000)
NOT_PRECISE = "the choice is by train losses in fewer bits than float32"


def few_bits(**options: object) -> MockBackend:
    return mock(**({"precision": "bfloat16"} | options))


class Listening:
    """A mock of few bits that keeps what it was asked."""

    def __init__(self, **options: object) -> None:
        self.inner = few_bits(**options)
        self.card = self.inner.card
        self.asked: list[tuple[ScoreQuery, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self.asked.append((query, key))
        return await self.inner.score(query, key=key)

    def queries(self, *, precise: bool) -> list[ScoreQuery]:
        return [query for query, _ in self.asked if query.precise is precise]


async def fit(backend: Any, *data: Any, budget: Budget, preset: Preset = SMALL, **options: Any) -> TuningResult:
    seed, retry = options.pop("seed", 7), RetryPolicy(first_wait_s=0, patience_s=0)
    return await Tuner(backend, budget=budget, preset=preset, seed=seed, retry=retry).fit(TRAIN, *data, **options)


async def logits_in_float32(query: ScoreQuery) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """What a mock that has all bits answers."""
    return (await mock().score(replace(query, precise=False), key="exact")).logits


async def test_without_dev_float32_decides_among_the_lowest() -> None:
    """The search's own losses would choose another candidate than those of the same candidates in float32 do."""
    backend = Listening()
    result = await fit(backend, budget=Budget(evaluations=800))
    searched, (again,) = backend.queries(precise=False), backend.queries(precise=True)
    lowest = sorted(range(len(searched)), key=lambda generation: min(result.core.losses[generation]))[:MOST_RESCORED]
    bests = [searched[place].Z[int(np.argmin(result.core.losses[place]))] for place in lowest]  # type: ignore[index]
    np.testing.assert_array_equal(again.Z, bests)
    assert again.texts.digest == TRAIN.text_set.digest  # type: ignore[union-attr]

    precise = losses("ce", await logits_in_float32(again), TRAIN.labels, metric=TASK.metric).tolist()
    by_float32, by_search = lowest[precise.index(min(precise))], lowest[0]
    assert by_float32 != by_search
    assert (result.choice.generation, result.choice.precise_loss) == (by_float32, min(precise))
    assert result.choice.train_loss == min(result.core.losses[by_float32])
    np.testing.assert_array_equal(result.prompt.z, bests[precise.index(min(precise))])
    assert (result.chosen_by, result.warnings) == ("train_loss", ())


async def test_with_dev_float32_decides_among_the_candidates_looked_at() -> None:
    """Dev logits of few bits would choose another candidate; the training set is not scored again."""
    backend = Listening()
    preset = replace(SMALL, dev_every=1)
    result = await fit(backend, DEV, budget=Budget(evaluations=400), preset=preset, seed=4)
    rounded = Selection()
    for look, query in enumerate(backend.queries(precise=True)):
        assert query.texts.digest == DEV.text_set.digest  # type: ignore[union-attr]
        exact, few = await logits_in_float32(query), (await few_bits().score(replace(query, precise=False), key="k"))
        for place, choice in enumerate(result.dev_scored[2 * look : 2 * look + 2]):
            assert choice.dev == evaluation(exact[place], DEV)
            rounded.saw_dev(replace(choice, dev=evaluation(few.logits[place], DEV)))
    assert rounded.chosen is not None
    assert rounded.chosen[0].generation != result.choice.generation
    assert (result.evaluations, result.choice.precise_loss, result.warnings) == (400, None, ())


async def test_what_is_reported_is_float32_too() -> None:
    """Test, manual prompt and predictions are those of a backend that has all bits; training calls are not precise."""
    backend = Listening()
    result = await fit(backend, budget=Budget(evaluations=80), test=TEST, compare_manual=True)
    exact = result.use(mock())
    assert result.test == await exact.evaluate(TEST)
    texts = ["a lovely thing", "a dull thing, number 7"]
    found, expected = [await predictor.logits(texts) for predictor in (result.predictor, exact)]
    assert found.tobytes() == expected.tobytes()
    sizes = [(query.n_candidates, len(query.texts)) for query in backend.queries(precise=True)]
    assert sizes == [(8, len(TRAIN)), (1, len(TEST)), (1, len(TEST)), (1, 2)]
    assert {query.n_candidates for query in backend.queries(precise=False)} == {SMALL.population}


async def test_every_call_has_a_key_of_its_own() -> None:
    """Those that score again too, in parts as well."""
    backend = Listening(max_candidates=3, max_texts=10)
    await fit(backend, budget=Budget(evaluations=80), test=TEST, compare_manual=True)
    keys = [key for _, key in backend.asked]
    assert len(keys) == len(set(keys)) == 9 * 6 + 6 + 3 + 3
    assert backend.inner.book.replayed == 0


async def test_the_core_repeats_however_calls_are_split() -> None:
    """Choice, losses in both precisions and evaluations are the same bytes, and the core says that bits are few."""
    sizes = ({}, {}, {"max_candidates": 3}, {"max_texts": 10})
    cores = [(await fit(few_bits(**most), budget=Budget(evaluations=80))).core for most in sizes]
    assert len({core.to_bytes() for core in cores}) == 1
    assert cores[0].settings["losses"] == "fewer bits than float32"
    assert "precise_loss" in cores[0].choice


async def test_a_backend_in_float32_is_asked_and_reported_as_before() -> None:
    """No precise query goes out, nothing is scored again, and the core has no word of it."""
    backend = Listening(precision="float32")
    result = await fit(backend, budget=Budget(evaluations=80), test=TEST)
    assert backend.queries(precise=True) == []
    assert (result.evaluations, len(result.generations)) == (80, 10)
    assert result.core.settings.keys() == {"preset", "scheduling", "search", "seed", "subspace", "target", "data"}
    assert result.core.choice.keys() == {"generation", "kind", "train_loss", "chosen_by", "z"}


@pytest.mark.parametrize(
    ("evaluations", "generations", "scored_again"),
    [
        (8, 1, 0),
        (9, 1, 0),
        (15, 1, 0),
        (16, 1, 0),
        (17, 1, 0),
        (18, 2, 2),
        (26, 2, 2),
        (27, 3, 3),
        (71, 7, 7),
        (72, 8, 8),
        (79, 8, 8),
        (80, 9, 8),
        (87, 9, 8),
        (88, 10, 8),
    ],
)
async def test_evaluations_are_set_aside_to_the_last(evaluations: int, generations: int, scored_again: int) -> None:
    """A generation takes 8 and each candidate scored again one more: as many as fit, and never more."""
    budget = Budget(evaluations=evaluations)
    result = await fit(few_bits(), budget=budget)
    assert (len(result.generations), result.evaluations) == (generations, 8 * generations + scored_again)
    assert (budget.posted.evaluations, budget.pending.evaluations) == (result.evaluations, 0)
    assert (result.choice.precise_loss is not None, result.warnings) == (scored_again > 0, ())
    assert result.stopped == "budget"


TOKENS = 8 * sum(2 + 2 + 3 + 1 + 6 for _ in range(16))  # prompt, special, template, mask and words of 16 texts
A_GENERATION = {"calls": 1, "tokens": TOKENS, "nanousd": 1_000 + 400 * TOKENS}


@settings(max_examples=60, deadline=None)
@given(
    unit=st.sampled_from(["calls", "tokens", "nanousd"]),
    generations=st.integers(1, 11),
    more=st.integers(-3, 3000),
    most_candidates=st.sampled_from([3, 5, 64]),
    most_texts=st.sampled_from([7, 64]),
    tested=st.booleans(),
)
@example("calls", 2, 0, 64, 64, False)
@example("tokens", 1, 0, 64, 64, False)
@example("nanousd", 9, 7, 64, 64, True)
def test_no_limit_is_exceeded_and_float32_decides_within_all(
    unit: str, generations: int, more: int, most_candidates: int, most_texts: int, tested: bool
) -> None:
    """In calls, tokens and money, just above and below whole generations: what the plan promises is kept."""

    async def run() -> None:
        limit = generations * A_GENERATION[unit] + (more % 4 if unit == "calls" else more)
        limits: dict[str, Any] = {"usd": f"{limit}e-9"} if unit == "nanousd" else {unit: limit}
        budget = Budget(**limits)
        backend = few_bits(max_candidates=most_candidates, max_texts=most_texts, price=PRICE)
        try:
            result = await fit(backend, budget=budget, test=TEST if tested else None)
        except BudgetTooSmall:
            assert backend.book.attempts == 0
            return
        assert getattr(budget.posted, unit) <= limit
        assert budget.posted.nanousd == backend.book.nanousd
        assert budget.pending == Amounts()
        assert (result.choice.precise_loss is not None) is (len(result.generations) > 1)
        assert (result.test is not None) is tested
        assert result.warnings == ()

    asyncio.run(run())


def striking_from(number: int, kind: str) -> Faults:
    """Strikes every attempt from that one on."""

    def strikes(attempt: Attempt) -> Any:
        return kind if attempt.number >= number else None

    return Faults(plan=strikes)


def check_fell_back(result: TuningResult, why: str) -> None:
    """The choice is by the search's own losses, and the warnings say so."""
    lowest = [min(row) for row in result.core.losses]
    assert (result.choice.generation, result.choice.precise_loss) == (lowest.index(min(lowest)), None)
    assert result.evaluations == sum(map(len, result.core.losses))
    (warning,) = [warning for warning in result.warnings if warning.startswith(NOT_PRECISE)]
    assert why in warning


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("server_fault", "503"),
        ("timeout", "no answer in time"),
        ("refused", "no server took"),
        ("nan", "NaN or infinite logits"),
        ("wrong_shape", "logits of 2 labels, not 1"),
    ],
)
async def test_a_backend_that_fails_in_the_end_leaves_the_choice_of_the_search(kind: str, why: str) -> None:
    """All generations are done; the one call behind them fails for good, and is booked."""
    budget = Budget(evaluations=88)
    backend = few_bits(faults=striking_from(10, kind))
    result = await fit(backend, budget=budget)
    assert (result.stopped, len(result.generations), result.failure) == ("budget", 10, None)
    check_fell_back(result, why)
    assert budget.posted.evaluations <= 88
    assert budget.pending.evaluations == 0


async def test_a_fault_that_passes_changes_nothing() -> None:
    """The call that scores again is tried again as any other."""
    calm, struck = [
        await fit(few_bits(faults=Faults(script=[*[None] * 10, *faults])), budget=Budget(evaluations=88))
        for faults in ([], ["server_fault", "timeout"])
    ]
    assert calm.choice.precise_loss is not None
    assert struck.core.to_bytes() == calm.core.to_bytes()


async def test_an_account_that_is_empty_in_the_end_leaves_the_choice_of_the_search() -> None:
    """402 is no error there."""
    spent = 10 * A_GENERATION["nanousd"]
    result = await fit(few_bits(price=PRICE, balance_nanousd=spent), budget=Budget(evaluations=88))
    assert (result.stopped, len(result.generations)) == ("budget", 10)
    check_fell_back(result, "costs")


def test_a_quota_that_ends_leaves_the_choice_of_the_search() -> None:
    """In the search or after it: five calls a minute, and no patience."""

    async def run(evaluations: int) -> TuningResult:
        backend = few_bits(limits=Limits(requests_per_minute=5))
        return await fit(backend, budget=Budget(evaluations=evaluations), max_wait_s=1)

    after, within = run_virtual(run(8 * 5 + 5)), run_virtual(run(8 * 12))
    assert [(result.stopped, len(result.generations)) for result in (after, within)] == [("budget", 5), ("quota", 5)]
    check_fell_back(after, "quota")
    check_fell_back(within, "cut short")


def test_time_that_ends_leaves_the_choice_of_the_search() -> None:
    """A call that turns out slower than a whole generation ends with the wall time, and no later."""

    async def run() -> TuningResult:
        def latency_s(query: ScoreQuery, draw: object) -> float:
            return 1000.0 if query.precise else 1.0

        budget = Budget(wall_s=10, clock=asyncio.get_running_loop().time)
        return await fit(few_bits(latency_s=latency_s), budget=budget)

    result = run_virtual(run())
    check_fell_back(result, "wall_s")
    assert result.wall_s <= 10
    assert result.spend.unknown_outcomes == 1


@pytest.mark.parametrize("wall_s", [10.0, 30.5])
def test_time_is_left_for_scoring_again(wall_s: float) -> None:
    """The search ends early enough for it."""

    async def run() -> TuningResult:
        budget = Budget(wall_s=wall_s, clock=asyncio.get_running_loop().time)
        return await fit(few_bits(latency_s=1.0), budget=budget)

    result = run_virtual(run())
    assert result.choice.precise_loss is not None
    assert wall_s - 4 < result.wall_s <= wall_s


async def test_stop_leaves_the_choice_of_the_search() -> None:
    """Nothing is sent any more after the generation."""
    backend = Listening()
    tuner = Tuner(backend, budget=Budget(evaluations=800), preset=SMALL, seed=7)

    def listener(event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation == 3:
            tuner.stop()

    result = await tuner.fit(TRAIN, on_event=listener)
    assert (result.stopped, len(result.generations), len(backend.asked)) == ("interrupted", 4, 4)
    check_fell_back(result, "cut short")


@pytest.mark.parametrize(("number", "stopped"), [(3, "interrupted"), (5, "budget")])
async def test_a_run_that_ends_before_dev_was_looked_at_says_what_it_chose_by(number: int, stopped: str) -> None:
    """With a dev set nothing was set aside for scoring again, so it is not done in its place."""
    result = await fit(few_bits(faults=striking_from(number, "server_fault")), DEV, budget=Budget(evaluations=40))
    assert (result.chosen_by, len(result.generations), result.stopped) == ("train_loss", number, stopped)
    check_fell_back(result, "dev was not looked at")


async def test_one_generation_has_nothing_to_compare() -> None:
    """Its best is returned as it is, without a call more or a warning."""
    backend = Listening()
    result = await fit(backend, budget=Budget(calls=1))
    assert (len(backend.asked), result.choice.precise_loss, result.warnings) == (1, None, ())


@pytest.mark.parametrize("objective", ["hinge", "metric"])
async def test_the_objective_is_that_of_the_search(objective: Any) -> None:
    """The losses in float32 are of the kind that was minimised."""
    backend = Listening()
    result = await fit(backend, budget=Budget(evaluations=80), preset=replace(SMALL, objective=objective))
    (again,) = backend.queries(precise=True)
    precise = losses(objective, await logits_in_float32(again), TRAIN.labels, metric=TASK.metric)
    assert result.choice.precise_loss == precise.min()
    assert result.choice.generation == min(
        generation
        for generation, loss in zip(_generations(backend, again), precise.tolist(), strict=True)
        if loss == precise.min()
    )


def _generations(backend: Listening, again: ScoreQuery) -> list[int]:
    """Where each candidate that was scored again comes from."""
    generations = list(enumerate(backend.queries(precise=False)))
    return [next(place for place, query in generations if (query.Z == z).all(axis=1).any()) for z in again.Z]  # type: ignore[union-attr]
