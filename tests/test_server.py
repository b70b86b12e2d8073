"""The HTTP API: what each path answers, to whom, and how it refuses."""

from __future__ import annotations

import hashlib
import logging

import pytest
from served import KEYS, served

from lmaas_backends.roberta.accounts import Terms
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.protocol import JSON, TENSORS
from lmaas_backends.roberta.request_bodies import RequestBodies
from lmaas_backends.roberta.wire_card import read_card
from lmaas_backends.roberta.wire_media import asked_form
from lmaas_sdk.backend import Limits, Price
from lmaas_sdk.errors import UnknownDataset, VerbalizerError
from lmaas_sdk.tuning.subspace import Subspace


async def test_free_endpoints_answer() -> None:
    """Models, tokenizer, datasets, arrays, usage, health and ready answer what docs/http-api.md says."""
    async with served() as server:
        card = (await server.ask("GET", "/v1/models"))[1]["models"][0]
        tokenizer = await server.ask("GET", "/v1/models/fake/tokenizer")
        dataset = await server.ask("POST", "/v1/datasets", {"model": "fake", "texts": [["a"], ["b", {"mask": True}]]})
        array = {"dtype": "float32", "shape": [1, 2], "data": "AACAPwAAAEA="}
        upload = await server.ask("POST", "/v1/arrays", {"model": "fake", "array": array})
        probes = [(await server.ask("GET", path, key=None))[:2] for path in ("/health", "/ready")]

    assert (card["name"], card["capabilities"]["idempotent"]) == ("fake", True)
    assert tokenizer[1] == {"tok": 1}
    assert (dataset[1]["token_counts"], dataset[1]["shortened"]) == ([10, 10], 0)
    assert upload[1] == {"digest": "array of (1, 2)"}
    assert probes == [(200, {"status": "ok", "in_flight": 0}), (200, {"status": "ready"})]


async def test_the_answer_has_the_form_of_the_question_or_of_accept() -> None:
    """A frame is answered by a frame, JSON by JSON, unless Accept names the other."""
    frame = b"\x1d\x00\x00\x00" + b'{"model":"fake","texts":"ab"}'
    asked = [{"Content_Type": TENSORS}, {"Content_Type": TENSORS, "Accept": JSON}]
    async with served() as server:
        types = [(await server.ask("POST", "/v1/score", frame, **headers))[2]["content-type"] for headers in asked]
        types += [(await server.score(**headers))[2]["content-type"] for headers in ({}, {"Accept": TENSORS})]

    assert types == [TENSORS, JSON, JSON, TENSORS]


@pytest.mark.parametrize(
    ("accept", "own", "form"),
    [
        ("", JSON, JSON),
        ("*/*", TENSORS, TENSORS),
        (TENSORS, JSON, TENSORS),
        (f"{TENSORS};q=0, {JSON}", TENSORS, JSON),
        (f"{TENSORS};q=0", TENSORS, TENSORS),
        (f"{TENSORS}; q=0.5, {JSON};q=0.8", TENSORS, JSON),
        (f"{JSON};q=0.1, application/*;q=0.9", JSON, TENSORS),
        (f"{JSON}, {TENSORS}", TENSORS, TENSORS),
        (f"{JSON}-seq", TENSORS, TENSORS),
        (f"x-{TENSORS}", JSON, JSON),
        ("text/html", JSON, JSON),
        (f"{JSON};q=much", TENSORS, TENSORS),
        ("APPLICATION/JSON", TENSORS, JSON),
        (",;q=,", JSON, JSON),
    ],
)
def test_accept_is_weighed_by_media_range(accept: str, own: str, form: str) -> None:
    """The most exact range counts for a form, the greater weight wins, and a tie leaves the request's own form."""
    assert form == asked_form(accept, own)


NOTHING = {"calls": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "nanousd": 0, "replayed": 0}
UNUSED = NOTHING | {"quotas": {}}


async def test_usage_is_billed_by_key_and_endpoint() -> None:
    """Each key sees its own calls, tokens and money, at each endpoint and in all, and nothing of others."""
    async with served(terms=Terms(Price(400_000_000))) as server:
        for _ in range(2):
            assert (await server.score())[0] == 200
        await server.ask("POST", "/v1/features", {"model": "fake", "texts": "a"})
        usage = [
            (await server.ask("GET", "/v1/usage", key=key))[1]["usage"]
            for key in ("test-key-of-ann", "test-key-of-bob")
        ]

    score, features = ({"calls": n, "input_tokens": 10 * n, "nanousd": 4_000 * n} for n in (2, 1))
    spent = NOTHING | {"calls": 3, "input_tokens": 30, "nanousd": 12_000, "balance_nanousd": None}
    idle = NOTHING | {"balance_nanousd": None, "endpoints": {"score": UNUSED, "features": UNUSED}}
    assert [
        {"ann": spent | {"endpoints": {"score": UNUSED | score, "features": UNUSED | features}}},
        {"bob": idle},
    ] == usage


