"""URLs of several servers, as they are given in one."""

from __future__ import annotations

from collections.abc import Sequence

from yarl import URL

from lmaas_sdk.secret import Secret

__all__ = ["check_differ", "secret_urls"]


def secret_urls(given: str) -> list[Secret]:
    """The URLs with commas between them; each may hold a key where none belongs."""
    return [Secret(url.strip()) for url in given.split(",")]


def check_differ(urls: Sequence[URL]) -> None:
    """Refuses a server that is given twice, whichever way it is written.

    Args:
        urls: Of the servers, without keys.

    Raises:
        ValueError: Two are the same.
    """
    servers = [str(url).rstrip("/") for url in urls]
    twice = next((server for server in servers if servers.count(server) > 1), None)
    if twice is not None:
        raise ValueError(f"the server {twice} is given twice: give each of several servers once")
