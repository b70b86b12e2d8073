"""Messages, queries and errors on the wire."""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lmaas_backends.roberta.protocol import JSON, TENSORS, Message, decode_message, encode_message
from lmaas_backends.roberta.wire_card import card_fields, read_card
from lmaas_backends.roberta.wire_errors import KINDS, RefusalError, error_from_answer, refusal_from
from lmaas_backends.roberta.wire_queries import (
    FEATURE_REPLY_ARRAYS,
    SCORE_ARRAYS,
    SCORE_REPLY_ARRAYS,
    feature_message,
    feature_reply_message,
    read_array,
    read_dataset,
    read_feature_reply,
    read_features,
    read_registration,
    read_score,
    read_score_reply,
    registration_message,
    score_message,
    score_reply_message,
)
from lmaas_sdk.backend import (
    Capabilities,
    FeatureQuery,
    FeatureReply,
    Limits,
    ModelCard,
    Price,
    ScoreQuery,
    ScoreReply,
    Usage,
)
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import (
    AttemptTimeout,
    BackendUnavailable,
    InvalidQuery,
    LmaasError,
    ProtocolError,
    RateLimited,
    ServerFault,
    VerbalizerError,
)
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import Subspace

FORMS = pytest.mark.parametrize("form", [JSON, TENSORS])
SUBSPACE = Subspace(d=3, prompt_tokens=2, hidden_size=4, layout="cat", scale=0.5, base="a" * 64)
TEXTS = TextSet(
    ((Piece("field", "Löwe </s> \ud83d"), Piece("template", " . It was"), MASK), (Piece("field", ""), MASK)),
    LabelWords((" bad", " great"), "first"),
)
GOOD = {
    "model": "m",
    "texts": "b" * 64,
    "subspace": SUBSPACE.to_wire(),
    "Z": {"dtype": "float32", "shape": [1, 3], "data": "AACAPwAAAEAAAEBA"},
}


def through(message: Message, form: str, arrays: tuple[str, ...] = ()) -> Message:
    return decode_message(encode_message(message, form), form, arrays)


@given(array=hnp.arrays(st.sampled_from(["float32", "float16", "int64"]), hnp.array_shapes(max_dims=4, max_side=4)))
@FORMS
def test_an_array_of_any_shape_keeps_its_bytes(form: str, array: np.ndarray[Any, Any]) -> None:
    """Every array comes back with the dtype, shape and bits it was sent with, NaN included."""
    back = through(Message({"n": 1}, {"a": array, "b": array}), form, ("a", "b"))

    expected = (array.dtype, array.shape, array.tobytes())
    assert back.fields == {"n": 1}
    assert [expected] * 2 == [(x.dtype, x.shape, x.tobytes()) for x in (back.arrays["a"], back.arrays["b"])]


def test_a_frame_is_laid_out_as_documented() -> None:
    """A frame is a little-endian length, that much JSON, and the raw bytes."""
    frame = encode_message(Message({"n": 1}, {"a": np.array([1.0], np.float32)}), TENSORS)

    header = b'{"a":{"dtype":"float32","shape":[1]},"n":1}'
    assert struct.pack("<I", len(header)) + header + b"\x00\x00\x80\x3f" == frame


@FORMS
@pytest.mark.parametrize("z_dtype", ["float32", "float16"])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS.digest])
def test_a_score_query_survives_the_wire(form: str, z_dtype: str, texts: TextSet | str) -> None:
    """What the server reads equals what was asked, whichever form it travels in."""
    Z = np.array([[0.5, -1, 2], [3, 4, 5]], np.float32)
    asked = ScoreQuery(texts, rows=(1, 0), top_k=2, subspace=SUBSPACE, Z=Z)
    model, read = read_score(through(score_message(asked, "m", z_dtype=z_dtype), form, SCORE_ARRAYS))

    assert ("m", texts, (1, 0), 2, SUBSPACE) == (model, read.texts, read.rows, read.top_k, read.subspace)
    assert read.Z is not None
    assert ("float32", Z.tolist()) == (read.Z.dtype.name, read.Z.tolist())


