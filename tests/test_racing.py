"""Racing: which rows come first, who goes on, what is told, and when it pays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tuning_cases import SMALL, TASK

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, Client, Scheduling
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.backend import Limits, ScoreQuery, ScoreReply
from lmaas_sdk.tuning.cmaes import PycmaOptimizer
from lmaas_sdk.tuning.generation import GenerationScorer
from lmaas_sdk.tuning.journal import Moment
from lmaas_sdk.tuning.objective import Objective, losses, text_losses
from lmaas_sdk.tuning.optimizer import Batch
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.racing import Racing, can_drop, pays, rungs, values
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.scheduling import Needs
from lmaas_sdk.tuning.strata import survivors
from lmaas_sdk.tuning.told import Told

RACING = Racing()
LABELS = np.arange(32) % 2
NOBODY_IS_BEHIND = Racing(margin=1e9)
WHO_IS_NOT_AMONG_THE_BEST = Racing(margin=1e-9)
GOLDEN = (0, 2, 5, 9, 10, 12, 15, 25)  # the first rung of seed 42, generation 7

_parts = st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True).map(
    lambda percents: (*sorted(percent / 100 for percent in percents), 1.0)
)
_labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda labels: np.array(labels, dtype=np.int64))
_two_labels = st.lists(st.integers(0, 1), min_size=1, max_size=12).map(lambda labels: np.array(labels, dtype=np.int64))
_seeds = st.integers(0, 2**32 - 1)


# rungs


@given(parts=_parts, labels=_labels, seed=_seeds, generation=st.integers(0, 500))
def test_rungs_are_all_rows_once(
    parts: tuple[float, ...], labels: NDArray[np.int64], seed: int, generation: int
) -> None:
    """No row is left out or scored twice; a rung is in rising order and never empty."""
    found = rungs(Racing(parts), labels, seed=seed, generation=generation)
    assert list(range(len(labels))) == sorted(row for rung in found for row in rung)
    assert all(rung == tuple(sorted(rung)) and rung for rung in found)


@given(parts=_parts, labels=_labels, seed=_seeds)
def test_every_class_is_in_every_rung(parts: tuple[float, ...], labels: NDArray[np.int64], seed: int) -> None:
    """A class with a row for every rung is in all of them; one with fewer is in the first ones."""
    found = rungs(Racing(parts), labels, seed=seed, generation=3)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        is_there = [label in labels[list(rung)] for rung in found]
        assert [True] * min(int(count), len(parts)) == is_there[: int(count)][: len(parts)]


def test_rungs_are_as_large_as_their_parts() -> None:
    """Of 16 shots a class, a quarter is 4 of each, of 6 shots 2; a class of two rows is in the first two rungs."""
    counts = [np.bincount(LABELS[list(rung)]).tolist() for rung in rungs(RACING, LABELS, seed=1, generation=0)]
    assert [[4, 4], [4, 4], [8, 8]] == counts
    assert 4 == len(rungs(RACING, LABELS[:12], seed=1, generation=0)[0])
    uneven = np.array([0] * 20 + [1] * 2)
    counts = [
        np.bincount(uneven[list(rung)], minlength=2).tolist() for rung in rungs(RACING, uneven, seed=1, generation=0)
    ]
    assert [[5, 1], [5, 1], [10, 0]] == counts


def test_rungs_follow_from_labels_seed_and_generation() -> None:
    """The same ones give the same rows, on every machine; another seed or generation gives others."""
    found = rungs(RACING, LABELS, seed=42, generation=7)
    assert found == rungs(RACING, LABELS.copy(), seed=42, generation=7)
    assert GOLDEN == found[0]
    assert found != rungs(RACING, LABELS, seed=42, generation=8)
    assert found != rungs(RACING, LABELS, seed=43, generation=7)


def test_a_single_row_is_a_single_rung() -> None:
    """Rungs that would be empty are left out."""
    assert ((0,),) == rungs(RACING, np.array([1]), seed=1, generation=0)


@pytest.mark.parametrize("parts", [(1.0,), (0.5,), (0.5, 0.25, 1.0), (0.5, 0.5, 1.0), (0.5, 1.0, 1.5), ()])
def test_parts_rise_to_one(parts: tuple[float, ...]) -> None:
    """Others are refused, with what they may be."""
    with pytest.raises(ValueError, match="rise to 1, such as"):
        Racing(parts)


@pytest.mark.parametrize(("setting", "error"), [(0, ValueError), (float("nan"), ValueError), ("1", TypeError)])
def test_a_margin_is_a_positive_number(setting: Any, error: type[Exception]) -> None:
    """The message names it."""
    with pytest.raises(error, match="margin is a positive number"):
        Racing(margin=setting)


def test_equal_settings_are_spelled_alike() -> None:
    """Whole numbers are floats, as in other settings."""
    assert "Racing(parts=(0.5, 1.0), margin=2.0)" == repr(Racing((0.5, 1), margin=2))


# who goes on


@given(seed=_seeds, keep=st.integers(1, 20), must_keep=st.sets(st.integers(0, 19)), margin=st.floats(0.01, 5))
def test_the_best_and_the_needed_go_on(seed: int, keep: int, must_keep: set[int], margin: float) -> None:
    """Never fewer than asked for, none of the best so far, none that is needed, and nobody who was not in the race."""
    random = np.random.default_rng(seed)
    alive = tuple(sorted(random.choice(20, random.integers(keep, 21), replace=False).tolist()))
    rows = np.concatenate(rungs(RACING, LABELS, seed=seed, generation=0)[:2])
    per_text = np.full((20, 32), np.nan)
    per_text[np.ix_(alive, rows)] = random.exponential(size=(len(alive), 16)) + random.standard_normal((len(alive), 1))
    found = survivors(per_text, LABELS, margin=margin, alive=alive, keep=keep, must_keep=must_keep)
    means = per_text[:, rows].mean(axis=1)
    best = {index for index in alive if means[index] <= np.sort(means[list(alive)])[keep - 1]}
    assert best | (must_keep & set(alive)) <= set(found) <= set(alive)
    assert tuple(sorted(found)) == found
    assert len(found) >= keep


def _some_rows(losses_of_texts: list[NDArray[np.float64]], rows: range = range(8)) -> NDArray[np.float64]:
    per_text = np.full((len(losses_of_texts), 32), np.nan)
    per_text[:, rows] = np.stack(losses_of_texts)[:, rows]
    return per_text


def test_candidates_are_compared_text_by_text() -> None:
    """Hard texts are hard for all: who is worse by as much on each is dropped, however much texts differ."""
    hard = np.linspace(0.0, 400.0, 32)
    wobble = np.tile([0.01, -0.01, -0.01, 0.01], 8)
    per_text = _some_rows([hard, hard + wobble, hard + 0.5, hard + 0.5 - wobble])
    assert (0, 1) == survivors(per_text, LABELS, margin=1.0, alive=(0, 1, 2, 3), keep=1)


def test_candidates_are_compared_within_classes() -> None:
    """That one leans to the other class is no noise, when both classes are seen alike."""
    lean = np.where(LABELS == 0, 1.0, -1.0)
    per_text = _some_rows([np.zeros(32), lean + 0.1, lean + 0.1])
    assert (0,) == survivors(per_text, LABELS, margin=1.0, alive=(0, 1, 2), keep=1)


def test_who_may_well_be_better_goes_on() -> None:
    """A mean difference of half a standard error drops nobody at a margin of 1, and does at a margin of 0.1."""
    differs = np.tile([1.0, 1.0, -1.0, -1.0], 8)
    error = float(np.sqrt(8 / 6 / 8 * (1 - 8 / 32)))
    per_text = _some_rows([np.zeros(32), differs + error / 2, -differs + error / 2])
    assert (0, 1, 2) == survivors(per_text, LABELS, margin=1.0, alive=(0, 1, 2), keep=1)
    assert (0, 1, 2) == survivors(per_text, LABELS, margin=0.51, alive=(0, 1, 2), keep=1)
    assert (0,) == survivors(per_text, LABELS, margin=0.49, alive=(0, 1, 2), keep=1)


def test_rows_that_happen_to_agree_drop_nobody_by_themselves() -> None:
    """A difference that is small and the same on a few rows may be chance: it is judged by how others vary."""
    differs = np.tile([1.0, 1.0, -1.0, -1.0], 8)
    per_text = _some_rows([np.zeros(32), differs, -differs, np.full(32, 0.1)])
    assert 3 in survivors(per_text, LABELS, margin=1.0, alive=(0, 1, 2, 3), keep=1)
    assert (0,) == survivors(per_text[[0, 3]], LABELS, margin=1.0, alive=(0, 1), keep=1)


def test_too_few_rows_drop_nobody() -> None:
    """One row of each class tells no variance."""
    per_text = _some_rows([np.zeros(32), np.full(32, 9.0)], rows=range(2))
    assert (0, 1) == survivors(per_text, LABELS, margin=1e-9, alive=(0, 1), keep=1)


def test_classes_count_by_their_size() -> None:
    """Where a small class is seen whole and a large one in part, the large one's rows stand for those still out."""
    labels = np.array([0] * 30 + [1] * 2)
    rows = [0, 1, 2, 3, 30, 31]
    per_text = np.full((2, 32), np.nan)
    per_text[0, rows] = [0.0, 0.01, 0.0, 0.01, 0.5, 0.5]
    per_text[1, rows] = [0.1, 0.11, 0.11, 0.1, 0.0, 0.0]  # a lower plain mean, and a higher one of the whole set
    assert (0,) == survivors(per_text, labels, margin=1.0, alive=(0, 1), keep=1)


