"""Backends and servers by name: whatever is installed under the entry-point groups, ours and others' alike."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from lmaas_sdk.backend import Backend
from lmaas_sdk.errors import LmaasError

__all__ = ["ServerCommand", "load_backend", "load_server"]

_BACKENDS, _SERVERS = "lmaas_sdk.backends", "lmaas_sdk.servers"

BackendFactory = Callable[..., AbstractAsyncContextManager[Backend]]


class ServerCommand(Protocol):
    """What an entry point of group `lmaas_sdk.servers` names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the server's options."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Serves until told to stop, and returns the exit code."""
        ...


def load_backend(spec: str, **options: object) -> AbstractAsyncContextManager[Backend]:
    """A backend, opened by `async with`.

    Args:
        spec: `http://host:port` connects to a server; a registered name (`roberta-tiny`, `mock`) opens that backend;
            anything else is the path or hub name of a masked language model, which is served on this machine.
        options: Passed to the backend's factory.

    Raises:
        LmaasError: No installed backend answers to the name.
        TypeError: The backend takes no such option.
    """
    names = {point.name: point for point in entry_points(group=_BACKENDS)}
    point = names.get("remote") if spec.startswith(("http://", "https://")) else names.get(spec, names.get("local"))
    if point is None:
        raise LmaasError(f"no installed backend answers to {spec!r}; installed: {', '.join(sorted(names)) or 'none'}")
    factory = cast("BackendFactory", point.load())
    return factory(spec, **options)


def load_server(name: str | None = None) -> ServerCommand:
    """A server by the name of its entry point; None: the only one, or the first by name.

    Raises:
        LmaasError: None is installed under that name.
    """
    points = {point.name: point for point in sorted(entry_points(group=_SERVERS), key=_name)}
    wanted = name or next(iter(points), None)
    if wanted is None or wanted not in points:
        raise LmaasError(f"no server {name or ''!r} is installed; installed: {', '.join(points) or 'none'}")
    return cast("ServerCommand", points[wanted].load())


def _name(point: EntryPoint) -> str:
    return point.name
