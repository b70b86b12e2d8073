"""A backend around several servers of one service, which share its calls and its failures.

The servers have to share their books (`lmaas serve --state FILE`): a call that one of them may have computed is asked
for again at another, under the same key, and billed once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.replica import Clock, Replica, Rests
from lmaas_backends.replica_cards import check_agreement, told_card
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply
from lmaas_sdk.calls import n_texts_of
from lmaas_sdk.canonical import digest
from lmaas_sdk.errors import BackendUnavailable, InvalidQuery, OutcomeUnknown, ProtocolError
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

if TYPE_CHECKING:
    from lmaas_backends.remote import RemoteBackend

__all__ = ["ReplicatedBackend"]

_REMEMBERED_SETS = 256
_REMEMBERED_ARRAYS = 64
_REMEMBERED_COUNTS = 4 << 20  # texts
_ACCOUNT_DIGITS = 12
_NOT_SENT = (BackendUnavailable,)
_NOT_ANSWERED = (BackendUnavailable, OutcomeUnknown)
_RESTS = Rests()
_Q = TypeVar("_Q", ScoreQuery, FeatureQuery)
_T = TypeVar("_T")


class ReplicatedBackend:
    """Sends each call to the server that has the fewest tokens to compute, the first of those that have as few.

    A server that breaks, or cannot be reached, rests (`Rests`); the others take its share. An attempt that provably was
    not taken by one server goes on to the next at once, since it has cost nothing. Every other failure is passed up as
    it is, and the next attempt, under the same key, finds another server. While all rest, the one whose rest ends first
    is tried, so that an error always comes from a server.

    Args:
        backends: The servers, in order; they are closed with this one.
        absent: The errors of those that did not answer yet, by URL: they rest, and show their card before their first
            call, as a server does that comes back after a failure.
        rests: How long a server is left alone.
        clock: Of the rests, in seconds; None: the event loop's.

    Attributes:
        card: The servers' own, which says how many they are.
        account: Names the API key at these servers, in whatever order they are given; "" without a key.
    """

    def __init__(
        self,
        backends: Sequence[RemoteBackend],
        *,
        absent: Mapping[str, BackendUnavailable | OutcomeUnknown] | None = None,
        rests: Rests = _RESTS,
        clock: Clock | None = None,
    ) -> None:
        self._replicas = [Replica(backend, rests, clock) for backend in backends]
        self.card: ModelCard = replace(backends[0].card, replicas=len(backends))
        accounts = sorted(backend.account for backend in backends)
        self.account = digest(accounts)[:_ACCOUNT_DIGITS] if any(accounts) else ""
        self._sets: BoundedStore[str, TextSet] = BoundedStore(max_bytes=_REMEMBERED_SETS)
        self._arrays: BoundedStore[str, NDArray[np.float32]] = BoundedStore(max_bytes=_REMEMBERED_ARRAYS)
        self._counts: BoundedStore[tuple[str, str], Registration] = BoundedStore(max_bytes=_REMEMBERED_COUNTS)
        for replica in self._replicas:
            error = (absent or {}).get(replica.backend.url)
            replica.is_checked = error is None
            if error is not None:
                replica.rest(error)

    def __repr__(self) -> str:
        return f"ReplicatedBackend({[replica.backend.url for replica in self._replicas]}, model={self.card.name!r})"

    @property
    def bytes_up(self) -> int:
        """Bytes sent for score calls, to all servers."""
        return sum(replica.backend.bytes_up for replica in self._replicas)

    @property
    def bytes_down(self) -> int:
        """Bytes received for score calls, from all servers."""
        return sum(replica.backend.bytes_down for replica in self._replicas)

    async def aclose(self) -> None:
        """Closes the connections to all servers."""
        for replica in self._replicas:
            await replica.backend.aclose()

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """One attempt of a score call, at one server or, where that did not take it, at the next.

        Raises:
            LmaasError: As `RemoteBackend.score`.
        """
        known, arrays = self._with_texts(query), _arrays_of(*query.subspaces)
        tokens = self._tokens(query, query.subspace) * query.n_candidates
        return await self._asked(lambda server: server.score(known, key=key), tokens=tokens, arrays=arrays)

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        """One attempt of a feature call, as `score`.

        Raises:
            LmaasError: As `RemoteBackend.features`.
        """
        known, tokens = self._with_texts(query), self._tokens(query, None)
        return await self._asked(lambda server: server.features(known, key=key), tokens=tokens)

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Has one server count a text set's tokens; others are sent it before their first call on it.

        Raises:
            LmaasError: As `RemoteBackend.register`.
        """
        counted_as = texts.digest, "" if subspace is None else subspace.digest
        registration = self._counts.get(counted_as)
        if registration is None:
            arrays = () if subspace is None else _arrays_of(subspace)
            registration = await self._asked(
                lambda server: server.register(texts, subspace), arrays=arrays, passed_on=_NOT_ANSWERED
            )
            self._counts.put(counted_as, registration, len(texts))
        self._sets.put(texts.digest, texts, 1)
        return registration

    async def upload(self, array: NDArray[np.float32]) -> str:
        """Has one server take an array in; others are sent it before their first call that names it.

        Raises:
            LmaasError: As `RemoteBackend.upload`.
        """
        name = await self._asked(lambda server: server.upload(array), passed_on=_NOT_ANSWERED)
        self._arrays.put(name, array, 1)
        return name

    async def tokenizer_json(self) -> bytes:
        """The model's tokenizer.json, from any server.

        Raises:
            LmaasError: As `RemoteBackend.tokenizer_json`.
        """
        return await self._asked(lambda server: server.tokenizer_json(), passed_on=_NOT_ANSWERED)

    async def _asked(
        self,
        ask: Callable[[RemoteBackend], Awaitable[_T]],
        *,
        tokens: int = 0,
        arrays: Collection[str] = (),
        passed_on: tuple[type[Exception], ...] = _NOT_SENT,
    ) -> _T:
        """Asks the server whose turn it is.

        Args:
            ask: What to ask.
            tokens: What it will compute.
            arrays: Digests of uploaded arrays that it needs.
            passed_on: Errors after which the next server is asked at once: those that have cost nothing.
        """
        tried: list[Replica] = []
        while True:
            replica = self._free(tried) or self._soonest()
            tried.append(replica)
            try:
                with replica.call(tokens):
                    await self._make_ready(replica, arrays)
                    return await ask(replica.backend)
            except passed_on:
                if self._free(tried) is None:
                    raise

    def _free(self, tried: Collection[Replica]) -> Replica | None:
        """The replica with the fewest tokens under way, of those that take calls and were not tried."""
        free = [replica for replica in self._replicas if replica.takes_calls and replica not in tried]
        return min(free, key=lambda replica: replica.outstanding, default=None)

    def _soonest(self) -> Replica:
        """The replica whose rest ends first."""
        return min(self._replicas, key=lambda replica: replica.rests_until_s)

    async def _make_ready(self, replica: Replica, arrays: Collection[str]) -> None:
        """Sees that it is still the same service, and has the arrays that a call needs; free.

        Raises:
            BackendUnavailable: It is not, or did not answer.
        """
        url = replica.backend.url
        try:
            if not replica.is_checked:
                await self._check(replica)
            for name in arrays:
                array = self._arrays.get(name)
                if array is not None:
                    await replica.hold(name, array)
        except OutcomeUnknown as error:
            # The call itself was not sent, so it has provably cost nothing.
            raise BackendUnavailable(f"the server at {url} was not asked: {error}") from error

    async def _check(self, replica: Replica) -> None:
        server, ours = replica.backend, self._replicas[0].backend.card
        try:
            card = await told_card(server.url, server.current_card)
            urls = self._url_of_another(replica), server.url
            check_agreement(ours, card, urls=urls, masked=server.masked)
        except (InvalidQuery, ProtocolError) as error:
            raise BackendUnavailable(f"the server at {server.url} is not asked: {error}") from error
        replica.is_checked = True

    def _url_of_another(self, replica: Replica) -> str:
        """The URL of a server that has shown its card."""
        others = (other.backend.url for other in self._replicas if other is not replica and other.is_checked)
        return next(others, "the time of opening")

    def _with_texts(self, query: _Q) -> _Q:
        """A query with its texts, where these are known, as not every server may have been sent them."""
        if isinstance(query.texts, TextSet):
            self._sets.put(query.texts.digest, query.texts, 1)
            return query
        texts = self._sets.get(query.texts)
        return query if texts is None else replace(query, texts=texts)

    def _tokens(self, query: ScoreQuery | FeatureQuery, subspace: Subspace | None) -> int:
        """Tokens of a query's texts under one candidate; where nobody has counted them, the texts."""
        name = query.texts if isinstance(query.texts, str) else query.texts.digest
        counted = self._counts.get((name, "" if subspace is None else subspace.digest))
        if counted is None:
            return n_texts_of(query) or 1
        counts = counted.token_counts
        if query.rows is None:
            return sum(counts)
        return sum(counts[row] for row in query.rows if 0 <= row < len(counts))


def _arrays_of(*subspaces: Subspace) -> tuple[str, ...]:
    """Digests of the uploaded arrays that subspaces may name."""
    names = (name for subspace in subspaces for name in (subspace.projection, subspace.base))
    return tuple(name for name in names if name is not None)
