"""A search that starts from a learned prompt, along learned axes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import predictor_process
import pytest
from numpy.typing import NDArray
from tuning_cases import DEV, SMALL, TASK, TEST, TRAIN, examples, mock

from lmaas_sdk import (
    Backend,
    Budget,
    Client,
    Predictor,
    Subspace,
    TunedPrompt,
    Tuner,
    TunerGroup,
    TuningResult,
    Unsupported,
)
from lmaas_sdk.backend import Capabilities
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.errors import JournalMismatch, PromptFileError
from lmaas_sdk.methods import BlackBoxPredictor, learn_projection
from lmaas_sdk.tuning.start import prompt_vectors

CAT = replace(SMALL, name="small-cat", layout="cat")
OTHER = examples(400, 16)
Array = NDArray[np.float32]


def array(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


@pytest.fixture
def name() -> str:
    """Of the model, for another process."""
    return "mock"


@pytest.fixture
def backend() -> Backend:
    return mock()


def base_of(backend: Backend) -> Array:
    """Two vectors of the model's width."""
    return array(2, backend.card.hidden_size)


def axes_of(backend: Backend, d: int = 20) -> Array:
    """Axes of a prompt of two tokens."""
    return array(2 * backend.card.hidden_size, d)


async def source(backend: Backend, seed: int = 5) -> TuningResult:
    """A run on other texts."""
    return await Tuner(backend, budget=Budget(evaluations=80), preset=SMALL, seed=seed).fit(OTHER, DEV)


async def tuned(backend: Backend, **options: object) -> TuningResult:
    return await Tuner(backend, **({"budget": Budget(evaluations=40), "preset": SMALL} | options)).fit(TRAIN, DEV)  # type: ignore[arg-type]


async def test_the_origin_of_the_new_search_is_the_source_prompt(backend: Backend) -> None:
    """z = 0 has the logits that the source prompt has, whatever the new seed."""
    found = await source(backend)
    result = await tuned(backend, base=found, seed=9)
    there = replace(result.prompt, z=np.zeros_like(result.prompt.z))
    texts = ["a lovely thing", "an awful thing"]
    logits = [await Predictor.tuned(backend, prompt).logits(texts) for prompt in (there, found.prompt)]
    np.testing.assert_allclose(*logits, atol=1e-4)
    assert (result.prompt.subspace.seed, result.prompt.subspace.base) == (9, array_digest(result.prompt.arrays[0]))


async def test_a_result_a_prompt_a_file_and_its_vectors_are_one_base(backend: Backend, tmp_path: Path) -> None:
    """Whichever is given, the run is the same to the byte; only a result tells what it has cost."""
    found = await source(backend)
    vectors = await prompt_vectors(Client(backend, Budget()), found.prompt)
    path = found.prompt.save(tmp_path / "source.prompt")
    results = [await tuned(backend, base=base) for base in (found, found.prompt, path, str(path), vectors)]
    assert 1 == len({result.core.to_bytes() for result in results})
    assert 1 == len({result.prompt.to_bytes() for result in results})
    assert [True, *[False] * 4] == ["base" in result.sources for result in results]


async def test_what_the_source_has_cost_is_an_item_of_its_own(backend: Backend) -> None:
    """It is in `sources`, as it was when the tuner was made, and in no figure of the run."""
    found = await source(backend)
    spent = found.spend.to_dict()
    tuner = Tuner(backend, budget=Budget(evaluations=40), preset=SMALL, base=found)
    await found.predict(["a text that is paid for later"])
    result = await tuner.fit(TRAIN, DEV)
    assert {"base": spent} == result.to_dict()["sources"]
    assert 40 == result.spent.evaluations
    assert f"spent before, on its base: {spent['total']['calls']} calls" in str(result)
    assert {} == (await tuned(backend)).to_dict()["sources"]


async def test_the_run_searches_the_axes_it_is_given(backend: Backend) -> None:
    """d is that of the projection, and the prompt lies in its span."""
    axes = axes_of(backend, 6)
    result = await tuned(backend, projection=axes)
    assert (6, array_digest(axes)) == (result.prompt.subspace.d, result.prompt.subspace.projection)
    np.testing.assert_array_equal(result.prompt.arrays[0], axes)


async def test_learned_axes_tell_what_they_have_cost(backend: Backend) -> None:
    """The runs that they come from, together."""
    learned = await learn_projection(backend, [await source(backend, 5), await source(backend, 6)], 4)
    result = await tuned(backend, projection=learned)
    assert 160 == result.sources["projection"].total.evaluations
    assert ["projection"] == list(result.sources)


async def test_registering_is_free() -> None:
    """A run with base and projection sends and costs what one without does."""
    plain, backend = await tuned(mock()), mock()
    options = {"base": array(2, 64), "projection": array(128, 20)}
    result = await Tuner(backend, budget=Budget(evaluations=40), preset=SMALL, **options).fit(TRAIN, DEV)  # type: ignore[arg-type]
    assert plain.spend.to_dict() == result.spend.to_dict()
    assert result.spent.tokens == backend.book.tokens


