"""A server as a child process that lives no longer than its parent."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from lmaas_sdk.errors import (
    BackendUnavailable,
    CorruptModel,
    LmaasError,
    MissingExtra,
    ModelLoadError,
    NoLanguageModelHead,
)
from lmaas_sdk.secret import Secret

__all__ = ["RunningServer", "started_server"]

_MODULE = "lmaas_backends.roberta.server"
_KEYS_VARIABLE = "LMAAS_SERVER_API_KEYS"
_KEY_NAME = "local"
_KEY_PREFIX = "lmaas-local-"  # by which a key can be told, and looked for, wherever it may turn up
_LOAD_ERRORS: dict[str, type[LmaasError]] = {
    error.__name__: error for error in (CorruptModel, MissingExtra, ModelLoadError, NoLanguageModelHead)
}
_STDOUT, _STDERR = 1, 2
_KEPT_STDERR_BYTES = 8 << 10
_TERM_WAIT_S = 35.0  # a drain takes up to 30 s


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a child server listens. Its key lives as long as it does.

    Args:
        url: Its URL on loopback.
        api_key: The only key it takes.
        pid: Its process id.
    """

    url: str
    api_key: str = field(repr=False)
    pid: int


class _Child(asyncio.SubprocessProtocol):
    """Reads the child's first line and the end of its stderr, and drains both pipes for as long as it lives."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first_line: asyncio.Future[bytes] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self._stdout = bytearray()
        self._stderr: deque[int] = deque(maxlen=_KEPT_STDERR_BYTES)

    @property
    def stderr_tail(self) -> str:
        """The last 8 KiB of its stderr."""
        return bytes(self._stderr).decode("utf-8", "replace").strip()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keeps the end of stderr and the first line of stdout."""
        if fd == _STDERR:
            self._stderr.extend(data)
        elif not self.first_line.done():
            self._stdout += data
            if b"\n" in self._stdout:
                self.first_line.set_result(bytes(self._stdout).partition(b"\n")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once the process has ended and all its pipes are read."""
        if not self.exited.done():
            self.exited.set_result(None)
        if not self.first_line.done():
            self.first_line.set_result(b"")


@asynccontextmanager
async def started_server(arguments: Sequence[str], *, startup_timeout_s: float) -> AsyncIterator[RunningServer]:
    """Starts a server on a free loopback port and yields it once it takes calls; leaving ends it.

    Args:
        arguments: Options of `lmaas serve`, without port and keys.
        startup_timeout_s: How long loading may take.

    Raises:
        ModelLoadError: The model cannot be loaded; class and message are the server's own.
        MissingExtra: So is this one, where a package is not installed.
        BackendUnavailable: It did not start for another reason, or not in time.
    """
    api_key = Secret(_KEY_PREFIX + secrets.token_urlsafe(24))
    # -P: -m alone would import from the current folder first, whatever files of ours or torch's names lie there.
    command = [sys.executable, "-P", "-m", _MODULE, *arguments, "--port", "0", "--exit-with-parent"]
    # The pipe at the child's stdin tells it that this process has gone, however that happened. In a session of its own
    # it gets no Ctrl-C of the terminal: its parent decides what becomes of the calls in flight.
    transport, child = await _spawned(command, api_key)
    try:
        url = await _url(transport, child, startup_timeout_s)
        yield RunningServer(url, api_key, transport.get_pid())
    finally:
        await _end(transport, child)


async def _spawned(command: Sequence[str], api_key: Secret) -> tuple[asyncio.SubprocessTransport, _Child]:
    try:
        return await asyncio.get_running_loop().subprocess_exec(
            _Child, *command, env=os.environ | {_KEYS_VARIABLE: f"{_KEY_NAME}={api_key}"}, start_new_session=True
        )
    except OSError as error:
        failure = BackendUnavailable(f"no process could be started for the local server: {error}")
    raise failure  # here, where no cause hangs on it: asyncio's frames hold the environment, and so the key


async def _url(transport: asyncio.SubprocessTransport, child: _Child, startup_timeout_s: float) -> str:
    try:
        async with asyncio.timeout(startup_timeout_s):
            line = await asyncio.shield(child.first_line)
            if not line:
                await asyncio.shield(child.exited)
    except TimeoutError as error:
        raise BackendUnavailable(
            f"the local server was not ready within {startup_timeout_s:g} s (startup_timeout_s=); {_told(child)}"
        ) from error
    if not line:
        code = transport.get_returncode()
        raise BackendUnavailable(f"the local server ended with exit code {code}; {_told(child)}")
    return _read_first_line(line, child)


def _read_first_line(line: bytes, child: _Child) -> str:
    """The URL that the child tells, or the error that kept it from serving."""
    try:
        told = json.loads(line)
        if "url" in told:
            return cast("str", told["url"])
        name, message = told["error"]["type"], told["error"]["message"]
    except (ValueError, TypeError, KeyError) as error:
        raise BackendUnavailable(f"the local server began with {line[:80]!r}, not its URL; {_told(child)}") from error
    raise _LOAD_ERRORS.get(name, BackendUnavailable)(message)


def _told(child: _Child) -> str:
    return f"its last words: {child.stderr_tail}" if child.stderr_tail else "it said nothing"


async def _end(transport: asyncio.SubprocessTransport, child: _Child) -> None:
    """SIGTERM, and SIGKILL when that does not help; returns when the process is reaped and its pipes are closed."""
    try:
        if transport.get_returncode() is None:
            transport.terminate()
        async with asyncio.timeout(_TERM_WAIT_S):
            await asyncio.shield(child.exited)
    except TimeoutError:
        transport.kill()
        await asyncio.shield(child.exited)
    finally:
        transport.close()
