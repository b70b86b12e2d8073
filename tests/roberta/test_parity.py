"""Logits, words and features equal those of transformers' own model, its embedding output patched by a hook."""

from __future__ import annotations

from typing import Any

import cma
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.soft_prompt import base_token_ids
from lmaas_backends.roberta.text_encoder import FIRST_BASE_TOKEN, Frame, TextEncoder
from lmaas_sdk.backend import FeatureQuery, ScoreQuery
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

D, L = 40, 6
FIELDS = (
    "",
    "fine",
    "a moving and utterly honest film about people we come to know",
    "naïve façade — 東京の映画 😀👨‍👩‍👧 İstanbul \u0301\u200d ﬁn",
    "  two  spaces\tand a tab\n",
    "<mask> </s> [MASK] in a user's own words",
    " ".join(f"dull scene {number}" for number in range(15)),
    " ".join(f"longer than the model takes {number}" for number in range(300)),
)


def subspace(model: Any, **changes: Any) -> Subspace:
    width = model.loaded.weights.words.shape[1]
    return Subspace(**({"d": D, "prompt_tokens": L, "hidden_size": width} | changes))


def draws(seed: int, count: int = 2, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal((count, D))).astype(np.float32)


def label_columns(model: Any, words: LabelWords) -> list[int]:
    return [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words.words]


def p0_of_cat(model: Any, space: Subspace) -> NDArray[np.float64]:
    """Embedding output without position of the drawn tokens, by transformers' own modules."""
    embeddings = model.hf.base_model.embeddings
    with torch.no_grad():
        words = embeddings.word_embeddings(torch.tensor(base_token_ids(model.loaded.vocabulary, space)))
        found: NDArray[np.float64] = embeddings.LayerNorm(words + embeddings.token_type_embeddings.weight[0]).numpy()
    return found


def prompt_vectors(model: Any, space: Subspace, z: Any, *, A: Any = None, base: Any = None) -> NDArray[np.float32]:
    """A z + p0 in float64, (L, D): what a hook puts into transformers' model."""
    matrix = (space.matrix() if A is None else A * space.scale).astype(np.float64)
    vectors = (matrix @ z.astype(np.float64)).reshape(space.prompt_tokens, space.hidden_size)
    if base is None and space.layout == "cat":
        base = p0_of_cat(model, space)
    return (vectors if base is None else vectors + base).astype(np.float32)


def expected_logits(model: Any, fields: Any, space: Subspace | None, vectors: Any) -> NDArray[np.float32]:
    """Label logits by transformers, one text at a time: (n_candidates, n_texts, n_labels)."""
    texts = model.texts(*fields)
    encoder = TextEncoder(model.loaded.vocabulary, model.loaded.max_tokens)
    encoded = encoder.encode(texts.texts, Frame.of(space))
    layout = "plain" if space is None else space.layout
    columns = label_columns(model, model.label_words)
    return np.stack([[model.mask_logits(text.ids, layout, prompt)[columns] for text in encoded] for prompt in vectors])


