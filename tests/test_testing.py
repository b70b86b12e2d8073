"""The conformance suite: the mock keeps every rule, and each broken fake is told by the rule it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lmaas_sdk.testing
from lmaas_backends.mock import MockBackend
from lmaas_sdk.backend import Capabilities, FeatureQuery, FeatureReply, Limits, Registration, ScoreQuery, ScoreReply
from lmaas_sdk.errors import AuthenticationFailed, InvalidQuery, UnknownDataset
from lmaas_sdk.testing import ConformanceError, check_backend, run_virtual
from lmaas_sdk.testing.conformance import RULES
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

Score = Callable[[MockBackend, ScoreQuery, str], Awaitable[ScoreReply]]


class Broken:
    """A mock with one part replaced."""

    def __init__(self, *, score: Score | None = None, inner: MockBackend | None = None, **card: Any) -> None:
        self.inner = inner or MockBackend()
        self.card = replace(self.inner.card, **card)
        self._score = score

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        if self._score is not None:
            return await self._score(self.inner, query, key)
        return await self.inner.score(query, key=key)

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        return await self.inner.features(query, key=key)

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        return await self.inner.register(texts, subspace)

    async def upload(self, array: NDArray[np.float32]) -> str:
        return await self.inner.upload(array)

    async def aclose(self) -> None:
        await self.inner.aclose()


class WrongDigest(Broken):
    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        return replace(await self.inner.register(texts, subspace), digest="f" * 64)


class NarrowFeatures(Broken):
    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        reply = await self.inner.features(query, key=key)
        return replace(reply, features=reply.features[:, :-1])


class NamelessArrays(Broken):
    async def upload(self, array: NDArray[np.float32]) -> str:
        return (await self.inner.upload(array)).upper()


class ClosesOnce(Broken):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


def changed(change: Callable[[ScoreQuery, NDArray[np.float32]], NDArray[Any]]) -> Score:
    """A score whose logits are changed."""

    async def score(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
        reply = await inner.score(query, key=key)
        return replace(reply, logits=change(query, reply.logits))

    return score


def refusing(unwanted: Callable[[str], bool]) -> Score:
    """A score that refuses a query with a field it does not like."""

    async def score(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
        fields = (
            [] if isinstance(query.texts, str) else [p.text for t in query.texts.texts for p in t if p.kind == "field"]
        )
        if any(map(unwanted, fields)):
            raise InvalidQuery("not this text")
        return await inner.score(query, key=key)

    return score


def drifting() -> Score:
    """A score that is never twice the same, and says it is."""
    calls = iter(range(10**6))
    return changed(lambda _query, logits: logits + np.float32(next(calls)))


def crossed() -> Score:
    """A score that keeps the query of the last call in one place for all."""
    last: list[ScoreQuery] = []

    async def score(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
        last.append(query)
        await asyncio.sleep(0)
        return await inner.score(last[-1], key=key)

    return score


async def sorted_rows(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    return await inner.score(replace(query, rows=query.rows and tuple(sorted(query.rows))), key=key)


async def wrapped_rows(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    size = 4 if isinstance(query.texts, str) else len(query.texts)
    return await inner.score(replace(query, rows=query.rows and tuple(row % size for row in query.rows)), key=key)


async def padded_usage(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    reply = await inner.score(query, key=key)
    return replace(reply, usage=replace(reply.usage, input_tokens=reply.usage.input_tokens + 1))


async def forgotten_keys(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    return await inner.score(query, key=f"{key}/{inner.book.received}")


async def no_unknowns(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    try:
        return await inner.score(query, key=key)
    except UnknownDataset as error:
        raise InvalidQuery("what is this?") from error


def if_precise(change: Callable[[MockBackend, ScoreReply], ScoreReply]) -> Callable[[], Broken]:
    """A backend of few bits whose answers to precise queries are changed."""

    async def score(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
        reply = await inner.score(query, key=key)
        return change(inner, reply) if query.precise else reply

    return lambda: Broken(score=score, inner=MockBackend(precision="bfloat16"))


def of_another_text(_inner: MockBackend, reply: ScoreReply) -> ScoreReply:
    return replace(reply, logits=np.roll(reply.logits, 1, axis=1))


def dearer(_inner: MockBackend, reply: ScoreReply) -> ScoreReply:
    return replace(reply, usage=replace(reply.usage, input_tokens=2 * reply.usage.input_tokens))


def never_twice_the_same(inner: MockBackend, reply: ScoreReply) -> ScoreReply:
    return replace(reply, logits=reply.logits + np.float32(inner.book.received * 1e-5))


async def no_precise_queries(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    if query.precise:
        raise InvalidQuery("precise is unknown")
    return await inner.score(query, key=key)


def reversed_ranks(query: ScoreQuery, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return logits if query.top_k is None else logits[..., ::-1]


async def without_frozen(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    return await inner.score(replace(query, frozen=()), key=key)


async def at_layer_0_alone(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    if query.frozen and query.subspace is not None and query.subspace.layers == (0,):
        query = replace(query, frozen=())
    return await inner.score(query, key=key)


async def at_any_layer(inner: MockBackend, query: ScoreQuery, key: str) -> ScoreReply:
    if query.subspace is not None and max(query.subspace.layers) > 1:
        query = replace(query, subspace=replace(query.subspace, layers=(1,)))
    return await inner.score(query, key=key)


def everything_but(**lacks: Any) -> Capabilities:
    return replace(MockBackend().card.capabilities, **lacks)


BROKEN: list[tuple[str, Callable[[], Broken]]] = [
    ("card", lambda: Broken(hidden_size=0)),
    ("card", lambda: Broken(capabilities=everything_but(layouts=("prefix",)))),
    ("card", lambda: Broken(capabilities=everything_but(projections=("gauss",)))),
    ("label-logits", lambda: Broken(score=changed(lambda _query, logits: logits.astype(np.float64)))),
    ("label-logits", lambda: Broken(score=changed(lambda _query, logits: logits * np.float32("nan")))),
    ("label-logits", lambda: Broken(score=changed(lambda _query, logits: logits[0]))),
    ("soft-prompts", lambda: Broken(score=changed(lambda _query, logits: logits[:1].repeat(len(logits), 0)))),
    ("repeatability", lambda: Broken(score=drifting())),
    ("batching", lambda: Broken(score=changed(lambda _query, logits: logits + np.float32(1e-3 * len(logits))))),
    ("precise", lambda: Broken(score=no_precise_queries, inner=MockBackend(precision="bfloat16"))),
    ("precise", if_precise(of_another_text)),
    ("precise", if_precise(dearer)),
    ("precise", if_precise(never_twice_the_same)),
    ("precise", if_precise(lambda _inner, reply: replace(reply, logits=reply.logits.astype(np.float64)))),
    ("rows", lambda: Broken(score=sorted_rows)),
    ("registration", WrongDigest),
    ("usage", lambda: Broken(score=padded_usage)),
    ("same-key", lambda: Broken(score=forgotten_keys)),
    ("top-k", lambda: Broken(score=changed(reversed_ranks))),
    ("features", NarrowFeatures),
    ("arrays", NamelessArrays),
    ("layers", lambda: Broken(score=without_frozen)),
    ("layers", lambda: Broken(score=at_layer_0_alone)),
    ("layers", lambda: Broken(score=at_any_layer)),
    ("unsupported", lambda: Broken(capabilities=everything_but(top_k=False))),
    ("unsupported", lambda: Broken(capabilities=everything_but(features=False))),
    ("unsupported", lambda: Broken(capabilities=everything_but(layouts=("add",)))),
    ("unsupported", lambda: Broken(capabilities=everything_but(layers=False))),
    ("unsupported", lambda: Broken(capabilities=everything_but(projections=("uniform", "normal")))),
    ("invalid-queries", lambda: Broken(score=wrapped_rows)),
    ("invalid-queries", lambda: Broken(inner=MockBackend(max_candidates=99), max_candidates=64)),
    ("unknown-digests", lambda: Broken(score=no_unknowns)),
    ("plain-text", lambda: Broken(score=refusing(lambda words: "<mask>" in words))),
    ("empty-text", lambda: Broken(score=refusing(lambda words: not words))),
    ("long-text", lambda: Broken(score=refusing(lambda words: len(words) > 1000))),
    ("concurrency", lambda: Broken(score=crossed())),
    ("closing", ClosesOnce),
]


@pytest.mark.parametrize(("rule", "make"), BROKEN, ids=[f"{at}-{rule}" for at, (rule, _) in enumerate(BROKEN)])
async def test_a_broken_backend_is_told_by_its_rule(rule: str, make: Callable[[], Broken]) -> None:
    """A backend that breaks a rule fails the check, and the error names that rule."""
    with pytest.raises(ConformanceError) as caught:
        await check_backend(make(), close=True)
    assert caught.value.rule == rule
    assert str(caught.value).startswith(f"{rule}: ")


def test_every_rule_can_fail() -> None:
    """The table above has a fake for each rule there is."""
    assert {rule for rule, _ in BROKEN} == set(RULES)


async def test_an_unbroken_fake_passes() -> None:
    """The fake without a defect keeps every rule, so each failure above is the defect's."""
    await check_backend(Broken(), close=True)