@FORMS
@pytest.mark.parametrize("z_dtype", ["float32", "float16"])
def test_frozen_prompts_survive_the_wire(form: str, z_dtype: str) -> None:
    """Each with its subspace and its z, whose sizes may differ."""
    frozen = tuple(
        FrozenPrompt(replace(SUBSPACE, d=d, layers=(d,)), np.arange(d, dtype=np.float32) / 2) for d in (1, 2, 5)
    )
    asked = ScoreQuery("c" * 64, subspace=SUBSPACE, Z=np.ones((2, 3), np.float32), frozen=frozen[::-1])
    _, read = read_score(through(score_message(asked, "m", z_dtype=z_dtype), form, SCORE_ARRAYS))

    expected = [(one.subspace, "float32", one.z.tolist()) for one in frozen]
    assert expected == [(one.subspace, one.z.dtype.name, one.z.tolist()) for one in read.frozen]


def test_a_query_without_frozen_prompts_says_nothing_of_them() -> None:
    """Its body is what it was before there were any."""
    message = score_message(ScoreQuery("c" * 64, subspace=SUBSPACE, Z=np.zeros((1, 3), np.float32)), "m")

    assert ({"texts", "model", "subspace"}, {"Z"}) == (message.fields.keys(), message.arrays.keys())


def test_the_manual_prompt_needs_neither_subspace_nor_candidates() -> None:
    """A query of texts alone reads back as one without soft prompts."""
    _, read = read_score(through(score_message(ScoreQuery("c" * 64), "m"), TENSORS, SCORE_ARRAYS))

    assert (read.rows, read.top_k, read.subspace, read.Z, read.precise) == (None, None, None, None, False)


@FORMS
def test_a_query_says_that_it_is_precise_and_else_nothing_of_it(form: str) -> None:
    """`precise` is a field of the body where it is set; a body without it is what it was before there was one."""
    plain = ScoreQuery("c" * 64, subspace=SUBSPACE, Z=np.zeros((1, 3), np.float32))
    bodies = [encode_message(score_message(replace(plain, precise=told), "m"), form) for told in (False, True)]
    read = [read_score(decode_message(body, form, SCORE_ARRAYS))[1] for body in bodies]

    assert [query.precise for query in read] == [False, True]
    assert ("precise" in score_message(plain, "m").fields, b"precise" in bodies[0]) == (False, False)
    assert b'"precise":true' in bodies[1]


def test_false_may_be_spelled_out() -> None:
    """A body that says `"precise": false` is one that says nothing."""
    assert read_score(decode_message(changed(precise=False), JSON, SCORE_ARRAYS))[1].precise is False


@FORMS
def test_score_replies_survive_the_wire(form: str) -> None:
    """Logits keep their bits, usage and words their values."""
    sent = ScoreReply(np.array([[[1.5, -2.25]]], np.float32), Usage(7, 2, 1), (((" good", " bad"),),))
    read = read_score_reply(through(score_reply_message(sent), form, SCORE_REPLY_ARRAYS))

    assert (sent.logits.tolist(), sent.usage, sent.words) == (read.logits.tolist(), read.usage, read.words)


@FORMS
def test_features_survive_the_wire(form: str) -> None:
    """Query and reply of the features endpoint come back as sent."""
    query = FeatureQuery("d" * 64, rows=(3,), pool="tokens")
    ones = np.ones(2, np.float32)
    sent = FeatureReply(np.ones((4, 2), np.float32), np.array([1, 3]), ones, ones * 2, Usage(4))
    model, read_query = read_features(through(feature_message(query, "m"), form))
    read = read_feature_reply(through(feature_reply_message(sent), form, FEATURE_REPLY_ARRAYS))

    assert ("m", query.texts, (3,), "tokens") == (model, read_query.texts, read_query.rows, read_query.pool)
    assert ([1, 3], "int64", [2, 2], Usage(4)) == (
        read.lengths.tolist(),
        read.lengths.dtype.name,
        read.layer_std.tolist(),
        read.usage,
    )


def test_a_text_set_keeps_its_digest() -> None:
    """The server names a set exactly as its sender does, lone surrogates and all."""
    message = through(registration_message(TEXTS, SUBSPACE, "m"), JSON)

    assert read_dataset(message) == ("m", TEXTS, SUBSPACE)
    assert TEXTS.digest == read_dataset(message)[1].digest


def test_a_card_survives_the_wire() -> None:
    """Price, limits and capabilities come back equal."""
    card = ModelCard(
        "m",
        8,
        100,
        64,
        "<mask>",
        Capabilities(arrays=True, layers=True, precise=True),
        price=Price(5, 1, 2, 3, "2026-01-01", "here"),
        limits=Limits(1, 2, 3, "Europe/Rome", 4),
        tokenizer_digest="t",
        fingerprint="f",
        embedding_std=0.25,
    )

    assert card == read_card(json.loads(canonical_json(card_fields(card))))


