"""What a backend is: a card that says what it can do, and three calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.prices import Price, Usage
from lmaas_sdk.finite import all_finite
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.frozen import FrozenPrompt, in_layer_order
from lmaas_sdk.tuning.subspace import Subspace

__all__ = [
    "ArrayStore",
    "Backend",
    "Capabilities",
    "FeatureQuery",
    "FeatureReply",
    "Limits",
    "ModelCard",
    "Pool",
    "Price",
    "Registration",
    "ScoreQuery",
    "ScoreReply",
    "TextRegistry",
    "Usage",
]

Pool = Literal["first", "tokens"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; what it cannot raises `Unsupported`.

    Args:
        layouts: Soft-prompt layouts it takes (`add`, `cat`); empty: no soft prompts at all.
        projections: Projections it builds by name (`uniform`, `normal`, `identity`).
        arrays: It stores uploaded arrays (p0, projections).
        features: It answers feature queries.
        top_k: It answers with the most likely words at the mask.
        idempotent: The same key answers the same bytes and bills once.
        deterministic: The same query has the same logits, bit for bit.
        layers: In layout `add` a prompt may enter layers other than 0, beside frozen ones in others.
        precise: It computes in fewer bits than float32, unless a query is `precise`.
    """

    layouts: tuple[str, ...] = ("add", "cat")
    projections: tuple[str, ...] = ("uniform", "normal")
    arrays: bool = False
    features: bool = False
    top_k: bool = False
    idempotent: bool = False
    deterministic: bool = False
    layers: bool = False
    precise: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Quotas a provider advertises, for each API key and endpoint by itself; None: no limit.

    Args:
        requests_per_minute, tokens_per_minute: In any 60 s.
        requests_per_day: From midnight to midnight of `day_time_zone`, or in any 24 hours.
        day_time_zone: Whose midnight ends a day, such as `Europe/Rome`; None: a day is any 24 hours.
        concurrency: Requests under way at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    day_time_zone: str | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model behind a backend.

    Args:
        name: The model's name at this backend.
        hidden_size: D.
        vocab_size: Tokens in the vocabulary.
        max_tokens: Most positions a text may take, prompt and special tokens included.
        mask: How the mask reads in this model's own tokenizer.
        capabilities: What the backend can do.
        price: None: free.
        max_candidates, max_texts: Most candidates, and most texts, a call may carry.
        limits: The quotas of every endpoint that has none of its own.
        endpoint_limits: The endpoints (`score`, `features`) that have quotas of their own, with these.
        tokenizer_digest: SHA-256 of the tokenizer file; "" where it is not known.
        fingerprint: Names the path that computes (engine version, dtype, kernels, threads, weights): equal
            fingerprints, equal bits.
        embedding_std: Standard deviation of the word embeddings, rounded to 6 digits: the unit of projection `normal`.
        replicas: Servers behind this backend that compute side by side: a matrix of candidates goes out in at least
            so many calls, where it has that many candidates. No server tells it; whoever spreads the calls does.
    """

    name: str
    hidden_size: int
    vocab_size: int
    max_tokens: int
    mask: str
    capabilities: Capabilities
    price: Price | None = None
    max_candidates: int = 64
    max_texts: int = 1024
    limits: Limits = field(default_factory=Limits)
    tokenizer_digest: str = ""
    fingerprint: str = ""
    embedding_std: float = 1.0
    endpoint_limits: tuple[tuple[str, Limits], ...] = ()
    replicas: int = 1

    def limits_of(self, endpoint: str) -> Limits:
        """The quotas of an endpoint (`score`, `features`): its own, or those of all."""
        return dict(self.endpoint_limits).get(endpoint, self.limits)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreQuery:
    """Candidates to score on texts.

    Args:
        texts: The texts with their label words, or the digest of a set the backend has registered.
        rows: Indices of the texts to score, in the order of the answer; None: all.
        top_k: Ask for the k most likely words at the mask instead of label logits.
        subspace, Z: The soft prompts: Z (n_candidates, d) float32 in that subspace; both None: the manual prompt, one
            candidate.
        precise: Compute in float32. A backend that does so anyway, or cannot, ignores it: only where the card claims
            `precise` does it make a difference.
        frozen: Prompts of other layers, the same under every candidate: of the same length, width and layout, no two in
            one layer. They are kept in the order of their layers.
    """

    texts: TextSet | str
    rows: tuple[int, ...] | None = None
    top_k: int | None = None
    subspace: Subspace | None = None
    Z: NDArray[np.float32] | None = None
    precise: bool = False
    frozen: tuple[FrozenPrompt, ...] = ()

    def __post_init__(self) -> None:
        if (self.subspace is None) != (self.Z is None):
            raise ValueError("a query has both subspace and Z, or neither (the manual prompt)")
        if self.subspace is not None and self.Z is not None:
            _check_candidates(self.Z, self.subspace.d)
        if self.frozen and self.subspace is None:
            raise ValueError("frozen prompts stand beside candidates: give one layer's prompt as subspace and Z")
        if self.frozen and self.subspace is not None:
            object.__setattr__(self, "frozen", in_layer_order(self.subspace, self.frozen))
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is at least 1, not {self.top_k}")

    @property
    def n_candidates(self) -> int:
        return 1 if self.Z is None else len(self.Z)

    @property
    def subspaces(self) -> tuple[Subspace, ...]:
        """That of the candidates and those of the frozen prompts; empty: the manual prompt."""
        return () if self.subspace is None else (self.subspace, *(prompt.subspace for prompt in self.frozen))


def _check_candidates(Z: NDArray[np.float32], d: int) -> None:
    if Z.ndim != 2 or Z.shape[1] != d or len(Z) == 0:
        raise ValueError(f"Z has shape (n_candidates, d) with d = {d} here, not {Z.shape}")
    if Z.dtype != np.float32:
        raise ValueError(f"Z is float32, not {Z.dtype}")
    if not all_finite(Z):
        raise ValueError("Z holds NaN or infinity")


@dataclass(frozen=True, slots=True, eq=False)
class ScoreReply:
    """Logits at the mask.

    Args:
        logits: (n_candidates, n_texts, n_labels) float32; with `top_k`, (n_candidates, n_texts, k), largest first.
        usage: Tokens billed.
        words: With `top_k`: the words, as [candidate][text][rank].
    """

    logits: NDArray[np.float32]
    usage: Usage
    words: tuple[tuple[tuple[str, ...], ...], ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureQuery:
    """Texts whose hidden states are wanted, without a soft prompt.

    Args:
        texts, rows: As in `ScoreQuery`; a text needs no mask here.
        pool: `first`: the last layer's vector at the first token; `tokens`: its vectors at every token.
    """

    texts: TextSet | str
    rows: tuple[int, ...] | None = None
    pool: Pool = "first"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureReply:
    """Hidden states.

    Args:
        features: (n_texts, D) float32 for `first`; (sum of lengths, D) for `tokens`, texts one after another.
        lengths: (n_texts,) int64: tokens of each text.
        layer_mean, layer_std: (n_layers + 1,) float32 over all tokens of all texts; index 0 is the embedding output.
        usage: Tokens billed.
    """

    features: NDArray[np.float32]
    lengths: NDArray[np.int64]
    layer_mean: NDArray[np.float32]
    layer_std: NDArray[np.float32]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Registration:
    """What a backend says of a text set when it takes it in.

    Args:
        digest: The set's content digest.
        token_counts: Positions each text takes under the prompt asked about, as they will be billed.
        shortened: How many texts lost words to fit the model.
    """

    digest: str
    token_counts: tuple[int, ...]
    shortened: int = 0


class Backend(Protocol):
    """A language model behind an API.

    `key` is the idempotency key: every attempt of one call carries the same. Errors are those of `lmaas_sdk.errors`.
    Every implementation passes `lmaas_sdk.testing.check_backend`.
    """

    @property
    def card(self) -> ModelCard:
        """What the model is and what this backend can do; the same for as long as the backend is open."""
        ...

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """Scores candidates on texts. Several calls may be under way at once.

        Where the card says `deterministic`, a candidate's logits do not depend on the others in the call. A text that
        is too long is shortened in its `field` pieces; special tokens written inside such a piece are plain words.

        Args:
            query: What to score. Its sizes are within the card's `max_candidates` and `max_texts`.
            key: The call's idempotency key. Where the card says `idempotent`, a key that was answered before has the
                same answer again and is billed once.

        Returns:
            Finite float32 logits, texts in the order of `query.rows`, and what is billed: input tokens are the
            positions computed, summed over texts and candidates, and output tokens are 0. A `precise` query is billed
            like any other.

        Raises:
            Unsupported: The query needs what the card does not claim: a layout, projection, array, layer or `top_k`.
            InvalidQuery: Rows that do not exist, a subspace of another width, more candidates than `max_candidates`,
                a text that has not exactly one mask, a set without label words, a word that cannot stand for its
                label, or a used key with another query.
            UnknownDataset: A digest names no registered set or uploaded array.
            AuthenticationFailed, PaymentRequired: The account was refused; nothing was computed.
            RateLimited: Refused before any work; `retry_after_s` says when to come again, where that is known.
            BackendUnavailable: It provably was not reached, or did not take the call.
            ServerUntrusted: Nothing was sent, and trying again does not help.
            OutcomeUnknown: It may have computed and charged, and no usable answer came back.
            ProtocolError: An answer came that cannot be right.
        """
        ...

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        """Hidden states of texts, without a soft prompt.

        Args:
            query: The texts, and which of their vectors are wanted.
            key: As in `score`.

        Returns:
            Finite float32 features, texts in the order of `query.rows`.

        Raises:
            Unsupported: The card does not claim `features`.
            InvalidQuery: Rows that do not exist, or an unknown pool.
            BackendError: As in `score`.
        """
        ...

    async def aclose(self) -> None:
        """Lets go of connections and memory. Closing again does nothing; nothing else is asked of a closed backend."""
        ...


@runtime_checkable
class TextRegistry(Protocol):
    """A backend that counts tokens exactly, for free, and need not be sent a text set twice."""

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Takes a text set in, so that queries may name it by its digest. Registering it again changes nothing.

        Args:
            texts: The texts, with their label words where they are to be scored.
            subspace: Count the tokens as under soft prompts of this subspace; None: under the manual prompt.

        Returns:
            The set's digest, which is `texts.digest`, and what each text will be billed at for one candidate.

        Raises:
            InvalidQuery: A subspace of another width, or a word that cannot stand for its label.
            BackendError: As in `Backend.score`.
        """
        ...


@runtime_checkable
class ArrayStore(Protocol):
    """A backend that takes arrays (a learned p0, a projection) and names them by `lmaas_sdk.canonical.array_digest`."""

    async def upload(self, array: NDArray[np.float32]) -> str:
        """Takes an array in, so that a subspace may name it. Uploading it again changes nothing.

        Args:
            array: Finite float32: a learned p0 of shape (L, D), or a projection of shape (L * D, d).

        Returns:
            Its digest, which is `array_digest(array)`: a subspace's `base` or `projection`.

        Raises:
            Unsupported: The card does not claim `arrays`.
            InvalidQuery: It is not finite, of another shape or too large.
            BackendError: As in `Backend.score`.
        """
        ...
