"""Deep black-box tuning: what it sends, what it costs, and that its runs go on and repeat as the tuner's do."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predictor_process import told
from tuning_cases import DEV, SMALL, TASK, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, BudgetTooSmall, FeatureQuery, Predictor, ScoreQuery, Tuner, TuningResult, Unsupported
from lmaas_sdk.errors import JournalError, JournalMismatch, PredictorFileError
from lmaas_sdk.methods import DEEP_PRESET, DeepBlackBoxPredictor, DeepBlackBoxTuning, load_predictor
from lmaas_sdk.planning.recording import read_recording
from lmaas_sdk.tuning.deep_subspace import DeepSubspace
from lmaas_sdk.tuning.events import Event, GenerationDone

PRESET = replace(SMALL, projection="normal", scale=0.5, dev_every=3)
BUDGET = {"evaluations": 96, "calls": 100}
LAYERS = 4  # of the mock
PROGRAM = Path(__file__).resolve().parent / "predictor_process.py"


class Noting:
    """A backend that notes what it is asked, and whose client may be gone at one of the calls."""

    def __init__(self, inner: MockBackend, at: int | None = None, *, answers: bool = True) -> None:
        self.inner, self.card = inner, inner.card
        self._at, self._answers = at, answers
        self.queries: list[ScoreQuery | FeatureQuery] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> Any:
        return await self._asked(query, lambda: self.inner.score(query, key=key))

    async def features(self, query: FeatureQuery, *, key: str) -> Any:
        return await self._asked(query, lambda: self.inner.features(query, key=key))

    async def _asked(self, query: ScoreQuery | FeatureQuery, ask: Callable[[], Awaitable[Any]]) -> Any:
        self.queries.append(query)
        if len(self.queries) - 1 == self._at:
            if self._answers:
                await ask()
            raise _Killed
        return await ask()


class _Killed(BaseException):
    """No code of the run handles it, as none runs after a kill."""


def method(backend: Any, **options: Any) -> DeepBlackBoxTuning:
    return DeepBlackBoxTuning(backend, **({"budget": Budget(**BUDGET), "preset": PRESET, "seed": 7} | options))


async def fitted(tuning: DeepBlackBoxTuning, **named: Any) -> DeepBlackBoxPredictor:
    return await tuning.fit(TRAIN, DEV, test=TEST, compare_manual=True, **named)


def result_of(predictor: DeepBlackBoxPredictor) -> TuningResult:
    assert predictor.result is not None
    return predictor.result


def scores(backend: Noting) -> list[ScoreQuery]:
    return [query for query in backend.queries if isinstance(query, ScoreQuery)]


async def test_layers_take_turns() -> None:
    """Hidden states first, then a generation each in order, beside what the others have found so far."""
    backend = Noting(mock())
    await method(backend).fit(TRAIN)
    first, *generations = backend.queries
    assert isinstance(first, FeatureQuery)
    searched = [query.subspace.layers for query in generations]  # type: ignore[union-attr]
    assert [(number % LAYERS,) for number in range(12)] == searched
    frozen = [[one.subspace.layers[0] for one in query.frozen] for query in scores(backend)]
    assert [[], [0], [0, 1], [0, 1, 2], [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]] == frozen[:8]


async def test_each_layer_has_a_projection_as_large_as_its_hidden_states() -> None:
    """alpha times their spread over sigma0; at the embedding output that of the word embeddings; seeds of their own."""
    backend = mock(embedding_std=0.2)
    predictor = await method(backend).fit(TRAIN)
    space = predictor.prompt.subspace
    assert isinstance(space, DeepSubspace)
    found = (await backend.features(FeatureQuery(TRAIN.text_set), key="again")).layer_std
    units = [0.2, *(float(f"{std:.6g}") for std in found[1:LAYERS])]
    assert [0.5 * unit / PRESET.sigma0 for unit in units] == [part.scale for part in space.parts]
    assert (7, LAYERS) == (space.parts[0].seed, len({part.seed for part in space.parts}))
    assert [(layer,) for layer in range(LAYERS)] == [part.layers for part in space.parts]


async def test_one_layer_alone_is_black_box_tuning() -> None:
    """The same subspace, the same search, the same losses to the last bit."""
    deep = await fitted(method(mock(), layers=(0,)))
    plain = await Tuner(mock(), budget=Budget(**BUDGET), preset=PRESET, seed=7).fit(TRAIN, DEV)
    assert plain.core.losses == result_of(deep).core.losses
    assert plain.prompt.z.tobytes() == deep.prompt.z.tobytes()


async def test_chosen_layers_are_searched_in_order() -> None:
    """Others have no prompt; a layer that the model has not ends the run before a generation."""
    backend = Noting(mock())
    await method(backend, layers=(3, 1)).fit(TRAIN)
    assert [(1,), (3,), (1,)] == [query.subspace.layers for query in scores(backend)[:3]]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="layer 4 is not one of the 4 layers"):
        await method(mock(), layers=(4,)).fit(TRAIN)
    for wrong in ((), "first", 3, (0.5,), (-1,), (1, 1)):
        with pytest.raises((TypeError, ValueError), match="layer"):
            method(mock(), layers=wrong)


async def test_best_and_mean_of_all_layers_are_scored_on_dev() -> None:
    """Two whole prompts, which differ in several layers: a call each."""
    backend = Noting(mock())
    result = result_of(await method(backend).fit(TRAIN, DEV))
    looks = [query for query in scores(backend) if query.precise or query.n_candidates == 1]
    assert 2 * len(result.generations) / PRESET.dev_every == len(looks)
    assert {"best", "mean"} == {scored.kind for scored in result.dev_scored}
    space, mean = result.prompt.subspace, result.dev_scored[-1].z
    assert isinstance(space, DeepSubspace)
    assert all(mean[block].any() for block in space.blocks)
    assert "dev_metric" == result.chosen_by


async def test_what_it_spends_is_booked() -> None:
    """Hidden states as features and no evaluation; the budget, the provider and the result agree."""
    backend, budget = mock(), Budget(**BUDGET)  # type: ignore[arg-type]
    predictor = await fitted(method(backend, budget=budget))
    spend = predictor.spend.by_purpose
    assert (1, 0) == (spend["features"].calls, spend["features"].evaluations)
    assert (12, 96) == (spend["train"].calls, spend["train"].evaluations)
    assert predictor.spend.total.tokens == backend.book.tokens == budget.posted.tokens
    assert budget.posted.calls == backend.book.attempts <= 100
    assert budget.pending.calls == 0


async def test_a_budget_of_calls_is_kept_to() -> None:
    """It pays for hidden states, generations, looks of two calls each and the test, or is refused at once."""
    for calls in range(1, 24):
        backend = mock()
        tuning = method(backend, budget=Budget(calls=calls, evaluations=400))
        if calls < 6:  # hidden states, a generation, a look, the test, the manual prompt
            with pytest.raises(BudgetTooSmall):
                await fitted(tuning)
            assert backend.book.attempts == 0
        else:
            result = result_of(await fitted(tuning))
            assert backend.book.attempts <= calls
            assert (result.test is None, result.warnings) == (False, ())


async def test_the_same_seed_gives_the_same_bytes() -> None:
    """And another seed others."""
    first, again = [await fitted(method(mock())) for _ in range(2)]
    other = await fitted(method(mock(), seed=8))
    assert result_of(first).core.to_bytes() == result_of(again).core.to_bytes()
    assert first.saved().to_bytes() == again.saved().to_bytes()
    assert result_of(first).core.to_bytes() != result_of(other).core.to_bytes()


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2, 5, 9, 19, 20, 21])
async def test_a_run_that_was_killed_ends_as_one_that_was_not(at: int, answers: bool, tmp_path: Path) -> None:
    """At the hidden states, in a generation, at a look, at the test: the same bytes, and every key billed once."""
    expected, inner, path = await fitted(method(mock())), mock(), tmp_path / "run.journal"
    with pytest.raises((_Killed, BaseExceptionGroup)):
        await fitted(method(Noting(inner, at, answers=answers), journal=path))
    tuner = await asyncio.to_thread(lambda: Tuner.resume(path, inner))
    found = await fitted(DeepBlackBoxTuning.of(tuner))
    assert result_of(expected).core.to_bytes() == result_of(found).core.to_bytes()
    assert expected.saved().to_bytes() == found.saved().to_bytes()
    assert result_of(expected).test == result_of(found).test
    assert expected.spend.total.tokens == inner.book.tokens == found.spend.total.tokens
    assert expected.spend.by_purpose["features"].tokens == found.spend.by_purpose["features"].tokens


async def test_a_run_that_has_ended_is_told_again_for_nothing(tmp_path: Path) -> None:
    """Its journal has every answer, what was said of the layers too."""
    inner, path = mock(), tmp_path / "run.journal"
    expected = await fitted(method(inner, journal=path))
    received = inner.book.received
    found = await fitted(DeepBlackBoxTuning.of(Tuner.resume(path, inner)))
    assert (expected.saved().to_bytes(), received) == (found.saved().to_bytes(), inner.book.received)
    assert result_of(expected).spend.to_dict() == result_of(found).spend.to_dict()


async def test_a_journal_knows_its_layers(tmp_path: Path) -> None:
    """One of chosen layers goes on with those; with others it would be another run, and it is no landscape."""
    path = tmp_path / "run.journal"
    expected = await fitted(method(mock(), layers=(1, 2), journal=path))
    tuner = Tuner.resume(path, mock())
    assert (1, 2) == tuner.layers
    assert expected.saved().to_bytes() == (await fitted(DeepBlackBoxTuning.of(tuner))).saved().to_bytes()
    tuner.layers = "all"
    with pytest.raises(JournalMismatch, match="layers"):
        await fitted(DeepBlackBoxTuning.of(tuner))
    with pytest.raises(JournalError, match="several layers"):
        read_recording(path)
    with pytest.raises(ValueError, match="use BlackBoxTuning"):
        DeepBlackBoxTuning.of(Tuner(mock(), preset=SMALL))


async def test_stopping_returns_the_best_so_far() -> None:
    """After the generation that is under way."""
    tuning = method(mock())
    predictor = await tuning.fit(TRAIN, DEV, on_event=lambda _event: tuning.tuner.stop())
    assert ("interrupted", 1) == (result_of(predictor).stopped, len(result_of(predictor).generations))
    assert len(await predictor.predict(["a lovely thing"])) == 1


async def test_cancelling_leaves_nothing_under_way() -> None:
    """What was sent is booked, and what was set aside comes back."""
    backend, budget = mock(), Budget(**BUDGET)  # type: ignore[arg-type]

    def cancel(event: Event) -> None:
        if isinstance(event, GenerationDone) and event.generation == 2:
            task.cancel()

    task = asyncio.create_task(fitted(method(backend, budget=budget), on_event=cancel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.book.attempts > 3
    assert budget.pending.calls == 0
    assert budget.posted.tokens >= backend.book.tokens  # what was on its way is posted at its worst case


async def test_no_global_generator_is_touched() -> None:
    """Nothing is drawn from numpy's."""
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    await method(mock()).fit(TRAIN)
    assert before == np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002


