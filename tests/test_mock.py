"""The mock's manners: faults, idempotency, latency, prices, and books that agree."""

from __future__ import annotations

import asyncio
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lmaas_backends.mock import MockBackend, open_backend
from lmaas_backends.mock.recent import Recent
from lmaas_sdk.backend import ArrayStore, FeatureQuery, Limits, Price, ScoreQuery, TextRegistry
from lmaas_sdk.errors import (
    AttemptTimeout,
    BackendUnavailable,
    InvalidQuery,
    PaymentRequired,
    RateLimited,
    ServerFault,
    Unsupported,
)
from lmaas_sdk.testing import Fault, Faults, check_backend, run_virtual
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

TEXTS = TextSet(
    tuple((Piece("field", words), Piece("template", " . It was"), MASK) for words in ("a fine film", "dull , dull")),
    LabelWords((" bad", " great")),
)
TOKENS = 9 + 9  # 2 special + 3 words + 3 of the template + 1 mask, and the same for the second text
QUERY = ScoreQuery(TEXTS)
SUBSPACE = Subspace(4, 5, 64)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_it_conforms() -> None:
    """The mock keeps every rule of the conformance suite."""
    await check_backend(MockBackend(), close=True)


async def test_a_rugged_mock_conforms() -> None:
    """So does a rugged one with a price and with latency."""
    price = Price(1000, call_nanousd=5)
    await check_backend(MockBackend(ruggedness=2.0, price=price, latency_s=lambda _query, rng: rng.random() * 1e-4))


@pytest.mark.parametrize("noise", [0.0, 0.5])
async def test_a_mock_of_few_bits_conforms(noise: float) -> None:
    """So does one that rounds its logits unless it is asked not to, with noise too."""
    backend = MockBackend(precision="bfloat16", noise=noise)
    assert backend.card.capabilities.precise
    await check_backend(backend, close=True)


async def test_the_factory_opens_a_context() -> None:
    """`open_backend` takes the same options, and leaving the context closes the backend."""
    async with open_backend("mock", name="m", hidden_size=8) as backend:
        assert (backend.card.name, backend.card.hidden_size) == ("m", 8)
        assert isinstance(backend, TextRegistry)
        assert isinstance(backend, ArrayStore)
    with pytest.raises(BackendUnavailable, match="closed"):
        await backend.score(QUERY, key="k")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is a whole number of at least 1, not 0"),
        ({"effective_dim": 1000}, "effective_dim .* at most 128, not 1000"),
        ({"max_tokens": 10_000}, "max_tokens .* at most 4096"),
        ({"noise": -1.0}, "noise is a finite number"),
        ({"ruggedness": float("nan")}, "ruggedness is a finite number"),
        ({"precision": "float16"}, "precision is one of float32, bfloat16, not 'float16'"),
        ({"latency_s": -0.1}, "latency_s is a finite number"),
        ({"balance_nanousd": -1}, "balance_nanousd is at least 0"),
        ({"limits": Limits(requests_per_minute=0)}, r"limits\.requests_per_minute is at least 1"),
        ({"limits": Limits(day_time_zone="Mars/Olympus")}, "day_time_zone is a zone"),
        ({"opened": datetime(2026, 1, 1)}, "opened has a time zone"),
        ({"noise": 1.0, "capabilities": MockBackend().card.capabilities}, "makes no deterministic backend"),
    ],
    ids=lambda value: None if isinstance(value, str) else "+".join(value),
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    """An option out of range is a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        MockBackend(**options)


async def test_billing_counts_text_and_candidate() -> None:
    """A call bills each text's tokens, prompt included, once for each candidate; the book says the same."""
    backend = MockBackend(price=Price(1_000_000, call_nanousd=7))
    Z = np.zeros((3, 4), dtype=np.float32)
    reply = await backend.score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z), key="a")
    tokens = 3 * (TOKENS + 2 * SUBSPACE.prompt_tokens)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (tokens, 0)
    assert (backend.book.tokens, backend.book.nanousd) == (tokens, tokens + 7)
    assert (backend.book.evaluations, backend.book.candidate_texts) == (3, 6)


async def test_part_of_the_texts_is_part_of_an_evaluation() -> None:
    """A candidate scored on one text of two is half an evaluation in the book."""
    backend = MockBackend()
    await backend.score(ScoreQuery(TEXTS, rows=(1,)), key="a")
    assert backend.book.evaluations == Fraction(1, 2)


async def test_registration_is_free_and_tells_the_prompt() -> None:
    """Registered counts include the prompt asked about and cost nothing."""
    backend = MockBackend()
    plain, prompted = await backend.register(TEXTS), await backend.register(TEXTS, SUBSPACE)
    assert (plain.token_counts, prompted.token_counts) == ((9, 9), (14, 14))
    assert (backend.book.received, backend.book.tokens) == (0, 0)


async def test_a_long_text_loses_its_last_words() -> None:
    """Two texts that differ after the model's length have the same logits; both are counted as shortened."""
    backend = MockBackend(max_tokens=12)
    kept = "one two three four five six"
    texts = TextSet(
        tuple(
            (Piece("field", f"{kept} {tail}"), Piece("template", "was it"), MASK, Piece("template", "?"))
            for tail in ("x y", "z")
        ),
        TEXTS.label_words,
    )
    registered = await backend.register(texts)
    logits = (await backend.score(ScoreQuery(texts), key="k")).logits
    assert (registered.token_counts, registered.shortened) == ((12, 12), 2)
    assert logits[0, 0].tolist() == logits[0, 1].tolist()


