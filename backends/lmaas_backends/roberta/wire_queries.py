"""Queries and replies as messages of the HTTP API, both ways.

Each pair `x_message` / `read_x` is one body of docs/http-api.md. Reading is strict: whatever is malformed raises
`InvalidQuery`, which says what and where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.roberta.protocol import Message
from lmaas_backends.roberta.wire_fields import MOST_COUNT, Fields, shown
from lmaas_sdk.backend import (
    FeatureQuery,
    FeatureReply,
    Pool,
    Registration,
    ScoreQuery,
    ScoreReply,
    Usage,
)
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.finite import all_finite
from lmaas_sdk.texts import LabelWords, Piece, PieceRule, TextSet
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import Subspace

__all__ = [
    "ARRAY_ARRAYS",
    "FEATURE_REPLY_ARRAYS",
    "SCORE_ARRAYS",
    "SCORE_REPLY_ARRAYS",
    "feature_message",
    "feature_reply_message",
    "read_array",
    "read_dataset",
    "read_feature_reply",
    "read_features",
    "read_registration",
    "read_score",
    "read_score_reply",
    "registration_message",
    "score_arrays",
    "score_message",
    "score_reply_message",
]

SCORE_ARRAYS = ("Z", "frozen_z")
SCORE_REPLY_ARRAYS = ("logits",)
FEATURE_REPLY_ARRAYS = ("features", "lengths", "layer_mean", "layer_std")
ARRAY_ARRAYS = ("array",)


def score_message(
    query: ScoreQuery, model: str, *, z_dtype: str = "float32", texts: TextSet | str | None = None
) -> Message:
    """The body of POST /v1/score.

    Args:
        query: What to score.
        model: Its name at the server.
        z_dtype: "float16" halves it and rounds Z.
        texts: What to send in place of the query's texts: the digest of the same, say.
    """
    fields = _selection(texts or query.texts, query.rows) | {"model": model}
    if query.top_k is not None:
        fields["top_k"] = query.top_k
    if query.precise:
        fields["precise"] = True
    if query.subspace is None or query.Z is None:
        return Message(fields, {})
    fields["subspace"] = query.subspace.to_wire()
    if query.frozen:
        fields["frozen"] = [prompt.subspace.to_wire() for prompt in query.frozen]
    return Message(fields, score_arrays(query, z_dtype))


def score_arrays(query: ScoreQuery, z_dtype: str) -> dict[str, NDArray[Any]]:
    """The arrays of a query with soft prompts: Z, and the frozen z one behind another."""
    if query.Z is None:
        return {}
    arrays = {"Z": query.Z.astype(z_dtype, copy=False)}
    if query.frozen:
        arrays["frozen_z"] = np.concatenate([prompt.z for prompt in query.frozen]).astype(z_dtype, copy=False)
    return arrays


def read_score(message: Message) -> tuple[str, ScoreQuery]:
    """Model name and query of a body of POST /v1/score; Z comes back as float32."""
    fields = Fields(message.fields, "the query")
    model, texts, rows = _read_selection(fields)
    top_k, spelled = fields.maybe_whole("top_k", least=1), fields.maybe("subspace", dict)
    precise, frozen = fields.flag("precise"), fields.maybe("frozen", list)
    fields.finish()
    subspace = None if spelled is None else read_subspace(spelled)
    others = {"Z": _as_float32(message, "Z"), "frozen": _read_frozen(frozen, _as_float32(message, "frozen_z"))}
    return model, _built(ScoreQuery, texts, rows, top_k=top_k, subspace=subspace, precise=precise, **others)


def score_reply_message(reply: ScoreReply) -> Message:
    """The answer of POST /v1/score."""
    fields: dict[str, object] = {"usage": _usage(reply.usage)}
    if reply.words is not None:
        fields["words"] = reply.words
    return Message(fields, {"logits": reply.logits})


def read_score_reply(message: Message) -> ScoreReply:
    """What `score_reply_message` wrote; shapes are for the asker to check."""
    fields = Fields(message.fields, "the answer")
    spelled = fields.maybe("words", list)
    words = None if spelled is None else tuple(_read_ranks(texts) for texts in spelled)
    return ScoreReply(_floats(message, "logits", 3), _read_usage(fields), words)


def feature_message(query: FeatureQuery, model: str, *, texts: TextSet | str | None = None) -> Message:
    """The body of POST /v1/features; `texts` as in `score_message`."""
    return Message(_selection(texts or query.texts, query.rows) | {"model": model, "pool": query.pool}, {})


def read_features(message: Message) -> tuple[str, FeatureQuery]:
    """Model name and query of a body of POST /v1/features."""
    fields = Fields(message.fields, "the query")
    model, texts, rows = _read_selection(fields)
    pool = fields.maybe("pool", str)
    fields.finish()
    if pool is None:
        pool = "first"
    if pool not in get_args(Pool):
        raise InvalidQuery(f"pool is one of {', '.join(get_args(Pool))}, not {shown(pool)}")
    return model, _built(FeatureQuery, texts, rows, pool=pool)


def feature_reply_message(reply: FeatureReply) -> Message:
    """The answer of POST /v1/features."""
    return Message({"usage": _usage(reply.usage)}, {name: getattr(reply, name) for name in FEATURE_REPLY_ARRAYS})


def read_feature_reply(message: Message) -> FeatureReply:
    """What `feature_reply_message` wrote; shapes are for the asker to check."""
    return FeatureReply(
        features=_floats(message, "features", 2),
        lengths=_lengths(message),
        layer_mean=_floats(message, "layer_mean", 1),
        layer_std=_floats(message, "layer_std", 1),
        usage=_read_usage(Fields(message.fields, "the answer")),
    )


def registration_message(texts: TextSet, subspace: Subspace | None, model: str) -> Message:
    """The body of POST /v1/datasets."""
    asked = {} if subspace is None else {"subspace": subspace.to_wire()}
    return Message(texts.to_wire() | asked | {"model": model}, {})


def read_dataset(message: Message) -> tuple[str, TextSet, Subspace | None]:
    """Model name, texts and the prompt asked about, of a body of POST /v1/datasets."""
    fields = Fields(message.fields, "the body")
    model, spelled = fields.take("model", str), fields.maybe("subspace", dict)
    return model, read_text_set(fields.rest()), None if spelled is None else read_subspace(spelled)


def read_registration(message: Message) -> Registration:
    """The answer of POST /v1/datasets.

    Raises:
        InvalidQuery: A part is missing, or a text takes no token.
    """
    fields = Fields(message.fields, "the answer")
    counts = fields.wholes("token_counts", least=1)
    return Registration(fields.take("digest", str), counts, fields.maybe_whole("shortened", least=0) or 0)


def read_array(message: Message) -> tuple[str, NDArray[np.float32]]:
    """Model name and array of a body of POST /v1/arrays."""
    fields = Fields(message.fields, "the body")
    model = fields.take("model", str)
    fields.finish()
    return model, _floats(message, "array", 2)


def read_text_set(value: object) -> TextSet:
    """A text set as `TextSet.to_wire` spells it."""
    fields = Fields(value, "texts")
    texts = tuple(
        tuple(_read_piece(piece, f"texts[{i}][{j}]") for j, piece in enumerate(text))
        for i, text in enumerate(fields.list_of("texts", list))
    )
    spelled = fields.maybe("label_words", dict)
    fields.finish()
    if not texts:
        raise InvalidQuery("texts is empty: there is nothing to score")
    return TextSet(texts, None if spelled is None else _read_label_words(spelled))


def read_subspace(value: object) -> Subspace:
    """A subspace as `Subspace.to_wire` spells it."""
    fields = Fields(value, "subspace")
    numbers = {name: fields.whole(name, least=1) for name in ("d", "prompt_tokens", "hidden_size")}
    numbers["seed"] = fields.take("seed", int)
    words = {name: fields.take(name, str) for name in ("layout", "projection")}
    scale, base = fields.take("scale", float), fields.maybe("base", str)
    layers = fields.maybe_wholes("layers", least=0)
    fields.finish()
    layered = {"layers": [0] if layers is None else list(layers)}
    try:
        return Subspace.from_wire({**numbers, **words, **layered, "scale": scale, "base": base})
    except ValueError as error:
        raise InvalidQuery(f"subspace: {error}") from error


def _selection(texts: TextSet | str, rows: tuple[int, ...] | None) -> dict[str, object]:
    named: dict[str, object] = {"texts": texts if isinstance(texts, str) else texts.to_wire()}
    return named if rows is None else named | {"rows": list(rows)}


def _read_selection(fields: Fields) -> tuple[str, TextSet | str, tuple[int, ...] | None]:
    model, texts = fields.take("model", str), fields.take("texts", object)
    rows = fields.maybe_wholes("rows", least=0)
    if rows is not None and not rows:
        raise InvalidQuery("rows is empty: name at least one text, or leave it out for all")
    return model, texts if isinstance(texts, str) else read_text_set(texts), rows


def _read_piece(value: object, where: str) -> Piece:
    try:
        return Piece.from_wire(value)
    except ValueError as error:
        raise InvalidQuery(f"{where}: {error}") from error


def _read_label_words(value: object) -> LabelWords:
    fields = Fields(value, "label_words")
    words, pieces = fields.list_of("words", str), fields.maybe("pieces", str)
    fields.finish()
    if pieces is None:
        pieces = "whole"
    if not words:
        raise InvalidQuery("label_words.words is empty: every label needs a word")
    if pieces not in get_args(PieceRule):
        raise InvalidQuery(f"label_words.pieces is one of {', '.join(get_args(PieceRule))}, not {shown(pieces)}")
    return LabelWords(words, pieces)  # type: ignore[arg-type]


def _built(query: Any, texts: TextSet | str, rows: tuple[int, ...] | None, **others: object) -> Any:
    try:
        return query(texts=texts, rows=rows, **others)
    except ValueError as error:
        raise InvalidQuery(str(error)) from error


def _read_frozen(spelled: list[object] | None, z: NDArray[np.float32] | None) -> tuple[FrozenPrompt, ...]:
    if spelled is None and z is None:
        return ()
    if not spelled or z is None or z.ndim != 1:
        raise InvalidQuery("frozen prompts are a list of subspaces, at least one, with frozen_z, an array of one axis")
    subspaces = [read_subspace(one) for one in spelled]
    needed = sum(subspace.d for subspace in subspaces)
    if len(z) != needed:
        raise InvalidQuery(f"frozen_z holds the d of every frozen subspace together, {needed} numbers, not {len(z)}")
    parts = np.split(z, np.cumsum([subspace.d for subspace in subspaces])[:-1])
    try:
        return tuple(map(FrozenPrompt, subspaces, parts))
    except ValueError as error:
        raise InvalidQuery(f"frozen_z: {error}") from error


def _as_float32(message: Message, name: str) -> NDArray[np.float32] | None:
    array = message.arrays.get(name)
    if array is None:
        return None
    if array.dtype.kind != "f":
        raise InvalidQuery(f"{name} is float32 or float16, not {array.dtype}")
    return array.astype(np.float32)


def _floats(message: Message, name: str, dimensions: int) -> NDArray[np.float32]:
    array = _present(message, name)
    if array.dtype.kind != "f" or array.ndim != dimensions or not all_finite(array):
        raise InvalidQuery(
            f"{name} is a finite array of floats with {dimensions} dimensions; this is {array.dtype} of shape "
            f"{array.shape}"
        )
    return array.astype(np.float32)


def _lengths(message: Message) -> NDArray[np.int64]:
    array = _present(message, "lengths")
    if array.dtype != np.int64 or array.ndim != 1 or array.min() < 1 or array.max() > MOST_COUNT:
        raise InvalidQuery(f"lengths counts tokens as int64, at least 1 a text; this is {array.dtype} {array.shape}")
    return array


def _present(message: Message, name: str) -> NDArray[Any]:
    if name not in message.arrays:
        raise InvalidQuery(f"the message lacks the array {name!r}")
    return message.arrays[name]


def _read_ranks(texts: object) -> tuple[tuple[str, ...], ...]:
    if not isinstance(texts, list) or not all(isinstance(ranks, list) for ranks in texts):
        raise InvalidQuery(f"words are lists by candidate, text and rank, not {shown(texts)}")
    wrong = [word for ranks in texts for word in ranks if not isinstance(word, str)]
    if wrong:
        raise InvalidQuery(f"words are strings, not {shown(wrong[0])}")
    return tuple(tuple(ranks) for ranks in texts)


def _usage(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in ("input_tokens", "cached_tokens", "output_tokens")}


def _read_usage(fields: Fields) -> Usage:
    spelled: Mapping[str, object] = fields.take("usage", dict)
    inner = Fields(spelled, "usage")
    counts = [inner.whole(name, least=0) for name in ("input_tokens", "cached_tokens", "output_tokens")]
    if counts[1] > counts[0]:
        raise InvalidQuery(f"usage counts tokens, not {shown(dict(spelled))}")
    return Usage(*counts)
