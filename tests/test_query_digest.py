"""What decides an answer decides its digest, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmaas_sdk.backend import Capabilities, FeatureQuery, Limits, ModelCard, ScoreQuery
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.traffic.query_digest import query_digest
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import Subspace

CARD = ModelCard("m", 8, 100, 64, "<mask>", Capabilities(), tokenizer_digest="t", fingerprint="f")
WORDS = LabelWords((" bad", " great"))
TEXTS = TextSet(((Piece("field", "good"), MASK), (Piece("field", "bad"), MASK)), WORDS)
SUBSPACE = Subspace(4, 2, 8)
Z = np.arange(8, dtype=np.float32).reshape(2, 4)
QUERY = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z)
PLAIN = ScoreQuery(TEXTS)
FROZEN = FrozenPrompt(Subspace(4, 2, 8, layers=(1,)), np.ones(4, np.float32))
FEATURES = FeatureQuery(TEXTS)


def other_z(index: int, value: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Z with one number changed."""
    changed = Z.copy()
    changed.flat[index] = value
    return changed


DIFFERENT = [
    (QUERY, CARD),
    (PLAIN, CARD),
    (FEATURES, CARD),
    (replace(QUERY, Z=other_z(7, np.nextafter(np.float32(7), np.float32(8)))), CARD),
    (replace(QUERY, Z=other_z(0, -0.0)), CARD),
    (replace(QUERY, Z=Z[:1]), CARD),
    (replace(QUERY, Z=Z[::-1]), CARD),
    (ScoreQuery(TEXTS, subspace=Subspace(8, 2, 8), Z=Z.reshape(1, 8)), CARD),
    (replace(QUERY, subspace=Subspace(4, 2, 8, seed=43)), CARD),
    (replace(QUERY, top_k=3), CARD),
    (replace(QUERY, top_k=4), CARD),
    (replace(QUERY, precise=True), CARD),
    (replace(PLAIN, precise=True), CARD),
    (replace(QUERY, frozen=(FROZEN,)), CARD),
    (replace(QUERY, frozen=(FrozenPrompt(FROZEN.subspace, 2 * FROZEN.z),)), CARD),
    (replace(QUERY, frozen=(FrozenPrompt(Subspace(4, 2, 8, layers=(2,)), FROZEN.z),)), CARD),
    (replace(QUERY, frozen=(FROZEN, FrozenPrompt(Subspace(4, 2, 8, layers=(2,)), FROZEN.z))), CARD),
    (replace(QUERY, frozen=(FROZEN,), precise=True), CARD),
    (replace(QUERY, rows=(0,)), CARD),
    (replace(QUERY, rows=(1,)), CARD),
    (replace(QUERY, rows=(1, 0)), CARD),
    (replace(PLAIN, rows=(1, 0)), CARD),
    (replace(QUERY, texts=replace(TEXTS, label_words=LabelWords((" bad", " good")))), CARD),
    (replace(QUERY, texts=replace(TEXTS, label_words=LabelWords(WORDS.words, "first"))), CARD),
    (replace(QUERY, texts=replace(TEXTS, texts=TEXTS.texts[::-1])), CARD),
    (replace(FEATURES, pool="tokens"), CARD),
    (replace(FEATURES, rows=(0,)), CARD),
    (QUERY, replace(CARD, name="n")),
    (QUERY, replace(CARD, fingerprint="g")),
    (QUERY, replace(CARD, tokenizer_digest="u")),
    (FEATURES, replace(CARD, fingerprint="g")),
    (QUERY, replace(CARD, name="f", fingerprint="m")),
]


def test_all_that_decides_an_answer_counts() -> None:
    """Queries that differ in anything an answer depends on have different digests."""
    assert len(DIFFERENT) == len({query_digest(query, card) for query, card in DIFFERENT})


@pytest.mark.parametrize("query", [QUERY, PLAIN, FEATURES], ids=["score", "plain", "features"])
def test_a_set_and_its_digest_are_the_same_texts(query: ScoreQuery | FeatureQuery) -> None:
    """Whether a query holds the texts or names them by their digest."""
    assert query_digest(query, CARD) == query_digest(replace(query, texts=TEXTS.digest), CARD)


@pytest.mark.parametrize("Z_elsewhere", [Z.copy(), np.asfortranarray(Z), np.repeat(Z, 2, axis=1)[:, ::2]])
def test_the_layout_in_memory_does_not_count(Z_elsewhere: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    """Equal candidates, however they lie in memory."""
    assert query_digest(QUERY, CARD) == query_digest(replace(QUERY, Z=Z_elsewhere), CARD)


def test_the_order_in_which_frozen_prompts_were_given_does_not_count() -> None:
    """They stand in different layers, and a query has them in the order of those."""
    frozen = (FROZEN, FrozenPrompt(Subspace(4, 2, 8, layers=(2,)), FROZEN.z))
    digests = {query_digest(replace(QUERY, frozen=given), CARD) for given in (frozen, frozen[::-1])}
    assert 1 == len(digests)


def test_limits_and_prices_do_not_count() -> None:
    """What the provider allows or charges today changes no answer."""
    assert query_digest(QUERY, CARD) == query_digest(QUERY, replace(CARD, limits=Limits(1), max_texts=2))


def test_a_digest_is_the_same_on_every_machine() -> None:
    """Files are kept for later runs, so it is pinned."""
    assert "1885a852f0f05540a41ef997fb6f236f82428323" == query_digest(QUERY, CARD)
