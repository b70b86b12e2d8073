"""The server, with the bundled model, against every hostile request of `fuzz`: 4xx in JSON, and it serves on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz import sockets
from fuzz.bodies import GOOD, ODD, cases, places, spelled, with_odd
from fuzz.wire import Answer, Wire, posted
from hypothesis import given, settings
from hypothesis import strategies as some
from served import in_a_thread, served

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.model import load_model
from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.request_bodies import RequestBodies
from lmaas_backends.roberta.wire_errors import KINDS

STATUSES = {kind.name: kind.status for kind in KINDS}
GOOD_REQUESTS = {name: posted(good.path, good.media_type, good.body) for name, good in GOOD.items()}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with in_a_thread(served(engine=Engine(load_model("roberta-tiny")))) as found:
        yield found


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    with Wire(url) as connected:
        yield connected


@pytest.fixture
def hasty_wire() -> Iterator[Wire]:
    """To a server that soon gives up on slow clients."""
    hasty = served(bodies=RequestBodies(deadline_s=0.1), site={"silence_s": 0.3})
    with in_a_thread(hasty) as url, Wire(url) as connected:
        yield connected


@pytest.fixture(scope="module")
def good_answers(url: str) -> dict[str, bytes]:
    """What the good requests are answered, before anything hostile."""
    return answers_to_good(url)


def answers_to_good(url: str) -> dict[str, bytes]:
    with Wire(url) as connected:
        answers = {name: connected.ask(request) for name, request in GOOD_REQUESTS.items()}
    assert {200} == {answer and answer.status for answer in answers.values()}
    return {name: answer.body for name, answer in answers.items() if answer}


def fault_of(answer: Answer | None) -> str:
    """What is wrong with an answer that is to be 4xx in the API's JSON; "" where nothing is."""
    if answer is None:
        return "the connection was closed"
    if not 400 <= answer.status < 500:
        return f"{answer.status} {answer.body[:100]!r}"
    try:
        error = answer.json()["error"]
        told = [error.pop(name) for name in ("type", "message", "hint")]
    except (ValueError, LookupError) as fault:
        return f"{answer.status} with another body: {fault!r}"
    if error or not all(isinstance(text, str) and text for text in told) or len(answer.body) > 3000:
        return f"{answer.status} with another error: {answer.body[:100]!r}"
    return (
        ""
        if (answer.headers.get("content-type"), STATUSES.get(told[0])) == (JSON, answer.status)
        else f"{answer.status} as {told[0]}"
    )


def test_no_hostile_body_gets_more_than_a_refusal(url: str, wire: Wire, good_answers: dict[str, bytes]) -> None:
    """Every body of the corpus is refused in JSON, or answered because it is good after all; nothing breaks."""
    faults, answered = {}, 0
    for case in cases():
        answer = wire.ask(posted(case.path, case.media_type, case.body))
        if answer is not None and answer.status == 200:
            answered += 1
        elif fault := fault_of(answer):
            faults[case.name] = fault
    assert {} == faults
    assert 0 < answered < 400
    assert good_answers == answers_to_good(url)


@pytest.mark.parametrize("name", sockets.UNREADABLE)
def test_what_is_no_http_is_refused_in_json(name: str, url: str, wire: Wire, good_answers: dict[str, bytes]) -> None:
    """It is answered by a 4xx of the API, never by a page; the server serves on."""
    assert "" == fault_of(wire.ask(sockets.UNREADABLE[name]))
    assert good_answers["score"] == ask_good(url)


def ask_good(url: str) -> bytes:
    with Wire(url) as another:
        answer = another.ask(GOOD_REQUESTS["score"])
    assert answer is not None
    return answer.body


@pytest.mark.parametrize("name", sockets.HEADERS)
def test_an_odd_head_is_refused_in_json(name: str, url: str, wire: Wire, good_answers: dict[str, bytes]) -> None:
    """Headers and paths that the API does not know are a 4xx each."""
    assert "" == fault_of(wire.ask(sockets.HEADERS[name]))
    assert good_answers["score"] == ask_good(url)


@pytest.mark.parametrize("name", sockets.HARMLESS)
def test_what_only_looks_odd_is_answered(name: str, wire: Wire, good_answers: dict[str, bytes]) -> None:
    """A good request in another dress gets the good answer."""
    answer = wire.ask(sockets.HARMLESS[name])
    assert answer is not None
    assert (200, good_answers["score"]) == (answer.status, answer.body)


@pytest.mark.parametrize("name", sockets.TRUNCATED)
def test_what_is_cut_off_is_dropped(name: str, url: str, wire: Wire, good_answers: dict[str, bytes]) -> None:
    """A client that ends in the middle of its request gets no answer."""
    assert wire.ask(sockets.TRUNCATED[name], half_close=True) is None
    assert good_answers["score"] == ask_good(url)