def test_a_card_that_says_nothing_of_precision_claims_nothing() -> None:
    """A server that knows no other precision than float32 need not say so."""
    card = ModelCard("m", 8, 100, 64, "<mask>", Capabilities())
    told = json.loads(canonical_json(card_fields(card)))
    assert told["capabilities"].pop("precise") is False

    assert card == read_card(told)
    with pytest.raises(InvalidQuery, match=r"capabilities\.precise is a boolean, not 1"):
        read_card(told | {"capabilities": told["capabilities"] | {"precise": 1}})


def test_replicas_stay_off_the_wire() -> None:
    """How many servers a client knows is nothing that one of them tells, or could."""
    told = card_fields(ModelCard("m", 8, 100, 64, "<mask>", Capabilities(), replicas=3))

    assert "replicas" not in told
    assert 1 == read_card(json.loads(canonical_json(told | {"replicas": 3}))).replicas


def changed(**fields: object) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | fields).items() if value is not ...}).encode()


def with_z(**fields: object) -> bytes:
    return changed(Z={**GOOD["Z"], **fields})  # type: ignore[dict-item]


def with_subspace(**fields: object) -> bytes:
    return changed(subspace={**SUBSPACE.to_wire(), **fields})


AT_LAYER_1: dict[str, object] = SUBSPACE.to_wire() | {"layers": [1]}
ONE_Z: dict[str, object] = {"dtype": "float32", "shape": [3], "data": "AACAPwAAAEAAAEBA"}


def with_frozen(*subspaces: object, **fields: object) -> bytes:
    return changed(frozen=list(subspaces), frozen_z=ONE_Z | fields)


