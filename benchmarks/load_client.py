"""Clients that offer load by plain aiohttp: some calls at a time without a pause, or by the clock, come what may.

A call that is refused comes again when Retry-After says, under its own idempotency key, as often as it takes, unless
that would be after the end.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import numpy as np

from benchmarks.load_server import LoadedServer
from lmaas_backends.remote import RemoteBackend
from lmaas_backends.roberta.protocol import TENSORS, encode_message
from lmaas_backends.roberta.wire_queries import score_message
from lmaas_sdk import MASK, LabelWords, Piece, ScoreQuery, Subspace, TextSet, load_backend

__all__ = ["CUT_OFF", "OK", "REFUSED", "Attempt", "Call", "Caller", "Offer", "Shape", "open_session"]

OK, REFUSED, CUT_OFF = "200", "429", "cut off"
D, PROMPT_TOKENS = 500, 50
_SENTENCE = "a film of many slow hours that goes on and on and never finds its way to an end one would care about "
_WORDS = tuple(_SENTENCE.split())


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a call is."""

    candidates: int
    texts: int

    def __str__(self) -> str:
        return f"{self.candidates} candidates, d = {D}, on {self.texts} texts"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: when it went out and was answered, by the loop's clock, its status, and what Retry-After said.

    The status is a number, or the name of the error that came instead, or `CUT_OFF`: the end came first.
    """

    sent: float
    ended: float
    status: str
    retry_after_s: int | None = None


@dataclass(slots=True, eq=False)
class Call:
    """One call of a client and its attempts so far. `given_up`: it was told to come again after the end."""

    client: str
    came: float
    attempts: list[Attempt] = field(default_factory=list)
    given_up: bool = False

    @property
    def is_answered(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].status == OK


@dataclass(frozen=True, slots=True)
class Offer:
    """A load that does not wait for answers.

    Args:
        rates: Calls a second of each client; they come at random, independently (a Poisson process).
        seconds: How long new calls come.
        drain_s: How long, after that, calls that were refused may still come again.
        answers_s: How long, after that, answers are waited for.
        most_calls: There are no more than these, however fast they come.
    """

    rates: Mapping[str, float]
    seconds: float
    drain_s: float
    answers_s: float
    most_calls: int

    def arrivals(self, seed: int) -> Iterator[tuple[float, str]]:
        """Seconds from the start, in their order, and whose call comes then."""
        draw = random.Random(seed)  # noqa: S311 - no secret
        names, weights, together = [*self.rates], [*self.rates.values()], sum(self.rates.values())
        at = draw.expovariate(together)
        for _ in range(self.most_calls):
            if at >= self.seconds:
                return
            yield at, draw.choices(names, weights)[0]
            at += draw.expovariate(together)


class Caller:
    """Makes calls to a server: a few candidates, each call's its own, on a text set that is registered.

    Args:
        server: The server.
        session: With connections for as many calls as there may be.
        frame: The body of a call.

    Attributes:
        tokens: Of one call, as it is billed.
        late_s: How late a call went out, at worst, for want of this process's time.
    """

    def __init__(self, server: LoadedServer, session: aiohttp.ClientSession, frame: bytes, tokens: int) -> None:
        self.tokens, self.late_s = tokens, 0.0
        self._session, self._url, self._frame = session, f"{server.url}/v1/score", frame
        self._numbers = count(1)
        self._headers = {
            name: {"Authorization": f"Bearer {key}", "Content-Type": TENSORS} for name, key in server.keys.items()
        }

    @classmethod
    async def of(cls, server: LoadedServer, session: aiohttp.ClientSession, shape: Shape) -> Caller:
        """Registers the texts, as the first of the clients."""
        async with load_backend(server.url, api_key=next(iter(server.keys.values()))) as backend:
            assert isinstance(backend, RemoteBackend)
            subspace = Subspace(D, PROMPT_TOKENS, backend.card.hidden_size)
            registration = await backend.register(_text_set(shape.texts), subspace)
            Z = np.random.default_rng(0).standard_normal((shape.candidates, D)).astype(np.float32)
            query = ScoreQuery(registration.digest, subspace=subspace, Z=Z)
            frame = encode_message(score_message(query, backend.card.name), TENSORS)
        return cls(server, session, frame, shape.candidates * sum(registration.token_counts))

    async def closed(self, clients: Sequence[str], *, at_once: int, seconds: float) -> list[Call]:
        """Has so many calls under way all the time, of the clients in turn; what is refused is not sent again."""
        calls: list[Call] = []
        clock = asyncio.get_running_loop().time
        end = clock() + seconds

        async def one_after_another(client: str) -> None:
            while (now := clock()) < end:
                calls.append(call := Call(client, now))
                await self._attempt(call, next(self._numbers))

        async with asyncio.TaskGroup() as group:
            for number in range(at_once):
                group.create_task(one_after_another(clients[number % len(clients)]))
        return calls

    async def offered(self, offer: Offer, seed: int) -> list[Call]:
        """Sends calls by the clock and returns when all are done, or when the time for that is over."""
        loop, calls = asyncio.get_running_loop(), list[Call]()
        begin = loop.time()
        self.late_s = 0.0
        last_return = begin + offer.seconds + offer.drain_s
        try:
            async with asyncio.timeout_at(last_return + offer.answers_s), asyncio.TaskGroup() as group:
                for after, client in offer.arrivals(seed):
                    await asyncio.sleep(max(0.0, begin + after - loop.time()))
                    self.late_s = max(self.late_s, loop.time() - begin - after)
                    calls.append(call := Call(client, begin + after))
                    group.create_task(self._obeying(call, last_return))
        except TimeoutError:
            pass  # every attempt that was cut off is noted as such
        return calls

    async def _obeying(self, call: Call, last_return: float) -> None:
        number, clock = next(self._numbers), asyncio.get_running_loop().time
        while (wait_s := await self._attempt(call, number)) is not None:
            if clock() + wait_s > last_return:
                call.given_up = True
                return
            await asyncio.sleep(wait_s)

    async def _attempt(self, call: Call, number: int) -> int | None:
        """Sends a call, notes how that ended, and returns after how many seconds it is to come again."""
        clock = asyncio.get_running_loop().time
        sent, status, wait_s = clock(), CUT_OFF, None
        headers = self._headers[call.client] | {"Idempotency-Key": f"load-{number}"}
        body = self._frame[:-4] + struct.pack("<f", number * 1e-6)  # the last number of Z
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                told = await answer.read()
                status = str(answer.status)
                if status == OK:
                    self._check(told)
                elif status == REFUSED:
                    wait_s = int(answer.headers["Retry-After"])
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            status = type(error).__name__
        finally:
            call.attempts.append(Attempt(sent, clock(), status, wait_s))
        return wait_s

    def _check(self, told: bytes) -> None:
        """Raises ValueError where an answer does not bill what was counted."""
        (length,) = struct.unpack_from("<I", told)
        billed = json.loads(told[4 : 4 + length])["usage"]["input_tokens"]
        if billed != self.tokens:
            raise ValueError(f"{billed} tokens were billed and {self.tokens} counted")


def open_session() -> aiohttp.ClientSession:
    """Connections for as many calls as there may be, however long they take."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))


def _text_set(texts: int) -> TextSet:
    """Sentences of 12 to 27 words."""
    sentences = (
        " ".join(_WORDS[(number + place) % len(_WORDS)] for place in range(12 + number // 2 % 16))
        for number in range(texts)
    )
    return TextSet(
        tuple((Piece("field", sentence), Piece("template", " . It was"), MASK) for sentence in sentences),
        LabelWords((" bad", " great")),
    )
