"""Floating point operations that scoring candidates takes, counted exactly, for every way of computing the same logits.

Counted are matrix products alone, two operations a multiply-add: the encoder's projections, attention's scores and
contexts, and the language-model head. Norms, softmax, activations, embeddings and A z are left out. `WAYS` lists the
ways from the simplest to what the engine does; each saves something more and changes no logit but in its last bits.

Symbols: D hidden size, F intermediate size, H heads, T positions of a text, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "WAYS",
    "ModelShape",
    "Workload",
    "below",
    "engine",
    "features",
    "mask_query",
    "naive",
    "reference",
    "unpadded",
]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that fix a model's operations: `layers` encoder layers, D, F, H and V."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    vocab_size: int

    @property
    def projections(self) -> int:
        """Of one layer at one position: query, key, value and output (4 D^2), and two of the feed-forward (2 D F)."""
        return 2 * (4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size)

    def attention(self, queries: int, keys: int) -> int:
        """Of one layer's scores and contexts, all heads: 2 D each for every query and key."""
        return 4 * self.hidden_size * queries * keys

    def head(self, positions: int, words: int) -> int:
        """Of the language-model head: its transform (D^2), and a row of its decoder for every word."""
        return positions * 2 * self.hidden_size * (self.hidden_size + words)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is scored: every candidate on every text, each text with one mask.

    Args:
        lengths: Positions of each text, prompt and special tokens included; not empty.
        words: Words that are scored at the mask: the label words' tokens, or all V where `top_k` is asked for.
        candidates: Soft prompts; one where there is no prompt.
        prompt_tokens: Positions that the soft prompt enters; 0: none.
    """

    lengths: tuple[int, ...]
    words: int
    candidates: int = 1
    prompt_tokens: int = 0


def naive(shape: ModelShape, work: Workload) -> int:
    """All texts padded to the longest, and the head over the whole vocabulary at every position."""
    padded = _padded(work)
    return work.candidates * (_layers(shape, padded, shape.layers) + shape.head(sum(padded), shape.vocab_size))


def reference(shape: ModelShape, work: Workload) -> int:
    """As `naive`, but the mask's state is gathered before the head: the way of the paper's public code."""
    one = _layers(shape, _padded(work), shape.layers) + shape.head(len(work.lengths), shape.vocab_size)
    return work.candidates * one


def unpadded(shape: ModelShape, work: Workload) -> int:
    """No padding, and of the head only the rows of the words that are scored."""
    one = _layers(shape, work.lengths, shape.layers) + shape.head(len(work.lengths), work.words)
    return work.candidates * one


def mask_query(shape: ModelShape, work: Workload) -> int:
    """As `unpadded`, but the last layer is computed for the mask's query alone."""
    return work.candidates * (_layers(shape, work.lengths, shape.layers - 1) + _answer(shape, work))


def engine(shape: ModelShape, work: Workload) -> int:
    """As `mask_query`, but layer 0 projects only the prompt to Q, K and V, once a candidate.

    Those of the text are the same for every candidate, so they are kept with the data set; making them is not counted.
    A model of one layer has no such projections, since its layer 0 is the one that `mask_query` computes.
    """
    if shape.layers < 2:
        return mask_query(shape, work)
    kept = sum(work.lengths) - work.prompt_tokens
    return mask_query(shape, work) - work.candidates * kept * 6 * shape.hidden_size**2


def below(shape: ModelShape, work: Workload, *, layers: int) -> int:
    """The first `layers` layers for one candidate, as `engine` has them: shared by candidates that differ above."""
    kept = sum(work.lengths) - work.prompt_tokens if layers and shape.layers > 1 else 0
    return _layers(shape, work.lengths, layers) - kept * 6 * shape.hidden_size**2


def features(shape: ModelShape, work: Workload) -> int:
    """Hidden states of every position, by all layers, without a head."""
    return work.candidates * _layers(shape, work.lengths, shape.layers)


WAYS: Mapping[str, Callable[[ModelShape, Workload], int]] = MappingProxyType(
    {
        "naive": naive,
        "reference": reference,
        "unpadded": unpadded,
        "mask query": mask_query,
        "engine": engine,
    }
)
"""Every way of computing, by name; none takes more operations than the one before."""


def _padded(work: Workload) -> tuple[int, ...]:
    return (max(work.lengths),) * len(work.lengths)


def _layers(shape: ModelShape, lengths: tuple[int, ...], layers: int) -> int:
    return layers * sum(length * shape.projections + shape.attention(length, length) for length in lengths)


def _answer(shape: ModelShape, work: Workload) -> int:
    """The last layer for one query a text, and the head.

    No key or value is projected: scores are (Wk^T q) . x and a context is Wv (sum p x), so each of a text's positions
    costs 2 D for a score and 2 D for the context, by every head; and the four D^2 products are done once a text.
    """
    texts = len(work.lengths)
    absorbed = 4 * shape.heads * shape.hidden_size * sum(work.lengths)
    return texts * shape.projections + absorbed + shape.head(texts, work.words)