MALFORMED = {
    "empty": (b"", "not JSON"),
    "not json": (b"{", "not JSON"),
    "not utf-8": (b'"\xff"', "not JSON"),
    "nested": (b"[" * 200_000, "nested too deeply"),
    "a list": (b"[]", "is an object, not"),
    "twice": (b'{"model": "m", "model": "n"}', "'model' twice"),
    "NaN": (b'{"model": NaN}', "NaN is not a JSON number"),
    "huge integer": (b'{"top_k": ' + b"9" * 5000 + b"}", "not JSON"),
    "no model": (changed(model=...), "lacks the field 'model'"),
    "model of a wrong type": (changed(model=1), "the query.model is a string, not 1"),
    "unknown field": (changed(Rows=[1]), "unknown field 'Rows'"),
    "no texts": (changed(texts=...), "lacks the field 'texts'"),
    "texts of a wrong type": (changed(texts=[]), "texts is an object"),
    "empty texts": (changed(texts={"texts": []}), "texts is empty"),
    "text not a list": (changed(texts={"texts": ["x"]}), "texts.texts[0] is a list"),
    "piece unknown": (changed(texts={"texts": [[{"mask": False}]]}), "texts[0][0]: a piece is"),
    "label words empty": (changed(texts={"texts": [[""]], "label_words": {"words": []}}), "every label needs a word"),
    "pieces unknown": (
        changed(texts={"texts": [[""]], "label_words": {"words": ["a"], "pieces": "last"}}),
        "label_words.pieces is one of",
    ),
    "rows empty": (changed(rows=[]), "rows is empty"),
    "rows negative": (changed(rows=[0, -1]), "rows[1] is from 0 to"),
    "rows not whole": (changed(rows=[0.5]), "rows[0] is a whole number"),
    "rows boolean": (changed(rows=[True]), "rows[0] is a whole number"),
    "rows not a list": (changed(rows="0"), "rows is a list"),
    "top_k zero": (changed(top_k=0), "top_k is from 1 to"),
    "top_k text": (changed(top_k="3"), "top_k is a whole number"),
    "precise a number": (changed(precise=1), "the query.precise is a boolean, not 1"),
    "precise a word": (changed(precise="true"), "the query.precise is a boolean, not 'true'"),
    "Z without subspace": (changed(subspace=...), "both subspace and Z"),
    "subspace without Z": (changed(Z=...), "both subspace and Z"),
    "subspace unknown field": (with_subspace(q=1), "subspace has an unknown field 'q'"),
    "subspace d zero": (with_subspace(d=0), "subspace.d is from 1 to"),
    "subspace layout": (with_subspace(layout="mul"), "layout is 'add' or 'cat'"),
    "subspace projection": (with_subspace(projection="x"), "projection is"),
    "subspace identity": (with_subspace(projection="identity"), "d is prompt_tokens * hidden_size"),
    "subspace scale zero": (with_subspace(scale=0), "scale is a positive"),
    "subspace scale huge": (with_subspace(scale=10**400), "too large a number"),
    "subspace seed": (with_subspace(seed="x"), "subspace.seed is a whole number"),
    "subspace layers": (with_subspace(layers=[-1]), "layer"),
    "frozen without its z": (changed(frozen=[AT_LAYER_1]), "with frozen_z"),
    "frozen z without frozen": (changed(frozen_z=GOOD["Z"]), "a list of subspaces"),
    "frozen empty": (with_frozen(), "at least one"),
    "frozen not a subspace": (with_frozen(3), "subspace is an object"),
    "frozen of two axes": (with_frozen(AT_LAYER_1, shape=[1, 3]), "an array of one axis"),
    "frozen of another d": (with_frozen(AT_LAYER_1 | {"d": 2}), "together, 2 numbers, not 3"),
    "frozen too few": (with_frozen(AT_LAYER_1, AT_LAYER_1 | {"layers": [2]}), "together, 6 numbers, not 3"),
    "frozen where it is searched": (with_frozen(AT_LAYER_1 | {"layers": [0]}), "layer 0 has two prompts"),
    "frozen of another length": (with_frozen(AT_LAYER_1 | {"prompt_tokens": 3}), "one prompt_tokens, not 2 and 3"),
    "frozen of another layout": (with_frozen(AT_LAYER_1 | {"layout": "add"}), "one layout, not 'cat' and 'add'"),
    "frozen NaN": (with_frozen(AT_LAYER_1, data="AADAfwAAAEAAAEBA"), "frozen_z: the z frozen at layers (1,) holds NaN"),
    "frozen without a subspace": (
        changed(frozen=[AT_LAYER_1], frozen_z=ONE_Z, subspace=..., Z=...),
        "frozen prompts stand beside candidates",
    ),
    "Z of another d": (with_z(shape=[3, 1]), "d = 3 here"),
    "Z flat": (with_z(shape=[3]), "Z has shape"),
    "Z too short": (with_z(shape=[2, 3]), "has 24 bytes, not 12"),
    "Z shape empty": (with_z(shape=[]), "Z.shape has 1 to 4 sizes"),
    "Z shape zero": (with_z(shape=[0, 3], data=""), "Z.shape has 1 to 4 sizes"),
    "Z shape negative": (with_z(shape=[-1, -3]), "Z.shape has 1 to 4 sizes"),
    "Z shape huge": (with_z(shape=[2**62, 2**62]), "bytes, not 12"),
    "Z dtype": (with_z(dtype="float64"), "Z.dtype is one of"),
    "Z integer": (with_z(dtype="int64", shape=[1, 1], data="AAAAAAAAAAA="), "Z is float32 or float16"),
    "Z not base64": (with_z(data="AAC*"), "not base64"),
    "Z not ascii": (with_z(data="ÄÄÄÄ"), "not base64"),
    "Z with NaN": (with_z(data="AADAfwAAAEAAAEBA"), "NaN or infinity"),
    "Z extra field": (with_z(order="F"), "unknown field 'order'"),
    "Z a list": (changed(Z=[[1, 2, 3]]), "Z is an object"),
}


