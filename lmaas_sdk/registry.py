"""Backends and servers by name: whatever is installed under the entry-point groups, ours and others' alike."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from lmaas_sdk.backend import Backend
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.secret import Secret

__all__ = ["ServerCommand", "load_backend", "load_server"]

_BACKENDS, _SERVERS = "lmaas_sdk.backends", "lmaas_sdk.servers"
_TAKES = "a server's URL, a registered name such as 'roberta-tiny', or the path or hub name of a model"
_RESERVED = {
    "remote": "'remote' is no model: give the server's URL, such as load_backend('http://127.0.0.1:8080')",
    "local": "'local' is no model: give its path or hub name, such as load_backend('./local') for a folder so called",
}

BackendFactory = Callable[..., AbstractAsyncContextManager[Backend]]


class ServerCommand(Protocol):
    """What an entry point of group `lmaas_sdk.servers` names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the server's options."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Serves until told to stop, and returns the exit code."""
        ...


def load_backend(spec: str | Sequence[str], **options: object) -> AbstractAsyncContextManager[Backend]:
    """A backend, opened by `async with`.

    Args:
        spec: `http://host:port` connects to a server, several of these in a list or with commas between them to the
            servers of one service, which share the calls; a registered name (`roberta-tiny`, `mock`) opens that
            backend; anything else is the path or hub name of a masked language model, which is served on this machine.
            `remote` and `local` are the names of those two ways and open nothing by themselves.
        options: Passed to the backend's factory.

    Raises:
        LmaasError: No installed backend answers to the name, or it is empty or one of those two; or it is a URL of
            another kind, or a list holds anything else.
        TypeError: `spec` is no string and no list of strings, or the backend takes no such option.
    """
    if isinstance(spec, (list, tuple)):
        spec = [Secret(url) if isinstance(url, str) else url for url in spec]  # here, where a variable had shown them
        spec = _joined(spec)
    if not isinstance(spec, str):
        raise TypeError(f"load_backend takes {_TAKES}, each as a string, not {spec!r:.80} of {type(spec).__name__}")
    if not spec.strip() or spec in _RESERVED:
        raise LmaasError(_RESERVED.get(spec, f"an empty name opens no backend: load_backend takes {_TAKES}"))
    names = {point.name: point for point in entry_points(group=_BACKENDS)}
    is_url = "://" in spec or spec.lower().startswith(("http:", "https:"))
    if is_url:
        spec = Secret(spec)  # it may hold a key where none belongs
        _check_scheme(spec)
    point = names.get("remote") if is_url else names.get(spec, names.get("local"))
    if point is None:
        raise LmaasError(f"no installed backend answers to {spec!r}; installed: {', '.join(sorted(names)) or 'none'}")
    if isinstance(options.get("api_key"), str):
        options["api_key"] = Secret(options["api_key"])
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


def _joined(urls: Sequence[object]) -> Secret:
    """The URLs of a list as one string. A comma within one, in its path say, is spelled otherwise."""
    for url in urls:
        if not isinstance(url, Secret):
            raise TypeError(f"a list holds the URLs of a service's servers, each as a string, not {type(url).__name__}")
        if "://" not in url:
            raise LmaasError("a list holds the URLs of a service's servers; a name or a path is given by itself")
        _check_scheme(url)
    return Secret(",".join(str(url).replace(",", "%2C") for url in urls))


def _check_scheme(url: Secret) -> None:
    """Refuses a URL of another kind, or a slip of the pen in one, without telling any of it."""
    if not url.lower().startswith(("http://", "https://")):
        raise LmaasError("a server's URL starts with http:// or https://, and no model has a name like another URL")


def _name(point: EntryPoint) -> str:
    return point.name
