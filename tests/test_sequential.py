"""Several random subspaces, one after another."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import (
    Backend,
    Budget,
    BudgetTooSmall,
    JournalError,
    JournalMismatch,
    PaymentRequired,
    Price,
    RetryPolicy,
    ScoreQuery,
    ScoreReply,
    Tuner,
    open_ledger,
)
from lmaas_sdk.errors import BackendUnavailable
from lmaas_sdk.methods import BlackBoxPredictor, SequentialRandomEmbeddings, load_predictor
from lmaas_sdk.methods.black_box import SearchOptions
from lmaas_sdk.tuning.events import Event, GenerationDone
from lmaas_sdk.tuning.selection import dev_rank

METHOD = SequentialRandomEmbeddings


@pytest.fixture
def backend() -> Backend:
    return mock()


async def fitted(backend: Backend, evaluations: int = 192, **options: object) -> BlackBoxPredictor:
    method = METHOD(backend, budget=Budget(evaluations=evaluations), preset=SMALL, seed=3, **options)  # type: ignore[arg-type]
    return await method.fit(TRAIN, DEV)


async def test_each_round_searches_anew_around_the_best_so_far(backend: Backend) -> None:
    """The first is the plain search; the others start from the best prompt before, in subspaces of their own."""
    predictor = await fitted(backend, rounds=3)
    first, second, third = predictor.rounds
    plain = await Tuner(backend, budget=Budget(evaluations=64), preset=SMALL, seed=3).fit(TRAIN, DEV)
    assert plain.core.to_bytes() == first.core.to_bytes()
    assert first.prompt.subspace.base is None
    assert 3 == len({one.prompt.subspace.seed for one in predictor.rounds})
    from_first = await Tuner(
        backend, budget=Budget(evaluations=64), preset=SMALL, seed=second.prompt.subspace.seed, base=first
    ).fit(TRAIN, DEV)
    assert from_first.core.to_bytes() == second.core.to_bytes()
    assert third.prompt.subspace.base is not None


async def test_the_best_of_all_rounds_is_used(backend: Backend) -> None:
    """By dev; the spend is that of all."""
    predictor = await fitted(backend, rounds=3)
    ranks = [dev_rank(one.choice.dev, "metric") for one in predictor.rounds if one.choice.dev]
    assert predictor.result is predictor.rounds[ranks.index(max(ranks))]
    assert predictor.prompt is predictor.result.prompt
    assert 192 == predictor.spend.total.evaluations == sum(one.spent.evaluations for one in predictor.rounds)
    await predictor.evaluate(TEST)
    assert predictor.spend.by_purpose["test"].calls == 1


async def test_without_dev_the_lowest_train_loss_decides(backend: Backend) -> None:
    """Over the rounds as within one."""
    predictor = await METHOD(backend, budget=Budget(evaluations=96), rounds=3, preset=SMALL).fit(TRAIN)
    losses = [one.choice.train_loss for one in predictor.rounds]
    assert predictor.result is not None
    assert min(loss for loss in losses if loss is not None) == predictor.result.choice.train_loss


async def test_what_a_round_leaves_goes_to_those_after_it() -> None:
    """100 evaluations in three rounds of whole generations of eight: 32 of 33, 32 of 34, 32 of 36."""
    predictor = await fitted(mock(), 100, rounds=3)
    assert [32, 32, 32] == [one.evaluations for one in predictor.rounds]
    predictor = await fitted(mock(), 104, rounds=3)
    assert [32, 32, 40] == [one.evaluations for one in predictor.rounds]


async def test_every_limit_is_shared_out() -> None:
    """Money too; it is never exceeded."""
    backend, budget = mock(price=Price(1_000_000_000)), Budget(usd="0.50", calls=30)
    predictor = await METHOD(backend, budget=budget, rounds=2, preset=SMALL).fit(TRAIN, DEV)
    assert 2 == len(predictor.rounds)
    assert [0.25, 15] == [predictor.rounds[0].budget[unit] for unit in ("usd", "calls")]
    assert budget.posted.nanousd <= 500_000_000
    assert budget.posted.tokens == backend.book.tokens


@pytest.mark.parametrize("limits", [{}, {"usd": "5.00"}, None])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_all_rounds_share_the_default(limits: dict[str, str] | None, is_kept: bool, tmp_path: Path) -> None:
    """8000 evaluations in all, where a budget limits nothing that is charged; with journals, also when gone on with."""
    many, journals = replace(SMALL, population=500), tmp_path / "runs" if is_kept else None
    for _ in range(2 if is_kept else 1):
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            budget = None if limits is None else Budget(**limits, ledger=ledger)  # type: ignore[arg-type]
            predictor = await METHOD(mock(), budget=budget, preset=many, journals=journals).fit(TRAIN)
            assert [2000] * 4 == [one.evaluations for one in predictor.rounds]
            assert budget is None or 8000 == budget.posted.evaluations


async def test_time_alone_is_shared_out_without_a_default() -> None:
    """A round ends with its part of the seconds."""
    method = METHOD(mock(), budget=Budget(wall_s=0.2), rounds=2, preset=SMALL)
    predictor = await method.fit(TRAIN)
    assert [(0.1, None)] * 2 == [(one.budget["wall_s"], one.budget["evaluations"]) for one in predictor.rounds]


@pytest.mark.parametrize(("evaluations", "rounds"), [(8, 1), (15, 1), (20, 2), (31, 3), (32, 4), (1000, 4)])
async def test_a_budget_for_fewer_generations_has_fewer_rounds(evaluations: int, rounds: int) -> None:
    """Each has a generation at least, and the whole budget is used as far as it pays for generations."""
    budget = Budget(evaluations=evaluations, warn_at=())
    predictor = await METHOD(mock(), budget=budget, preset=SMALL).fit(TRAIN, DEV)
    assert rounds == len(predictor.rounds)
    assert evaluations // 8 * 8 == budget.posted.evaluations


async def test_what_dev_takes_counts_too() -> None:
    """A generation and its look at dev are two calls here: five pay for two rounds."""
    predictor = await METHOD(mock(), budget=Budget(calls=5), preset=SMALL).fit(TRAIN, DEV)
    assert 2 == len(predictor.rounds)


@pytest.mark.parametrize("limits", [{"evaluations": 7}, {"calls": 1}, {"usd": "0.000001"}, {"tokens": 100}])
async def test_a_budget_below_a_generation_is_refused(limits: dict[str, int | str]) -> None:
    """Before anything is sent, with what one generation takes."""
    backend = mock(price=Price(1_000_000_000))
    with pytest.raises(BudgetTooSmall, match=r"one generation, with the dev scoring .* does not fit"):
        await METHOD(backend, budget=Budget(**limits), rounds=3, preset=SMALL).fit(TRAIN, DEV)  # type: ignore[arg-type]
    assert 0 == backend.book.attempts


async def test_a_search_along_learned_axes_is_shared_out_too() -> None:
    """What a generation takes is known before the axes are uploaded."""
    axes = np.eye(32, 4, dtype=np.float32)
    backend = mock(hidden_size=16)
    preset = replace(SMALL, d=4)
    predictor = await METHOD(backend, budget=Budget(evaluations=24), projection=axes, preset=preset).fit(TRAIN)
    assert [8, 8, 8] == [one.evaluations for one in predictor.rounds]


async def test_a_target_ends_the_rounds() -> None:
    """The round that comes up to it is the last."""
    method = METHOD(mock(), budget=Budget(evaluations=640), rounds=4, preset=SMALL)
    predictor = await method.fit(TRAIN, DEV, target=0.0)
    assert ["target"] == [one.stopped for one in predictor.rounds]


async def test_the_same_program_goes_on_after_a_kill(backend: Backend, tmp_path: Path) -> None:
    """What has a journal is not paid again, and the prompt is that of an undisturbed run."""
    expected = await fitted(backend, rounds=3)
    await fitted(backend, rounds=3, journals=tmp_path)
    (tmp_path / "round-3.journal").unlink()
    budget = Budget(evaluations=192)
    again = METHOD(backend, budget=budget, rounds=3, preset=SMALL, seed=3, journals=tmp_path)
    predictor = await again.fit(TRAIN, DEV)
    assert expected.prompt.to_bytes() == predictor.prompt.to_bytes()
    assert 192 == budget.posted.evaluations == predictor.spend.total.evaluations


async def test_what_has_a_journal_is_not_asked_again(tmp_path: Path) -> None:
    """The backend bills the last round alone."""
    await fitted(mock(), rounds=3, journals=tmp_path)
    (tmp_path / "round-3.journal").unlink()
    backend = mock()
    predictor = await fitted(backend, rounds=3, journals=tmp_path)
    assert predictor.rounds[2].spent.tokens == backend.book.tokens


async def test_it_goes_on_in_a_ledger_file(tmp_path: Path) -> None:
    """Each round's budget is there with the limits that it had; nothing is posted again."""
    expected, found = await fitted(mock(), rounds=3), []
    for _ in range(2):
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            budget = Budget(evaluations=192, ledger=ledger)
            method = METHOD(mock(), budget=budget, rounds=3, preset=SMALL, seed=3, journals=tmp_path / "journals")
            predictor = await method.fit(TRAIN, DEV)
            found.append((predictor.prompt.to_bytes(), budget.posted.evaluations))
    assert [(expected.prompt.to_bytes(), 192)] * 2 == found


