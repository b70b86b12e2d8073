"""Cache and coalescing in the client: an answer is paid for once, and counts as an evaluation each time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_cases import COUNTS, NOTHING, PRICE, TEXTS, WORST, call, query

from lmaas_backends.mock import MockBackend
from lmaas_backends.mock.precision import rounded_to_bfloat16
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import FeatureQuery
from lmaas_sdk.calls import Call
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, InvalidQuery
from lmaas_sdk.testing import Faults, run_virtual
from lmaas_sdk.traffic.cache import MemoryCache
from lmaas_sdk.traffic.cache_file import open_cache

FREE = Amounts(evaluations=2)


def mock(**options: Any) -> MockBackend:
    """A priced mock that takes a second to answer."""
    return MockBackend(price=PRICE, latency_s=1.0, **options)


def same(client: Client, key: str) -> Call:
    """The same query, whatever the key."""
    return client.call(query(key="one"), key, purpose="train", token_counts=COUNTS)


async def ends(*calls: Any) -> list[Any]:
    """What each comes to: its answer or its error."""
    tasks = [asyncio.ensure_future(one) for one in calls]
    await asyncio.wait(tasks)
    return [task.exception() or task.result() for task in tasks]


def test_an_answer_from_the_cache_is_an_evaluation_and_costs_nothing() -> None:
    """Calls, tokens and money stay; the reservation made for it is free again; nobody can change what is kept."""

    async def main() -> None:
        backend, budget = mock(), Budget()
        client = Client(backend, budget)
        first = await client.score(same(client, "a"))
        (hold,) = await client.hold([same(client, "b")])
        second = await client.score(same(client, "b"), hold)
        np.testing.assert_array_equal(first.logits, second.logits)
        with pytest.raises(ValueError, match="read-only"):
            second.logits[:] = 0
        assert (backend.book.received, budget.posted, budget.pending) == (1, WORST + FREE, NOTHING)
        assert second.usage.input_tokens == 0
        assert client.spend.total == budget.posted

    run_virtual(main())


@pytest.mark.parametrize("at_once", [False, True])
def test_a_precise_answer_is_no_answer_to_another_query(at_once: bool) -> None:
    """Neither kept nor under way does one stand for the other; each stands for its own kind."""

    async def main() -> None:
        backend = mock(precision="bfloat16")
        client = Client(backend, Budget())
        plain = query(key="one")
        asked = [replace(plain, precise=precise) for precise in (False, True, False, True)]
        calls = [client.call(each, f"k{n}", purpose="train", token_counts=COUNTS) for n, each in enumerate(asked)]
        if at_once:
            replies = await ends(*(client.score(one) for one in calls))
        else:
            replies = [await client.score(one) for one in calls]
        found = [reply.logits.tobytes() for reply in replies]
        exact = (await MockBackend().score(plain, key="k")).logits.tobytes()
        assert found == [rounded_to_bfloat16(replies[1].logits).tobytes(), exact] * 2
        assert backend.book.received == 2

    run_virtual(main())


def test_a_limit_on_evaluations_holds_for_answers_that_are_free() -> None:
    """Two fit, the third does not, and is not answered."""

    async def main() -> None:
        backend = mock()
        client = Client(backend, Budget(evaluations=4))
        for key in ("a", "b"):
            await client.score(same(client, key))
        with pytest.raises(BudgetExceeded, match="allows 4 evaluations"):
            await client.score(same(client, "c"))
        assert backend.book.received == 1

    run_virtual(main())


def test_identical_calls_at_once_are_one_request() -> None:
    """Each is an evaluation, one is paid for, and all have the same bits."""

    async def main() -> None:
        backend, budget = mock(), Budget()
        client = Client(backend, budget)
        replies = await ends(*(client.score(same(client, key)) for key in "abcde"))
        assert len({reply.logits.tobytes() for reply in replies}) == 1
        assert (backend.book.received, budget.posted) == (1, WORST + FREE.times(4))

    run_virtual(main())


def test_who_joins_pays_evaluations_from_its_own_budget() -> None:
    """The first asker's budget pays the call."""

    async def main() -> None:
        backend, ours, theirs = mock(), Budget(), Budget(evaluations=2)
        client = Client(backend, ours)
        other = client.with_budget(theirs)
        await ends(client.score(same(client, "a")), other.score(same(other, "b")))
        assert (ours.posted, theirs.posted) == (WORST, FREE)

    run_virtual(main())


def test_what_ends_the_first_asker_is_no_answer_to_the_others() -> None:
    """Its budget is too small; who joined asks for itself."""

    async def main() -> None:
        backend = mock()
        poor = Client(backend, Budget(tokens=1))
        rich = poor.with_budget(Budget())
        first, second = await ends(poor.score(same(poor, "a")), rich.score(same(rich, "b")))
        assert isinstance(first, BudgetExceeded)
        assert second.logits.shape == (2, 4, 2)
        assert (backend.book.received, rich.budget.posted) == (1, WORST)

    run_virtual(main())