@pytest.mark.parametrize(("body", "told"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_query_says_what_is_wrong(body: bytes, told: str) -> None:
    """Whatever is wrong with a score query is InvalidQuery with a message that names it."""
    with pytest.raises(InvalidQuery) as caught:
        read_score(decode_message(body, JSON, SCORE_ARRAYS))

    assert told in str(caught.value)


NESTED = {
    "rows": '{"model":"m","texts":"a","rows":%s}',
    "a subspace": '{"model":"m","texts":"a","subspace":%s}',
    "a set": '{"model":"m","texts":%s}',
    "texts": '{"model":"m","texts":{"texts":%s}}',
    "a piece": '{"model":"m","texts":{"texts":[[%s]]}}',
    "a word": '{"model":"m","texts":{"texts":[["a"]],"label_words":{"words":[%s]}}}',
}


@pytest.mark.parametrize("around", NESTED.values(), ids=NESTED.keys())
def test_nesting_of_any_depth_is_refused(around: str) -> None:
    """Also where JSON is just shallow enough to be read, and showing it whole would go too deep."""
    for depth in range(500, 1100):
        body = (around % ("[" * depth + "]" * depth)).encode()
        with pytest.raises(InvalidQuery):
            read_score(decode_message(body, JSON, SCORE_ARRAYS))


def framed(header: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<I", len(header) if length is None else length) + header + payload


BROKEN_FRAMES = {
    "empty": (b"", "4 bytes of length"),
    "short": (b"\x01\x00", "4 bytes of length"),
    "truncated JSON": (framed(b"{}", length=99), "ends at byte 103"),
    "not JSON": (framed(b"{]"), "not JSON"),
    "truncated payload": (
        framed(b'{"Z":{"dtype":"float32","shape":[2]}}', b"1234567"),
        "7 bytes where its arrays take 8",
    ),
    "oversized payload": (framed(b"{}", b"1"), "1 bytes where its arrays take 0"),
    "no shape": (framed(b'{"Z":{"dtype":"float32"}}'), "lacks the field 'shape'"),
    "data in a frame": (framed(b'{"Z":{"dtype":"float32","shape":[1],"data":""}}', b"1234"), "unknown field 'data'"),
}


@pytest.mark.parametrize(("body", "told"), BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_a_broken_frame_says_what_is_wrong(body: bytes, told: str) -> None:
    """Truncated, oversized and mislabelled frames are InvalidQuery."""
    with pytest.raises(InvalidQuery) as caught:
        decode_message(body, TENSORS, SCORE_ARRAYS)

    assert told in str(caught.value)


@given(body=st.binary(max_size=200), form=st.sampled_from([JSON, TENSORS, "text/plain", ""]))
def test_no_bytes_make_decoding_fail_otherwise(body: bytes, form: str) -> None:
    """Random bytes are either a message or InvalidQuery, never another exception."""
    with contextlib.suppress(InvalidQuery):
        decode_message(body, form, SCORE_ARRAYS)


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_flipped_byte_makes_reading_fail_otherwise(place: int, byte: int) -> None:
    """A good frame with one byte changed is read or refused as InvalidQuery."""
    good = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=np.ones((2, 3), np.float32))
    frame = bytearray(encode_message(score_message(good, "m"), TENSORS))
    frame[place % len(frame)] = byte
    with contextlib.suppress(InvalidQuery):
        read_score(decode_message(bytes(frame), TENSORS, SCORE_ARRAYS))


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (read_score_reply, {"usage": {"input_tokens": 1, "cached_tokens": 0, "output_tokens": 0}}),
        (read_registration, {"digest": "x", "token_counts": ["1"]}),
        (read_array, {"model": "m"}),
        (read_card, {"name": "m"}),
    ],
    ids=["reply without logits", "counts that are text", "no array", "half a card"],
)
def test_incomplete_answers_are_refused(read: Any, body: dict[str, object]) -> None:
    """An answer that lacks a part is InvalidQuery too; the client makes a ProtocolError of it."""
    with pytest.raises(InvalidQuery):
        read(body if read is read_card else Message(body, {}))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_error_comes_back_as_its_class(kind: Any) -> None:
    """A refusal's body and status make the client raise the class of the table, with message and hint."""
    error = error_from_answer(kind.status, RefusalError(kind.name, "what was wrong").body(), retry_after_s=3.0)

    assert kind.error is type(error)
    assert f"the server answered {kind.status}: what was wrong ({kind.hint})" == str(error)
    assert getattr(error, "retry_after_s", 3.0) == 3.0


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (InvalidQuery("x"), "invalid_query"),
        (VerbalizerError("x"), "verbalizer_error"),
        (RateLimited("x"), "rate_limited"),
        (AttemptTimeout("x"), "server_fault"),
        (LmaasError("x"), "server_fault"),
    ],
)
def test_an_error_of_the_tree_has_one_kind(error: LmaasError, name: str) -> None:
    """The most special row of the table tells an error; what is not the client's matter is a server fault."""
    assert name == refusal_from(error).kind.name


@pytest.mark.parametrize(
    ("status", "error"),
    [(502, ServerFault), (503, BackendUnavailable), (302, ProtocolError), (418, ProtocolError), (422, InvalidQuery)],
)
@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"error": "x"}', b'{"error": {"type": "not_found", "message": "m"}}']
)
def test_an_answer_of_something_else_is_read_by_its_status(status: int, error: type[LmaasError], body: bytes) -> None:
    """A proxy's page, or a type that does not fit the status, leaves the status to decide."""
    assert error is type(error_from_answer(status, body))