class GivesUp(MockBackend):
    """Does not answer any more after some calls."""

    def __init__(self, calls: int, error: Exception, **options: Any) -> None:
        super().__init__(**options)
        self._left, self._error = calls, error

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return await super().score(query, key=key)


@pytest.mark.parametrize("error", [PaymentRequired("no money"), BackendUnavailable("no backend")])
async def test_what_ends_a_later_round_loses_none_before_it(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The second has no generation yet: the first is the result, and a warning says why it is alone."""
    retry = RetryPolicy(attempts=1, patience_s=0.0, outage_s=0.0)
    predictor = await METHOD(GivesUp(2, error), budget=Budget(evaluations=16), rounds=2, preset=SMALL, retry=retry).fit(
        TRAIN, DEV
    )
    assert 1 == len(predictor.rounds)
    assert f"the rounds end after 1: the next came to no generation ({type(error).__name__})" in caplog.text
    with pytest.raises(type(error)):
        await METHOD(GivesUp(0, error), budget=Budget(evaluations=16), preset=SMALL, retry=retry).fit(TRAIN, DEV)


class Killed(Exception):
    """What ends a program."""


async def test_fewer_rounds_stay_as_many_when_a_program_goes_on(tmp_path: Path) -> None:
    """Five where eight are asked for, although less is free when it goes on in the second."""
    seen: list[GenerationDone] = []
    expected = await fitted(mock(), 40, rounds=8)
    assert 5 == len(expected.rounds)

    def listen(event: Event) -> None:
        if isinstance(event, GenerationDone):
            seen.append(event)
            if 2 == len(seen):
                raise Killed

    async def again() -> tuple[BlackBoxPredictor, Budget]:
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            budget = Budget(evaluations=40, ledger=ledger, warn_at=())
            method = METHOD(mock(), budget=budget, rounds=8, preset=SMALL, seed=3, journals=tmp_path / "journals")
            return await method.fit(TRAIN, DEV, on_event=listen), budget

    with pytest.raises(Killed):
        await again()
    predictor, budget = await again()
    assert [one.core.to_bytes() for one in expected.rounds] == [one.core.to_bytes() for one in predictor.rounds]
    assert (expected.prompt.to_bytes(), 40) == (predictor.prompt.to_bytes(), budget.posted.evaluations)


async def test_journals_of_another_number_of_rounds_are_refused(tmp_path: Path) -> None:
    """Those of no known number are gone on with; a file that was never sent from is begun anew."""
    (tmp_path / "round-1.journal").touch()
    await fitted(mock(), 20, rounds=4, journals=tmp_path)
    with pytest.raises(JournalMismatch, match="are of 4 rounds, and this is of 3: give rounds=4, or another folder"):
        await fitted(mock(), 20, rounds=3, journals=tmp_path)
    plain = Tuner(mock(), budget=Budget(evaluations=64), preset=SMALL, seed=3, journal=tmp_path / "old.journal")
    await plain.fit(TRAIN, DEV)
    (tmp_path / "older").mkdir()
    (tmp_path / "old.journal").rename(tmp_path / "older" / "round-1.journal")
    assert 3 == len((await fitted(mock(), rounds=3, journals=tmp_path / "older")).rounds)


@pytest.mark.parametrize("other", [{"seed": 4}, {"preset": replace(SMALL, sigma0=0.5)}])
async def test_journals_of_another_seed_or_preset_are_refused(other: SearchOptions, tmp_path: Path) -> None:
    """Rather than gone on with as if they were what was asked for."""
    await fitted(mock(), 16, rounds=2, journals=tmp_path)
    given: SearchOptions = {"preset": SMALL, "seed": 3, **other}
    with pytest.raises(JournalMismatch, match=f"has {next(iter(other))} = "):
        await METHOD(mock(), budget=Budget(evaluations=16), rounds=2, journals=tmp_path, **given).fit(TRAIN, DEV)


async def test_a_file_is_no_folder_of_journals(tmp_path: Path) -> None:
    """The message says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be made"):
        await fitted(mock(), 16, rounds=2, journals=tmp_path / "file")


async def test_what_a_round_spent_that_came_to_nothing_is_told() -> None:
    """Half of its first generation was answered."""
    budget = Budget(evaluations=16)
    backend, retry = GivesUp(3, PaymentRequired("no more"), max_candidates=4), RetryPolicy(attempts=1)
    predictor = await METHOD(backend, budget=budget, rounds=2, preset=SMALL, retry=retry).fit(TRAIN)
    assert 1 == len(predictor.rounds)
    assert budget.posted == predictor.spend.total
    assert predictor.rounds[0].spent.evaluations < predictor.spend.total.evaluations


async def test_its_predictor_loads_anywhere(tmp_path: Path) -> None:
    """The frozen part of the prompt is in the file."""
    predictor = await fitted(mock(), rounds=3)
    loaded = load_predictor(predictor.save(tmp_path / "things.predictor"), mock())
    texts = ["a lovely thing", "an awful thing"]
    assert (await predictor.logits(texts)).tobytes() == (await loaded.logits(texts)).tobytes()


async def test_a_backend_that_fails_in_a_first_round_is_no_result() -> None:
    """The error is the run's own."""
    backend = mock()
    await backend.aclose()
    with pytest.raises((BackendUnavailable, RuntimeError)):
        await METHOD(backend, budget=Budget(evaluations=64), rounds=2, preset=SMALL).fit(TRAIN)


def test_wrong_options_are_refused_when_they_are_given() -> None:
    """A round less than one, what is no budget, and what the tuner would refuse."""
    with pytest.raises(ValueError, match="rounds is a whole number of at least 1, not 0"):
        METHOD(mock(), budget=Budget(), rounds=0)
    with pytest.raises(TypeError, match="budget is a Budget"):
        METHOD(mock(), budget=8000)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="preset is one of"):
        METHOD(mock(), budget=Budget(), preset="papers")


def test_every_option_of_the_tuner_but_two_is_there() -> None:
    """The budget and the journal are shared out."""
    assert set(SearchOptions.__annotations__) == set(inspect.signature(Tuner).parameters) - {
        "backend",
        "budget",
        "journal",
    }
