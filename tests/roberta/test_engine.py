"""What the engine promises besides the right numbers: the same bits, exact bills, bounds, clear refusals."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.forward import Forward
from lmaas_backends.roberta.soft_prompt import SoftPrompts
from lmaas_backends.roberta.stores import MOST_ARRAY_BYTES, BoundedStore
from lmaas_backends.roberta.weights import Affine
from lmaas_sdk.backend import FeatureQuery, ScoreQuery
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.errors import InvalidQuery, UnknownDataset, VerbalizerError
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

FIELDS = tuple(f"take {number}" + " of a slow film" * (number % 7) for number in range(20))


def space(engine: Engine, **changes: Any) -> Subspace:
    return Subspace(**({"d": 30, "prompt_tokens": 5, "hidden_size": engine.card.hidden_size} | changes))


def candidates(count: int, d: int = 30) -> Any:
    return np.random.default_rng(9).standard_normal((count, d)).astype(np.float32)


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_a_candidate_has_the_same_bits_alone_and_among_nineteen_others(model: Any, engine: Engine, layout: Any) -> None:
    """Also in another order, in another engine, and when the call is repeated."""
    texts, subspace, Z = model.texts(*FIELDS), space(engine, layout=layout), candidates(20)
    together = engine.score(ScoreQuery(texts, subspace=subspace, Z=Z)).logits
    alone = [Engine(model.loaded).score(ScoreQuery(texts, subspace=subspace, Z=z[None])).logits[0] for z in Z[:5]]
    backwards = engine.score(ScoreQuery(texts.digest, subspace=subspace, Z=Z[::-1].copy())).logits[::-1]
    assert np.stack(alone).tobytes() == together[:5].tobytes()
    assert backwards.tobytes() == together.tobytes()


def test_rows_have_the_same_bits_alone_and_among_others(model: Any, engine: Engine) -> None:
    """A subset of rows comes in the order asked for, equal to the full set, and the same bits in any company."""
    texts, subspace, Z, rows = model.texts(*FIELDS), space(engine), candidates(20), (17, 3, 11)
    full = engine.score(ScoreQuery(texts, subspace=subspace, Z=Z)).logits
    together = engine.score(ScoreQuery(texts, rows=rows, subspace=subspace, Z=Z)).logits
    alone = Engine(model.loaded).score(ScoreQuery(texts, rows=rows, subspace=subspace, Z=Z[:1])).logits
    assert alone.tobytes() == together[:1].tobytes()
    np.testing.assert_allclose(together, full[:, rows], rtol=0, atol=1e-5)


def test_words_have_the_same_bits_alone_and_among_others(model: Any, engine: Engine) -> None:
    """The same holds of the most likely words."""
    query = ScoreQuery(TextSet(model.texts(*FIELDS).texts), top_k=4, subspace=space(engine), Z=candidates(6))
    together = engine.score(query)
    alone = engine.score(replace(query, Z=query.Z[2:3]))  # type: ignore[index]
    assert alone.logits.tobytes() == together.logits[2:3].tobytes()
    assert together.words is not None
    assert alone.words == together.words[2:3]


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_the_number_of_lanes_decides_no_bit(model: Any, layout: Any) -> None:
    """One thread and three, several chunks a candidate: the same bytes, and the same card."""
    one, three = Engine(model.loaded), Engine(model.loaded, lanes=3)
    texts = model.texts(*(field for number in range(12) for field in (*FIELDS, f"reel {number}")))
    query = ScoreQuery(texts, subspace=space(one, layout=layout), Z=candidates(4))
    assert len(one.job(query).units) > 4
    assert three.score(query).logits.tobytes() == one.score(query).logits.tobytes()
    assert three.card == one.card


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_the_bill_is_what_was_counted_and_registered(model: Any, engine: Engine, layout: Any) -> None:
    """Positions per text and candidate, the same from registration, count and score."""
    texts, subspace = model.texts(*FIELDS[:4]), space(engine, layout=layout)
    counts = engine.register(texts, subspace).token_counts
    manual = engine.register(texts).token_counts
    query = ScoreQuery(texts.digest, rows=(3, 1), subspace=subspace, Z=candidates(3))
    before = " . " if layout == "add" else ""
    assert manual == tuple(len(model.ids(field)) for field in FIELDS[:4])
    assert counts == tuple(5 + len(model.ids(before + field)) for field in FIELDS[:4])
    assert sum(engine.job(query).units) == engine.score(query).usage.input_tokens == 3 * (counts[3] + counts[1])


def test_features_are_billed_by_their_tokens(model: Any, engine: Engine) -> None:
    """One position a token; `count` says the same beforehand."""
    query = FeatureQuery(model.texts(*FIELDS[:3]))
    expected = sum(len(model.ids(field)) for field in FIELDS[:3])
    assert sum(engine.job(query).units) == engine.features(query).usage.input_tokens == expected


def test_feature_rows_come_in_the_order_asked_for(model: Any, engine: Engine) -> None:
    """Row by row the same vectors as the whole set's."""
    texts = model.texts(*FIELDS)
    full = engine.features(FeatureQuery(texts)).features
    np.testing.assert_allclose(engine.features(FeatureQuery(texts, rows=(9, 2))).features, full[[9, 2]], atol=1e-5)


