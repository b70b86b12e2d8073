"""The model's forward pass, written out: embeddings, post-norm encoder layers, language-model head.

One candidate and one chunk of texts at a time, always in the same shapes, so that the same bits come out whatever else
a call holds. Everything is float32. Shapes: n texts, T positions (padding included), D hidden size, L prompt vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lmaas_backends.roberta.weights import Affine, LayerWeights, Weights

__all__ = ["Chunk", "Forward"]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Texts that are computed together, up to where the soft prompt enters.

    Args:
        rows: Where each text stands in the answer.
        hidden: (n, T, D): the embedding output; zero where `cat` puts its vectors.
        qkv: (n, T, 3 D): the first layer's query, key and value of `hidden`.
        attends: (n, 1, 1, T) bool, False at padding; None: no padding.
        mask_at: (n,) index of the mask position; empty where the texts have none.
        lengths: (n,) positions without padding.
        prompt_at: First position of the soft prompt.
    """

    rows: Tensor
    hidden: Tensor
    qkv: Tensor
    attends: Tensor | None
    mask_at: Tensor
    lengths: Tensor
    prompt_at: int

    @property
    def nbytes(self) -> int:
        """Bytes of what is large in it."""
        return self.hidden.nbytes + self.qkv.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """The computation, over one model's weights.

    Args:
        weights: The model's.
        heads: Attention heads.
        epsilon: Of every layer norm.
        first_position: Row of the position embeddings that the first token gets (RoBERTa: padding index + 1; BERT: 0).
    """

    weights: Weights
    heads: int
    epsilon: float
    first_position: int

    def embed(self, ids: Tensor) -> Tensor:
        """Embedding output of token ids (n, T): word + token type + position, normalised: (n, T, D)."""
        rows = self.weights.positions[self.first_position : self.first_position + ids.shape[1]]
        return self._norm(self.weights.words[ids] + self.weights.token_type + rows, self.weights.embedding_norm)

    def embed_words(self, ids: Tensor) -> Tensor:
        """Embedding output without position, of token ids (L,): (L, D)."""
        return self._norm(self.weights.words[ids] + self.weights.token_type, self.weights.embedding_norm)

    def first_qkv(self, hidden: Tensor) -> Tensor:
        """The first layer's query, key and value of (..., D): (..., 3 D)."""
        return _linear(hidden, self.weights.layers[0].qkv)

    def states_at_mask(self, chunk: Chunk, prompt: Tensor | None) -> Tensor:
        """The last layer's states at the masks (n, D), with `prompt` (L, D) added where the chunk has room for it."""
        hidden, qkv = self._enter(chunk, prompt)
        *below, last = self.weights.layers
        for index, layer in enumerate(below):
            projected = qkv if index == 0 else _linear(hidden, layer.qkv)
            hidden = self._layer(layer, hidden, projected, chunk.attends)
        return self._last_layer(last, hidden, chunk)

    def all_states(self, chunk: Chunk) -> Iterator[Tensor]:
        """The embedding output and every layer's output, each (n, T, D), without a soft prompt."""
        hidden = chunk.hidden
        yield hidden
        for layer in self.weights.layers:
            hidden = self._layer(layer, hidden, _linear(hidden, layer.qkv), chunk.attends)
            yield hidden

    def logits(self, states: Tensor, decoder: Affine) -> Tensor:
        """Logits of states (n, D) for the words whose decoder rows are given: (n, words)."""
        head = self.weights.head
        transformed = self._norm(functional.gelu(_linear(states, head.dense)), head.norm)
        return _linear(transformed, decoder)

    def decoder_rows(self, ids: Tensor) -> Affine:
        """The part of the decoder that scores these token ids alone."""
        decoder = self.weights.head.decoder
        return Affine(decoder.weight[ids], decoder.bias[ids])

    def _enter(self, chunk: Chunk, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
        if prompt is None:
            return chunk.hidden, chunk.qkv
        hidden, qkv = chunk.hidden.clone(), chunk.qkv.clone()
        place = slice(chunk.prompt_at, chunk.prompt_at + len(prompt))
        # The prompt's positions hold the same values in every text of a chunk, so they are projected once.
        entered = chunk.hidden[0, place] + prompt
        hidden[:, place] = entered
        qkv[:, place] = self.first_qkv(entered)
        return hidden, qkv

    def _layer(self, layer: LayerWeights, hidden: Tensor, qkv: Tensor, attends: Tensor | None) -> Tensor:
        query, key, value = (self._split(part) for part in qkv.chunk(3, dim=-1))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=attends)
        return self._after_attention(layer, hidden, attended.transpose(1, 2).reshape(hidden.shape))

    def _last_layer(self, layer: LayerWeights, hidden: Tensor, chunk: Chunk) -> Tensor:
        """As `_layer`, for the mask positions alone: keys and values of all, one query a text."""
        width = hidden.shape[-1]
        at_mask = hidden[torch.arange(len(hidden), device=hidden.device), chunk.mask_at]
        query = functional.linear(at_mask, layer.qkv.weight[:width], layer.qkv.bias[:width])
        keys_values = functional.linear(hidden, layer.qkv.weight[width:], layer.qkv.bias[width:])
        key, value = (self._split(part) for part in keys_values.chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(
            self._split(query[:, None]), key, value, attn_mask=chunk.attends
        )
        return self._after_attention(layer, at_mask, attended.transpose(1, 2).reshape(at_mask.shape))

    def _after_attention(self, layer: LayerWeights, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = self._norm(hidden + _linear(attended, layer.attended), layer.attended_norm)
        widened = functional.gelu(_linear(hidden, layer.widen))
        return self._norm(hidden + _linear(widened, layer.narrow), layer.norm)

    def _split(self, projected: Tensor) -> Tensor:
        """(n, T, D) into (n, heads, T, D / heads)."""
        return projected.view(*projected.shape[:-1], self.heads, -1).transpose(1, 2)

    def _norm(self, hidden: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(hidden, norm.bias.shape, norm.weight, norm.bias, self.epsilon)


def _linear(hidden: Tensor, affine: Affine) -> Tensor:
    return functional.linear(hidden, affine.weight, affine.bias)
