"""Scoring one generation, where candidates are equal, fail, or are raced."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tuning_cases import DEV, SMALL, TEST, TRAIN, examples, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, Dataset, Preset, Scheduling, Task, Tuner, TuningResult
from lmaas_sdk.backend import ScoreQuery, ScoreReply
from lmaas_sdk.errors import ProtocolError
from lmaas_sdk.testing import Faults
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.optimizer import Batch, check_values
from lmaas_sdk.tuning.presets import RacingChoice

POPULATION = 8
RACED = replace(SMALL, racing="on")
MANY = examples(0, 64)


class Repeating:
    """A search whose candidates 2 and 3 are equal, and whose generations repeat its first candidate.

    Attributes:
        told: Every generation's values.
    """

    population_size, min_tell, sigma = POPULATION, 4, 1.0
    must_have: frozenset[int] = frozenset()

    def __init__(self, d: int, seed: int) -> None:
        self._d, self._random = d, np.random.Generator(np.random.Philox(seed))
        self._asked: Batch | None = None
        self.mean: NDArray[np.float64] = np.zeros(d)
        self.told: list[dict[int, float]] = []

    def ask(self, extra: int = 0) -> Batch:
        if self._asked is None:
            X = self._random.standard_normal((POPULATION + extra, self._d))
            X[0], X[3] = 0.5, X[2]
            self._asked = Batch(len(self.told), X)
        return self._asked

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        assert self._asked is not None
        check_values(self, self._asked, values)
        self._asked = None
        self.told.append(dict(values))

    def warnings(self) -> tuple[str, ...]:
        return ()


class Damaging:
    """A mock that answers some candidates with NaN, told by their second coordinate, whatever else is in the call."""

    def __init__(self, is_damaged: Any, inner: MockBackend) -> None:
        self.inner, self.card, self._is_damaged = inner, inner.card, is_damaged

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def score(self, query, *, key):  # type: ignore[no-untyped-def]
        reply = await self.inner.score(query, key=key)
        if query.Z is None:
            return reply
        logits = reply.logits.copy()
        for row, z in enumerate(query.Z):
            if self._is_damaged(z):
                logits[row, -1, -1] = np.nan
        return replace(reply, logits=logits)


async def fit(
    backend: object, *, preset: Preset = SMALL, evaluations: int = 4 * POPULATION, **scheduling: Any
) -> tuple[TuningResult, list[dict[int, float]]]:
    """A run of a search that repeats itself, and what that was told."""
    made: list[Repeating] = []

    def make(d: int, seed: int) -> Repeating:
        made.append(Repeating(d, seed))
        return made[0]

    tuner = Tuner(
        backend,  # type: ignore[arg-type]
        budget=Budget(evaluations=evaluations),
        preset=preset,
        scheduling=Scheduling(**scheduling),
        optimizer=make,  # type: ignore[arg-type]
    )
    return await tuner.fit(MANY), made[0].told


def second_is(draw: Repeating, index: int) -> float:
    return float(np.float32(draw.ask().X[index, 1]))


async def test_equal_candidates_are_paid_for_once_and_told_alike() -> None:
    """Seven are sent, then six a generation, as the first is known; all eight are told."""
    backend = mock()
    result, told = await fit(backend, evaluations=28)
    assert (25, {8}) == (backend.book.evaluations, set(map(len, told[:4])))
    assert [7, 13, 19, 25] == [event.evaluations for event in result.generations[:4]]
    assert all(values[2] == values[3] for values in told)
    assert 1 == len({values[0] for values in told})


@pytest.mark.parametrize("preset", [SMALL, RACED], ids=["plain", "raced"])
@pytest.mark.parametrize("failed", ["drop", "impute", "resample"])
async def test_who_equals_a_candidate_that_failed_has_failed_too(preset: Preset, failed: str) -> None:
    """It is no candidate that nobody knows anything of: it is dropped, imputed or replaced like the other."""
    damaged = second_is(Repeating(SMALL.d, 42), 2)
    backend = Damaging(lambda z: z[1] == np.float32(damaged), mock())
    result, told = await fit(backend, preset=preset, failed=failed, spares=3)
    losses = result.core.losses[0]
    assert (None, None) == (losses[2], losses[3])
    if failed == "drop":
        assert not {2, 3} & told[0].keys()
    if failed == "impute":
        assert max(told[0].values()) == told[0][2] == told[0][3]
    if failed == "resample":
        assert {8, 9} <= told[0].keys()
        assert 10 not in told[0]
        assert 8 == len(told[0])


async def test_who_equals_a_candidate_that_was_dropped_in_a_race_is_told_alike() -> None:
    """Every candidate is told in every generation, and equal ones by equal values."""
    result, told = await fit(mock(), preset=RACED, evaluations=20 * POPULATION)
    assert any(None in row for row in result.core.losses)
    assert {8} == set(map(len, told))
    assert all(values[2] == values[3] for values in told)


class Watching:
    """A mock, with the candidates and rows of each call.

    Attributes:
        asked: How many candidates on which rows of the training set.
    """

    def __init__(self, texts: TextSet) -> None:
        self.inner, self._texts = MockBackend(), texts
        self.card = self.inner.card
        self.asked: list[tuple[int, tuple[int, ...]]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        if query.texts == self._texts:
            rows = tuple(range(len(query.texts))) if query.rows is None else query.rows
            self.asked.append((query.n_candidates, rows))
        return await self.inner.score(query, key=key)


async def raced(
    racing: RacingChoice, budget: Budget, train: Dataset = MANY, dev: Dataset | None = DEV
) -> tuple[TuningResult, Watching]:
    """A run of the product's own search, and what it asked for of the training set."""
    backend = Watching(train.text_set)
    preset = replace(SMALL, racing=racing, dev_every=3)
    return await Tuner(backend, budget=budget, preset=preset).fit(train, dev), backend  # type: ignore[arg-type]