async def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    """Template, mask and prompt alone above the model's length are an error that says how many tokens they take."""
    backend = MockBackend(max_tokens=8)
    with pytest.raises(InvalidQuery, match="take 11 tokens and the model 8"):
        await backend.register(TEXTS, SUBSPACE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (LabelWords((" New York", " Rome")), "is 2 tokens"),
        (LabelWords((" New York", " New Delhi"), "first"), "share"),
        (LabelWords((" ", " Rome")), "has no token"),
        (LabelWords(()), "at least one label word"),
    ],
    ids=["several", "shared", "empty", "none"],
)
async def test_unusable_label_words_are_refused(words: LabelWords, message: str) -> None:
    """A label word that cannot stand for its label is refused with the reason."""
    with pytest.raises(InvalidQuery, match=message):
        await MockBackend().score(ScoreQuery(TextSet(TEXTS.texts, words)), key="k")


async def test_a_key_is_answered_twice_and_billed_once() -> None:
    """The same key has the same answer and one bill; another query under it is refused."""
    backend = MockBackend(noise=1.0, price=Price(1000))
    once, again = [await backend.score(QUERY, key="k") for _ in range(2)]
    assert once.logits.tolist() == again.logits.tolist()
    assert (backend.book.calls, backend.book.attempts, backend.book.computed) == (1, 2, 1)
    assert (backend.book.tokens, backend.book.replayed) == (TOKENS, 1)
    with pytest.raises(InvalidQuery, match="was used for another query"):
        await backend.score(ScoreQuery(TEXTS, rows=(0,)), key="k")


async def test_without_idempotency_every_attempt_is_billed() -> None:
    """A backend that does not honour keys computes and bills anew."""
    capabilities = MockBackend().card.capabilities
    backend = MockBackend(capabilities=type(capabilities)(idempotent=False))
    for _ in range(2):
        await backend.score(QUERY, key="k")
    assert (backend.book.computed, backend.book.tokens) == (2, 2 * TOKENS)


async def test_a_balance_is_used_up() -> None:
    """The call that the account cannot pay is PaymentRequired and costs nothing; a replay is still answered."""
    backend = MockBackend(price=Price(0, call_nanousd=60), balance_nanousd=100)
    await backend.score(QUERY, key="a")
    with pytest.raises(PaymentRequired, match="costs 60 nanousd and the account holds 40"):
        await backend.score(QUERY, key="b")
    await backend.score(QUERY, key="a")
    assert (backend.book.nanousd, backend.book.refused) == (60, 1)


@pytest.mark.parametrize(
    ("fault", "error", "book"),
    [
        (Fault("refused"), BackendUnavailable, (0, 0, 1, 0)),
        (Fault("rate_limit"), RateLimited, (0, 0, 0, 1)),
        (Fault("server_fault"), ServerFault, (1, 0, 0, 0)),
        (Fault("server_fault", charged=True), ServerFault, (1, 1, 0, 0)),
        (Fault("timeout"), AttemptTimeout, (1, 1, 0, 0)),
    ],
    ids=["refused", "rate-limit", "server-fault", "charged-fault", "timeout"],
)
async def test_the_book_knows_what_a_fault_cost(fault: Fault, error: type[Exception], book: tuple[int, ...]) -> None:
    """(attempts, computed, refused, limited) say what reached the provider and what it did."""
    backend = MockBackend(faults=Faults(script=[fault]))
    with pytest.raises(error):
        await backend.score(QUERY, key="k")
    found = backend.book
    assert (found.attempts, found.computed, found.refused, found.limited) == book
    assert found.in_flight == 0


async def test_a_client_that_gives_up_has_been_billed() -> None:
    """A call cancelled while the answer is on its way was computed; its retry is free."""
    backend = MockBackend(latency_s=3600.0)
    call = asyncio.create_task(backend.score(QUERY, key="k"))
    for _ in range(3):
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (backend.book.computed, backend.book.in_flight) == (1, 0)


def test_latency_is_drawn_from_the_key() -> None:
    """A latency function sees the query, and its draw is the same whatever else goes on."""

    async def took_s(key: str) -> float:
        backend = MockBackend(latency_s=lambda query, rng: len(query.rows or ()) + rng.random())
        await backend.score(ScoreQuery(TEXTS, rows=(0,)), key=key)
        return now_s()

    first, again, other = [run_virtual(took_s(key)) for key in ("k", "k", "l")]
    assert 1.0 <= first < 2.0
    assert (again == first, other == first) == (True, False)


async def test_what_is_not_claimed_is_unsupported() -> None:
    """A card with fewer capabilities has a backend that refuses the rest by name."""
    capabilities = MockBackend().card.capabilities
    backend = MockBackend(capabilities=type(capabilities)(layouts=("cat",)))
    with pytest.raises(Unsupported, match="layout 'add'"):
        await backend.score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=np.zeros((1, 4), np.float32)), key="a")
    with pytest.raises(Unsupported, match="feature"):
        await backend.features(FeatureQuery(TEXTS), key="b")


def test_what_is_kept_is_bounded() -> None:
    """The store of answers forgets the entry unused for longest, and an entry that was read counts as used."""
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.get("a")
    recent.put("c", 3)
    assert [recent.get(key) for key in "abc"] == [1, None, 3]
