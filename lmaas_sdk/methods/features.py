"""Hidden states of texts through the API: each text is paid for once, and kept under a name of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Pool, Usage
from lmaas_sdk.canonical import digest
from lmaas_sdk.client import Call, Client
from lmaas_sdk.errors import LmaasError, Unsupported
from lmaas_sdk.methods.demonstrations import joined
from lmaas_sdk.outside import outside
from lmaas_sdk.tasks import Task
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.texts import Text, TextSet
from lmaas_sdk.traffic.cache import MemoryCache, ReplyCache
from lmaas_sdk.traffic.query_digest import query_digest
from lmaas_sdk.tuning.persistence import FAILS_FAST, Health, persistently
from lmaas_sdk.tuning.scheduler import first_failure

__all__ = [
    "ROWS_AT_A_TIME",
    "FeatureMemory",
    "FeatureSource",
    "Features",
    "Fetched",
    "check_gives_features",
    "input_texts",
    "rows_at_a_time",
]

ROWS_AT_A_TIME = 32
"""Of a product with a head's weights: always as many, so that no text's bits depend on how many others there are."""

_KEY_DIGITS = 32
_MOST_KEPT_BYTES = 1 << 30
_MOST_ANSWER_BYTES = 16 << 20  # of one call with every token's vector: servers and clients refuse what is too long
_NO_MOMENTS = np.empty(0, np.float32)  # those of a call are of all its texts

Features = NDArray[np.float32]
"""Of one text: (1, D) for pool `first`, (tokens, D) for `tokens`."""


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """Features of each text asked for, in order, and how many of the texts lost words to fit the model."""

    features: tuple[Features, ...]
    shortened: int


def input_texts(task: Task, items: Sequence[Fields], *, template: bool) -> tuple[Text, ...]:
    """What the model reads: the fields alone, with a space between two, or the whole template with its mask.

    Raises:
        TaskError: An item does not fill the template.
    """
    rendered = task.texts(items)
    if template:
        return rendered
    return tuple(joined([(piece,) for piece in text if piece.kind == "field"], " ") for text in rendered)


def check_gives_features(card: ModelCard) -> None:
    """Refuses a model of which no features can be had.

    Raises:
        Unsupported: Its card says so.
    """
    if not card.capabilities.features:
        raise Unsupported(f"features: {card.name} gives no hidden states, and this method learns from them")


class FeatureMemory:
    """Features that were paid for, and who is asking for which; for one event loop at a time.

    At most 1 GiB is kept; what was used least recently goes first, and is paid for again.
    """

    def __init__(self) -> None:
        self.kept = MemoryCache(_MOST_KEPT_BYTES)
        self.under_way: dict[str, asyncio.Future[None]] = {}

    @contextmanager
    def claimed(self, names: Iterable[str]) -> Iterator[None]:
        """Inside, nobody else asks for these."""
        claim: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mine = list(names)
        self.under_way |= dict.fromkeys(mine, claim)
        try:
            yield
        finally:
            for name in mine:
                del self.under_way[name]
            claim.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Texts, what their features are kept as, and the tokens of each."""

    texts: TextSet
    names: tuple[str, ...]
    token_counts: tuple[int, ...]

    def rows(self) -> dict[str, int]:
        """The first text of each name."""
        rows: dict[str, int] = {}
        for row, name in enumerate(self.names):
            rows.setdefault(name, row)
        return rows