async def test_a_race_is_billed_for_what_it_asked_for() -> None:
    """In calls, evaluations and tokens, to the last one; and a race takes fewer tokens a generation than none."""
    tokens_a_generation = {}
    for racing in ("on", "off"):
        result, backend = await raced(racing, Budget(evaluations=15 * POPULATION))
        registered = await backend.inner.register(MANY.text_set, result.prompt.subspace)
        counts, train = np.array(registered.token_counts), result.spend.by_purpose["train"]
        assert len(backend.asked) == train.calls
        assert sum(count * len(rows) for count, rows in backend.asked) == len(MANY) * train.evaluations
        assert sum(count * int(counts[list(rows)].sum()) for count, rows in backend.asked) == train.tokens
        assert backend.inner.book.tokens == result.spent.tokens == train.tokens + result.spend.by_purpose["dev"].tokens
        assert result.evaluations == train.evaluations
        tokens_a_generation[racing] = train.tokens / len(result.generations)
    assert tokens_a_generation["on"] < 0.9 * tokens_a_generation["off"]


async def test_a_race_scores_whom_it_keeps_as_they_would_be_without() -> None:
    """The first generation has the same candidates either way: what is saved goes into generations, not into losses."""
    on, _ = await raced("on", Budget(evaluations=15 * POPULATION))
    off, _ = await raced("off", Budget(evaluations=15 * POPULATION))
    first, whole = on.core.losses[0], off.core.losses[0]
    assert None in first
    assert [loss for loss in first if loss is not None] == [
        loss for loss, kept in zip(whole, first, strict=True) if kept is not None
    ]
    assert min(whole) == min(loss for loss in first if loss is not None)
    assert len(on.generations) > len(off.generations) == 15


@pytest.mark.parametrize(
    ("budget", "expected"), [({"tokens": 150_000}, "on"), ({"calls": 24}, "off"), ({"evaluations": 120}, "off")]
)
async def test_a_run_races_by_itself_where_tokens_bind(budget: dict[str, int], expected: RacingChoice) -> None:
    """It then is the run that was told to, or told not to."""
    by_itself, _ = await raced("auto", Budget(**budget))
    told_to, _ = await raced(expected, Budget(**budget))
    assert by_itself.core.losses == told_to.core.losses
    assert (by_itself.spent, by_itself.core.curve) == (told_to.spent, told_to.core.curve)


@pytest.mark.parametrize("racing", ["on", "auto"])
@pytest.mark.parametrize(("texts_a_class", "expected"), [(2, False), (3, True)])
async def test_a_race_that_can_drop_nobody_is_not_begun(
    racing: RacingChoice, texts_a_class: int, expected: bool
) -> None:
    """With two texts of each class it would only take more calls; the run is that of who asked for no race."""
    words = ["bad", "great", "fine", "dull", "sour", "warm", "big", "small"]
    task = Task("eight things", template="{text} It was <mask> .", labels=words, words=words)
    train = task.examples([(f"a {words[n % 8]} thing, number {n}", n % 8) for n in range(8 * texts_a_class)])
    found, backend = await raced(racing, Budget(tokens=60_000), train, None)
    assert expected is any(len(rows) < len(train) for _, rows in backend.asked)
    whole, _ = await raced("off", Budget(tokens=60_000), train, None)
    assert expected is (found.core.losses != whole.core.losses)
    assert expected is (found.spent.calls > whole.spent.calls)


async def test_all_that_are_left_of_a_race_may_fail() -> None:
    """In the first generation that is an error that says why; later, with a candidate known, the run goes on."""
    faults = Faults(plan=lambda one: "wrong_shape" if one.number == 2 else None)
    with pytest.raises(ProtocolError):
        await fit(mock(faults=faults), preset=RACED, tries=0)
    last_rung_of_the_second = 5
    faults = Faults(plan=lambda one: "wrong_shape" if one.number == last_rung_of_the_second else None)
    _, told = await fit(mock(faults=faults), preset=RACED, tries=0)
    assert told[0][0] == told[1][0] == min(told[1].values())
    assert told[1][0] < max(told[2].values())


async def test_candidates_in_the_place_of_failed_ones_are_left_out_where_money_ends() -> None:
    """The generation that was paid for counts all the same."""
    backend = Damaging(lambda z: bool(z[1] < -1.0), mock())
    result, told = await fit(backend, evaluations=POPULATION, failed="resample")
    assert ("budget", 1, 1) == (result.stopped, len(result.generations), len(told))
    assert 8 > len(told[0])


async def test_a_run_that_goes_on_scores_its_new_choice_on_the_test_set(tmp_path: Path) -> None:
    """The answer for the prompt that was chosen before is that of another prompt, under another key."""
    inner, path = mock(), tmp_path / "run.journal"
    preset = replace(SMALL, dev_every=3)
    first = Tuner(inner, budget=Budget(evaluations=24), preset=preset, seed=7, journal=path)
    before = await first.fit(TRAIN, DEV, test=TEST)
    tuner = await asyncio.to_thread(lambda: Tuner.resume(path, inner, budget=Budget(evaluations=240)))
    after = await tuner.fit(TRAIN, DEV, test=TEST)
    whole = await Tuner(mock(), budget=Budget(evaluations=240), preset=preset, seed=7).fit(TRAIN, DEV, test=TEST)
    assert before.test != after.test == whole.test