# a race


class Answering:
    """A mock that answers the candidate whose first coordinate is i by row i of a table of logits.

    Attributes:
        asked: Candidates and rows of each call.
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.inner = MockBackend()
        self.card, self._logits = self.inner.card, logits
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        reply = await self.inner.score(query, key=key)
        assert query.Z is not None
        candidates = tuple(query.Z[:, 0].astype(int).tolist())
        rows = tuple(range(len(query.texts))) if query.rows is None else query.rows
        self.asked.append((candidates, rows))
        return replace(reply, logits=self._logits[np.ix_(candidates, rows)])


@dataclass(frozen=True)
class Scored:
    """A generation that was scored.

    Args:
        told: Its outcome.
        asked: Candidates and rows of each call.
        spent: What is booked for it.
        tokens: Of each text.
    """

    told: Told
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]]
    spent: Amounts
    tokens: tuple[int, ...]

    @property
    def ended(self) -> list[int]:
        """Who was not dropped."""
        return sorted(self.told.values.keys() - self.told.fates.keys())

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every candidate and row that was asked for."""
        return [(one, row) for candidates, rows in self.asked for one in candidates for row in rows]


def _logits(seed: int, candidates: int = 20, texts: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((candidates, texts, 2)).astype(np.float32)


def _scored(
    logits: NDArray[np.float32], racing: Racing | None = RACING, objective: Objective = "ce", **settings: Any
) -> Scored:
    """Has the product score a generation of candidates that these logits are answered for."""
    return asyncio.run(_score(logits, racing, objective, **settings))


async def _score(
    logits: NDArray[np.float32],
    racing: Racing | None,
    objective: Objective,
    *,
    labels: NDArray[np.int64] = LABELS,
    needs: Needs | None = None,
    generation: int = 0,
) -> Scored:
    backend = Answering(logits)
    client = Client(backend, Budget())  # type: ignore[arg-type]
    dataset = TASK.examples([(f"thing {'very ' * (n % 3)}{n}", label) for n, label in enumerate(labels.tolist())])
    scheduler = Scheduler(client, "run")
    scorable = await scheduler.prepare(dataset.text_set, SMALL.subspace(backend.card, 1))
    train = LabelledTexts(dataset, scorable)
    scorer = GenerationScorer(scheduler, train, objective=objective, scheduling=Scheduling(), racing=racing, seed=42)
    X = np.zeros((len(logits), 20))
    X[:, 0] = np.arange(len(logits))
    needs = needs or Needs(len(logits), 10, frozenset())
    outcome = await scorer.score(Batch(generation, X), needs, lambda: Moment(client.spend.total, 0.0))
    return Scored(outcome.told, backend.asked, outcome.at.spent, scorable.token_counts)


@pytest.mark.parametrize("objective", get_args(Objective))
def test_a_race_that_drops_nobody_is_no_race(objective: Objective) -> None:
    """The values are those of scoring in one go, bit for bit."""
    raced, whole = _scored(_logits(1), NOBODY_IS_BEHIND, objective), _scored(_logits(1), None, objective)
    expected = dict(enumerate(losses(objective, _logits(1), LABELS, metric="accuracy").tolist()))
    assert expected == raced.told.values == whole.told.values
    assert {} == raced.told.fates
    assert 20 == raced.told.evaluations == whole.told.evaluations
    assert (3, 1) == (len(raced.asked), len(whole.asked))


@pytest.mark.parametrize("objective", get_args(Objective))
@given(seed=_seeds, margin=st.floats(0.01, 3), keep=st.integers(1, 20))
def test_values_are_losses_of_who_ended_and_larger_for_the_rest(
    objective: Objective, seed: int, margin: float, keep: int
) -> None:
    """Who was scored on all rows has its own loss, bit for bit; all others have more, are finite and differ."""
    needs = Needs(20, keep, frozenset())
    found = _scored(_logits(seed), Racing(margin=margin), objective, needs=needs, generation=seed % 100)
    told, ended = found.told.values, found.ended
    assert list(range(20)) == list(told)
    expected = losses(objective, _logits(seed)[ended], LABELS, metric="accuracy").tolist()
    assert expected == [told[index] for index in ended]
    dropped = [told[index] for index in found.told.fates]
    assert {"dropped"} >= set(found.told.fates.values())
    assert np.isfinite(dropped).all()
    assert all(value > max(expected) for value in dropped)
    assert len(set(dropped)) == len(dropped)
    assert keep <= len(ended)


@given(seed=_seeds, margin=st.floats(0.01, 3))
def test_nothing_is_scored_or_paid_for_twice(seed: int, margin: float) -> None:
    """Who ended was asked about every row once, who was dropped about fewer; that is what is counted and billed."""
    found = _scored(_logits(seed), Racing(margin=margin), generation=seed % 100)
    assert len(set(found.pairs)) == len(found.pairs)
    rows_of = Counter(index for index, _ in found.pairs)
    assert found.ended == sorted(index for index, rows in rows_of.items() if rows == 32)
    assert list(range(20)) == sorted(rows_of)
    expected = Amounts(
        calls=len(found.asked),
        evaluations=Fraction(len(found.pairs), 32),
        tokens=sum(found.tokens[row] for _, row in found.pairs),
    )
    assert expected == found.spent
    assert expected.evaluations == found.told.evaluations


def test_who_got_further_ranks_before_who_did_not() -> None:
    """The dropped are in the order of the rows they saw, then of their means on these, whatever the means are."""
    per_text = np.full((6, 4), np.nan)
    per_text[0], per_text[1] = 1.0, 2.0
    per_text[2, :1], per_text[3, :2], per_text[4, :2], per_text[5, :1] = 0.5, 9.0, 8.0, 0.25
    found = values("ce", per_text, np.zeros(4, np.int64), metric="accuracy")
    assert [0, 1, 4, 3, 5, 2] == np.argsort(found).tolist()
    assert [1.0, 2.0, 8.0, 9.0] == found[[0, 1, 4, 3]].tolist()
    assert found[[5, 2]].tolist() == [np.nextafter(9.0, 10), np.nextafter(np.nextafter(9.0, 10), 10)]


def test_who_is_told_goes_by_how_far_it_got() -> None:
    """Of a real race, too: those that went after the first rung are all behind those that went after the second."""
    found = _scored(_logits(2), Racing(margin=0.3), needs=Needs(20, 5, frozenset()))
    told, (first, second, last) = found.told.values, [set(candidates) for candidates, _ in found.asked]
    assert first > second > last
    assert max(told[index] for index in last) < min(told[index] for index in second - last)
    assert max(told[index] for index in second) < min(told[index] for index in first - second)


def test_a_race_is_the_same_again() -> None:
    """Rungs, drops and values follow from the answers and the settings; the rungs are those of the generation."""
    first, second = _scored(_logits(2), generation=4), _scored(_logits(2), generation=4)
    assert first == second
    assert first.told.fates
    assert list(rungs(RACING, LABELS, seed=42, generation=4)) == [rows for _, rows in first.asked]
    assert list(rungs(RACING, LABELS, seed=42, generation=5)) == [
        rows for _, rows in _scored(_logits(2), generation=5).asked
    ]


def test_only_who_goes_on_is_scored() -> None:
    """With the least margin half goes on to each further rung; the evaluations are what was scored."""
    found = _scored(_logits(3), WHO_IS_NOT_AMONG_THE_BEST)
    assert [(20, 8), (10, 8), (10, 16)] == [(len(alive), len(rows)) for alive, rows in found.asked]
    assert Fraction(20 * 8 + 10 * 24, 32) == found.told.evaluations
    assert all(set(after) <= set(before) for (before, _), (after, _) in pairwise(found.asked))
    assert found.ended == list(found.asked[-1][0])


def test_two_points_are_never_dropped() -> None:
    """CMA-ES with two-point adaptation can be told what a race found, though its two points are the worst."""
    optimizer = PycmaOptimizer(4, population=8, sigma0=1.0, diagonal=False, step_size="tpa", seed=1)
    for generation in range(3):
        batch, needed = optimizer.ask(), optimizer.must_have
        logits = 0.1 * _logits(generation, 8)
        logits[:2, :, 1] += np.where(LABELS == 1, -5.0, 5.0).astype(np.float32)
        needs = Needs(8, optimizer.min_tell, needed)
        found = _scored(logits, WHO_IS_NOT_AMONG_THE_BEST, needs=needs, generation=generation)
        assert needed <= set(found.ended)
        assert optimizer.min_tell + len(needed) == len(found.ended)
        optimizer.tell(batch.generation, found.told.values)


def test_errors_are_what_a_race_by_the_metric_goes_by() -> None:
    """Who is right about more texts goes on; the classes themselves are no losses."""
    logits = np.zeros((3, 32, 2), np.float32)
    logits[0, :, 1] = np.where(LABELS == 1, 1.0, -1.0)  # right
    logits[1, :, 1] = 1.0  # right half of the time
    logits[2, :, 1] = np.where(LABELS == 1, -1.0, 1.0)  # wrong
    found = _scored(logits, WHO_IS_NOT_AMONG_THE_BEST, "metric", needs=Needs(3, 1, frozenset()))
    assert [0] == found.ended
    assert {0: -1.0, 1: -0.5, 2: 0.0} == found.told.values


def test_values_need_one_that_was_scored_whole() -> None:
    """Else there is nothing to rank the others behind."""
    per_text = text_losses("ce", _logits(1), LABELS)
    per_text[:, 0] = np.nan
    with pytest.raises(ValueError, match="no candidate was scored on all rows"):
        values("ce", per_text, LABELS, metric="accuracy")


# who can be dropped


@given(labels=_two_labels, parts=_parts, seed=_seeds)
def test_somebody_can_be_dropped_where_a_race_does_drop_the_worst(
    labels: NDArray[np.int64], parts: tuple[float, ...], seed: int
) -> None:
    """Of two candidates the one that is far worse on every text, unless the rows are too few to tell."""
    logits = np.zeros((2, len(labels), 2), np.float32)
    logits[0, np.arange(len(labels)), labels] = 9.0
    racing, needs = Racing(parts), Needs(2, 1, frozenset())
    found = _scored(logits, racing, labels=labels, needs=needs, generation=seed % 100)
    assert can_drop(racing, labels) is bool(found.told.fates)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((1,), False), ((1, 1), False), ((2, 2), False), ((2,) * 14, False), ((3, 1), True), ((3, 3), True), ((3,), True)],
)
def test_three_rows_of_some_class_are_the_least(counts: tuple[int, ...], expected: bool) -> None:
    """With fewer, what is seen before the last rung is one row of each class."""
    assert expected is can_drop(RACING, np.repeat(np.arange(len(counts)), counts))