def test_registration_reports_how_many_texts_lost_words(model: Any, engine: Engine) -> None:
    """Only the texts over the limit are counted, and they are billed at the limit or a little less."""
    registration = engine.register(model.texts("fine", "bad " * 700, "bad tin " * 700))
    assert registration.shortened == 2
    assert max(registration.token_counts) <= engine.card.max_tokens


def test_the_card_tells_what_the_model_is(roberta: Any) -> None:
    """Sizes, mask and abilities of the bundled model."""
    card = Engine(roberta.loaded, max_candidates=8, max_texts=9).card
    assert (card.name, card.hidden_size, card.vocab_size, card.max_tokens) == ("roberta-tiny", 128, 12288, 512)
    assert (card.mask, card.max_candidates, card.max_texts) == ("<mask>", 8, 9)
    able = card.capabilities
    assert (able.arrays, able.features, able.top_k, able.deterministic, able.idempotent) == (True,) * 4 + (False,)


def test_an_upload_is_named_by_its_digest(engine: Engine) -> None:
    """The name is the one a client computes itself, and a later change of the array does not reach the engine."""
    array = np.ones((5, engine.card.hidden_size), dtype=np.float32)
    name = engine.upload(array)
    assert name == array_digest(array)


def test_cancelling_stops_before_the_next_unit(model: Any, engine: Engine) -> None:
    """One text and candidate a unit: the third question is answered yes, so two were computed."""
    answers = iter([False, False, True])
    with pytest.raises(CancelledError, match="after 2 of 20 units"):
        engine.score(ScoreQuery(model.texts("fine"), subspace=space(engine), Z=candidates(20)), lambda: next(answers))


def refused(engine: Engine, texts: Any, **changes: Any) -> str:
    """The message with which both `count` and `score` refuse a query."""
    query = ScoreQuery(texts, **changes)
    with pytest.raises(InvalidQuery) as counting:
        sum(engine.job(query).units)
    with pytest.raises(InvalidQuery) as scoring:
        engine.score(query)
    assert str(counting.value) == str(scoring.value)
    return str(scoring.value)


def test_rows_are_checked(model: Any, engine: Engine) -> None:
    """Out of range, twice, none."""
    texts = model.texts("fine", "bad")
    assert "rows are whole numbers from 0 to 1, not [2]" in refused(engine, texts, rows=(0, 2))
    assert "not [-1]" in refused(engine, texts, rows=(-1,))
    assert "rows name a text twice: [1]" in refused(engine, texts, rows=(1, 0, 1))
    assert "rows is empty" in refused(engine, texts, rows=())


def test_texts_to_score_have_one_mask_and_label_words(model: Any, engine: Engine) -> None:
    """No mask, two masks, no words, no text."""
    words = model.label_words
    assert "text 0 has 0 masks" in refused(engine, TextSet(((Piece("field", "fine"),),), words))
    assert "text 0 has 2 masks" in refused(engine, TextSet(((MASK, MASK),), words))
    assert "no label words" in refused(engine, TextSet(((MASK,),)))
    assert "the text set is empty" in refused(engine, TextSet((), words))


def test_registration_refuses_what_scoring_would(model: Any, engine: Engine) -> None:
    """A text without a mask, and a word that the model lacks, are told at once."""
    with pytest.raises(InvalidQuery, match="text 1 has 0 masks"):
        engine.register(TextSet(((MASK,), (Piece("field", "fine"),)), model.label_words))
    with pytest.raises(VerbalizerError, match="not one"):
        engine.register(TextSet(((MASK,),), LabelWords(("bad", "unquestionablyodd"))))


