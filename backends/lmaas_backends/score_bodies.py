"""Bodies of score requests: the calls of a run differ in their candidates alone, so the rest is spelled once."""

from __future__ import annotations

from collections.abc import Hashable

from lmaas_backends.roberta.protocol import TENSORS, encode_message, frame_head, framed
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_backends.roberta.wire_queries import score_arrays, score_message
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.texts import TextSet

__all__ = ["ScoreBodies"]

_REMEMBERED_BYTES = 1 << 20


class ScoreBodies:
    """Encodes score queries for one model.

    Args:
        model: Its name at the server.
        media_type: The form of the bodies: `protocol.TENSORS` or `protocol.JSON`.
        z_dtype: Of Z on the wire.
    """

    def __init__(self, model: str, media_type: str, z_dtype: str) -> None:
        self._model, self._media_type, self._z_dtype = model, media_type, z_dtype
        self._heads: BoundedStore[Hashable, bytes] = BoundedStore(max_bytes=_REMEMBERED_BYTES)

    def encoded(self, query: ScoreQuery, texts: TextSet | str) -> bytes:
        """The body of a query, with `texts` (the digest of its set, say) in the place of its own."""
        if self._media_type != TENSORS or isinstance(texts, TextSet) or query.subspace is None or query.Z is None:
            message = score_message(query, self._model, z_dtype=self._z_dtype, texts=texts)
            return encode_message(message, self._media_type)
        prompts = tuple(subspace.digest for subspace in query.subspaces)
        alike = (texts, query.rows, query.top_k, prompts, query.Z.shape, query.precise)
        head = self._heads.get(alike)
        if head is None:
            head = frame_head(score_message(query, self._model, z_dtype=self._z_dtype, texts=texts))
            self._heads.put(alike, head, len(head))
        return framed(head, score_arrays(query, self._z_dtype).values())