async def test_each_key_is_shown_its_own_terms() -> None:
    """The card that a key gets has the price, the limits and the limits of endpoints that hold for it."""
    default = Terms(Price(400_000_000), Limits(requests_per_minute=60))
    own = Terms(None, Limits(10), endpoint_limits=(("features", Limits(20, requests_per_day=5)),))
    async with served(terms=default, own_terms={"bob": own}) as server:
        told = [(await server.ask("GET", "/v1/models", key=f"test-key-of-{name}"))[1] for name in ("ann", "bob")]
    cards = [read_card(answer["models"][0]) for answer in told]

    assert [(Price(400_000_000), Limits(60)), (None, Limits(10))] == [(card.price, card.limits) for card in cards]
    assert [Limits(60), Limits(20, requests_per_day=5)] == [card.limits_of("features") for card in cards]
    assert [Limits(60), Limits(10)] == [card.limits_of("score") for card in cards]


async def test_a_key_may_be_told_to_the_server_by_its_hash() -> None:
    """An entry with the SHA-256 of a key lets that key in, and not the hash itself."""
    digest = hashlib.sha256(b"test-key-of-cleo").hexdigest()
    async with served(keys=(f"cleo=sha256:{digest}", "ann=test-key-of-ann")) as server:
        statuses = [
            (await server.ask("GET", "/v1/usage", key=key))[0]
            for key in ("test-key-of-cleo", f"sha256:{digest}", digest)
        ]

    assert statuses == [200, 401, 401]


HASH_OF_K = hashlib.sha256(b"k").hexdigest()


@pytest.mark.parametrize(
    "entries",
    [("ann=sha256:12",), ("ann=sha256:" + "g" * 64,), ("ann=k", f"bob=sha256:{hashlib.sha256(b'k').hexdigest()}")],
)
def test_a_hash_that_is_none_or_comes_twice_is_refused(entries: tuple[str, ...]) -> None:
    """A hash of another length, one that is not hexadecimal, and one of a key that is there already."""
    with pytest.raises(ValueError, match=f"entry {len(entries)} "):
        ApiKeys(entries)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic test-key-of-ann"}])
async def test_a_missing_or_wrong_key_is_401(headers: dict[str, str]) -> None:
    """No path of the API answers without a right key."""
    paths = [("GET", "/v1/models"), ("POST", "/v1/score"), ("GET", "/v1/usage"), ("GET", "/v1/models/fake/tokenizer")]
    async with served() as server:
        answers = [await server.ask(method, path, key=None, **headers) for method, path in paths]

    assert [(status, told["error"]["type"]) for status, told, _ in answers] == [(401, "authentication_failed")] * 4


async def test_keys_are_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    """Neither right nor wrong keys are logged, and what holds them does not show them."""
    caplog.set_level(logging.DEBUG)
    async with served() as server:
        server.engine.error = RuntimeError("a defect")
        statuses = [(await server.score(key=key))[0] for key in ("test-key-of-ann", "test-key-of-mallory")]
    held = ApiKeys(KEYS)
    with pytest.raises(ValueError, match="entry 2 ") as caught:
        ApiKeys(("ann=test-key-of-ann", "test-key-of-bob"))
    everything = caplog.text + repr(held) + repr(vars(held)) + str(caught.value)

    assert statuses == [500, 401]
    assert "ann POST /v1/score 500" in caplog.text
    assert "key-of" not in everything


async def test_without_keys_anyone_on_loopback_may_call() -> None:
    """A server without keys answers without Authorization and bills one account."""
    async with served(keys=()) as server:
        assert (await server.score(key=None))[0] == 200
        assert list((await server.ask("GET", "/v1/usage", key=None))[1]["usage"]) == ["anyone"]