def assert_equal_logits(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.ptp(expected) > 0.05  # else equal logits would say little


def test_manual_prompt(model: Any, engine: Engine) -> None:
    """Without a soft prompt, one candidate's label logits are transformers'."""
    found = engine.score(ScoreQuery(model.texts(*FIELDS)))
    assert_equal_logits(found.logits, expected_logits(model, FIELDS, None, [None]))


@pytest.mark.parametrize("layout", ["add", "cat"])
@pytest.mark.parametrize("projection", ["uniform", "normal"])
def test_seeded_projections(model: Any, engine: Engine, layout: Any, projection: str) -> None:
    """Both layouts and seeded projections, z from N(0, I), every length and script."""
    scale = 1.0 if projection == "uniform" else engine.card.embedding_std
    space = subspace(model, layout=layout, projection=projection, scale=scale)
    Z = draws(1)
    found = engine.score(ScoreQuery(model.texts(*FIELDS), subspace=space, Z=Z))
    vectors = [prompt_vectors(model, space, z) for z in Z]
    assert_equal_logits(found.logits, expected_logits(model, FIELDS, space, vectors))


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_a_prompt_without_a_subspace(model: Any, engine: Engine, layout: Any) -> None:
    """Projection `identity`: the prompt is z in the shape (L, D), times the scale; p0 stays in `cat`."""
    width = engine.card.hidden_size
    space = subspace(model, d=L * width, layout=layout, projection="identity", scale=0.3)
    Z = np.random.default_rng(4).standard_normal((2, space.d)).astype(np.float32)
    found = engine.score(ScoreQuery(model.texts(*FIELDS), subspace=space, Z=Z))
    base = p0_of_cat(model, space) if layout == "cat" else 0.0
    vectors = [(0.3 * z.astype(np.float64).reshape(L, width) + base).astype(np.float32) for z in Z]
    assert_equal_logits(found.logits, expected_logits(model, FIELDS, space, vectors))


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_uploaded_projection_and_base(model: Any, engine: Engine, layout: Any) -> None:
    """An uploaded A is multiplied by the scale; an uploaded p0 comes on top in `add` and replaces p0 in `cat`."""
    rng = np.random.default_rng(5)
    width = engine.card.hidden_size
    A = rng.standard_normal((L * width, D)).astype(np.float32)
    base = rng.standard_normal((L, width)).astype(np.float32)
    space = subspace(model, layout=layout, projection=engine.upload(A), scale=0.125, base=engine.upload(base))
    Z = draws(2, scale=0.5)
    found = engine.score(ScoreQuery(model.texts(*FIELDS), subspace=space, Z=Z))
    vectors = [prompt_vectors(model, space, z, A=A, base=base) for z in Z]
    assert_equal_logits(found.logits, expected_logits(model, FIELDS, space, vectors))


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_after_a_hundred_generations(model: Any, engine: Engine, layout: Any) -> None:
    """The z that 100 generations of CMA-ES on this engine's own cross entropy reach."""
    space = subspace(model, layout=layout)
    texts = model.texts("a moving film", "dull and far too long")
    strategy = cma.CMAEvolutionStrategy(D * [0.0], 1.0, {"popsize": 8, "seed": 3, "verbose": -9})
    for _ in range(100):
        candidates = strategy.ask()
        Z = np.array(candidates, dtype=np.float32)
        logits = engine.score(ScoreQuery(texts, subspace=space, Z=Z)).logits.astype(np.float64)
        margins = logits[:, [0, 1], [0, 1]] - logits[:, [0, 1], [1, 0]]
        strategy.tell(candidates, np.log1p(np.exp(-margins)).mean(axis=1))
    z = np.asarray(strategy.mean, dtype=np.float32)
    found = engine.score(ScoreQuery(model.texts(*FIELDS), subspace=space, Z=z[None]))
    assert strategy.countiter == 100
    assert np.linalg.norm(z) > 1.0
    assert_equal_logits(found.logits, expected_logits(model, FIELDS, space, [prompt_vectors(model, space, z)]))


def test_the_papers_prompt_of_fifty_tokens(roberta: Any) -> None:
    """L 50, d 500, hidden size 128, on a text of the greatest length and a short one."""
    engine = Engine(roberta.loaded)
    space = Subspace(500, 50, 128)
    Z = np.random.default_rng(0).standard_normal((1, 500)).astype(np.float32)
    found = engine.score(ScoreQuery(roberta.texts(*FIELDS[-2:]), subspace=space, Z=Z))
    vectors = [prompt_vectors(roberta, space, Z[0])]
    assert_equal_logits(found.logits, expected_logits(roberta, FIELDS[-2:], space, vectors))


def test_mean_of_a_words_pieces(roberta: Any) -> None:
    """With `mean` a label's logit is the mean over its word's tokens."""
    words = LabelWords((" bad", " unquestionablyodd"), "mean")
    texts = TextSet(roberta.texts("fine").texts, words)
    found = Engine(roberta.loaded).score(ScoreQuery(texts)).logits[0, 0]
    logits = roberta.mask_logits(roberta.ids("fine"))
    pieces = [roberta.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words.words]
    np.testing.assert_allclose(found, [logits[ids].mean() for ids in pieces], rtol=0, atol=1e-4)


def test_mask_at_the_start_and_at_the_end(model: Any, engine: Engine) -> None:
    """Templates that begin or end with the mask."""
    pieces = (Piece("template", " News: "), Piece("field", "bad tin can"))
    texts = TextSet(((MASK, *pieces), (*pieces, Piece("template", " "), MASK)), model.label_words)
    mask, columns = model.tokenizer.mask_token, label_columns(model, model.label_words)
    strings = (f"{mask} News: bad tin can", f" News: bad tin can {mask}")
    expected = [model.mask_logits(model.tokenizer(string)["input_ids"])[columns] for string in strings]
    assert_equal_logits(engine.score(ScoreQuery(texts)).logits[0], np.array(expected))


def test_top_k_words(model: Any, engine: Engine) -> None:
    """The k most likely words and their logits, under a soft prompt, are transformers'."""
    space = subspace(model)
    Z = draws(3)
    fields = ("fine", FIELDS[2])
    texts = TextSet(model.texts(*fields).texts)
    reply = engine.score(ScoreQuery(texts, top_k=5, subspace=space, Z=Z))
    assert reply.words is not None
    for candidate, z in enumerate(Z):
        vectors = prompt_vectors(model, space, z)
        for row, text in enumerate(TextEncoder(model.loaded.vocabulary, 96).encode(texts.texts, Frame.of(space))):
            values, ids = torch.topk(torch.from_numpy(model.mask_logits(text.ids, "add", vectors)), 5)
            np.testing.assert_allclose(reply.logits[candidate, row], values.numpy(), rtol=0, atol=1e-4)
            assert reply.words[candidate][row] == tuple(model.tokenizer.decode([token]) for token in ids.tolist())


def test_words_keep_their_leading_space(roberta: Any) -> None:
    """The bundled model calls a great film great."""
    texts = TextSet(roberta.texts("The movie was great").texts)
    reply = Engine(roberta.loaded).score(ScoreQuery(texts, top_k=3))
    assert reply.words is not None
    assert reply.words[0][0][0] == " great"


@pytest.mark.parametrize("pool", ["first", "tokens"])
def test_features(model: Any, engine: Engine, pool: Any) -> None:
    """Hidden states, lengths, and every layer's mean and deviation are transformers', padding left out."""
    fields = ("fine", "", FIELDS[2], FIELDS[4])
    texts = TextSet(tuple((Piece("field", field),) for field in fields))
    reply = engine.features(FeatureQuery(texts, pool=pool))
    ids = [model.tokenizer(field)["input_ids"] for field in fields]
    states = [model.states(one) for one in ids]
    last = [layers[-1][:1] if pool == "first" else layers[-1] for layers in states]
    np.testing.assert_allclose(reply.features, torch.cat(last).numpy(), rtol=0, atol=1e-4)
    assert reply.lengths.tolist() == [len(one) for one in ids]
    for index in range(len(states[0])):
        layer = torch.cat([layers[index] for layers in states]).double()
        np.testing.assert_allclose(reply.layer_mean[index], layer.mean().item(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(reply.layer_std[index], layer.std(correction=0).item(), rtol=0, atol=1e-5)


def test_the_base_tokens_of_cat_are_frequent_and_drawn_by_the_seed(model: Any) -> None:
    """L ids below half the vocabulary, none of them special, other ones for another seed, the same again."""
    drawn = [
        base_token_ids(model.loaded.vocabulary, subspace(model, prompt_tokens=50, seed=seed)) for seed in (1, 2, 1)
    ]
    assert drawn[0] == drawn[2] != drawn[1]
    assert all(len(ids) == 50 and max(ids) < model.loaded.vocabulary.size // 2 for ids in drawn)
    assert not model.loaded.vocabulary.special_ids.intersection(*drawn)


def test_base_tokens_of_add_are_the_ids_from_1000_on() -> None:
    """As in the paper's released code."""
    assert FIRST_BASE_TOKEN == 1000
