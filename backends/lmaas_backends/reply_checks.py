"""What an answer says, and whether it has the shape that its query asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lmaas_backends.http_answers import Reply
from lmaas_backends.roberta.protocol import Message, decode_message
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ScoreQuery, ScoreReply
from lmaas_sdk.errors import InvalidQuery, ProtocolError
from lmaas_sdk.texts import TextSet

__all__ = ["check_feature_reply", "check_score_reply", "understood"]

_T = TypeVar("_T")


def understood(
    reply: Reply, read: Callable[[Message], _T], arrays: Sequence[str] = (), *, masked: Callable[[str], str]
) -> _T:
    """Reads a 200 answer.

    Args:
        reply: The answer.
        read: Makes a value of its message.
        arrays: Names of its arrays, in the order of the payload.
        masked: Takes secrets out of a text that came from the server.

    Raises:
        ProtocolError: It is not what the API promises.
    """
    try:
        return read(decode_message(reply.body, reply.media_type, arrays))
    except InvalidQuery as error:
        refusal = ProtocolError(masked(f"the server's answer is not what the API promises: {error}"))
    raise refusal  # here, where no unmasked cause hangs on it


def check_score_reply(reply: ScoreReply, query: ScoreQuery, texts: TextSet | None) -> None:
    """Compares logits and words with what was asked; `texts` is the set behind the query's digest, where it is known.

    Raises:
        ProtocolError: A size differs.
    """
    candidates, n_texts, width = reply.logits.shape
    labels = None if texts is None or texts.label_words is None else len(texts.label_words.words)
    asked = (query.n_candidates, _asked_texts(query, texts), query.top_k or labels)
    if any(a is not None and a != b for a, b in zip(asked, (candidates, n_texts, width), strict=True)):
        raise ProtocolError(f"the server answered logits of shape {reply.logits.shape} where {asked} was asked for")
    if (reply.words is None) != (query.top_k is None):
        raise ProtocolError("the server answered words without top_k, or top_k without words")
    if reply.words is not None and not _fits(reply.words, reply.logits.shape):
        raise ProtocolError(f"the server answered words of another shape than its logits, {reply.logits.shape}")


def check_feature_reply(reply: FeatureReply, query: FeatureQuery, *, texts: TextSet | None, hidden_size: int) -> None:
    """Compares features with what was asked.

    Raises:
        ProtocolError: A size differs.
    """
    asked = _asked_texts(query, texts)
    vectors = len(reply.lengths) if query.pool == "first" else int(reply.lengths.sum())
    if asked is not None and len(reply.lengths) != asked:
        raise ProtocolError(f"the server answered lengths of {len(reply.lengths)} texts, not {asked}")
    if reply.features.shape != (vectors, hidden_size):
        raise ProtocolError(
            f"the server answered features of shape {reply.features.shape}, not {(vectors, hidden_size)}"
        )
    if reply.layer_mean.shape != reply.layer_std.shape:
        raise ProtocolError("the server answered layer_mean and layer_std of different shapes")


def _asked_texts(query: ScoreQuery | FeatureQuery, texts: TextSet | None) -> int | None:
    if query.rows is not None:
        return len(query.rows)
    return None if texts is None else len(texts)


def _fits(words: tuple[tuple[tuple[str, ...], ...], ...], shape: tuple[int, ...]) -> bool:
    candidates, n_texts, width = shape
    return (
        len(words) == candidates
        and all(len(texts) == n_texts for texts in words)
        and all(len(ranks) == width for texts in words for ranks in texts)
    )