def test_sizes_are_checked(model: Any) -> None:
    """Too many candidates, too many texts, too many words, the wrong width, too large a projection."""
    engine = Engine(model.loaded, max_candidates=2, max_texts=3)
    texts, fits = model.texts("fine"), space(engine)
    assert "3 candidates in a call, above 2" in refused(engine, texts, subspace=fits, Z=candidates(3))
    assert "4 texts in a call, above 3" in refused(engine, model.texts("a", "b", "c", "d"))
    assert "the vocabulary has" in refused(engine, texts, top_k=engine.card.vocab_size + 1)
    other = replace(fits, hidden_size=7)
    assert "the subspace has hidden_size 7, but model" in refused(engine, texts, subspace=other, Z=candidates(1))
    huge = replace(fits, d=MOST_ARRAY_BYTES // (fits.shape[0] * 4) + 1)
    Z = np.zeros((1, huge.d), dtype=np.float32)
    assert "lower d or prompt_tokens" in refused(engine, texts, subspace=huge, Z=Z)


def test_a_projection_has_room_for_the_papers_largest_model_and_not_for_a_gigabyte(roberta: Any) -> None:
    """d 500 and L 50 at hidden size 1024 pass; 256 MiB is the end, for an uploaded array too."""
    loaded = roberta.loaded
    forward = Forward(loaded.weights, loaded.heads, loaded.epsilon, loaded.first_position)
    prompts = SoftPrompts(forward, loaded.vocabulary)
    prompts.check(Subspace(500, 50, 1024))
    prompts.check(Subspace(104_857, 5, 128))
    with pytest.raises(InvalidQuery, match=r"takes 268436480 bytes, above 268435456: lower d"):
        prompts.check(Subspace(104_858, 5, 128))
    with pytest.raises(InvalidQuery, match="at most 268435456 bytes, not 268435460"):
        prompts.upload(np.broadcast_to(np.float32(1), (1, (1 << 26) + 1)))


def test_the_identity_needs_no_room(roberta: Any) -> None:
    """No matrix is built: L 50 at hidden size 1024 is 10 GB as one, and passes."""
    loaded = roberta.loaded
    forward = Forward(loaded.weights, loaded.heads, loaded.epsilon, loaded.first_position)
    prompts = SoftPrompts(forward, loaded.vocabulary)
    space = Subspace(50 * 1024, 50, 1024, projection="identity", scale=0.5)
    prompts.check(space)
    z = np.linspace(-1, 1, space.d, dtype=np.float32)
    np.testing.assert_array_equal(prompts.vectors(space, z).cpu().numpy(), 0.5 * z.reshape(50, 1024))


@pytest.mark.parametrize(("size", "scale"), [(3e38, 1.0), (1e30, 1e30), (1.0, 1e38)])
@pytest.mark.parametrize("layout", ["add", "cat"])
@pytest.mark.parametrize("top_k", [None, 3])
def test_a_prompt_that_overflows_is_refused(
    model: Any, engine: Engine, layout: Any, top_k: Any, size: float, scale: float
) -> None:
    """Finite in, infinite on the way: the candidate is named, and those around it are answered without it."""
    subspace, Z = space(engine, layout=layout, scale=scale), np.zeros((3, 30), dtype=np.float32)
    Z[1] = size
    with pytest.raises(InvalidQuery, match=r"the prompt of candidate 1 overflows float32: .*lower z, the scale"):
        engine.score(ScoreQuery(model.texts("fine", "bad"), subspace=subspace, Z=Z, top_k=top_k))
    reply = engine.score(ScoreQuery(model.texts("fine", "bad"), subspace=subspace, Z=Z[::2].copy(), top_k=top_k))
    assert np.isfinite(reply.logits).all()


def test_an_answer_that_nobody_could_take_is_refused_before_any_room_is_made(model: Any, engine: Engine) -> None:
    """All words of the vocabulary for many texts and candidates; states of every position of many texts."""
    many = model.texts(*(f"take {number}" for number in range(1000)))
    asked = refused(engine, many, top_k=engine.card.vocab_size, subspace=space(engine), Z=candidates(64))
    assert "at most 67108864 are held for one call: ask for fewer texts or candidates a call, or lower top_k" in asked
    long = model.texts(*(f"take {number} " * 160 for number in range(1000)))
    if engine.card.hidden_size * engine.card.max_tokens * 4000 > 64 << 20:
        with pytest.raises(InvalidQuery, match="or take pool 'first'"):
            engine.features(FeatureQuery(long, pool="tokens"))


@pytest.mark.parametrize("projection", ["uniform", "normal"])
def test_a_scale_above_float32_is_refused(model: Any, engine: Engine, projection: Any) -> None:
    """Before anything is computed, so counting refuses it alike."""
    subspace = space(engine, scale=1e300, projection=projection)
    assert "scale = 1e+300 is above 3.40282e+38" in refused(
        engine, model.texts("fine"), subspace=subspace, Z=candidates(1)
    )


def test_a_projection_that_overflows_is_refused(model: Any, engine: Engine) -> None:
    """A finite scale may still be too large for the entries: of a sum of uniforms, and of an uploaded array."""
    name = engine.upload(np.full((5 * engine.card.hidden_size, 1), 100, dtype=np.float32))
    for changes in ({"projection": "normal"}, {"projection": name}):
        query = ScoreQuery(
            model.texts("fine"), subspace=space(engine, d=1, scale=3e38, **changes), Z=np.ones((1, 1), dtype=np.float32)
        )
        with pytest.raises(InvalidQuery, match=r"overflows float32 at scale = 3e\+38: lower the scale"):
            engine.score(query)


def test_a_model_that_overflows_by_itself_answers_nothing(bert: Any) -> None:
    """Finite weights may be too large: neither logits nor features with infinities leave the engine."""
    last = bert.loaded.weights.last
    large = replace(last, norm=Affine(last.norm.weight * 3e38, last.norm.bias))
    engine = Engine(replace(bert.loaded, weights=replace(bert.loaded.weights, last=large)))
    with pytest.raises(InvalidQuery, match="logits of these texts overflow float32"):
        engine.score(ScoreQuery(bert.texts("fine")))
    with pytest.raises(InvalidQuery, match="hidden states of these texts overflow float32 in model 'small-bert'"):
        engine.features(FeatureQuery(bert.texts("fine")))


def test_unknown_digests_are_named(model: Any, engine: Engine) -> None:
    """A text set, a projection and a base that nobody sent."""
    nowhere = "0" * 64
    with pytest.raises(UnknownDataset, match=f"no text set {nowhere}"):
        engine.score(ScoreQuery(nowhere))
    for change, role in (({"projection": nowhere}, "projection"), ({"base": nowhere}, "base")):
        query = ScoreQuery(model.texts("fine"), subspace=space(engine, **change), Z=candidates(1))
        with pytest.raises(UnknownDataset, match=f"no array {nowhere} is held here for the {role}"):
            engine.score(query)


def test_uploaded_arrays_of_another_shape_are_refused(model: Any, engine: Engine) -> None:
    """The message has both shapes."""
    name = engine.upload(np.ones((3, 4), dtype=np.float32))
    base, projection = space(engine, base=name), space(engine, projection=name)
    assert "(3, 4)" in refused(engine, model.texts("fine"), subspace=base, Z=candidates(1))
    assert "(3, 4)" in refused(engine, model.texts("fine"), subspace=projection, Z=candidates(1))


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 2), np.nan, dtype=np.float32),
        np.full((2, 2), np.inf, dtype=np.float32),
        np.ones((2, 2), dtype=np.float64),
        np.ones(4, dtype=np.float32),
        np.ones((0, 4), dtype=np.float32),
    ],
)
def test_unusable_uploads_are_refused(engine: Engine, array: Any) -> None:
    """NaN, infinity, another type, one axis, nothing."""
    with pytest.raises(InvalidQuery, match="uploaded array"):
        engine.upload(array)


def test_a_bounded_store_drops_the_least_recently_used() -> None:
    """By bytes and by count; the newest stays however large it is."""
    store: BoundedStore[str, int] = BoundedStore(max_bytes=10, max_entries=2)
    store.put("a", 1, 4)
    store.put("b", 2, 4)
    assert store.get("a") == 1
    store.put("c", 3, 4)
    assert [store.get(name) for name in "abc"] == [1, None, 3]
    store.put("d", 4, 99)
    assert [store.get(name) for name in "abcd"] == [None, None, None, 4]
    store.put("d", 5, 1)
    store.put("e", 6, 9)
    assert (store.get("d"), store.get("e"), len(store)) == (5, 6, 2)
