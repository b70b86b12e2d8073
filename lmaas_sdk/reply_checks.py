"""What is wrong with an answer that a backend gave: nothing is learned from one that cannot be right."""

from __future__ import annotations

import numpy as np

from lmaas_sdk.backend import FeatureQuery, FeatureReply, ScoreQuery, ScoreReply, Usage
from lmaas_sdk.calls import n_texts_of
from lmaas_sdk.errors import NotFinite, ProtocolError
from lmaas_sdk.finite import all_finite
from lmaas_sdk.texts import TextSet

__all__ = ["check_reply", "check_usage"]

_FLOAT32 = np.dtype(np.float32)
_NOT_FINITE = "the answer holds NaN or infinite {}: the backend is faulty, nothing was learned from it"


def check_usage(query: ScoreQuery | FeatureQuery, reply: object) -> None:
    """Refuses an answer that does not say, in whole numbers, what it cost.

    Raises:
        ProtocolError: It says what came instead.
    """
    usage: object = getattr(reply, "usage", None)
    expected = FeatureReply if isinstance(query, FeatureQuery) else ScoreReply
    if not isinstance(reply, expected) or not isinstance(usage, Usage):
        raise ProtocolError(f"the answer should be a {expected.__name__} with its Usage, not {reply!r:.80}")
    counts: tuple[object, ...] = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    if not all(map(_is_count, counts)) or usage.cached_tokens > usage.input_tokens:
        raise ProtocolError(f"the answer's usage should count tokens, with no more cached than sent, not {usage}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def check_reply(query: ScoreQuery | FeatureQuery, reply: ScoreReply | FeatureReply) -> None:
    """Refuses an answer of the wrong shape, or with NaN or infinity.

    Raises:
        ProtocolError: It says what was expected and what came.
    """
    if isinstance(query, ScoreQuery) and isinstance(reply, ScoreReply):
        _check_logits(query, reply)
    elif isinstance(query, FeatureQuery) and isinstance(reply, FeatureReply):
        _check_features(query, reply)


def _check_logits(query: ScoreQuery, reply: ScoreReply) -> None:
    logits: object = reply.logits
    if not isinstance(logits, np.ndarray):
        raise ProtocolError(f"the answer should hold an array of logits, not {type(logits).__name__}")
    if reply.logits.ndim != 3 or len(reply.logits) != query.n_candidates or reply.logits.dtype != _FLOAT32:
        raise ProtocolError(
            f"the answer should hold float32 logits of {query.n_candidates} candidates, "
            f"not {reply.logits.dtype} of shape {reply.logits.shape}"
        )
    for axis, expected in ((1, n_texts_of(query)), (2, _n_labels(query))):
        if expected is not None and reply.logits.shape[axis] != expected:
            what = ("texts", "labels")[axis - 1]
            raise ProtocolError(f"the answer should hold logits of {expected} {what}, not {reply.logits.shape[axis]}")
    if not all_finite(reply.logits):
        raise NotFinite(_NOT_FINITE.format("logits"), logits=reply.logits)


def _check_features(query: FeatureQuery, reply: FeatureReply) -> None:
    arrays: tuple[object, ...] = (reply.features, reply.lengths)
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise ProtocolError(f"the answer should hold arrays of features, not {type(arrays[0]).__name__}")
    features, lengths = reply.features, reply.lengths
    texts = n_texts_of(query)
    rows = int(lengths.sum()) if query.pool == "tokens" else len(lengths)
    if features.ndim != 2 or len(features) != rows or (texts is not None and len(lengths) != texts):
        raise ProtocolError(
            f"the answer should hold features of {texts or 'its'} texts, pool {query.pool!r}, "
            f"not of shape {features.shape} with {len(lengths)} lengths"
        )
    if not all_finite(features):
        raise NotFinite(_NOT_FINITE.format("features"))


def _n_labels(query: ScoreQuery) -> int | None:
    if query.top_k is not None:
        return query.top_k
    if isinstance(query.texts, TextSet) and query.texts.label_words is not None:
        return len(query.texts.label_words.words)
    return None
