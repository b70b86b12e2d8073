"""Prompts that enter deeper layers: transformers' logits, the same bits in any company, clear refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roberta.pretended_card import NAME, pretended_card

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.loading import load_engine
from lmaas_backends.roberta.text_encoder import Frame, TextEncoder
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.errors import InvalidQuery, Unsupported
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import Subspace

D, L = 24, 5
FIELDS = ("fine", "", "a moving and utterly honest film about people", *(f"dull scene {n} " * n for n in range(6)))


def space(engine: Engine, *layers: int, **changes: Any) -> Subspace:
    return Subspace(
        **({"d": D, "prompt_tokens": L, "hidden_size": engine.card.hidden_size, "layers": layers} | changes)
    )


def draws(seed: int, count: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def depth(engine: Engine) -> int:
    return len(engine.model.weights.layers) + 1


def frozen(engine: Engine, *layers: int) -> tuple[FrozenPrompt, ...]:
    """Another subspace and another z a layer."""
    return tuple(FrozenPrompt(space(engine, layer, seed=layer), draws(100 + layer, 1)[0]) for layer in layers)


def query(model: Any, engine: Engine, searched: int, *others: int, **changes: Any) -> ScoreQuery:
    made = ScoreQuery(
        model.texts(*FIELDS), subspace=space(engine, searched, seed=9), Z=draws(1), frozen=frozen(engine, *others)
    )
    return replace(made, **changes)


@contextmanager
def entering(model: Any, vectors: dict[int, NDArray[np.float32]]) -> Iterator[None]:
    """Has transformers' model add (L, D) to each layer's input at the positions behind the first token."""

    def hook(prompt: torch.Tensor) -> Any:
        def add(_module: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> Any:
            hidden = args[0].clone()
            hidden[0, 1 : 1 + len(prompt)] += prompt
            return (hidden, *args[1:]), kwargs

        return add

    with ExitStack() as hooks:
        for layer, prompt in vectors.items():
            module = model.hf.base_model.encoder.layer[layer]
            handle = module.register_forward_pre_hook(hook(torch.from_numpy(prompt)), with_kwargs=True)
            hooks.callback(handle.remove)
        yield


def by_transformers(model: Any, asked: ScoreQuery) -> NDArray[np.float32]:
    """Label logits, a text and a candidate at a time: (n_candidates, n_texts, n_labels)."""
    assert asked.subspace is not None
    assert asked.Z is not None
    assert not isinstance(asked.texts, str)
    encoder = TextEncoder(model.loaded.vocabulary, model.loaded.max_tokens)
    encoded = encoder.encode(asked.texts.texts, Frame.of(asked.subspace))
    columns = [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in model.label_words.words]
    found = []
    for z in asked.Z:
        prompts = [(asked.subspace, z), *((prompt.subspace, prompt.z) for prompt in asked.frozen)]
        vectors = {layer: in_float64(one, z) for one, z in prompts for layer in one.layers}
        with entering(model, vectors):
            found.append([model.mask_logits(text.ids)[columns] for text in encoded])
    return np.array(found)


def in_float64(one: Subspace, z: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors = one.matrix().astype(np.float64) @ z.astype(np.float64)
    return vectors.reshape(one.prompt_tokens, one.hidden_size).astype(np.float32)


def ways(engine: Engine) -> list[tuple[int, tuple[int, ...]]]:
    """The searched layer and the frozen ones: each alone, and each with all others."""
    layers = range(depth(engine))
    return [(one, others) for one in layers for others in ((), tuple(layer for layer in layers if layer != one))]


def test_logits_are_those_of_transformers_with_a_hook_at_every_layer(model: Any, engine: Engine) -> None:
    """Whichever layer is searched, with and without prompts frozen in all others."""
    assert len(ways(engine)) == 2 * depth(engine) >= 6
    for searched, others in ways(engine):
        asked = query(model, engine, searched, *others, Z=draws(1, 1))
        found, expected = engine.score(asked).logits, by_transformers(model, asked)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert np.ptp(expected) > 0.05  # else equal logits would say little


def test_a_prompt_may_enter_several_layers(model: Any, engine: Engine) -> None:
    """The same vectors, at the input of each."""
    asked = query(model, engine, 0, Z=draws(1, 1))
    for layers in ((0, 2), (1, 2)):
        several = replace(asked, subspace=space(engine, *layers))
        np.testing.assert_allclose(engine.score(several).logits, by_transformers(model, several), rtol=0, atol=1e-4)


def test_a_candidate_has_the_same_bits_alone_and_among_others(model: Any, engine: Engine) -> None:
    """Also where the layers below are computed once for all of them, in another engine, and searched or frozen."""
    for searched, others in ways(engine):
        asked = query(model, engine, searched, *others, Z=draws(2, 7))
        together = engine.score(asked).logits
        for index in (0, 6):
            alone = Engine(model.loaded).score(replace(asked, Z=asked.Z[index : index + 1]))  # type: ignore[index]
            assert alone.logits[0].tobytes() == together[index].tobytes()
        assert len({logits.tobytes() for logits in together}) == 7


def test_which_layer_is_searched_changes_no_bit(model: Any, engine: Engine) -> None:
    """One candidate with the others frozen is the same prompt whichever of its layers the candidate is."""
    prompts = frozen(engine, *range(depth(engine)))
    texts = model.texts(*FIELDS)
    logits = {
        engine.score(
            ScoreQuery(texts, subspace=one.subspace, Z=one.z[None], frozen=tuple(p for p in prompts if p is not one))
        ).logits.tobytes()
        for one in prompts
    }
    assert len(logits) == 1


def test_a_prompt_of_zeros_in_a_deeper_layer_is_none(model: Any, engine: Engine) -> None:
    """So a query of layer 0 alone has the bits that it always had."""
    asked = query(model, engine, 0)
    nothing = FrozenPrompt(space(engine, 1), np.zeros(D, np.float32))
    assert engine.score(asked).logits.tobytes() == engine.score(replace(asked, frozen=(nothing,))).logits.tobytes()


def test_lanes_share_what_is_computed_once(model: Any) -> None:
    """Two threads that need the same lower layers give the bits of one."""
    lone, two = Engine(model.loaded), Engine(model.loaded, lanes=2)
    many = model.texts(*(f"take {number}" + " of a slow film" * (number % 7) for number in range(240)))
    asked = query(model, lone, depth(lone) - 1, 0, texts=many, Z=draws(3, 6))
    assert len(lone.job(asked).units) > 6
    assert lone.score(asked).logits.tobytes() == two.score(asked).logits.tobytes()
    lone.close()
    two.close()


def test_what_candidates_share_is_computed_once(model: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five candidates that differ in the last layer's input alone take the layers below once."""
    from lmaas_backends.roberta.forward import Forward

    counted: list[int] = []
    layer = Forward._layer

    def noted(self: Forward, *args: Any) -> Any:
        counted.append(1)
        return layer(self, *args)

    monkeypatch.setattr(Forward, "_layer", noted)
    last = depth(engine) - 1
    engine.score(query(model, engine, last, 0, Z=draws(2, 5)))
    runs = len(engine.job(query(model, engine, last, 0, Z=draws(2, 1))).units)
    assert len(counted) == runs * (last + 5)