async def test_a_saved_predictor_predicts_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    """To the last bit; the file holds every layer's subspace and z."""
    predictor = await fitted(method(mock()))
    path = predictor.save(tmp_path / "deep.predictor")
    done = subprocess.run(  # noqa: ASYNC221  (nothing else is under way)
        [sys.executable, PROGRAM, "mock", path], capture_output=True, text=True, check=True
    )
    assert [await told(predictor)] == json.loads(done.stdout)
    loaded = load_predictor(path, mock())
    assert isinstance(loaded, DeepBlackBoxPredictor)
    assert predictor.prompt.to_bytes() == loaded.prompt.to_bytes()
    assert await predictor.evaluate(TEST) == await loaded.evaluate(TEST)


async def test_a_file_with_a_prompt_of_one_layer_is_refused(tmp_path: Path) -> None:
    """Of the other method, renamed."""
    tuned = await Tuner(mock(), budget=Budget(evaluations=16), preset=SMALL).fit(TRAIN)
    with pytest.raises(ValueError, match="embedding output alone"):
        DeepBlackBoxPredictor(tuned.predictor)
    saved = (await method(mock(), budget=Budget(evaluations=16)).fit(TRAIN)).saved()
    path = replace(saved, settings={"prompt": tuned.prompt.to_wire()}).save(tmp_path / "x.predictor")
    with pytest.raises(PredictorFileError, match="embedding output alone"):
        load_predictor(path, mock())


