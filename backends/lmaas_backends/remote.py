"""A backend behind the HTTP API (docs/http-api.md)."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.http_answers import Reply, Sent
from lmaas_backends.http_calls import HttpCalls
from lmaas_backends.remote_memory import SentOnce
from lmaas_backends.replica_cards import agreed_card
from lmaas_backends.replicas import ReplicatedBackend
from lmaas_backends.reply_checks import check_feature_reply, check_score_reply, understood
from lmaas_backends.roberta.protocol import JSON, TENSORS, Message, encode_message
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_backends.roberta.wire_card import read_card
from lmaas_backends.roberta.wire_fields import Fields
from lmaas_backends.roberta.wire_queries import (
    FEATURE_REPLY_ARRAYS,
    SCORE_REPLY_ARRAYS,
    feature_message,
    read_feature_reply,
    read_registration,
    read_score_reply,
    registration_message,
)
from lmaas_backends.score_bodies import ScoreBodies
from lmaas_backends.server_urls import check_differ, secret_urls
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.errors import BackendUnavailable, InvalidQuery, OutcomeUnknown, ProtocolError, UnknownDataset
from lmaas_sdk.secret import Secret
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Subspace

__all__ = ["Encoding", "RemoteBackend", "ZDtype", "open_backend"]

Encoding = Literal["raw", "base64"]
ZDtype = Literal["float32", "float16"]

_MEDIA_TYPES = {"raw": TENSORS, "base64": JSON}
_Z_DTYPES = ("float32", "float16")
_REMEMBERED_SETS = 256
_REMEMBERED_ARRAYS = 64
_REMEMBERED_COUNTS = 4 << 20  # texts
_CountedAs = tuple[str, str | None]  # digests of a set and of the subspace it was counted under
_Q = TypeVar("_Q", ScoreQuery, FeatureQuery)
_T = TypeVar("_T")
_Connect = Callable[["HttpCalls", ModelCard], "RemoteBackend"]


def open_backend(
    url: str,
    *,
    api_key: str | None = None,
    timeout_s: float = 600.0,
    connect_timeout_s: float = 5.0,
    encoding: Encoding = "raw",
    z_dtype: ZDtype = "float32",
    model: str | None = None,
) -> AbstractAsyncContextManager[RemoteBackend | ReplicatedBackend]:
    """A connection to a server, or to several that share the calls, for `async with`.

    Args:
        url: The server, such as `http://127.0.0.1:8080`; or the servers of one service, with commas between them (a
            comma within a URL is written %2C).
        api_key: None: the environment's LMAAS_API_KEY, or no key.
        timeout_s: For one attempt; a large model on a CPU needs minutes for a generation.
        connect_timeout_s: For getting a connection.
        encoding: How arrays travel: `raw` bytes, or `base64` in JSON (a third larger, for what passes only text).
        z_dtype: `float16` halves the upload; z is then rounded.
        model: The model's name; needed where the server has several.

    Raises:
        ValueError: An argument is out of its range, or a server is given twice; nothing was sent.
    """
    # From here on no variable shows the key, whatever is raised below.
    api_key = Secret(api_key if api_key is not None else os.environ.get("LMAAS_API_KEY", "")) or None
    if encoding not in _MEDIA_TYPES:
        raise ValueError(f"encoding is 'raw' or 'base64', not {encoding!r}")
    if z_dtype not in _Z_DTYPES:
        raise ValueError(f"z_dtype is 'float32' or 'float16', not {z_dtype!r}")
    call = partial(HttpCalls, api_key=api_key, timeout_s=timeout_s, connect_timeout_s=connect_timeout_s)
    servers = [call(one) for one in secret_urls(url)]
    check_differ([http.url for http in servers])
    connect = partial(RemoteBackend, media_type=_MEDIA_TYPES[encoding], z_dtype=z_dtype)
    return _opened(servers[0], connect, model) if len(servers) == 1 else _opened_together(servers, connect, model)


@asynccontextmanager
async def _opened(http: HttpCalls, connect: _Connect, model: str | None) -> AsyncIterator[RemoteBackend]:
    async with http:
        yield connect(http, await _card_of(http, model))


@asynccontextmanager
async def _opened_together(
    servers: Sequence[HttpCalls], connect: _Connect, model: str | None
) -> AsyncIterator[ReplicatedBackend]:
    async with AsyncExitStack() as stack:
        for http in servers:
            await stack.enter_async_context(http)
        asked = {str(http.url): partial(_card_of, http, model) for http in servers}
        agreed = await agreed_card(asked, masked=servers[0].masked)
        yield ReplicatedBackend([connect(http, agreed.card) for http in servers], absent=agreed.absent)


async def _card_of(http: HttpCalls, model: str | None) -> ModelCard:
    answer = await http.get("v1/models")
    # in a thread: the time zone of a quota is a file
    cards = await asyncio.to_thread(understood, answer, _read_cards, masked=http.masked)
    return _chosen(cards, model)


class RemoteBackend:
    """A model behind the HTTP API. A text set travels once; after that its digest stands for it.

    Args:
        http: The server; open.
        card: The model's card.
        media_type: The form of messages with arrays: `protocol.TENSORS` or `protocol.JSON`.
        z_dtype: Of Z on the wire.

    Attributes:
        account: Names the API key, without telling it, among those of this server; "" without a key. Quotas are counted
            by it, and in it a call's key means one call.
        bytes_up, bytes_down: Bytes of all score calls so far, failed attempts included: request or status line, headers
            and body as HTTP/1.1 has them. Below that (TLS, TCP) nothing is counted, nor are registrations.
    """

    def __init__(
        self, http: HttpCalls, card: ModelCard, *, media_type: str = TENSORS, z_dtype: str = "float32"
    ) -> None:
        self.card = card
        self.account = http.account
        self.bytes_up = 0
        self.bytes_down = 0
        self._http, self._media_type = http, media_type
        self._score_bodies = ScoreBodies(card.name, media_type, z_dtype)
        self._sets: SentOnce[TextSet] = SentOnce(_REMEMBERED_SETS)
        self._arrays: SentOnce[NDArray[np.float32]] = SentOnce(_REMEMBERED_ARRAYS)
        self._counts: BoundedStore[tuple[str, str | None], Registration] = BoundedStore(max_bytes=_REMEMBERED_COUNTS)

    def __repr__(self) -> str:
        return f"RemoteBackend({str(self._http.url)!r}, model={self.card.name!r})"

    @property
    def url(self) -> str:
        """The server's, without any key."""
        return str(self._http.url)

    def masked(self, text: str) -> str:
        """A text from the server, without the API key that it may have echoed."""
        return self._http.masked(text)

    async def current_card(self) -> ModelCard:
        """The card that the server tells now: a restarted one may have another than `card`.

        Raises:
            InvalidQuery: It has no model of that name any more.
            LmaasError: As `HttpCalls.post`.
        """
        return await _card_of(self._http, self.card.name)

    async def aclose(self) -> None:
        """Closes the connections; a call after that raises RuntimeError."""
        await self._http.aclose()

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """One attempt of a score call.

        Args:
            query: The candidates and texts; texts that the server does not hold are registered first.
            key: The idempotency key.

        Returns:
            Logits, float32 of shape (candidates, texts, labels), and what was billed.

        Raises:
            LmaasError: As `HttpCalls.post`.
        """
        texts = self._text_set(query)
        return await self._with_known_texts(query, self._score_once, texts, subspaces=query.subspaces, key=key)

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        """One attempt of a feature call.

        Args:
            query: The texts; those that the server does not hold are registered first.
            key: The idempotency key.

        Returns:
            The hidden states that the query's pool asks for, and what was billed.

        Raises:
            LmaasError: As `HttpCalls.post`.
        """
        texts = self._text_set(query)
        return await self._with_known_texts(query, self._features_once, texts, subspaces=(), key=key)

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Has the server take a text set in and count its tokens; asked again, the answer is remembered.

        Args:
            texts: The set.
            subspace: The prompt under which tokens are counted; None: the manual prompt.

        Raises:
            LmaasError: As `HttpCalls.post`.
        """
        async with self._sets.lock(texts.digest):
            known = self._counts.get(_counted_as(texts, subspace))
            return known if known is not None else await self._send_set(texts, subspace)

    async def upload(self, array: NDArray[np.float32]) -> str:
        """Has the server take an array in, unless it holds it already.

        Args:
            array: Two dimensions, float32: a learned p0 or a projection.

        Returns:
            Its digest, which a `Subspace` names it by.

        Raises:
            InvalidQuery: It is not a float32 array.
            LmaasError: As `HttpCalls.post`.
        """
        if array.dtype != np.float32:
            raise InvalidQuery(f"an uploaded array is float32, not {array.dtype}")
        digest = array_digest(array)
        await self._arrays.ensure(digest, lambda: self._send_array(digest, array))
        return digest

    async def tokenizer_json(self) -> bytes:
        """The model's tokenizer.json, checked against the card's digest.

        Raises:
            ProtocolError: It is another file than the card names.
            LmaasError: As `HttpCalls.post`.
        """
        reply = await self._http.get(f"v1/models/{self.card.name}/tokenizer")
        found = hashlib.sha256(reply.body).hexdigest()
        if self.card.tokenizer_digest and found != self.card.tokenizer_digest:
            raise ProtocolError(f"the tokenizer's SHA-256 is {found}, and the card says {self.card.tokenizer_digest}")
        return reply.body

    async def _score_once(self, query: ScoreQuery, texts: TextSet | None, key: str) -> ScoreReply:
        body = self._score_bodies.encoded(query, query.texts if texts is None else texts.digest)
        sent = Sent()
        try:
            reply = await self._http.post("v1/score", body, self._media_type, key=key, sent=sent)
        finally:
            self.bytes_up += sent.up
            self.bytes_down += sent.down
        read = self._understood(reply, read_score_reply, SCORE_REPLY_ARRAYS)
        check_score_reply(read, query, texts)
        return read

    async def _features_once(self, query: FeatureQuery, texts: TextSet | None, key: str) -> FeatureReply:
        named = query.texts if texts is None else texts.digest
        message = feature_message(query, self.card.name, texts=named)
        reply = await self._post("v1/features", message, key=key, sent=Sent())
        read = self._understood(reply, read_feature_reply, FEATURE_REPLY_ARRAYS)
        check_feature_reply(read, query, texts=texts, hidden_size=self.card.hidden_size)
        return read

    async def _with_known_texts(
        self,
        query: _Q,
        attempt: Callable[[_Q, TextSet | None, str], Awaitable[_T]],
        texts: TextSet | None,
        *,
        subspaces: Sequence[Subspace],
        key: str,
    ) -> _T:
        """Sends a query with the digest of its texts, registering them first where the server does not have them.

        A server that was restarted has forgotten texts and arrays, which it says by 404 before any work: they are sent
        again and the query once more, under its own key.
        """
        if texts is None:
            return await attempt(query, None, key)
        subspace = subspaces[0] if subspaces else None
        if not self._sets.times(texts.digest):
            await self._take_in(texts, subspace)
        stale = self._sets.times(texts.digest)
        stale_arrays = {digest: self._arrays.times(digest) for digest in _arrays_of(subspaces)}
        try:
            return await attempt(query, texts, key)
        except UnknownDataset:
            await self._take_in(texts, subspace, stale=stale, stale_arrays=stale_arrays)
            return await attempt(query, texts, key)

    async def _take_in(
        self,
        texts: TextSet,
        subspace: Subspace | None,
        *,
        stale: int = 0,
        stale_arrays: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Sends texts and arrays that the server does not have, by the times it had been sent them."""
        try:
            await self._sets.ensure(texts.digest, lambda: self._send_set(texts, subspace), stale=stale)
            for digest, times in stale_arrays.items():
                await self._send_array_again(digest, times)
        except OutcomeUnknown as error:
            # Registering is free and the query itself was not taken, so this attempt has provably cost nothing.
            raise BackendUnavailable(f"the texts could not be registered: {error}") from error

    async def _send_set(self, texts: TextSet, subspace: Subspace | None) -> Registration:
        message = registration_message(texts, subspace, self.card.name)
        reply = await self._http.post("v1/datasets", encode_message(message, JSON), JSON, sent=Sent())
        registration = self._understood(reply, read_registration)
        if registration.digest != texts.digest or len(registration.token_counts) != len(texts):
            raise ProtocolError(f"the server took in another set than the {len(texts)} texts it was sent")
        self._sets.sent(texts.digest, texts)
        return self._counts.put(_counted_as(texts, subspace), registration, len(texts))

    async def _send_array_again(self, digest: str, stale: int) -> None:
        array = self._arrays.get(digest)
        if array is not None:
            await self._arrays.ensure(digest, lambda: self._send_array(digest, array), stale=stale)

    async def _send_array(self, digest: str, array: NDArray[np.float32]) -> None:
        message = Message({"model": self.card.name}, {"array": array})
        reply = await self._post("v1/arrays", message, key=None, sent=Sent())
        named = self._understood(reply, lambda answer: Fields(answer.fields, "the answer").take("digest", str))
        if named != digest:
            raise ProtocolError(f"the server took in another array than the one of digest {digest}")
        self._arrays.sent(digest, array)

    async def _post(self, path: str, message: Message, *, key: str | None, sent: Sent) -> Reply:
        body = encode_message(message, self._media_type)
        return await self._http.post(path, body, self._media_type, key=key, sent=sent)

    def _understood(self, reply: Reply, read: Callable[[Message], _T], arrays: Sequence[str] = ()) -> _T:
        return understood(reply, read, arrays, masked=self._http.masked)

    def _text_set(self, query: ScoreQuery | FeatureQuery) -> TextSet | None:
        return query.texts if isinstance(query.texts, TextSet) else self._sets.get(query.texts)


def _counted_as(texts: TextSet, subspace: Subspace | None) -> _CountedAs:
    return texts.digest, None if subspace is None else subspace.digest


def _arrays_of(subspaces: Sequence[Subspace]) -> list[str]:
    """Digests of the uploaded arrays that subspaces name."""
    named = [name for subspace in subspaces for name in (subspace.projection, subspace.base)]
    return [name for name in named if name is not None and name not in NAMED_PROJECTIONS]


def _read_cards(message: Message) -> list[ModelCard]:
    return [read_card(card) for card in Fields(message.fields, "the answer").list_of("models", object)]


def _chosen(cards: list[ModelCard], model: str | None) -> ModelCard:
    names = ", ".join(card.name for card in cards) or "none"
    wanted = [card for card in cards if model in {None, card.name}]
    if len(wanted) == 1:
        return wanted[0]
    if model is None:
        raise InvalidQuery(f"the server has several models: choose one by model= ({names})")
    raise InvalidQuery(f"the server has no model {model!r}; it has {names}")
