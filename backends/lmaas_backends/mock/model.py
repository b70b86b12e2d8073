"""The mock's model without its manners: it checks queries, counts tokens and computes answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.mock.checks import check_score, check_subspace, rows_of
from lmaas_backends.mock.landscapes import Landscape, Question
from lmaas_backends.mock.precision import Precision, rounded_to_bfloat16
from lmaas_backends.mock.recent import Recent
from lmaas_backends.mock.states import feature_reply
from lmaas_backends.mock.tokens import Encoded, encode, label_pieces
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply, Usage
from lmaas_sdk.canonical import array_digest, canonical_json
from lmaas_sdk.errors import InvalidQuery, UnknownDataset, Unsupported
from lmaas_sdk.seeding import raw_words
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Job", "SyntheticModel"]

_SETS_KEPT = 256
TOP_PIECES = tuple(
    (word,)
    for word in (
        "great",
        "good",
        "fine",
        "nice",
        "bad",
        "poor",
        "sad",
        "dull",
        "yes",
        "no",
        "maybe",
        "true",
        "false",
        "world",
        "sports",
        "business",
        "science",
        "health",
        "art",
        "music",
        "film",
        "book",
        "game",
        "food",
        "home",
        "city",
        "water",
        "plant",
        "animal",
        "people",
        "school",
        "company",
        "love",
        "hate",
        "new",
        "old",
        "big",
        "small",
        "best",
        "worst",
        "right",
        "wrong",
        "happy",
        "angry",
    )
)
TOP_WORDS = tuple(f" {word}" for (word,) in TOP_PIECES)
Reply = TypeVar("Reply", ScoreReply, FeatureReply)


@dataclass(frozen=True, slots=True)
class Job(Generic[Reply]):
    """A query that was found sound: what it costs, and how to answer it.

    Args:
        body: A digest of all that the query asks.
        usage: The tokens it takes.
        evaluations: Candidates, one on part of the texts counting as that fraction; 0 for features.
        pairs: Candidates times texts.
        compute: Computes the answer.
    """

    body: str
    usage: Usage
    evaluations: Fraction
    pairs: int
    compute: Callable[[], Reply]


class SyntheticModel:
    """A landscape with text sets and arrays.

    Args:
        card: What it says of itself; queries are held to it.
        landscape: Where logits come from.
        vectors: (layers, features, width) float64: where hidden states come from.
        seed, noise: With `noise` above 0, a logit gets that much of a draw from about N(0, 1), a pure function of the
            seed, the idempotency key and the query.
        precision: What logits are rounded to, unless a query is precise and the card claims that it may be.
    """

    def __init__(
        self,
        card: ModelCard,
        landscape: Landscape,
        vectors: NDArray[np.float64],
        *,
        seed: int,
        noise: float,
        precision: Precision = "float32",
    ) -> None:
        self.card = card
        self._landscape, self._seed, self._noise, self._precision = landscape, seed, noise, precision
        self._sets: Recent[str, TextSet] = Recent(_SETS_KEPT)
        self._encoded: Recent[tuple[str, int], Encoded] = Recent(_SETS_KEPT)
        self._sound: Recent[str, bool] = Recent(_SETS_KEPT)
        self._pieces: Recent[str, tuple[tuple[str, ...], ...]] = Recent(_SETS_KEPT)
        self._arrays: dict[str, NDArray[np.float32]] = {}
        self._vectors = vectors

    def register(self, texts: TextSet, subspace: Subspace | None) -> Registration:
        """Takes a text set in and counts its tokens.

        Raises:
            InvalidQuery: A text, a label word or the subspace does not fit this model.
            Unsupported: The model takes no such soft prompt.
        """
        if subspace is not None:
            check_subspace(subspace, self.card)
            self._landscape.check(subspace)
        if texts.label_words is not None:
            label_pieces(texts.label_words)
        encoded = self._encode(texts, subspace)
        self._sets.put(texts.digest, texts)
        return Registration(texts.digest, tuple(encoded.token_counts.tolist()), encoded.shortened)

    def upload(self, array: NDArray[np.float32]) -> str:
        """Takes an array in; returns its digest.

        Raises:
            Unsupported: The card says that arrays are not taken.
            InvalidQuery: It is not a finite two-dimensional array.
        """
        if not self.card.capabilities.arrays:
            raise Unsupported(f"{self.card.name} does not take uploaded arrays")
        if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
            raise InvalidQuery(f"an uploaded array is finite and has two dimensions, not the shape {array.shape}")
        name = array_digest(array)
        self._arrays[name] = np.array(array, dtype=np.float32)
        return name

    def score_job(self, query: ScoreQuery, key: str) -> Job[ScoreReply]:
        """Checks a score query.

        Raises:
            BackendError: As `checks.check_score` says, or the texts are unknown or lack a mask or label words.
        """
        check_score(query, self.card, self._arrays)
        for subspace in query.subspaces:
            self._landscape.check(subspace)
        texts = self._texts(query.texts)
        rows = rows_of(query, texts, self.card)
        self._check_masks(texts, rows)
        labels = self._labels(query, texts)
        encoded = self._encode(texts, query.subspace)
        asked = encoded if query.rows is None else _rows(encoded, rows)
        usage = Usage(input_tokens=query.n_candidates * int(asked.token_counts.sum()))
        body = _score_body(query, texts)
        question = Question(query.Z, query.subspace, texts, rows, asked, labels, self._arrays, query.frozen)
        compute = partial(self._score, query, question, noise=f"{key}/{body}", usage=usage)
        evaluations = query.n_candidates * Fraction(len(rows), len(texts))
        return Job(body, usage, evaluations, query.n_candidates * len(rows), compute)

    def feature_job(self, query: FeatureQuery, _key: str) -> Job[FeatureReply]:
        """Checks a feature query.

        Raises:
            Unsupported: The card says that features are not given.
            BackendError: The texts are unknown, or the rows are none of theirs.
        """
        if not self.card.capabilities.features:
            raise Unsupported(f"{self.card.name} does not answer feature queries")
        if query.pool not in ("first", "tokens"):
            raise InvalidQuery(f"pool is 'first' or 'tokens', not {query.pool!r}")
        texts = self._texts(query.texts)
        rows = rows_of(query, texts, self.card)
        encoded = self._encode(texts, None)
        usage = Usage(input_tokens=int(encoded.token_counts[rows].sum()))
        body = _body({"features": texts.digest, "rows": query.rows, "pool": query.pool})
        return Job(
            body, usage, Fraction(0), len(rows), partial(feature_reply, encoded, rows, self._vectors, pool=query.pool)
        )

    def _score(self, query: ScoreQuery, question: Question, *, noise: str, usage: Usage) -> ScoreReply:
        logits = self._landscape.logits(question)
        if self._noise > 0:
            logits = logits + np.float32(self._noise) * self._draw(noise, logits.shape)
        if self._precision == "bfloat16" and not (query.precise and self.card.capabilities.precise):
            logits = rounded_to_bfloat16(logits)
        if query.top_k is None:
            return ScoreReply(logits, usage)
        order = np.argsort(-logits, axis=-1, kind="stable")[..., : query.top_k]
        words = tuple(tuple(tuple(TOP_WORDS[i] for i in ranks) for ranks in rows) for rows in order.tolist())
        return ScoreReply(np.take_along_axis(logits, order, axis=-1), usage, words)

    def _draw(self, stream: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """About N(0, 1): the centred sum of the four 16-bit parts of a word; its standard deviation is sqrt(4/12)."""
        parts = raw_words(self._seed, f"noise/{stream}", int(np.prod(shape))).astype("<u8").view("<u2").reshape(-1, 4)
        centred = parts.sum(axis=1, dtype=np.int64) / 2.0**16 - 2.0
        draw: NDArray[np.float32] = (centred * np.sqrt(3.0)).astype(np.float32).reshape(shape)
        return draw

    def _check_masks(self, texts: TextSet, rows: NDArray[np.int64]) -> None:
        if self._sound.get(texts.digest):
            return  # all of its texts were looked at before, as they are in every call of a run
        for row in rows:
            masks = sum(piece.kind == "mask" for piece in texts.texts[row])
            if masks != 1:
                raise InvalidQuery(f"text {row} has {masks} masks: a text to score has exactly one")
        if len(np.unique(rows)) == len(texts):
            self._sound.put(texts.digest, True)

    def _texts(self, texts: TextSet | str) -> TextSet:
        if isinstance(texts, TextSet):
            return texts
        known = self._sets.get(texts)
        if known is None:
            raise UnknownDataset(f"no text set {texts} is registered: register it first")
        return known

    def _encode(self, texts: TextSet, subspace: Subspace | None) -> Encoded:
        place = (texts.digest, 0 if subspace is None else subspace.prompt_tokens)
        known = self._encoded.get(place)
        if known is not None:
            return known
        fresh = encode(texts.texts, prompt_tokens=place[1], max_tokens=self.card.max_tokens)
        return self._encoded.put(place, fresh)

    def _labels(self, query: ScoreQuery, texts: TextSet) -> tuple[tuple[str, ...], ...]:
        if query.top_k is not None:
            if query.top_k > len(TOP_WORDS):
                raise InvalidQuery(f"top_k is at most {len(TOP_WORDS)} here, not {query.top_k}")
            return TOP_PIECES
        if texts.label_words is None:
            raise InvalidQuery("the texts have no label words: give them some, or ask for top_k words")
        known = self._pieces.get(texts.digest)
        return self._pieces.put(texts.digest, label_pieces(texts.label_words)) if known is None else known


def _rows(encoded: Encoded, rows: NDArray[np.int64]) -> Encoded:
    words = tuple(encoded.words[row] for row in rows)
    return Encoded(encoded.counts[rows], encoded.norm[rows], encoded.token_counts[rows], words, encoded.shortened)


def _score_body(query: ScoreQuery, texts: TextSet) -> str:
    subspace = None if query.subspace is None else query.subspace.digest
    asked: dict[str, object] = {"score": texts.digest, "rows": query.rows, "top_k": query.top_k, "subspace": subspace}
    if query.precise:
        asked["precise"] = True
    if query.frozen:
        asked["frozen"] = [prompt.subspace.digest for prompt in query.frozen]
    numbers = () if query.Z is None else (query.Z, *(prompt.z for prompt in query.frozen))
    return _body(asked, b"".join(array.astype("<f4").tobytes() for array in numbers))


def _body(asked: dict[str, object], content: bytes = b"") -> str:
    return hashlib.blake2b(canonical_json(asked) + b"\n" + content, digest_size=20).hexdigest()