def test_operations_are_those_that_are_computed(model: Any, engine: Engine) -> None:
    """A unit has its layers from the searched one on, and a run's first one those below it too."""
    last = depth(engine) - 1
    whole = engine.job(query(model, engine, 0, Z=draws(2, 2)))
    deep = engine.job(query(model, engine, last, Z=draws(2, 2)))
    first, second = deep.flops(0), deep.flops(1)
    assert whole.flops(0) == first == sum(engine_share(engine, deep)) + second
    assert second < first / 2


def engine_share(engine: Engine, job: Any) -> Sequence[int]:
    """Operations of each layer below the last, of one candidate, with the projections of layer 0 kept."""
    shape = engine._way.forward.shape
    lengths = [job._cut.texts[index].positions for index in job._cut.runs[0]]
    one = sum(length * shape.projections + shape.attention(length, length) for length in lengths)
    return [one - (sum(lengths) - L) * 6 * shape.hidden_size**2, *([one] * (shape.layers - 2))]


def test_the_bill_is_that_of_the_positions(model: Any, engine: Engine) -> None:
    """Layers that were shared or frozen change no count of tokens."""
    deep, first = query(model, engine, 2, 0, 1), query(model, engine, 0)
    assert engine.score(deep).usage == engine.score(first).usage


def test_words_and_rows_under_deep_prompts(model: Any, engine: Engine) -> None:
    """`top_k` and `rows` go with them."""
    asked = query(model, engine, 2, 0, 1)
    part, whole = engine.score(replace(asked, rows=(4, 1))).logits, engine.score(asked).logits
    np.testing.assert_allclose(part, whole[:, [4, 1]], rtol=0, atol=1e-5)
    words = engine.score(replace(asked, top_k=3)).words
    assert words is not None
    assert [3] * len(FIELDS) == [len(ranks) for ranks in words[0]]


def test_what_makes_no_sense_is_refused(model: Any, engine: Engine) -> None:
    """A layer that the model has not, layout `cat` above layer 0, another width; the message says which."""
    with pytest.raises(InvalidQuery, match=f"layer {depth(engine)} is not one of the {depth(engine)} layers"):
        engine.score(query(model, engine, depth(engine)))
    with pytest.raises(InvalidQuery, match="layer 40 is not one of"):
        engine.score(query(model, engine, 0, 40))
    with pytest.raises(Unsupported, match=r"layout 'add' only, not layers \(0, 1\)"):
        engine.score(query(model, engine, 0, subspace=space(engine, 0, 1, layout="cat")))


def test_a_model_of_one_layer_claims_no_layers(bert: Any) -> None:
    """And refuses by the name of the capability."""
    engine = Engine(replace(bert.loaded, weights=replace(bert.loaded.weights, layers=[])))
    assert engine.card.capabilities.layers is False
    with pytest.raises(Unsupported, match=r"layers: .* not layers \(1,\)"):
        engine.score(query(bert, engine, 1))


def test_the_way_on_cuda(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates share units there, and what is below them is spread over its copies; nobody waits to prepare."""
    with pretended_card(monkeypatch) as card:
        there, here = load_engine(model.hf.name_or_path, device=NAME), Engine(model.loaded)
        for searched, others in ways(here):
            asked = query(model, here, searched, *others, Z=draws(2, 7))
            np.testing.assert_allclose(there.score(asked).logits, here.score(asked).logits, rtol=0, atol=3e-5)
            job = there.job(asked)
            assert len(job.units) == 1
            card.waits.clear()
            with torch.inference_mode():
                job.prepare(0)
            assert card.waits == []


def test_fewer_bits_are_near(model: Any) -> None:
    """In bfloat16 deep prompts move the logits as in float32, and `precise` is float32."""
    reduced = load_engine(model.hf.name_or_path, dtype="bfloat16")
    exact = load_engine(model.hf.name_or_path, linears="plain")
    asked = query(model, exact, 1, 0, 2)
    expected = exact.score(asked).logits
    assert 0 < np.abs(reduced.score(asked).logits - expected).max() < 0.1 * np.ptp(expected)
    np.testing.assert_allclose(reduced.score(replace(asked, precise=True)).logits, expected, rtol=0, atol=1e-4)
