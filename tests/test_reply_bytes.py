"""Replies as bytes and back."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from reply_cases import AWKWARD, arrays_of, content, features, free, scored, with_words

from lmaas_sdk.backend import FeatureReply, ScoreReply, Usage
from lmaas_sdk.traffic.reply_bytes import reply_from_bytes, reply_to_bytes

REPLIES = {
    "score": scored(2.5),
    "awkward": ScoreReply(AWKWARD, Usage()),
    "words": with_words(),
    "features": features(),
    "no texts": ScoreReply(np.zeros((1, 0, 2), np.float32), Usage()),
}


def spelled(head: object, raw: bytes = b"") -> bytes:
    """Bytes with a head of one's own."""
    text = head if isinstance(head, bytes) else json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + raw


def head_of(**changes: Any) -> dict[str, object]:
    """The head of a reply of 1 x 2 x 2 logits, changed."""
    return {"kind": "score", "arrays": [["float32", [1, 2, 2]]], "words": None} | changes


RAW = bytes(16)


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_a_reply_comes_back_bit_for_bit(reply: ScoreReply | FeatureReply) -> None:
    """All but its usage, in arrays that nobody can write to."""
    back = reply_from_bytes(reply_to_bytes(reply))
    assert free(reply) == content(back)
    for array in arrays_of(back):
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        assert array.flags.aligned


@given(some.arrays(np.float32, some.array_shapes(min_dims=3, max_dims=3)), st.text(max_size=5))
def test_any_logits_and_words_come_back(logits: np.ndarray[Any, np.dtype[np.float32]], word: str) -> None:
    """NaN with its own bits included: what is wrong with an answer is not decided here."""
    candidates, texts, ranks = logits.shape
    reply = ScoreReply(logits, Usage(), (((word,) * ranks,) * texts,) * candidates)
    assert free(reply) == content(reply_from_bytes(reply_to_bytes(reply)))


def test_how_an_array_lies_in_memory_does_not_count() -> None:
    """Equal replies have equal bytes."""
    column_first = ScoreReply(np.asfortranarray(AWKWARD), Usage(3))
    big_endian = ScoreReply(AWKWARD.astype(">f4"), Usage())
    expected = reply_to_bytes(ScoreReply(AWKWARD, Usage()))
    assert [expected, expected] == [reply_to_bytes(column_first), reply_to_bytes(big_endian)]


@pytest.mark.parametrize(
    "reply",
    [
        replace(scored(), logits=np.zeros((1, 2, 2))),
        replace(features(), lengths=np.array([3, 2], np.int32)),
        replace(features(), lengths=np.array(["3", 2], object)),
        replace(with_words(), words=(((1, 2), (3, 4)),)),
    ],
    ids=["float64", "int32", "objects", "numbers for words"],
)
def test_other_types_are_refused(reply: ScoreReply | FeatureReply) -> None:
    """What could not come back as it was is not written."""
    with pytest.raises(ValueError, match="a reply has"):
        reply_to_bytes(reply)


def test_the_head_of_the_tests_is_the_one_that_is_written() -> None:
    """So that what is refused below is refused for what was changed."""
    assert reply_to_bytes(scored()) == spelled(head_of(), RAW)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        spelled(b""),
        spelled(b"\xff"),
        spelled(b"[" * 100_000),
        spelled([], RAW),
        spelled(head_of(), RAW[:-1]),
        spelled(head_of(), RAW + b"\0"),
        spelled(head_of(kind="other"), RAW),
        spelled(head_of(kind=[]), RAW),
        spelled(head_of(kind="features"), RAW),
        spelled(head_of(more=1), RAW),
        spelled({"kind": "score", "arrays": [["float32", [1, 2, 2]]]}, RAW),
        spelled(head_of(arrays=None), RAW),
        spelled(head_of(arrays=[]), b""),
        spelled(head_of(arrays=[["float32", [-1, 2, -2]]]), RAW),
        spelled(head_of(arrays=[["float32", [1, 2, 2.0]]]), RAW),
        spelled(head_of(arrays=[["float32", [True, 2, 2]]]), RAW),
        spelled(head_of(arrays=[["float32", [10**30, 2, 2]]]), RAW),
        spelled(head_of(arrays=[["float32", [1, 2, 2]], ["float32", [0]]]), RAW),
        spelled(head_of(arrays=[["int64", [1, 2, 1]], ["x", []]]), RAW),
        spelled(head_of(words=[["ab"]]), RAW),
        spelled(head_of(words=5), RAW),
        spelled(head_of(words=[[[1, 2]]]), RAW),
        spelled(json.dumps(head_of()).encode(), RAW),
        spelled(b'{"arrays":[["float32",[1,2,2]]],"kind":"score","words":null,"words":null}', RAW),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    """A reply is spelled in one way only."""
    with pytest.raises(ValueError, match="not a kept reply"):
        reply_from_bytes(data)


@pytest.mark.parametrize("name", ["score", "words", "features"])
def test_every_part_of_it_is_refused(name: str) -> None:
    """However many bytes are missing at the end."""
    data = reply_to_bytes(REPLIES[name])
    for end in range(len(data)):
        with pytest.raises(ValueError, match="not a kept reply"):
            reply_from_bytes(data[:end])