async def test_a_prompt_of_several_layers_is_a_prompt() -> None:
    """Its own file too, and any predictor takes it."""
    predictor = await fitted(method(mock()))
    plain = Predictor.tuned(mock(), type(predictor.prompt).from_bytes(predictor.prompt.to_bytes()))
    texts = ["a lovely thing", "an awful thing"]
    assert (await predictor.logits(texts)).tobytes() == (await plain.logits(texts)).tobytes()


@pytest.mark.parametrize("lacks", ["layers", "features"])
def test_a_model_that_lacks_what_it_takes_is_refused_at_once(lacks: str) -> None:
    """By what it lacks."""
    backend = mock(capabilities=replace(mock().card.capabilities, **{lacks: False}))
    with pytest.raises(Unsupported, match="layer 0 only" if lacks == "layers" else "no feature queries"):
        method(backend)


def test_only_prompts_that_are_added_enter_deeper_layers() -> None:
    """The layout `cat` is refused."""
    with pytest.raises(ValueError, match="layout is 'add', not 'cat'"):
        method(mock(), preset=replace(PRESET, layout="cat"))


def test_the_preset_is_the_papers() -> None:
    """BBTv2's d, L and population on a model as wide as its own, a normal projection, prompts that are added."""
    preset = DEEP_PRESET.sized(replace(mock().card, hidden_size=1024))
    given = (preset.d, preset.prompt_tokens, preset.population, preset.projection)
    assert (500, 50, 20, "normal", "add") == (*given, preset.layout)
    assert DeepBlackBoxTuning(mock()).tuner.preset == DEEP_PRESET
    assert TASK.labels == ("negative", "positive")


async def test_many_texts_are_asked_about_in_part() -> None:
    """As many as one call may carry say enough of a model."""
    backend = Noting(mock(max_texts=5))
    await method(backend).fit(TRAIN)
    assert isinstance(backend.queries[0], FeatureQuery)
    assert (0, 1, 2, 3, 4) == backend.queries[0].rows
