"""Features through the client: each text is asked for and paid once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_cases import PRICE
from tuning_cases import TASK, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import (
    Budget,
    BudgetExceeded,
    Client,
    FeatureQuery,
    Limits,
    MemoryCache,
    ModelCard,
    RetryPolicy,
    ServerFault,
    Task,
    TextSet,
    Unsupported,
    open_cache,
)
from lmaas_sdk.methods import features
from lmaas_sdk.methods.features import FeatureMemory, FeatureSource, input_texts, rows_at_a_time
from lmaas_sdk.testing import Faults, run_virtual
from lmaas_sdk.texts import MASK, Piece, Text

PAIRS = Task("pairs", template="{S1} ? <mask> , {S2}", labels=["no", "yes"], words=["No", "Yes"])


def texts(*numbers: int) -> tuple[Text, ...]:
    """Texts of 7 tokens each at the mock."""
    return input_texts(TASK, [f"a lovely thing, number {100 + number}"[2:] for number in numbers], template=False)


async def alone(backend: MockBackend, text: Text, pool: Any) -> np.ndarray:
    """What the backend itself says of one text."""
    return (await backend.features(FeatureQuery(TextSet((text,)), pool=pool), key=f"{pool}{text}")).features


def test_the_model_reads_the_fields_alone_or_the_template() -> None:
    """Two fields in the order of the template, with a space between them."""
    items = [("It rains", "It is wet")]
    plain = (Piece("field", "It rains"), Piece("template", " "), Piece("field", "It is wet"))
    assert input_texts(PAIRS, items, template=False) == (plain,)
    assert MASK in input_texts(PAIRS, items, template=True)[0]
    assert input_texts(TASK, ["dull"], template=False) == ((Piece("field", "dull"),),)


@pytest.mark.parametrize("pool", ["first", "tokens"])
async def test_each_text_has_its_own_features_in_order(pool: Any) -> None:
    """However they are cut into calls, and where one is asked for twice."""
    backend = mock(max_texts=3)
    asked = texts(4, 1, 3, 1, 2, 0)
    fetched = await FeatureSource(Client(backend, Budget()), pool).fetch(asked, "features")
    assert backend.book.attempts == 2  # five different texts
    for text, found in zip(asked, fetched.features, strict=True):
        np.testing.assert_array_equal(await alone(mock(), text, pool), found)


async def test_a_text_is_paid_for_once() -> None:
    """Among others too, whatever for; only what is new is billed."""
    backend, budget = mock(price=PRICE), Budget()
    client = Client(backend, budget)
    source = FeatureSource(client, "tokens")
    first = await source.fetch(texts(0, 1), "features")
    more = await source.fetch(texts(1, 2, 0), "test")
    spent = {purpose: amounts.calls for purpose, amounts in client.spend.by_purpose.items()}
    assert spent == {"features": 1, "test": 1}
    assert client.spend.by_purpose["test"].tokens == len(more.features[1])
    assert (budget.posted.tokens, budget.posted.nanousd) == (backend.book.tokens, backend.book.nanousd)
    assert more.features[2].tobytes() == first.features[0].tobytes()


def test_texts_under_way_are_waited_for() -> None:
    """Two who ask at the same time for overlapping texts pay for each one once."""

    async def main() -> None:
        backend = mock(latency_s=1.0)
        source = FeatureSource(Client(backend, Budget()), "first")
        async with asyncio.TaskGroup() as group:
            group.create_task(source.fetch(texts(0, 1), "predict"))
            await asyncio.sleep(0.5)
            other = group.create_task(source.fetch(texts(1, 2), "predict"))
        assert backend.book.tokens == 7 * 3
        np.testing.assert_array_equal(await alone(mock(), texts(1)[0], "first"), other.result().features[0])

    run_virtual(main())


def test_who_waited_for_one_that_failed_asks_itself() -> None:
    """The first one is cancelled; the other has its features all the same."""

    async def main() -> None:
        backend = mock(latency_s=1.0)
        source = FeatureSource(Client(backend, Budget()), "first")
        first = asyncio.create_task(source.fetch(texts(0), "predict"))
        await asyncio.sleep(0.5)
        other = asyncio.create_task(source.fetch(texts(0), "predict"))
        await asyncio.sleep(0.1)
        first.cancel()
        assert len((await other).features) == 1
        assert first.cancelled()

    run_virtual(main())


async def test_a_file_has_them_for_another_process(tmp_path: Path) -> None:
    """By text: in another set, and with other texts to pay for."""
    counted = []
    for asked in (texts(0, 1), texts(1, 0), texts(2, 1)):
        backend = mock()
        async with open_cache(tmp_path / "c.cache") as cache:
            fetched = await FeatureSource(Client(backend, Budget(), cache=cache), "tokens").fetch(asked, "features")
        counted.append(backend.book.tokens)
        np.testing.assert_array_equal(await alone(mock(), asked[0], "tokens"), fetched.features[0])
    assert counted == [14, 0, 7]


async def test_a_shared_cache_and_a_shared_memory_serve_two_sources() -> None:
    """The second asks nobody."""
    cache, memory = MemoryCache(), FeatureMemory()
    for client, shared in ((Client(mock(), Budget(), cache=cache), None), (Client(mock(), Budget()), memory)):
        await FeatureSource(client, "first", shared).fetch(texts(0), "features")
    for client, shared in ((Client(mock(), Budget(), cache=cache), None), (Client(mock(), Budget()), memory)):
        await FeatureSource(client, "first", shared).fetch(texts(0), "features")
        assert client.spend.total.calls == 0


async def test_the_two_pools_and_two_models_are_kept_apart() -> None:
    """The same text under one memory."""
    memory = FeatureMemory()
    for backend, pool in ((mock(), "first"), (mock(), "tokens"), (mock(seed=1), "first")):
        found = await FeatureSource(Client(backend, Budget()), pool, memory).fetch(texts(0), "features")  # type: ignore[arg-type]
        assert backend.book.attempts == 1
        np.testing.assert_array_equal(await alone(backend, texts(0)[0], pool), found.features[0])


async def test_without_a_cache_every_asking_is_paid() -> None:
    """And a text that stands twice in it once."""
    backend = mock()
    source = FeatureSource(Client(backend, Budget(), cache=False), "first")
    for _ in range(2):
        await source.fetch(texts(0, 0), "features")
    assert (backend.book.attempts, backend.book.tokens) == (2, 14)


async def test_what_a_backend_would_not_say_again_is_kept_in_memory_alone(tmp_path: Path) -> None:
    """Of a model that does not repeat itself, one source pays once; a file has nothing for others."""
    counted = []
    for _ in range(2):
        backend = mock(noise=0.1)
        async with open_cache(tmp_path / "c.cache") as cache:
            source = FeatureSource(Client(backend, Budget(), cache=cache), "first")
            for _ in range(2):
                await source.fetch(texts(0), "features")
        counted.append(backend.book.attempts)
    assert counted == [1, 1]


async def test_texts_that_do_not_fit_together_are_not_sent() -> None:
    """However many calls they take."""
    backend = mock(max_texts=2)
    source = FeatureSource(Client(backend, Budget(calls=2)), "first")
    with pytest.raises(BudgetExceeded):
        await source.fetch(texts(*range(5)), "features")
    assert backend.book.attempts == 0
    await source.fetch(texts(*range(4)), "features")
    assert backend.book.attempts == 2


def test_what_was_answered_beside_a_failure_is_kept() -> None:
    """Asked for again, only the call that failed is paid for."""

    async def main() -> None:
        backend = mock(max_texts=1, latency_s=1.0, faults=Faults(script=[None, "server_fault", None]))
        retry = RetryPolicy(attempts=1, patience_s=0)
        source = FeatureSource(Client(backend, Budget(), retry=retry), "first")
        with pytest.raises(ServerFault):
            await source.fetch(texts(0, 1, 2), "features")
        sent = backend.book.attempts
        await source.fetch(texts(0, 1, 2), "features")
        assert (sent, backend.book.attempts) == (3, 4)

    run_virtual(main())


def test_calls_stay_within_a_minutes_tokens() -> None:
    """A larger one would never be let in; a text that is too long by itself is for the quota to refuse."""

    async def main() -> None:
        backend = mock(limits=Limits(tokens_per_minute=15))
        await FeatureSource(Client(backend, Budget()), "first").fetch(texts(*range(5)), "features")
        assert backend.book.attempts == 3

    run_virtual(main())


async def test_an_answer_with_all_vectors_stays_within_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 15 vectors is room for two texts; the first vectors of all are one call."""
    monkeypatch.setattr(features, "_MOST_ANSWER_BYTES", 15 * 64 * 4)
    counted = []
    for pool in ("tokens", "first"):
        backend = mock(hidden_size=64)
        await FeatureSource(Client(backend, Budget()), pool).fetch(texts(*range(6)), "features")  # type: ignore[arg-type]
        counted.append(backend.book.attempts)
    assert counted == [3, 1]


async def test_texts_that_lose_words_are_counted_though_they_are_kept() -> None:
    """Each time they are asked for."""
    source = FeatureSource(Client(mock(max_tokens=6), Budget()), "first")
    long: Sequence[Text] = (*texts(0), (Piece("field", "dull"),))
    assert [(await source.fetch(long, "features")).shortened for _ in range(2)] == [1, 1]


def test_a_model_without_features_is_refused() -> None:
    """By the capability that it lacks."""
    backend = mock()
    backend.card = without_features(backend.card)
    with pytest.raises(Unsupported, match="features: mock gives no hidden states"):
        FeatureSource(Client(backend, Budget()), "first")


def without_features(card: ModelCard) -> ModelCard:
    return replace(card, capabilities=replace(card.capabilities, features=False))


def test_rows_come_in_parts_of_one_size() -> None:
    """Filled up with zeros, and told how many are real."""
    parts = list(rows_at_a_time(np.ones((40, 3), np.float32)))
    assert [(count, part.shape, part.sum()) for count, part in parts] == [(32, (32, 3), 96.0), (8, (32, 3), 24.0)]
