"""From z to the vectors that enter the model: A z + p0 (Sun et al. 2022, section 3.2)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmaas_backends.roberta.device_memory import sent
from lmaas_backends.roberta.forward import Forward
from lmaas_backends.roberta.memory import kept_apart
from lmaas_backends.roberta.stores import MOST_ARRAY_BYTES, BoundedStore
from lmaas_backends.roberta.vocabulary import Vocabulary
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.errors import InvalidQuery, UnknownDataset
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, SEEDED_PROJECTIONS, Subspace

__all__ = ["SoftPrompts", "base_token_ids"]

_STORE_BYTES = 2 << 30
_FROZEN_BYTES = 64 << 20
_MOST_DRAWN = 64
_LARGEST = float(np.finfo(np.float32).max)


class SoftPrompts:
    """Builds soft prompts, and keeps the projections and uploaded arrays that they need.

    Args:
        forward: The model, for the embeddings behind `cat`'s p0.
        vocabulary: The model's.
    """

    def __init__(self, forward: Forward, vocabulary: Vocabulary) -> None:
        self._forward, self._vocabulary = forward, vocabulary
        self._device = forward.device
        self._arrays: BoundedStore[str, NDArray[np.float32]] = BoundedStore(max_bytes=_STORE_BYTES)
        self._projections: BoundedStore[object, Tensor] = BoundedStore(max_bytes=_STORE_BYTES)
        self._frozen: BoundedStore[object, Tensor] = BoundedStore(max_bytes=_FROZEN_BYTES)
        self._drawn: BoundedStore[object, Tensor] = BoundedStore(max_bytes=_STORE_BYTES, max_entries=_MOST_DRAWN)

    def upload(self, array: NDArray[np.float32]) -> str:
        """Keeps an array under its digest, until newer ones need the room.

        Raises:
            InvalidQuery: It is not float32, has no two axes, is too large, or holds NaN or infinity.
        """
        if array.dtype != np.float32 or array.ndim != 2 or array.size == 0:
            raise InvalidQuery(f"an uploaded array is float32 with two axes, not {array.dtype} of shape {array.shape}")
        if array.nbytes > MOST_ARRAY_BYTES:
            raise InvalidQuery(f"an uploaded array has at most {MOST_ARRAY_BYTES} bytes, not {array.nbytes}")
        if not np.isfinite(array).all():
            raise InvalidQuery("the uploaded array holds NaN or infinity: check what made it")
        name = array_digest(array)
        if self._arrays.get(name) is None:
            self._arrays.put(name, np.array(array, order="C"), array.nbytes)
        return name

    def check(self, subspace: Subspace) -> None:
        """Refuses a subspace whose prompts cannot be built, before anything is computed.

        Raises:
            InvalidQuery: An array has the wrong shape, the projection is too large, or the scale is no finite float32.
            UnknownDataset: A digest names no array that is held.
        """
        rows, d = subspace.shape
        if subspace.projection != "identity" and rows * d * 4 > MOST_ARRAY_BYTES:
            raise InvalidQuery(
                f"a projection of {rows} x {d} takes {rows * d * 4} bytes, above {MOST_ARRAY_BYTES}: "
                "lower d or prompt_tokens"
            )
        if subspace.scale > _LARGEST:
            raise InvalidQuery(f"scale = {subspace.scale:g} is above {_LARGEST:g}, the largest float32: lower it")
        if subspace.projection not in NAMED_PROJECTIONS:
            self._array(subspace.projection, subspace.shape, "projection")
        if subspace.base is not None:
            self._array(subspace.base, (subspace.prompt_tokens, subspace.hidden_size), "base")

    def vectors(self, subspace: Subspace, z: NDArray[np.float32]) -> Tensor:
        """What enters at the prompt's positions for one z (d,): (L, D).

        In `add` it is added to the base tokens' embedding output (so p0 is implicit, and a learned one comes on top);
        in `cat` it stands alone. One matrix-vector product of fixed shape, so the other candidates do not matter; of
        projection `identity` z itself, scaled.

        Raises:
            InvalidQuery: The projection's entries overflow float32.
        """
        sent_z = sent(torch.tensor(z), self._device)
        if subspace.projection == "identity":
            projected = sent_z * subspace.scale
        else:
            projected = torch.mv(self._projection(subspace), sent_z)
        prompt = projected.reshape(subspace.prompt_tokens, subspace.hidden_size)
        base = self._base(subspace)
        return prompt if base is None else prompt + base

    def frozen(self, prompt: FrozenPrompt) -> Tensor:
        """As `vectors`; kept, since call after call brings it, and its projection may have made room for others."""
        key = (prompt.subspace.digest, prompt.z.tobytes())
        found = self._frozen.get(key)
        if found is None:
            found = self.vectors(prompt.subspace, prompt.z)
            self._frozen.put(key, found, found.nbytes)
        return found

    def _projection(self, subspace: Subspace) -> Tensor:
        key = (subspace.projection, subspace.scale, subspace.seed, subspace.shape)
        found = self._projections.get(key)
        if found is not None:
            return found
        with kept_apart():
            # In torch's own memory: its alignment is fixed, and the order of a BLAS's sums may depend on that.
            matrix = torch.empty(subspace.shape)
            self._fill(matrix.numpy(), subspace)
            return self._projections.put(key, matrix.to(self._device), matrix.nbytes)

    def _fill(self, matrix: NDArray[np.float32], subspace: Subspace) -> None:
        """Writes A into (L D, d)."""
        with np.errstate(over="ignore"):  # an overflow is refused below, in words
            if subspace.projection in SEEDED_PROJECTIONS:
                subspace.matrix(matrix)
            else:
                array = self._array(subspace.projection, subspace.shape, "projection")
                np.multiply(array, np.float32(subspace.scale), out=matrix)
        if not np.isfinite(matrix).all():
            raise InvalidQuery(
                f"the projection {subspace.projection} overflows float32 at scale = {subspace.scale:g}: lower the scale"
            )

    def _base(self, subspace: Subspace) -> Tensor | None:
        if subspace.base is not None:
            shape = (subspace.prompt_tokens, subspace.hidden_size)
            return sent(torch.from_numpy(self._array(subspace.base, shape, "base")), self._device)
        if subspace.layout == "add":
            return None
        key = (subspace.seed, subspace.prompt_tokens)
        found = self._drawn.get(key)
        if found is None:
            ids = torch.tensor(base_token_ids(self._vocabulary, subspace))
            found = self._forward.embed_words(sent(ids, self._device))
            self._drawn.put(key, found, found.nbytes)
        return found

    def _array(self, name: str, shape: tuple[int, int], role: str) -> NDArray[np.float32]:
        array = self._arrays.get(name)
        if array is None:
            raise UnknownDataset(f"no array {name} is held here for the {role}: upload it (again) first")
        if array.shape != shape:
            raise InvalidQuery(f"the {role} of this subspace has shape {shape}, but array {name} has {array.shape}")
        return array


def base_token_ids(vocabulary: Vocabulary, subspace: Subspace) -> list[int]:
    """The tokens behind p0 in `cat`: L draws, with replacement, by the subspace's seed.

    They come from the ids below half the vocabulary, where a tokenizer's frequent tokens stand, special tokens left
    out; a 64-bit word w picks number floor(w * count / 2^64) of those.
    """
    choices = [index for index in range(vocabulary.size // 2) if index not in vocabulary.special_ids]
    words = raw_words(subspace.seed, "p0/cat/1", subspace.prompt_tokens)
    return [choices[(int(word) * len(choices)) >> 64] for word in words]
