"""A model on this machine: served by a child process, or computed in this one."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from lmaas_backends.remote import open_backend as connect
from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_backends.roberta.server_options import add_arguments
from lmaas_backends.server_process import started_server
from lmaas_sdk.backend import Backend

__all__ = ["open_backend"]

_OURS = ("model", "host", "port", "device", "threads", "dtype", "linears", "exit_with_parent", "tls_cert", "tls_key")


def open_backend(
    spec: str,
    *,
    in_process: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    dtype: str = "float32",
    linears: str = "auto",
    startup_timeout_s: float = 120.0,
    **server_options: object,
) -> AbstractAsyncContextManager[Backend]:
    """A local model, for `async with`.

    Args:
        spec: `roberta-tiny` (bundled), the folder of a masked language model, or its name on the hub.
        in_process: Compute in this process instead of a server's; it then has neither price nor limits, and torch's own
            number of threads becomes 1 here.
        device, threads, dtype, linears: As the options of `lmaas serve`.
        startup_timeout_s: How long starting the server and loading the model may take.
        server_options: Further options of `lmaas serve`, such as `price_usd_per_1k_tokens="0.0004"`.

    Raises:
        TypeError: `lmaas serve` has no such option, or one makes no sense in this process.
        ValueError: An option's value is out of its range.
    """
    computing: dict[str, object] = {"threads": threads, "dtype": dtype, "linears": linears}
    if in_process:
        if server_options:
            raise TypeError(f"in_process=True has no server to take {', '.join(sorted(server_options))}")
        _parsed(_arguments(computing))
        return InProcessBackend(spec, device=device, **computing)
    # "--model=..." in one word, so that no name is taken for an option
    arguments = [f"--model={spec}", f"--device={device}", *_arguments(computing), *_checked(server_options)]
    _parsed(arguments)
    return _served(arguments, startup_timeout_s)


@asynccontextmanager
async def _served(arguments: list[str], startup_timeout_s: float) -> AsyncIterator[Backend]:
    async with (
        started_server(arguments, startup_timeout_s=startup_timeout_s) as server,
        connect(server.url, api_key=server.api_key) as backend,
    ):
        yield backend


def _checked(options: dict[str, object]) -> list[str]:
    known = sorted(set(vars(_parsed([]))) - set(_OURS))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"a local server has no option {unknown[0]}; it has {', '.join(known)}")
    return _arguments(options)


def _arguments(options: dict[str, object]) -> list[str]:
    """Keyword arguments as the options of a command line; None leaves one out."""
    spelled = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            spelled.append(option)
        elif value is not None and value is not False:
            spelled.append(f"{option}={value}")
    return spelled


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    try:
        return parser.parse_args(arguments)
    except argparse.ArgumentError as error:
        raise ValueError(f"a local server cannot take this: {error}") from error