class FeatureSource:
    """Fetches features through a client, as few texts a call as must be.

    Args:
        client: Sends and pays; told to keep no answers, it pays for each text whenever it is asked for.
        pool: As in `FeatureQuery`.
        memory: Shared with other sources; None: one of its own.

    Raises:
        Unsupported: The model answers no feature queries.
    """

    def __init__(self, client: Client, pool: Pool, memory: FeatureMemory | None = None) -> None:
        card = client.backend.card
        check_gives_features(card)
        self._client, self._pool, self._card = client, pool, card
        self._memory = None if client.reuse.cache is None else memory or FeatureMemory()
        self._file = client.reuse.cache if client.reuse.keeps else None
        self._run, self._numbers, self._health = outside().new_id(), itertools.count(), Health()

    async def fetch(self, texts: Sequence[Text], purpose: Purpose) -> Fetched:
        """The features of some texts; those that are kept cost nothing, and the others go out together or not at all.

        Args:
            texts: At least one.
            purpose: What for.

        Raises:
            BudgetExceeded: They do not fit into the budget together; nothing was sent. Or it ended later.
            QuotaExceeded, BackendError: A call failed for good. The others were waited for, and are kept.
        """
        asked, shortened = await self._asked(texts)
        found = await self._found(asked, purpose)
        return Fetched(tuple(found[name] for name in asked.names), shortened)

    async def worst(self, texts: Sequence[Text], purpose: Purpose) -> Amounts:
        """The most that fetching these may take: nothing for those that are kept; to ask is free."""
        asked, _ = await self._asked(texts)
        rows = asked.rows()
        kept = {} if self._memory is None else await self._looked_up(self._memory, rows)
        calls = self._calls(asked, {name: row for name, row in rows.items() if name not in kept}, purpose)
        return sum((call.worst for call in calls), Amounts())

    async def _asked(self, texts: Sequence[Text]) -> tuple[_Asked, int]:
        """The texts by name, and how many of them lose words."""
        text_set = TextSet(tuple(texts))
        names = await asyncio.to_thread(_names, text_set, self._pool, self._card)
        registered = await self._client.register(text_set)
        return _Asked(text_set, names, registered.token_counts), registered.shortened

    async def _found(self, asked: _Asked, purpose: Purpose) -> dict[str, Features]:
        rows, memory = asked.rows(), self._memory
        if memory is None:
            return await self._paid(asked, rows, purpose)
        found: dict[str, Features] = {}
        while missing := [name for name in rows if name not in found]:
            free = [name for name in missing if name not in memory.under_way]
            with memory.claimed(free):
                found |= await self._looked_up(memory, free)
                found |= await self._paid(asked, {name: rows[name] for name in free if name not in found}, purpose)
            if others := {memory.under_way[name] for name in missing if name in memory.under_way}:
                await asyncio.wait(others)
        return found

    async def _looked_up(self, memory: FeatureMemory, names: Iterable[str]) -> dict[str, Features]:
        found = {}
        for name in names:
            reply = await memory.kept.get(name)
            if reply is None and self._file is not None and (reply := await self._file.get(name)) is not None:
                await memory.kept.put(name, reply)
            if isinstance(reply, FeatureReply):
                found[name] = reply.features
        return found

    async def _paid(self, asked: _Asked, rows: Mapping[str, int], purpose: Purpose) -> dict[str, Features]:
        calls = self._calls(asked, rows, purpose)
        unclaimed = dict(zip(calls, await self._client.hold(list(calls)), strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._kept(asked, call, chunk, unclaimed)) for call, chunk in calls.items()]
        except BaseExceptionGroup as failures:
            first = first_failure(failures)
            raise first from first.__cause__
        finally:
            for hold in unclaimed.values():  # a task that was cancelled before it began never saw its reservation
                hold.void()
        return _together([task.result() for task in tasks])

    async def _kept(
        self, asked: _Asked, call: Call, rows: Sequence[int], holds: dict[Call, Reservation]
    ) -> dict[str, Features] | LmaasError:
        """What a call brings, kept; an error as a value, so that calls beside it are not cancelled unanswered."""
        try:
            reply = await self._answer(call, holds.pop(call))
        except LmaasError as error:
            return error
        features = _by_text(reply, self._pool)
        brought = {asked.names[row]: one for row, one in zip(rows, features, strict=True)}
        for name, one in brought.items():
            kept = FeatureReply(one, np.array([len(one)], np.int64), _NO_MOMENTS, _NO_MOMENTS, Usage())
            for cache in self._caches():
                await cache.put(name, kept)
        return brought

    def _caches(self) -> Iterator[ReplyCache]:
        if self._memory is not None:
            yield self._memory.kept
        if self._file is not None:
            yield self._file

    async def _answer(self, call: Call, hold: Reservation) -> FeatureReply:
        """The answer to a call, asked for again while others fail too much for the client to try."""
        holds = [hold]

        async def ask() -> FeatureReply:
            return await self._client.features(call, holds.pop() if holds else None, apart=True)

        try:
            reply = await persistently(ask, self._client, self._health)
        except FAILS_FAST as error:
            raise (error.last or error) from error
        self._health.saw_answer()
        return reply

    def _calls(self, asked: _Asked, rows: Mapping[str, int], purpose: Purpose) -> dict[Call, list[int]]:
        """The calls for some of the texts, and which of them each is for."""
        chunks = _chunks(list(rows.values()), asked.token_counts, self._card.max_texts, self._most_tokens)
        return {self._call(asked, chunk, purpose): chunk for chunk in chunks}

    def _call(self, asked: _Asked, rows: Sequence[int], purpose: Purpose) -> Call:
        every = len(rows) == len(asked.texts)
        query = FeatureQuery(asked.texts, None if every else tuple(rows), self._pool)
        key = digest([self._run, purpose, next(self._numbers)])[:_KEY_DIGITS]
        counts = [asked.token_counts[row] for row in rows]
        return self._client.call(query, key, purpose=purpose, token_counts=counts)

    @property
    def _most_tokens(self) -> int | None:
        """Of one call: no more than a minute's, nor than an answer has room for; None: any."""
        answer = None if self._pool == "first" else _MOST_ANSWER_BYTES // (4 * self._card.hidden_size)
        bounds = (answer, self._client.limits("features").tokens_per_minute)
        return min((bound for bound in bounds if bound is not None), default=None)


