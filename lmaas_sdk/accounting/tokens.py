"""How many tokens texts will be billed at, before they are sent: exactly where the tokenizer is known."""

from __future__ import annotations

import asyncio
import weakref

from lmaas_sdk.accounting.openai_vocabularies import is_openai_name, local_encoding
from lmaas_sdk.accounting.served_tokenizers import TokenizerSource, tokenizer_of
from lmaas_sdk.accounting.token_bounds import ByteBound, WrittenOut, upper_bound_counts
from lmaas_sdk.accounting.token_counter import TokenCounter
from lmaas_sdk.accounting.token_counts import TextCounter, TokenCounts
from lmaas_sdk.backend import Backend, ModelCard, Registration, TextRegistry
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = [
    "TextCounter",
    "TokenCounter",
    "TokenCounts",
    "count_tokens",
    "counter_of",
    "registered",
    "upper_bound_counts",
]

# By `id`, for a backend need not be hashable, and equal ones may have different cards. An entry goes with its backend,
# before another object can have its number.
_COUNTERS: dict[int, tuple[weakref.ref[Backend], TextCounter]] = {}


async def count_tokens(backend: Backend, texts: TextSet, subspace: Subspace | None = None) -> TokenCounts:
    """Counts a text set for a backend's model by `counter_of`.

    Args:
        backend: Where the texts would go; nothing but its tokenizer is asked for.
        texts: The texts.
        subspace: Count as under soft prompts of this subspace; None: under the manual prompt.

    Raises:
        InvalidQuery: The model could not take them; the message names the text by its index.
        BackendError: The tokenizer could not be fetched.
    """
    counter = await counter_of(backend)
    return await counter.count(texts.texts, subspace)


async def counter_of(backend: Backend) -> TextCounter:
    """What counts tokens for a backend's model, as exactly as can be without asking its server to.

    The same counter every time, with what it remembers; a new one for a backend that has no weak references
    (`__slots__` without `__weakref__`).

    A backend that hands out its tokenizer (`tokenizer_json()`) and has byte-level BPE: exact. It is fetched once a
    process and tokenizer. An OpenAI model's name: tiktoken's vocabulary, where it is on this machine; nothing is
    downloaded. Anything else, WordPiece included: a bound by bytes; there the server's free registration
    (`TextRegistry`) is what counts exactly.

    Raises:
        BackendError: The tokenizer could not be fetched.
        ProtocolError: It is another one than the card names.
    """
    kept = _COUNTERS.get(id(backend))
    if kept is not None:
        return kept[1]
    return _kept(backend, await _new_counter(backend, backend.card))


def _kept(backend: Backend, counter: TextCounter) -> TextCounter:
    """The backend's counter from now on: this one, unless another was made meanwhile."""
    key = id(backend)
    try:
        reference = weakref.ref(backend, lambda _: _COUNTERS.pop(key, None))
    except TypeError:
        return counter
    return _COUNTERS.setdefault(key, (reference, counter))[1]


async def _new_counter(backend: Backend, card: ModelCard) -> TextCounter:
    if isinstance(backend, TokenizerSource):
        try:
            return TokenCounter(await tokenizer_of(backend, card.tokenizer_digest), card)
        except Unsupported:
            return ByteBound(card)
    encoding = await asyncio.to_thread(local_encoding, card.name) if is_openai_name(card.name) else None
    return ByteBound(card) if encoding is None else WrittenOut(encoding, card)


async def registered(backend: Backend, texts: TextSet, subspace: Subspace | None) -> Registration:
    """What a backend says of a text set, or what is counted for one that does not register any."""
    if isinstance(backend, TextRegistry):
        return await backend.register(texts, subspace)
    counted = await count_tokens(backend, texts, subspace)
    return Registration(texts.digest, counted.counts, counted.shortened)