@pytest.mark.parametrize("with_hold", [False, True])
def test_the_first_asker_goes_and_the_others_get_the_answer(with_hold: bool) -> None:
    """Its reservation is posted once, with what the call cost."""

    async def main() -> None:
        backend, budget = mock(), Budget()
        client = Client(backend, budget)
        hold = (await client.hold([same(client, "a")]))[0] if with_hold else None
        first = asyncio.create_task(client.score(same(client, "a"), hold))
        second = asyncio.create_task(client.score(same(client, "b")))
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.result().logits.shape == (2, 4, 2)
        assert (backend.book.received, budget.posted, budget.pending) == (1, WORST + FREE, NOTHING)

    run_virtual(main())


def test_when_all_askers_go_the_call_is_cancelled_and_booked() -> None:
    """It was sent, so it is posted at the worst case, once."""

    async def main() -> None:
        backend, budget = mock(), Budget()
        client = Client(backend, budget)
        tasks = [asyncio.create_task(client.score(same(client, key))) for key in "ab"]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (budget.posted, budget.pending, len(asyncio.all_tasks())) == (WORST, NOTHING, 1)

    run_virtual(main())


def test_where_answers_differ_only_the_very_same_call_is_put_together() -> None:
    """Noise: another key wants a sample of its own, and nothing is kept."""

    async def main() -> None:
        backend = mock(noise=0.1)
        client = Client(backend, Budget())
        a, b, again = await ends(*(client.score(same(client, key)) for key in "aba"))
        assert a.logits.tobytes() == again.logits.tobytes() != b.logits.tobytes()
        assert backend.book.received == 2
        await client.score(same(client, "c"))
        assert backend.book.received == 3

    run_virtual(main())


def test_the_switch_sends_every_call() -> None:
    """cache=False: neither kept nor put together."""

    async def main() -> None:
        backend = mock()
        client = Client(backend, Budget(), cache=False)
        await ends(*(client.score(same(client, key)) for key in "ab"))
        await client.score(same(client, "c"))
        assert backend.book.received == 3

    run_virtual(main())


def test_an_error_is_the_answer_to_all_and_is_not_kept() -> None:
    """The next asker tries again."""

    async def main() -> None:
        backend = mock(faults=Faults(script=["server_fault"] * 5))
        client = Client(backend, Budget())
        first, second = await ends(client.score(same(client, "a")), client.score(same(client, "b")))
        assert first is second
        assert isinstance(first, Exception)
        assert (await client.score(same(client, "c"))).logits.shape == (2, 4, 2)

    run_virtual(main())


def test_features_are_kept_too() -> None:
    """By pool and rows; what is no evaluation costs nothing at all from the cache."""

    async def main() -> None:
        backend, budget = mock(), Budget()
        client = Client(backend, budget)
        for pool, key in (("first", "a"), ("first", "b"), ("tokens", "c")):
            asked = client.call(
                FeatureQuery(TEXTS, pool=pool),  # type: ignore[arg-type]
                key,
                purpose="features",
                token_counts=COUNTS,
            )
            reply = await client.features(asked)
            assert len(reply.lengths) == 4
        assert (backend.book.received, budget.posted.calls, budget.posted.evaluations) == (2, 2, 0)
        with pytest.raises(TypeError, match="send it by `features`"):
            await client.score(asked)

    run_virtual(main())


async def test_a_memory_may_be_shared_by_clients_although_it_is_empty_at_first() -> None:
    """The second asks nobody."""
    cache, counted = MemoryCache(), []
    for _ in range(2):
        backend = MockBackend(price=PRICE)
        client = Client(backend, Budget(), cache=cache)
        await client.score(same(client, "a"))
        counted.append(backend.book.received)
    assert counted == [1, 0]


async def test_a_file_keeps_answers_only_of_engines_that_have_a_name(tmp_path: Path) -> None:
    """Another process could not tell whether they are those of its own engine."""
    counted = []
    for fingerprint in ("engine/1", ""):
        async with open_cache(tmp_path / "c.cache") as cache:
            for _ in range(2):
                backend = MockBackend(price=PRICE)
                backend.card = replace(backend.card, fingerprint=fingerprint)
                client = Client(backend, Budget(), cache=cache)
                await client.score(same(client, "a"))
                counted.append(backend.book.received)
    assert counted == [1, 0, 1, 1]


async def test_a_query_of_the_wrong_width_is_refused_as_ever() -> None:
    """The layers in front hide no error of the backend."""
    client = Client(MockBackend(hidden_size=32), Budget())
    with pytest.raises(InvalidQuery):
        await client.score(call(client))