# when it pays

GENERATION = Amounts(calls=1, evaluations=20, tokens=50_000, nanousd=20_000_000)
BY_TOKENS = Price(input_nanousd_per_mtok=400_000_000)
MOSTLY_BY_CALLS = Price(input_nanousd_per_mtok=100_000_000, call_nanousd=15_000_000)
A_LITTLE_BY_CALLS = Price(input_nanousd_per_mtok=390_000_000, call_nanousd=500_000)


@pytest.mark.parametrize(
    ("free", "limits", "price", "expected"),
    [
        ({}, Limits(), None, False),
        ({"evaluations": 8000}, Limits(), None, False),
        ({"tokens": 10_000_000}, Limits(), None, True),
        ({"nanousd": 5 * 10**9}, Limits(), BY_TOKENS, True),
        ({"nanousd": 5 * 10**9}, Limits(), MOSTLY_BY_CALLS, False),
        ({"nanousd": 5 * 10**9}, Limits(), A_LITTLE_BY_CALLS, True),
        ({"calls": 400}, Limits(), None, False),
        ({"calls": 400, "tokens": 10_000_000}, Limits(), None, False),
        ({"calls": 100_000, "tokens": 10_000_000}, Limits(), None, True),
        ({}, Limits(tokens_per_minute=100_000), None, True),
        ({}, Limits(tokens_per_minute=100_000, requests_per_minute=500), None, True),
        ({}, Limits(tokens_per_minute=100_000, requests_per_minute=3), None, False),
        ({}, Limits(tokens_per_minute=100_000, requests_per_day=100), None, False),
        ({"nanousd": 5 * 10**9}, Limits(requests_per_day=100), BY_TOKENS, False),
        ({"calls": 400}, Limits(tokens_per_minute=100_000), None, False),
        ({"tokens": 10_000_000, "calls": None}, Limits(concurrency=4), None, True),
    ],
)
def test_racing_pays_where_tokens_or_money_bind(
    free: Mapping[str, int | Fraction | None], limits: Limits, price: Price | None, expected: bool
) -> None:
    """Not where calls do, by budget, price or quota, and not where nobody charges for anything."""
    found = pays(RACING, objective="ce", n_texts=32, generation=GENERATION, free=free, limits=limits, price=price)
    assert expected is found


@pytest.mark.parametrize(
    ("objective", "n_texts", "expected"), [("hinge", 16, True), ("ce", 15, False), ("metric", 32, False)]
)
def test_racing_needs_rows_and_a_loss(objective: Objective, n_texts: int, expected: bool) -> None:
    """Few rows tell little, and so do right and wrong."""
    free = {"tokens": 10_000_000}
    found = pays(RACING, objective=objective, n_texts=n_texts, generation=GENERATION, free=free, limits=Limits())
    assert expected is found


def test_more_rungs_take_more_calls() -> None:
    """A quota that three calls a generation fit may be too small for five."""
    quota = Limits(tokens_per_minute=100_000, requests_per_minute=8)
    asked: dict[str, Any] = {"objective": "ce", "n_texts": 32, "generation": GENERATION, "free": {}, "limits": quota}
    assert pays(RACING, **asked)
    assert not pays(replace(RACING, parts=(0.2, 0.4, 0.6, 0.8, 1.0)), **asked)
