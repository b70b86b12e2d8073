"""Backends and servers by name."""

from __future__ import annotations

from typing import Any

import pytest

from lmaas_sdk import BackendUnavailable, LmaasError, load_backend
from lmaas_sdk.registry import load_server


async def test_registered_name_opens_its_backend() -> None:
    """`mock` is the mock, and options reach it."""
    async with load_backend("mock", name="mine", hidden_size=32) as backend:
        assert (backend.card.name, backend.card.hidden_size) == ("mine", 32)


async def test_url_connects_and_a_server_that_is_not_there_is_named() -> None:
    """The message holds the address and what to do."""
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:9.*lmaas serve"):
        async with load_backend("http://127.0.0.1:9"):
            pass


async def test_a_url_is_one_in_capitals_too() -> None:
    """The scheme of a URL has no case."""
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:9"):
        async with load_backend("HTTP://127.0.0.1:9"):
            pass


@pytest.mark.parametrize("spec", [None, 3, b"mock"], ids=repr)
def test_what_is_no_string_is_refused(spec: Any) -> None:
    """The message says what is taken instead."""
    with pytest.raises(TypeError, match=r"a server's URL, a registered name .*, not .* of (NoneType|int|bytes)"):
        load_backend(spec)


@pytest.mark.parametrize(
    ("spec", "advice"), [("remote", "http://127.0.0.1:8080"), ("local", "path or hub name"), (" ", "an empty name")]
)
def test_names_that_open_nothing_by_themselves_say_what_to_give(spec: str, advice: str) -> None:
    """`remote` needs a URL and `local` a model, and an empty name is none."""
    with pytest.raises(LmaasError, match=advice):
        load_backend(spec)


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        ([], LmaasError, "an empty name"),
        (["mock"], LmaasError, "a name or a path is given by itself"),
        (["http://h", "ftp://h"], LmaasError, "starts with http"),
        (["http://h", None], TypeError, "each as a string, not NoneType"),
        (["http://h", "http://h/"], ValueError, "the server http://h is given twice"),
        ("http://h, HTTP://H:80", ValueError, "the server http://h is given twice"),
        ("http://h,h:2", ValueError, "write the server's URL as"),
        ("http://h,", ValueError, "write the server's URL as"),
    ],
    ids=repr,
)
def test_lists_hold_urls_that_differ(spec: Any, error: type[Exception], told: str) -> None:
    """What else stands in a list, or between commas, is refused before anything is opened."""
    with pytest.raises(error, match=told):
        load_backend(spec)


@pytest.mark.parametrize(
    "spec", ["http://127.0.0.1:9, http://127.0.0.1:10", ["http://127.0.0.1:9", "http://127.0.0.1:10"]]
)
async def test_servers_that_are_not_there_are_all_named(spec: Any) -> None:
    """None of several answers, however they were given."""
    with pytest.raises(BackendUnavailable, match=r"none of 2 servers answers: .*127\.0\.0\.1:9 .*127\.0\.0\.1:10 "):
        async with load_backend(spec):
            pass


def test_unknown_option_is_a_type_error() -> None:
    """A misspelt option does not pass in silence."""
    with pytest.raises(TypeError, match="hiden_size"):
        load_backend("mock", hiden_size=32)


def test_the_server_is_found_and_an_unknown_one_named() -> None:
    """`lmaas serve` runs what is installed."""
    assert callable(load_server().run)
    with pytest.raises(LmaasError, match="'nginx' is installed; installed: roberta"):
        load_server("nginx")
