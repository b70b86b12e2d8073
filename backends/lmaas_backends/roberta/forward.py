"""The model's forward pass, written out: embeddings, post-norm encoder layers, language-model head.

No position is padding: texts stand one behind another, and attention goes through them in groups of equal length.
Nothing is computed that the answer does not need: the last layer is computed for the masks alone, and the head for the
words asked about. The shapes of a chunk are fixed, so the same bits come out whatever else a call holds.

The residual stream, the norms, the last layer and the head are float32; with fewer bits it is the linear maps and the
attention of the other layers that have them. Shapes: M positions, n texts of T positions, D hidden size, L prompt
vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from lmaas_backends.roberta.flops import ModelShape
from lmaas_backends.roberta.linears import PlainLinear
from lmaas_backends.roberta.weights import Affine, LayerWeights, Weights

__all__ = ["Chunk", "EnteredPrompts", "Forward", "Group", "Trunk"]


@dataclass(frozen=True, slots=True)
class Group:
    """Texts of equal length, one behind another.

    Args:
        start: First position.
        texts: How many.
        length: Positions of each.
    """

    start: int
    texts: int
    length: int

    @property
    def place(self) -> slice:
        """Their positions."""
        return slice(self.start, self.start + self.texts * self.length)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Texts that are computed together, up to where the soft prompts enter.

    Args:
        rows: (n,) where each text stands in the answer.
        candidates: (n,) under which of the chunk's candidates each text stands.
        hidden: (P, D) float32: the embedding output of the texts' own P positions, the prompt's left out.
        qkv: (P, 3 D): the first layer's query, key and value of `hidden`.
        order: (M,) which row of (`hidden`, then the prompts of all candidates) stands at each position; None: the
            rows of `hidden` as they are.
        groups: The texts by length, from position 0 on.
        mask_at: (n,) position of each text's mask; empty where the texts have none.
        base: (L, D) what the prompts are added to; None: they stand alone.
    """

    rows: Tensor
    candidates: Tensor
    hidden: Tensor
    qkv: Tensor
    order: Tensor | None
    groups: tuple[Group, ...]
    mask_at: Tensor
    base: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of what is large in it."""
        return self.hidden.nbytes + self.qkv.nbytes

    @property
    def positions(self) -> int:
        """M."""
        return sum(group.texts * group.length for group in self.groups)


@dataclass(frozen=True, slots=True, eq=False)
class EnteredPrompts:
    """Soft prompts as they stand at a chunk's positions.

    Args:
        hidden: (candidates L, D) the embedding output.
        qkv: (candidates L, 3 D) the first layer's query, key and value of it.
        deeper: What is added to the input of other layers, by the layer: (candidates L, D), or (L, D) for all alike.
    """

    hidden: Tensor
    qkv: Tensor
    deeper: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Trunk:
    """What the layers below `layer` came to: (M, D), without the prompt that enters there."""

    layer: int
    hidden: Tensor

    def spread(self, groups: tuple[Group, ...], copies: int) -> Trunk:
        """That of a chunk of one candidate, for a chunk with room for more of them."""
        if copies == 1:
            return self
        parts = [self.hidden[group.place].repeat(copies, 1) for group in groups]
        return Trunk(self.layer, torch.cat(parts))


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """The computation, over one model's weights.

    Args:
        weights: The model's.
        heads: Attention heads.
        epsilon: Of every layer norm.
        first_position: Row of the position embeddings that the first token gets (RoBERTa: padding index + 1; BERT: 0).
        dtype: Of the inputs of all linear maps but the last layer's.
    """

    weights: Weights
    heads: int
    epsilon: float
    first_position: int
    dtype: torch.dtype = torch.float32

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.weights.positions.device

    @property
    def shape(self) -> ModelShape:
        """The model's sizes."""
        vocabulary, width = self.weights.words.shape
        widened = len(self.weights.last.widen.bias)
        return ModelShape(len(self.weights.layers) + 1, width, widened, self.heads, vocabulary)

    def embed(self, ids: Tensor, places: Tensor) -> Tensor:
        """Embedding output of tokens: word, token type and position, normalised.

        Args:
            ids: (P,).
            places: (P,) index of each token in its text.
        """
        positions = self.weights.positions[self.first_position + places]
        return self._norm(self.weights.words[ids] + self.weights.token_type + positions, self.weights.embedding_norm)

    def embed_words(self, ids: Tensor) -> Tensor:
        """Embedding output without position, of token ids (L,): (L, D)."""
        return self._norm(self.weights.words[ids] + self.weights.token_type, self.weights.embedding_norm)

    def first_qkv(self, hidden: Tensor) -> Tensor:
        """The first layer's query, key and value of (P, D): (P, 3 D)."""
        if not self.weights.layers:
            return _linear(hidden, self.weights.last.qkv)
        return self.weights.layers[0].qkv(hidden.to(self.dtype))

    def enter(self, vectors: Tensor, base: Tensor | None) -> EnteredPrompts:
        """Projects soft prompts, once for all texts: their positions hold the same in every one.

        Args:
            vectors: (candidates, L, D).
            base: (L, D), or None, as in `Chunk`.
        """
        entered = (vectors if base is None else vectors + base).flatten(0, 1)
        return EnteredPrompts(entered, self.first_qkv(entered))

    def states_at_mask(self, chunk: Chunk, prompts: EnteredPrompts | None, trunk: Trunk | None = None) -> Tensor:
        """The last layer's states at the masks (n, D), under the prompts that the chunk has room for.

        Args:
            chunk: The texts.
            prompts: The prompts.
            trunk: What the layers below the first prompt that differs came to, where they were computed already.
        """
        hidden = self.climbed(chunk, prompts, to=len(self.weights.layers), trunk=trunk)
        return self._last_layer(_with_prompts(hidden, chunk, prompts, len(self.weights.layers)), chunk)

    def climbed(self, chunk: Chunk, prompts: EnteredPrompts | None, *, to: int, trunk: Trunk | None = None) -> Tensor:
        """What the layers below layer `to` came to (M, D): its input, but for the prompt that enters there."""
        if trunk is None:
            trunk = Trunk(0, _standing(chunk.hidden, chunk.order, None if prompts is None else prompts.hidden))
        hidden = trunk.hidden
        for index in range(trunk.layer, to):
            layer, hidden = self.weights.layers[index], _with_prompts(hidden, chunk, prompts, index)
            if index == 0:
                qkv = _standing(chunk.qkv, chunk.order, None if prompts is None else prompts.qkv)
            else:
                qkv = layer.qkv(hidden.to(self.dtype))
            hidden = self._layer(layer, hidden, self._attend(qkv, chunk.groups))
        return hidden

    def all_states(self, chunk: Chunk) -> Iterator[Tensor]:
        """The embedding output and every layer's output, each (M, D) float32, without a soft prompt."""
        hidden = chunk.hidden
        yield hidden
        for layer in self.weights.layers:
            hidden = self._layer(layer, hidden, self._attend(layer.qkv(hidden.to(self.dtype)), chunk.groups))
            yield hidden
        last = self.weights.last.made(PlainLinear)
        yield self._layer(last, hidden, self._attend(last.qkv(hidden), chunk.groups))

    def logits(self, states: Tensor, decoder: Affine) -> Tensor:
        """Logits of states (n, D) for the words whose decoder rows are given: (n, words)."""
        head = self.weights.head
        transformed = self._norm(functional.gelu(_linear(states, head.dense)), head.norm)
        return _linear(transformed, decoder)

    def decoder_rows(self, ids: Tensor) -> Affine:
        """The part of the decoder that scores these token ids alone."""
        decoder = self.weights.head.decoder
        return Affine(decoder.weight[ids], decoder.bias[ids])

    def _layer(self, layer: LayerWeights, hidden: Tensor, context: Tensor) -> Tensor:
        """Everything behind the attention: (M, D) float32 from (M, D) and the heads' contexts (M, D)."""
        hidden = self._norm(_sum(layer.attended(context), hidden), layer.attended_norm)
        widened = layer.widen.gelu(hidden.to(context.dtype))
        return self._norm(_sum(layer.narrow(widened), hidden), layer.norm)

    def _attend(self, qkv: Tensor, groups: tuple[Group, ...]) -> Tensor:
        """The heads' contexts (M, D) of queries, keys and values (M, 3 D); no text attends to another."""
        width = qkv.shape[1] // 3
        contexts = qkv.new_empty((len(qkv), width))
        for group in groups:
            parts = qkv[group.place].view(group.texts, group.length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(*parts)
            place = contexts[group.place].view(group.texts, group.length, self.heads, -1)
            place.copy_(attended.transpose(1, 2))
        return contexts

    def _last_layer(self, hidden: Tensor, chunk: Chunk) -> Tensor:
        """The last layer's states at the masks, (n, D).

        With one query a text, keys and values need not be computed: q . (Wk x + bk) is (Wk^T q) . x and a constant
        that the softmax drops, and sum p (Wv x + bv) is Wv (sum p x) + bv.
        """
        last = self.weights.last
        at_mask = hidden[chunk.mask_at]
        query, key, value = (self._by_head(last.qkv, part) for part in range(3))
        queries = torch.matmul(at_mask, query.weight.transpose(1, 2)) + query.bias[:, None]
        asked = torch.matmul(queries / math.sqrt(query.weight.shape[1]), key.weight).transpose(0, 1)
        seen = torch.cat([_look(group, hidden, part) for group, part in _by_group(chunk.groups, asked)])
        contexts = torch.matmul(seen.transpose(0, 1), value.weight.transpose(1, 2)) + value.bias[:, None]
        return self._layer(last.made(PlainLinear), at_mask, contexts.transpose(0, 1).flatten(1))

    def _by_head(self, qkv: Affine, part: int) -> Affine:
        """Query (0), key (1) or value (2): weight (heads, D / heads, D) and bias (heads, D / heads)."""
        width = qkv.weight.shape[1]
        place = slice(part * width, (part + 1) * width)
        return Affine(qkv.weight[place].view(self.heads, -1, width), qkv.bias[place].view(self.heads, -1))

    def _norm(self, hidden: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(hidden, norm.bias.shape, norm.weight, norm.bias, self.epsilon)


def _standing(rows: Tensor, order: Tensor | None, prompts: Tensor | None) -> Tensor:
    """Rows of texts and prompts where they stand: (M, ...)."""
    if order is None or prompts is None:
        return rows
    return torch.cat((rows, prompts)).index_select(0, order)


def _with_prompts(hidden: Tensor, chunk: Chunk, prompts: EnteredPrompts | None, layer: int) -> Tensor:
    """A layer's input (M, D) with the prompts that enter it; the embedding output has its own already."""
    if prompts is None or chunk.order is None or layer not in prompts.deeper:
        return hidden
    vectors, number = prompts.deeper[layer], chunk.order - len(chunk.hidden)
    rows = torch.cat((vectors.new_zeros((1, vectors.shape[1])), vectors))  # the first for all other positions
    return hidden + rows.index_select(0, torch.where(number < 0, 0, number % len(vectors) + 1))


def _by_group(groups: tuple[Group, ...], rows: Tensor) -> Iterator[tuple[Group, Tensor]]:
    """Each group with the rows (one a text) of its texts."""
    return zip(groups, torch.split(rows, [group.texts for group in groups]), strict=True)


def _look(group: Group, hidden: Tensor, asked: Tensor) -> Tensor:
    """What each head sees from the masks of a group: (n, heads, D), sums of states weighted by attention.

    Args:
        group: The texts.
        hidden: (M, D).
        asked: (n, heads, D) whose products with states are the scores.
    """
    states = hidden[group.place].view(group.texts, group.length, -1)
    return torch.softmax(asked @ states.transpose(1, 2), dim=-1) @ states


def _sum(outputs: Tensor, hidden: Tensor) -> Tensor:
    """Residual connection, in float32; `outputs` may be overwritten."""
    return outputs.add_(hidden) if outputs.dtype == hidden.dtype else hidden + outputs


def _linear(hidden: Tensor, affine: Affine) -> Tensor:
    return functional.linear(hidden, affine.weight, affine.bias)