@pytest.mark.parametrize(
    "capabilities",
    [
        Capabilities(),
        Capabilities(layouts=(), projections=()),
        Capabilities(layouts=("cat",), projections=("normal",), arrays=True, layers=True),
        Capabilities(projections=("identity",), arrays=True, layers=True, deterministic=True),
        Capabilities(top_k=True, deterministic=True),
        Capabilities(features=True, idempotent=True),
        Capabilities(precise=True, deterministic=True),
    ],
)
async def test_a_backend_that_can_less_conforms(capabilities: Capabilities) -> None:
    """What a backend does not claim is not asked of it, but that it says so."""
    await check_backend(MockBackend(capabilities=capabilities), close=True)


async def test_an_unbroken_fake_of_few_bits_passes() -> None:
    """So what is found in those that claim `precise` is their defect."""
    await check_backend(if_precise(lambda _inner, reply: reply)(), close=True)


async def test_precise_is_not_asked_of_who_does_not_claim_it() -> None:
    """A backend that knows no precise queries conforms."""
    await check_backend(Broken(score=no_precise_queries), close=True)


async def test_a_noisy_backend_conforms() -> None:
    """A backend that promises no bits is not held to them."""
    await check_backend(MockBackend(noise=0.5), close=True)


def test_rate_limits_are_waited_out() -> None:
    """A backend with tight quotas conforms too, in its own time."""
    limits = Limits(requests_per_minute=3, concurrency=2)
    backend = MockBackend(limits=limits, latency_s=1.0)
    run_virtual(check_backend(backend, close=True))
    assert backend.book.limited > 0


async def test_an_unwelcome_account_is_not_a_broken_rule() -> None:
    """A wrong API key is raised as it is."""

    async def score(_inner: MockBackend, _query: ScoreQuery, _key: str) -> ScoreReply:
        raise AuthenticationFailed("wrong key")

    with pytest.raises(AuthenticationFailed):
        await check_backend(Broken(score=score))


async def test_any_other_error_is_a_broken_rule() -> None:
    """An error of the backend's own is told with the rule that met it."""

    async def score(_inner: MockBackend, _query: ScoreQuery, _key: str) -> ScoreReply:
        raise KeyError("oops")

    with pytest.raises(ConformanceError, match=r"label-logits: .*KeyError: 'oops'"):
        await check_backend(Broken(score=score))


def test_the_public_names() -> None:
    """What `lmaas_sdk.testing` offers."""
    assert sorted(lmaas_sdk.testing.__all__) == [
        "Attempt",
        "ConformanceError",
        "Fault",
        "FaultInjectingBackend",
        "FaultKind",
        "Faults",
        "VirtualDeadlock",
        "VirtualLoop",
        "check_backend",
        "check_optimizer",
        "run_virtual",
    ]
