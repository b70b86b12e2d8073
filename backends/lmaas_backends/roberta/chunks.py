"""Which texts are computed together: fixed by text set, frame and rows alone, so every candidate meets the same shapes.

Bits are fixed for (set, rows): the other candidates of a call, and earlier calls, never matter. The choice of rows
does: chunks are cut from the chosen rows, so the same text may get other neighbours and other padding when it is asked
for alone, and its logits then differ in the last bits (about 5e-6 on the bundled model).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lmaas_backends.roberta.forward import Chunk, Forward
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_backends.roberta.text_encoder import EncodedText, Frame

__all__ = ["ChunkCache", "chunk_rows"]

_CACHE_BYTES = 512 << 20
# Small enough that a chunk's activations stay in the processor's cache, large enough to keep its matrix unit busy.
_MAX_POSITIONS = 512
_MAX_TEXTS = 16


def chunk_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Splits texts, sorted by length, into runs of at most 16 texts and 512 positions, padding included."""
    runs: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        room = bool(runs) and len(runs[-1]) < _MAX_TEXTS and (len(runs[-1]) + 1) * lengths[index] <= _MAX_POSITIONS
        if room:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


class ChunkCache:
    """Builds chunks and keeps recent ones, since every candidate of a run meets the same.

    Args:
        forward: The model.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._store: BoundedStore[object, Chunk] = BoundedStore(max_bytes=_CACHE_BYTES)

    def chunks(self, key: object, encoded: Sequence[EncodedText], frame: Frame) -> Iterator[Chunk]:
        """The chunks of these texts under a frame; `key` names the set, the rows in their order, and the frame."""
        for number, rows in enumerate(chunk_rows([text.positions for text in encoded])):
            chunk = self._store.get((key, number))
            if chunk is None:
                chunk = self._build(rows, encoded, frame)
                self._store.put((key, number), chunk, chunk.nbytes)
            yield chunk

    def _build(self, rows: list[int], encoded: Sequence[EncodedText], frame: Frame) -> Chunk:
        device = self._forward.weights.words.device
        texts = [encoded[row] for row in rows]
        before = frame.positions_before
        hidden = self._embed(texts, before)
        lengths = torch.tensor([text.positions for text in texts], device=device)
        padded = min(text.positions for text in texts) < hidden.shape[1]
        attends = torch.arange(hidden.shape[1], device=device) < lengths[:, None]
        return Chunk(
            rows=torch.tensor(rows),
            hidden=hidden,
            qkv=self._forward.first_qkv(hidden),
            attends=attends[:, None, None] if padded else None,
            mask_at=torch.tensor([before + index for text in texts for index in text.masks[:1]], device=device),
            lengths=lengths,
            prompt_at=0 if frame.layout == "cat" else 1,
        )

    def _embed(self, texts: Sequence[EncodedText], before: int) -> Tensor:
        """(n, T, D), the first `before` positions zero. Padding repeats id 0: nothing attends to it."""
        words = self._forward.weights.words
        longest = max(len(text.ids) for text in texts)
        ids = torch.tensor([[*text.ids, *[0] * (longest - len(text.ids))] for text in texts], device=words.device)
        hidden = words.new_zeros((len(texts), before + longest, words.shape[1]))
        hidden[:, before:] = self._forward.embed(ids)
        return hidden