def rows_at_a_time(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rows of (n, D) in parts of `ROWS_AT_A_TIME`, the last one filled up with zeros; and how many are theirs."""
    for start in range(0, len(vectors), ROWS_AT_A_TIME):
        part = vectors[start : start + ROWS_AT_A_TIME]
        yield len(part), np.pad(part, ((0, ROWS_AT_A_TIME - len(part)), (0, 0)))


def _names(texts: TextSet, pool: Pool, card: ModelCard) -> tuple[str, ...]:
    """What decides each text's features, whatever stands beside it in a call."""
    alone = (FeatureQuery(TextSet((text,)), None, pool) for text in texts.texts)
    return tuple(digest(["text-features/1", query_digest(query, card)]) for query in alone)


def _chunks(
    rows: Sequence[int], counts: Sequence[int], most_texts: int, most_tokens: int | None
) -> Iterator[list[int]]:
    """The rows of each call, in order; a text that is too long by itself goes alone."""
    chunk: list[int] = []
    tokens = 0
    for row in rows:
        is_full = most_tokens is not None and tokens + counts[row] > most_tokens
        if chunk and (is_full or len(chunk) == most_texts):
            yield chunk
            chunk, tokens = [], 0
        chunk.append(row)
        tokens += counts[row]
    if chunk:
        yield chunk


def _by_text(reply: FeatureReply, pool: Pool) -> list[Features]:
    ends = np.cumsum(reply.lengths if pool == "tokens" else np.ones_like(reply.lengths))
    return np.split(reply.features, ends[:-1])


def _together(brought: Iterable[dict[str, Features] | LmaasError]) -> dict[str, Features]:
    """All that calls brought.

    Raises:
        LmaasError: The first failure.
    """
    found: dict[str, Features] = {}
    for one in brought:
        if isinstance(one, LmaasError):
            raise one
        found |= one
    return found