SCORE = {"model": "fake", "texts": "a"}
BAD_REQUESTS: dict[str, tuple[str, str, object, dict[str, str], int, str]] = {
    "no such path": ("GET", "/v2/models", None, {}, 404, "not_found"),
    "wrong method": ("GET", "/v1/score", None, {}, 405, "method_not_allowed"),
    "empty body": ("POST", "/v1/score", b"", {}, 400, "malformed_body"),
    "not json": ("POST", "/v1/score", b"{", {}, 400, "malformed_body"),
    "json that is no object": ("POST", "/v1/score", [1], {}, 400, "malformed_body"),
    "form data": (
        "POST",
        "/v1/score",
        b"a=1",
        {"Content_Type": "application/x-www-form-urlencoded"},
        400,
        "malformed_body",
    ),
    "broken frame": ("POST", "/v1/score", b"\xff\xff\xff\xff{}", {"Content_Type": TENSORS}, 400, "malformed_body"),
    "not gzip": ("POST", "/v1/score", b"{}", {"Content_Encoding": "gzip"}, 415, "content_encoding"),
    "no model": ("POST", "/v1/score", {"texts": "a"}, {}, 422, "invalid_query"),
    "another model": ("POST", "/v1/score", {"model": "x", "texts": "a"}, {}, 404, "unknown_model"),
    "another tokenizer": ("GET", "/v1/models/a/b/tokenizer", None, {}, 404, "unknown_model"),
    "unknown field": ("POST", "/v1/features", {"model": "fake", "texts": "a", "x": 1}, {}, 422, "invalid_query"),
    "unknown pool": ("POST", "/v1/features", {"model": "fake", "texts": "a", "pool": "max"}, {}, 422, "invalid_query"),
    "no array": ("POST", "/v1/arrays", {"model": "fake"}, {}, 422, "invalid_query"),
    "empty set": ("POST", "/v1/datasets", {"model": "fake", "texts": []}, {}, 422, "invalid_query"),
    "too many rows": ("POST", "/v1/score", {"model": "fake", "texts": "a", "rows": [0, 1, 2, 3]}, {}, 413, "too_large"),
    "too many texts": ("POST", "/v1/score", {"model": "fake", "texts": {"texts": [[""]] * 4}}, {}, 413, "too_large"),
    "body too large": ("POST", "/v1/score", b" " * 200_001, {}, 413, "too_large"),
    "large and wrong": ("POST", "/v1/score", b" " * 100_000 + b"{", {}, 400, "malformed_body"),
    "key too long": (
        "POST",
        "/v1/score",
        {"model": "fake", "texts": "a"},
        {"Idempotency_Key": "k" * 256},
        422,
        "invalid_query",
    ),
    "wide prompt": (
        "POST",
        "/v1/datasets",
        {"model": "fake", "texts": [[""]], "subspace": Subspace(2, 3, 5).to_wire()},
        {},
        422,
        "invalid_query",
    ),
    "huge projection": (
        "POST",
        "/v1/datasets",
        {"model": "fake", "texts": [[""]], "subspace": Subspace(10**9, 3, 4).to_wire()},
        {},
        413,
        "too_large",
    ),
}


async def test_a_prompt_without_a_projection_is_not_too_large() -> None:
    """Where z is the prompt no matrix is built: what would be 576 MB of one is let in."""
    subspace = Subspace(12_000, 3000, 4, projection="identity")
    async with served() as server:
        status, _, _ = await server.ask(
            "POST", "/v1/datasets", {"model": "fake", "texts": [[""]], "subspace": subspace.to_wire()}
        )
    assert status == 200


@pytest.mark.parametrize("row", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_bad_request_is_a_4xx_in_json(row: tuple[str, str, object, dict[str, str], int, str]) -> None:
    """Every malformed request is answered by JSON with type, message and hint, and nothing is computed."""
    method, path, body, headers, status, kind = row
    async with served(bodies=RequestBodies(most_bytes=200_000)) as server:
        found, told, _ = await server.ask(method, path, body, **headers)

    assert (status, kind, []) == (found, told["error"]["type"], server.engine.scored)
    assert {"type", "message", "hint"} == set(told["error"])
    assert all(told["error"].values())


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (UnknownDataset("no set a"), 404, "unknown_dataset"),
        (VerbalizerError("' greatest' is two tokens"), 422, "verbalizer_error"),
        (ZeroDivisionError("secret detail"), 500, "server_fault"),
    ],
)
async def test_errors_of_the_engine_are_told(error: Exception, status: int, kind: str) -> None:
    """What the engine refuses is the client's error; what breaks in it is a 500 without details. Neither is billed."""
    async with served(terms=Terms(Price(1_000_000), balance_nanousd=10)) as server:
        server.engine.error = error
        found, told, _ = await server.score()
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert (status, kind, 0, 10) == (found, told["error"]["type"], usage["calls"], usage["balance_nanousd"])
    assert "secret" not in told["error"]["message"]