@pytest.mark.parametrize("name", sockets.TRUNCATED)
def test_a_client_that_stops_sending_is_given_up(name: str, hasty_wire: Wire) -> None:
    """It keeps the connection open: at the deadline a body is 408, and a head ends with the connection."""
    answer = hasty_wire.ask(sockets.TRUNCATED[name])
    found = None if answer is None else (answer.status, answer.json()["error"]["type"])
    assert (None if name in sockets.HEADLESS else (408, "body_timeout")) == found


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_head_that_comes_a_byte_at_a_time_is_given_up(before: bytes, hasty_wire: Wire) -> None:
    """Bytes that go on coming do not put the deadline off, neither on a new connection nor after an answer."""
    assert not before or hasty_wire.ask(before) is not None
    assert hasty_wire.dribble(b"GET /health HTTP/1.1\r\nX: ", b"x") is None


def test_a_body_that_comes_a_byte_at_a_time_is_given_up(hasty_wire: Wire) -> None:
    """Likewise for a body, which gets its 408."""
    announced = sockets.TRUNCATED["half a body"]
    answer = hasty_wire.dribble(announced[: announced.index(b"\r\n\r\n") + 4], b" ")
    assert answer is not None
    assert 408 == answer.status


def test_garbage_behind_a_request_ends_the_connection(url: str, wire: Wire, good_answers: dict[str, bytes]) -> None:
    """What comes after a good request, and is none, is 400 and the end."""
    asked = [GOOD_REQUESTS["score"], b"\0\0 no request\r\n\r\n" + GOOD_REQUESTS["score"], b""]
    answers = [wire.ask(request) for request in asked]
    assert [200, 400, None] == [answer and answer.status for answer in answers]
    assert good_answers == answers_to_good(url)


def test_many_requests_at_once_are_answered_in_order(wire: Wire, good_answers: dict[str, bytes]) -> None:
    """A hundred pipelined requests, every other one refused, get a hundred answers."""
    refused = posted("/v1/score", JSON, b"{")
    bodies = [wire.ask((GOOD_REQUESTS["score"] + refused) * 50)] + [wire.ask() for _ in range(99)]
    statuses = [answer.status for answer in bodies if answer]
    assert [200, 400] * 50 == statuses
    assert {good_answers["score"]} == {answer.body for answer in bodies[::2] if answer}


Mutant = tuple[str, bytes]
NAMES = some.sampled_from(sorted(GOOD))
ODD_TEXTS = some.sampled_from(sorted(ODD)).map(ODD.__getitem__)


@some.composite
def mutated_bodies(draw: some.DrawFn) -> Mutant:
    """A good request, and its body after up to four bytes were flipped, cut out or put in."""
    name = draw(NAMES)
    body = bytearray(GOOD[name].body)
    for _ in range(draw(some.integers(1, 4))):
        start = draw(some.integers(0, len(body)))
        end = start + draw(some.integers(0, 4))
        body[start:end] = draw(some.binary(max_size=4))
    return name, bytes(body[: draw(some.integers(0, len(body)))] if draw(some.booleans()) else body)


@some.composite
def mutated_values(draw: some.DrawFn) -> Mutant:
    """A good request, and its body with one or two values replaced by odd ones, anywhere in it."""
    name = draw(NAMES)
    good = GOOD[name]
    path = draw(some.sampled_from(list(places(good.fields))))
    odd = draw(some.one_of(ODD_TEXTS, JSON_VALUES.map(json.dumps), ODD_OBJECTS))
    return name, spelled(good, with_odd(good.fields, path, odd))


JSON_VALUES: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
ODD_OBJECTS = some.lists(
    some.tuples(some.sampled_from(["template", "mask", "words", "dtype", "shape", "data", "x"]), ODD_TEXTS), max_size=3
).map(lambda pairs: "{" + ",".join(f'"{name}":{odd}' for name, odd in pairs) + "}")


@settings(max_examples=300)
@given(some.one_of(mutated_bodies(), mutated_values()))
def test_a_mutant_gets_no_more_than_a_refusal(url: str, good_answers: dict[str, bytes], mutant: Mutant) -> None:
    """A good body with random harm is refused in JSON or is still good; the engine answers as before."""
    name, body = mutant
    with Wire(url) as wire:
        answer = wire.ask(posted(GOOD[name].path, GOOD[name].media_type, body))
        assert answer is not None
        assert answer.status == 200 or "" == fault_of(answer)
        again = wire.ask(GOOD_REQUESTS[name])
    assert again is not None
    assert good_answers[name] == again.body
