"""Which texts are computed together: fixed by text set, frame and rows alone, so every candidate meets the same shapes.

Bits are fixed for (set, rows): the other candidates of a call, and earlier calls, never matter. The choice of rows
does: chunks are cut from the chosen rows, so the same text may get other neighbours when it is asked for alone, and
its logits then differ in the last bits (about 1e-6 on the bundled model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmaas_backends.roberta.device_memory import sent
from lmaas_backends.roberta.forward import Chunk, Forward, Group
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_backends.roberta.text_encoder import FIRST_BASE_TOKEN, EncodedText, Frame

__all__ = ["ChunkCache", "Cut", "most_positions"]

_CACHE_BYTES = 128 << 20
# On a CPU one hidden state of a chunk takes up to 3 MB: so its activations stay near the processor, and there are
# enough rows to keep its arithmetic units busy.
_CPU_HIDDEN_NUMBERS = 768 << 10
_CPU_POSITIONS = (512, 4096)
_ACCELERATOR_POSITIONS = 32_768


def most_positions(device: torch.device, width: int) -> int:
    """Positions that are computed together on a device, by a model of hidden size `width`; a longer text is alone."""
    if device.type != "cpu":
        return _ACCELERATOR_POSITIONS
    least, most = _CPU_POSITIONS
    return max(least, min(most, _CPU_HIDDEN_NUMBERS // width))


@dataclass(frozen=True, slots=True)
class Cut:
    """How chosen texts are cut into chunks.

    Args:
        key: Names the set, the rows in their order, and the frame.
        texts: The texts, encoded under `frame`.
        frame: Of the prompt.
        runs: The texts of each chunk, by index, sorted by length.
    """

    key: object
    texts: tuple[EncodedText, ...]
    frame: Frame
    runs: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, key: object, texts: tuple[EncodedText, ...], frame: Frame, *, most: int) -> Cut:
        """Cuts texts, sorted by length, into as few and as equal runs as `most` positions each allow."""
        lengths = [text.positions for text in texts]
        share = sum(lengths) / -(-sum(lengths) // most)
        runs: list[list[int]] = [[]]
        size = reached = 0
        for index in sorted(range(len(texts)), key=lambda index: lengths[index]):
            if runs[-1] and (size + lengths[index] > most or reached >= share * len(runs)):
                runs.append([])
                size = 0
            runs[-1].append(index)
            size += lengths[index]
            reached += lengths[index]
        return cls(key, texts, frame, tuple(map(tuple, runs)))

    def positions(self, run: int) -> int:
        """Positions of one candidate in a run."""
        return sum(self.texts[index].positions for index in self.runs[run])


class ChunkCache:
    """Builds chunks and keeps recent ones, since every candidate of a run meets the same.

    Args:
        forward: The model.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._store: BoundedStore[object, Chunk] = BoundedStore(max_bytes=_CACHE_BYTES)
        self._bases: BoundedStore[int, Tensor] = BoundedStore(max_bytes=_CACHE_BYTES, max_entries=16)

    def chunk(self, cut: Cut, run: int, copies: int = 1) -> Chunk:
        """A run's chunk, with room for so many candidates."""
        key = (cut.key, run, copies)
        found = self._store.get(key)
        if found is None:
            found = self._build([cut.texts[index] for index in cut.runs[run]], cut.runs[run], cut.frame, copies)
            self._store.put(key, found, found.nbytes)
        return found

    def _build(self, texts: Sequence[EncodedText], rows: Sequence[int], frame: Frame, copies: int) -> Chunk:
        device = self._forward.device
        layout = _Layout.of(texts, frame, copies)
        ids = np.concatenate([_own(np.array(text.ids), frame) for text in texts])
        places = np.concatenate([_own(np.arange(len(text.ids)), frame) for text in texts])
        hidden = self._forward.embed(*(sent(torch.from_numpy(numbers), device) for numbers in (ids, places)))
        return Chunk(
            rows=torch.from_numpy(np.array(rows)[layout.text_of]),
            candidates=torch.from_numpy(layout.candidate_of),
            hidden=hidden,
            qkv=self._forward.first_qkv(hidden),
            order=sent(torch.from_numpy(layout.order), device) if frame.prompt_tokens else None,
            groups=layout.groups,
            mask_at=sent(torch.from_numpy(layout.mask_at), device),
            base=self._base(frame),
        )

    def _base(self, frame: Frame) -> Tensor | None:
        """Embedding output of the tokens that a prompt is added to."""
        if frame.layout != "add":
            return None
        found = self._bases.get(frame.prompt_tokens)
        if found is None:
            places = torch.arange(1, 1 + frame.prompt_tokens, device=self._forward.device)
            found = self._forward.embed(places + (FIRST_BASE_TOKEN - 1), places)
            self._bases.put(frame.prompt_tokens, found, found.nbytes)
        return found


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything stands in a chunk: texts sorted by length, all copies of those of one length together."""

    groups: tuple[Group, ...]
    order: NDArray[np.int64]
    mask_at: NDArray[np.int64]
    text_of: NDArray[np.int64]
    candidate_of: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[EncodedText], frame: Frame, copies: int) -> _Layout:
        own = sum(text.positions - frame.prompt_tokens for text in texts)
        groups: list[Group] = []
        orders, masks, numbers = [], [], []
        start = taken = 0
        for length, members in groupby(range(len(texts)), key=lambda index: texts[index].positions):
            indices = np.array(list(members))
            groups.append(Group(start, copies * len(indices), length))
            orders.append(_standing(len(indices), length, frame, copies=copies, taken=taken, own=own))
            at = np.array([frame.positions_before + mask for index in indices for mask in texts[index].masks[:1]])
            if len(at) == len(indices):  # texts whose states are wanted may have no mask
                cells = np.arange(copies * len(indices)).reshape(copies, -1) * length
                masks.append((start + cells + at).reshape(-1))
            numbers.append((np.tile(indices, copies), np.repeat(np.arange(copies), len(indices))))
            start += copies * len(indices) * length
            taken += len(indices) * (length - frame.prompt_tokens)
        return cls(
            tuple(groups),
            np.concatenate(orders),
            np.concatenate(masks) if masks else np.empty(0, np.int64),
            np.concatenate([text for text, _ in numbers]),
            np.concatenate([candidate for _, candidate in numbers]),
        )


def _standing(texts: int, length: int, frame: Frame, *, copies: int, taken: int, own: int) -> NDArray[np.int64]:
    """The part of `Chunk.order` for texts of one length, whose own positions are rows from `taken` on."""
    tokens, first = frame.prompt_tokens, _first(frame)
    order = np.empty((copies, texts, length), np.int64)
    rows = taken + np.arange(texts * (length - tokens)).reshape(texts, -1)
    order[:, :, :first] = rows[:, :first]
    order[:, :, first + tokens :] = rows[:, first:]
    prompts = own + np.arange(copies * tokens).reshape(copies, 1, tokens)
    order[:, :, first : first + tokens] = prompts
    return order.reshape(-1)


def _first(frame: Frame) -> int:
    """The first position of the prompt: behind the start token in `add`, in front of it in `cat`."""
    return 1 if frame.layout == "add" else 0


def _own(per_token: NDArray[np.int64], frame: Frame) -> NDArray[np.int64]:
    """Without the base tokens of `add`, which stand where the prompt enters."""
    if frame.layout != "add":
        return per_token
    return np.delete(per_token, slice(1, 1 + frame.prompt_tokens))