async def test_an_estimate_is_that_of_the_sizes() -> None:
    """Neither array is sent for it."""
    backend, plain = mock(), Tuner(mock(), budget=Budget(evaluations=40), preset=SMALL)
    tuner = Tuner(backend, budget=Budget(evaluations=40), preset=SMALL, base=array(2, 64), projection=array(128, 20))
    assert (await plain.estimate(TRAIN, DEV)).to_dict() == (await tuner.estimate(TRAIN, DEV)).to_dict()
    assert 0 == backend.book.attempts


def in_a_fresh_process(name: str, path: Path) -> list[dict[str, str]]:
    """What the predictor of a file tells there."""
    command = [sys.executable, predictor_process.__file__, name, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: list[dict[str, str]] = json.loads(told)
    return found


async def test_the_file_of_a_prompt_carries_what_it_needs(backend: Backend, name: str, tmp_path: Path) -> None:
    """In a fresh process, on a backend that has seen neither array, it predicts the same bits."""
    result = await tuned(backend, base=base_of(backend), projection=axes_of(backend))
    predictor = BlackBoxPredictor(result.predictor, result)
    path = predictor.save(tmp_path / "things.predictor")
    expected = await predictor.logits(predictor_process.TEXTS)
    (told,) = await asyncio.to_thread(in_a_fresh_process, name, path)
    assert expected.tobytes().hex() == told["logits"]
    loaded = TunedPrompt.load(result.prompt.save(tmp_path / "things.prompt"))
    assert loaded.to_bytes() == result.prompt.to_bytes()


async def test_a_chain_of_bases_needs_the_last_alone(backend: Backend) -> None:
    """A prompt that started from a prompt is one base and one z."""
    second = await tuned(backend, base=await source(backend))
    third = await tuned(backend, base=second)
    assert [1, 1] == [len(result.prompt.arrays) for result in (second, third)]
    assert {"base": second.spend.to_dict()} == third.to_dict()["sources"]


async def test_a_run_that_ended_midway_goes_on_with_the_same_base(backend: Backend, tmp_path: Path) -> None:
    """To the same bytes as one that nobody interrupted."""
    options = {"base": base_of(backend), "projection": axes_of(backend)}
    expected, path = await tuned(backend, budget=Budget(evaluations=80), **options), tmp_path / "run.journal"
    await tuned(backend, journal=path, **options)
    tuner = Tuner.resume(path, backend, budget=Budget(evaluations=80), **options)  # type: ignore[arg-type]
    result = await tuner.fit(TRAIN, DEV)
    assert expected.core.to_bytes() == result.core.to_bytes()
    assert expected.prompt.to_bytes() == result.prompt.to_bytes()


async def test_a_run_goes_on_where_nobody_has_seen_its_arrays(tmp_path: Path) -> None:
    """They are sent again."""
    options = {"base": array(2, 64), "projection": array(128, 20)}
    await tuned(mock(), journal=tmp_path / "run.journal", **options)
    tuner = Tuner.resume(tmp_path / "run.journal", mock(), budget=Budget(evaluations=80), **options)  # type: ignore[arg-type]
    assert 80 == (await tuner.fit(TRAIN, DEV)).evaluations


@pytest.mark.parametrize("option", ["base", "projection"])
async def test_another_base_or_projection_is_refused_at_resume(option: str, tmp_path: Path) -> None:
    """So is none; the message names the option that was given."""
    options = {"base": array(2, 64), "projection": array(128, 20)}
    path = tmp_path / "run.journal"
    await Tuner(mock(), budget=Budget(evaluations=40), preset=SMALL, journal=path, **options).fit(TRAIN, DEV)  # type: ignore[arg-type]
    for other in (options[option] * 2, None):
        tuner = Tuner.resume(path, mock(), **(options | {option: other}))  # type: ignore[arg-type]
        with pytest.raises(JournalMismatch, match=f"give Tuner.resume the {option}="):
            await tuner.fit(TRAIN, DEV)


async def test_a_group_starts_its_runs_where_they_are_told_to() -> None:
    """Each has its own."""
    group = TunerGroup(budget=Budget(evaluations=80))
    for name, base in (("plain", None), ("learned", array(2, 64))):
        group.add(name, mock(), TRAIN, DEV, preset=SMALL, base=base)
    found = await group.fit()
    assert found.results["plain"].prompt.subspace.base is None
    assert array_digest(array(2, 64)) == found.results["learned"].prompt.subspace.base


def test_sizes_that_the_preset_leaves_open_come_from_what_is_given() -> None:
    """L of the base; L and d of the projection."""
    free = replace(SMALL, d=None, prompt_tokens=None)
    assert 3 == Tuner(mock(), preset=free, base=array(3, 64)).preset.prompt_tokens
    preset = Tuner(mock(), preset=free, projection=array(192, 5)).preset
    assert (3, 5) == (preset.prompt_tokens, preset.d)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": array(3, 64)}, r"the base is for 3 prompt tokens, and 2 are searched: give .*prompt_tokens=3"),
        ({"base": array(2, 63)}, r"the base has shape \(2, 63\), and is \(L, 64\)"),
        ({"base": array(128)}, r"base is a finite array of the shape \(L, D\); this one is of \(128,\)"),
        ({"base": array(2, 64) * np.float32("nan")}, "or not finite"),
        ({"projection": array(64, 5)}, "the projection is for 1 prompt tokens, and 2 are searched"),
        ({"projection": array(100, 5)}, r"the projection has 100 rows, and has L \* 64"),
        ({"projection": np.zeros((128, 5), np.float32)}, r"all zeros in 5 of its 5 columns"),
        ({"projection": array(128, 5) * np.float32([1, 1, 0, 1, 1])}, r"1 of its 5 columns .*\[2\].*leave them out"),
        ({"base": array(2, 64), "projection": array(192, 5)}, "the projection is for 3 prompt tokens"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(options: dict[str, Array], message: str) -> None:
    """When the tuner is made, with the value and what to do."""
    with pytest.raises(ValueError, match=message):
        Tuner(mock(), preset=SMALL, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": 5}, r"base is a TuningResult, a TunedPrompt, .* not 5 of int"),
        ({"base": np.zeros((2, 64), np.int64)}, "not an array of int64"),
        ({"projection": "axes.npy"}, "projection is a LearnedProjection, or a float32 array"),
    ],
)
def test_what_is_no_base_is_refused(options: dict[str, object], message: str) -> None:
    """It says what one is."""
    with pytest.raises(TypeError, match=message):
        Tuner(mock(), preset=SMALL, **options)  # type: ignore[arg-type]


def prompt(**space: object) -> TunedPrompt:
    subspace = Subspace(**({"d": 20, "prompt_tokens": 2, "hidden_size": 64} | space))  # type: ignore[arg-type]
    return TunedPrompt(TASK, subspace, np.zeros(20, np.float32), "mock", "")


def test_a_prompt_keeps_its_layout() -> None:
    """What is added to base tokens means nothing alone, and the other way round."""
    with pytest.raises(ValueError, match=r"layout 'add'.* give a preset with layout='add'"):
        Tuner(mock(), preset=CAT, base=prompt())
    with pytest.raises(ValueError, match=r"layout 'cat'.* give a preset with layout='cat'"):
        Tuner(mock(), preset=SMALL, base=prompt(layout="cat"))
    with pytest.raises(ValueError, match="enters several layers"):
        Tuner(mock(), preset=SMALL, base=prompt(layers=(0, 1)))


def test_a_prompt_of_another_model_is_refused() -> None:
    """As everywhere: by its width or its tokenizer."""
    with pytest.raises(PromptFileError, match="width 128"):
        Tuner(mock(), preset=SMALL, base=prompt(hidden_size=128))
    with pytest.raises(PromptFileError, match="cannot read the prompt file"):
        Tuner(mock(), preset=SMALL, base="nowhere.prompt")


class WithoutPrompts:
    """A backend that stores arrays, and writes no prompts out."""

    def __init__(self) -> None:
        inner = mock()
        self.card, self.score, self.features = inner.card, inner.score, inner.features
        self.register, self.upload, self.aclose = inner.register, inner.upload, inner.aclose


async def test_a_backend_that_cannot_is_named() -> None:
    """One without arrays when the tuner is made; one that writes no prompts out takes vectors all the same."""
    bare = WithoutPrompts()
    with pytest.raises(Unsupported, match=r"writes no soft prompts out.*as an array"):
        await Tuner(bare, budget=Budget(evaluations=40), preset=SMALL, base=prompt()).fit(TRAIN)
    result = await Tuner(bare, budget=Budget(evaluations=40), preset=SMALL, base=array(2, 64)).fit(TRAIN)
    assert 40 == result.evaluations
    bare.card = replace(bare.card, capabilities=Capabilities())
    with pytest.raises(Unsupported, match="stores no arrays"):
        Tuner(bare, preset=SMALL, base=array(2, 64))


async def test_the_evaluation_on_test_is_under_the_learned_base(backend: Backend) -> None:
    """What `fit` tells of the test set is what its prompt comes to."""
    tuner = Tuner(backend, budget=Budget(evaluations=40), preset=SMALL, base=base_of(backend))
    result = await tuner.fit(TRAIN, DEV, test=TEST)
    assert result.test == await Predictor.tuned(backend, result.prompt).evaluate(TEST)
