"""Several servers of one service: who gets a call, who rests, and what is billed when one is killed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from client_cases import SUBSPACE, TEXTS, call, points, text_set

from lmaas_backends.mock import MockBackend
from lmaas_backends.replica import Rests
from lmaas_backends.replicas import ReplicatedBackend
from lmaas_sdk import Budget
from lmaas_sdk.backend import FeatureQuery, ModelCard, ScoreQuery, ScoreReply
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.client import Client
from lmaas_sdk.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    InvalidQuery,
    LmaasError,
    OutcomeUnknown,
    RateLimited,
    ServerFault,
)
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.texts import TextSet
from lmaas_sdk.traffic.retry import RetryPolicy

MANUAL = ScoreQuery(TEXTS)
REFUSED, LOST = BackendUnavailable("refused"), OutcomeUnknown("lost")


class Server(MockBackend):
    """A mock with the further manners of a server at a URL, that fails when it is told to."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(latency_s=options.pop("latency_s", 1.0), **options)
        self.url, self.account = f"http://{name}", f"account at {name}"
        self.bytes_up, self.bytes_down = 3, 5
        self.error: LmaasError | None = None
        self.now: ModelCard = self.card  # the card it would tell now
        self.asked: list[str] = []
        self.said: list[str] = []

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        self.asked.append(key)
        reply = await super().score(query, key=key)
        self._fail()
        return reply

    async def register(self, texts: TextSet, *more: Any) -> Any:
        self.said.append("register")
        self._fail()
        return await super().register(texts, *more)

    async def upload(self, array: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        self.said.append("upload")
        self._fail()
        return await super().upload(array)

    async def tokenizer_json(self) -> bytes:
        self._fail()
        return self.url.encode()

    async def current_card(self) -> ModelCard:
        self.said.append("card")
        self._fail()
        return self.now

    def masked(self, text: str) -> str:
        return text

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class Service:
    """Two servers and the backend around them."""

    a: Server = field(default_factory=lambda: Server("a"))
    b: Server = field(default_factory=lambda: Server("b"))
    rests: Rests = field(default_factory=Rests)

    def __post_init__(self) -> None:
        self.backend = ReplicatedBackend([self.a, self.b], rests=self.rests)  # type: ignore[list-item]

    async def score(self, key: str, query: ScoreQuery = MANUAL) -> str:
        """A call; the name of the error it ends with, or "answered"."""
        try:
            await self.backend.score(query, key=key)
        except LmaasError as error:
            return type(error).__name__
        return "answered"

    @property
    def asked(self) -> tuple[str, str]:
        """The keys that each was asked under."""
        return " ".join(self.a.asked), " ".join(self.b.asked)


def prompts(count: int) -> ScoreQuery:
    """Candidates on the four texts."""
    return ScoreQuery(TEXTS, subspace=SUBSPACE, Z=points(count))


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that runs on a clock that jumps."""

    def run() -> None:
        run_virtual(test())

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


# -- who gets a call


@in_virtual_time
async def test_a_call_goes_where_the_fewest_tokens_are_under_way() -> None:
    """Of equals the first in order; a server with a large call gets the next one when the other has as much to do."""
    service = Service()
    await service.backend.register(TEXTS, SUBSPACE)
    async with asyncio.TaskGroup() as tasks:
        for key, candidates in (("four", 4), ("one", 1), ("two", 2), ("three", 3), ("five", 5)):
            tasks.create_task(service.score(key, prompts(candidates)))
            await asyncio.sleep(0)
    await service.score("after")

    assert ("four five after", "one two three") == service.asked


@in_virtual_time
async def test_rows_weigh_what_was_counted_and_unknown_texts_one_each() -> None:
    """A long text outweighs two short ones once they are counted; uncounted, each text of a candidate is one."""
    texts = text_set("word " * 30, "a", "b")
    for counted, expected in ((True, ("long", "short next")), (False, ("long next", "short"))):
        service = Service()
        if counted:
            await service.backend.register(texts)
        async with asyncio.TaskGroup() as tasks:
            for key, rows in (("long", (0,)), ("short", (1, 2)), ("next", (1,))):
                tasks.create_task(service.score(key, ScoreQuery(texts, rows=rows)))
                await asyncio.sleep(0)
        assert expected == service.asked


@in_virtual_time
async def test_features_are_spread_too_and_whatever_is_known_is_given() -> None:
    """Card, account and bytes are those of both; tokenizer and features come from one."""
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        for key in ("1", "2"):
            tasks.create_task(service.backend.features(FeatureQuery(TEXTS), key=key))
    turned = ReplicatedBackend([service.b, service.a])  # type: ignore[list-item]

    assert (1, 1) == (service.a.book.attempts, service.b.book.attempts)
    assert replace(service.a.card, replicas=2) == service.backend.card
    assert (6, 10) == (service.backend.bytes_up, service.backend.bytes_down)
    assert b"http://a" == await service.backend.tokenizer_json()
    assert turned.account == service.backend.account != ""
    assert "http://a" in repr(service.backend)


# -- what a failure does


@in_virtual_time
async def test_a_server_that_takes_no_call_is_passed_over_within_the_attempt() -> None:
    """It has cost nothing, so the caller sees an answer and no failure; the next call does not ask there."""
    service = Service()
    service.a.error = REFUSED
    told = [await service.score("k1"), await service.score("k2")]

    assert (["answered", "answered"], ("k1", "k1 k2")) == (told, service.asked)


@pytest.mark.parametrize("error", [LOST, ServerFault("500")], ids=repr)
def test_an_unknown_outcome_is_passed_up_as_it_is(error: LmaasError) -> None:
    """The next attempt, under the same key, goes to the other server."""

    async def main() -> None:
        service = Service()
        service.a.error = error
        with pytest.raises(type(error)) as caught:
            await service.backend.score(ScoreQuery(TEXTS), key="k")
        assert caught.value is error
        assert ("answered", ("k", "k")) == (await service.score("k"), service.asked)

    run_virtual(main())


@pytest.mark.parametrize("error", [RateLimited("429"), InvalidQuery("422"), AuthenticationFailed("401")], ids=repr)
def test_a_refusal_is_an_answer(error: LmaasError) -> None:
    """It comes out as it is, and the server is asked again at once."""

    async def main() -> None:
        service = Service()
        service.a.error = error
        assert [type(error).__name__] * 2 == [await service.score("k1"), await service.score("k2")]
        assert ("k1 k2", "") == service.asked

    run_virtual(main())


@in_virtual_time
async def test_the_client_sends_a_lost_call_to_the_other_server_and_books_it_once() -> None:
    """Its own retry, under the same key; what the lost attempt may have cost is put right by the answer."""
    service = Service()
    service.a.error = LOST
    budget = Budget()
    client = Client(service.backend, budget, retry=RetryPolicy(attempts=2, first_wait_s=0))
    await client.score(call(client, "k"))

    assert ("k", "k") == service.asked
    assert (0, service.b.book.tokens) == (client.spend.unknown_outcomes, budget.posted.tokens)


@in_virtual_time
async def test_a_server_that_is_silent_until_a_time_limit_rests() -> None:
    """The limit of whoever called looks like a cancellation; the next attempt is made elsewhere."""
    service = Service(a=Server("a", latency_s=60.0))
    await within_five_seconds(service.score("k"))
    await service.score("k")

    assert ("k", "k") == service.asked


@in_virtual_time
async def test_a_server_that_answered_others_meanwhile_was_only_slow() -> None:
    """A call that is given up says nothing where another, sent later, came back."""
    service = Service(a=Server("a", latency_s=slow_with_many), b=Server("b", latency_s=slow_with_many))
    async with asyncio.TaskGroup() as tasks:
        for key, candidates in (("slow", 2), ("slower", 9), ("quick", 1)):
            tasks.create_task(within_five_seconds(service.score(key, prompts(candidates))))
            await asyncio.sleep(0)
    await service.score("after", prompts(1))

    assert ("slow quick after", "slower") == service.asked


def slow_with_many(query: ScoreQuery | FeatureQuery, draw: object) -> float:
    """A second for one candidate, and a minute for more."""
    return 1.0 if isinstance(query, ScoreQuery) and query.n_candidates == 1 else 60.0


async def within_five_seconds(asked: Coroutine[Any, Any, str]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await asked


# -- resting, and coming back


@in_virtual_time
async def test_a_server_rests_and_is_then_asked_by_one_call() -> None:
    """Until a second has passed nothing goes there; then one call does, and others only when that is answered."""
    service = Service()
    service.a.error = REFUSED
    await service.score("fails")  # at 2 s; a rests from 1 s on
    service.a.error = None
    service.a.asked.clear()
    await asyncio.sleep(-0.001)
    async with asyncio.TaskGroup() as tasks:
        for key in ("probe", "other", "more"):
            tasks.create_task(service.score(key))
            await asyncio.sleep(0)
    await service.score("after")

    assert ("probe after", "fails other more") == service.asked


@in_virtual_time
async def test_rests_double_up_to_the_longest_until_there_is_an_answer() -> None:
    """The times at which a server is asked that fails at once each time, then recovers, then fails once more."""
    service = Service(a=Server("a", latency_s=0.0), b=Server("b", latency_s=0.0), rests=Rests(1.0, 5.0))
    times: list[float] = []

    async def ask_every_half_second(until_s: float) -> None:
        clock = asyncio.get_running_loop().time
        while clock() < until_s:
            before = len(service.a.asked)
            await service.score("k")
            times.extend([clock()] * (len(service.a.asked) - before))
            await asyncio.sleep(0.5)

    service.a.error = REFUSED
    service.a.now = replace(service.a.card)
    await ask_every_half_second(14.0)
    # The card is asked for first, and refused: no call has gone there since the first.
    assert [0.0] == times
    assert ["card"] * 4 == service.a.said  # at 1, 3, 7 and 12 s
    service.a.error = None
    await ask_every_half_second(18.0)
    assert [17.0, 17.5] == times[1:]
    service.a.error = REFUSED
    await ask_every_half_second(19.5)
    assert [18.0] == times[3:]
    assert ["card"] * 6 == service.a.said  # at 17 s, when it came back, and at 19 s, a second after it failed again


@in_virtual_time
async def test_while_all_rest_the_one_whose_rest_ends_first_is_asked() -> None:
    """So an honest error comes out, that of the server; and as soon as it is back, an answer."""
    service = Service(b=Server("b", latency_s=1.5))
    service.a.error = service.b.error = LOST
    told = [await service.score("k1"), await service.score("k2")]  # a rests from 1 s, b from 2.5 s on
    told.append(await service.score("k3"))  # at 2.5 s: a does not tell its card, and rests for longer than b
    service.a.error = service.b.error = None
    told.append(await service.score("k4"))

    assert ["OutcomeUnknown", "OutcomeUnknown", "BackendUnavailable", "answered"] == told
    assert ("k1", "k2 k4") == service.asked


@in_virtual_time
async def test_calls_that_began_before_a_failure_say_nothing_new() -> None:
    """Five that fail together are one failure: the rest is that of the first."""
    service = Service(rests=Rests(1.0, 64.0))
    service.a.error = LOST
    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(service.score(f"{number}"))
    service.a.error = None
    await asyncio.sleep(1.0)
    await service.score("after")

    assert "0 2 4 6 8 after" == service.asked[0]


@in_virtual_time
async def test_an_answer_of_a_call_that_was_under_way_ends_a_rest() -> None:
    """The server lives, so it is asked again without waiting."""
    service = Service(a=Server("a", latency_s=lambda query, _: float(query.n_candidates)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.score("slow", prompts(2)))
        await asyncio.sleep(0)
        tasks.create_task(service.score("large", prompts(9)))
        await asyncio.sleep(0)
        tasks.create_task(service.score("lost", prompts(1)))
        await asyncio.sleep(0.5)
        service.a.error = LOST
        await asyncio.sleep(1.0)
        service.a.error = None
    await service.score("after", prompts(1))

    assert ("slow lost after", "large") == service.asked


@in_virtual_time
async def test_a_server_that_comes_back_as_another_is_not_asked() -> None:
    """Its card is looked at before its next call; alone, the error says what differs, and that nothing was charged."""
    service = Service()
    service.a.error = LOST
    service.a.now = replace(service.a.card, fingerprint="other kernels")
    await service.score("k1")
    service.a.error = None
    await asyncio.sleep(1.0)
    assert ("answered", ("k1", "k2")) == (await service.score("k2"), service.asked)
    service.b.error = LOST
    assert "OutcomeUnknown" == await service.score("k3")  # at 4 s, when the second rest of a ends
    with pytest.raises(BackendUnavailable, match=r"http://a is not asked: .* fingerprint is .* and 'other kernels' at"):
        await service.backend.score(MANUAL, key="k4")
    service.a.now, service.b.error = service.a.card, None
    await asyncio.sleep(4.0)
    assert ("answered", ("k1 k5", "k2 k3")) == (await service.score("k5"), service.asked)


@in_virtual_time
async def test_one_that_is_absent_at_first_rests_and_shows_its_card() -> None:
    """As if it had failed at the opening."""
    servers: list[Any] = [Server("a"), Server("b")]
    backend = ReplicatedBackend(servers, absent={"http://a": REFUSED})
    for key in ("k1", "k2"):
        await backend.score(ScoreQuery(TEXTS), key=key)

    assert (["k2"], ["card"], ["k1"], []) == (servers[0].asked, servers[0].said, servers[1].asked, servers[1].said)


def test_rests_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A warning when a server begins to rest, and a line when it is back; neither has a text or a key."""
    caplog.set_level(logging.INFO, "lmaas_backends.replicas")

    async def main() -> None:
        service = Service()
        service.a.error = LOST
        await service.score("k1")
        service.a.error = None
        await asyncio.sleep(1.0)
        await service.score("k2")

    run_virtual(main())
    told = [(record.levelname, record.lmaas_event, record.getMessage()) for record in caplog.records]  # type: ignore[attr-defined]
    rests = "the server at http://a does not answer (OutcomeUnknown): it gets no call for 1 s"
    assert [
        ("WARNING", "replica_rests", rests),
        ("INFO", "replica_back", "the server at http://a answers again"),
    ] == told


# -- texts and arrays


@in_virtual_time
async def test_texts_named_by_digest_reach_a_server_that_was_not_sent_them() -> None:
    """Registered at one, scored at both."""
    service = Service()
    await service.backend.register(TEXTS)
    async with asyncio.TaskGroup() as tasks:
        told = [tasks.create_task(service.score(key, ScoreQuery(TEXTS.digest))) for key in ("k1", "k2")]

    assert (["answered"] * 2, ("k1", "k2")) == ([task.result() for task in told], service.asked)


@pytest.mark.parametrize("error", [REFUSED, LOST], ids=repr)
def test_registering_and_uploading_need_one_server(error: LmaasError) -> None:
    """The other, once it is back, is sent the array before the first call that names it, and only once."""

    async def main() -> None:
        service = Service()
        service.a.error = error
        counted = await service.backend.register(TEXTS)
        assert counted == await service.backend.register(TEXTS)
        p0 = np.ones((SUBSPACE.prompt_tokens, SUBSPACE.hidden_size), np.float32)
        name = await service.backend.upload(p0)
        assert (["register"], ["register", "upload"], array_digest(p0)) == (service.a.said, service.b.said, name)
        service.a.error = None
        await asyncio.sleep(1.0)
        learned = ScoreQuery(TEXTS, subspace=replace(SUBSPACE, base=name), Z=points(1))
        told = [await service.score(key, learned) for key in ("k1", "k2")]
        assert (["answered"] * 2, ("k1 k2", "")) == (told, service.asked)
        assert ["register", "card", "upload"] == service.a.said

    run_virtual(main())


@in_virtual_time
async def test_prompts_are_written_out_by_a_server_that_holds_their_arrays() -> None:
    """The one that was not there for the upload is sent it when it has to answer."""
    service = Service()
    service.a.error = REFUSED
    learned = replace(SUBSPACE, base=await service.backend.upload(np.ones((2, 64), np.float32)))
    service.a.error, service.b.error = None, REFUSED
    await asyncio.sleep(1.0)
    written = await service.backend.soft_prompts(learned, points(3))

    assert (["upload", "card", "upload"], (3, 2, 64)) == (service.a.said, written.shape)


@in_virtual_time
async def test_an_array_that_does_not_arrive_has_cost_nothing() -> None:
    """Its loss is no unknown outcome of the call, which goes to the other server."""
    service = Service()
    name = await service.backend.upload(np.ones((SUBSPACE.prompt_tokens, SUBSPACE.hidden_size), np.float32))
    learned = ScoreQuery(TEXTS, subspace=replace(SUBSPACE, base=name), Z=points(1))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.score("k1", prompts(1)))
        await asyncio.sleep(0)
        service.b.error = LOST
        tasks.create_task(service.score("k2", learned))

    assert ("k1 k2", "") == service.asked
    assert ["upload"] == service.b.said
