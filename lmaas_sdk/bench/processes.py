"""The processes of a measurement, each real and alone: a server as `lmaas serve` starts it, and its user."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lmaas_sdk import errors
from lmaas_sdk.errors import (
    BackendError,
    BackendUnavailable,
    CorruptModel,
    InvalidQuery,
    LmaasError,
    MissingExtra,
    ModelLoadError,
    NoLanguageModelHead,
    TaskError,
    Unsupported,
)
from lmaas_sdk.secret import Secret

__all__ = ["Child", "Served", "served", "user_process"]

_SERVER, _USER = "lmaas_sdk.cli", "lmaas_sdk.bench.user_process"
_KEYS_VARIABLE, _KEY_VARIABLE = "LMAAS_SERVER_API_KEYS", "LMAAS_API_KEY"
_KEY_PREFIX = "lmaas-local-"  # as all keys that the SDK makes up
_TOLD = {
    kind.__name__: kind
    for kind in (CorruptModel, InvalidQuery, MissingExtra, ModelLoadError, NoLanguageModelHead, TaskError, Unsupported)
}
_MOST_LINE_BYTES = 256 << 20
_KEPT_STDERR_LINES = 40
_END_S = 35.0  # a drain takes up to 30 s


class Child:
    """A process that tells what it has to tell as lines of JSON.

    Args:
        process: With pipes at stdin, stdout and stderr.
        name: For messages.

    Attributes:
        pid: Its process id.
    """

    def __init__(self, process: Process, name: str) -> None:
        self.pid = process.pid
        self._process, self._name = process, name
        self._last_words: deque[str] = deque(maxlen=_KEPT_STDERR_LINES)
        self._listening = asyncio.create_task(self._listen())

    async def tell(self, line: Mapping[str, Any] | None = None) -> None:
        """Writes a line to its stdin."""
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(json.dumps(line).encode() + b"\n")
            await stdin.drain()

    async def told(self, wanted: str) -> Any:
        """What its next line says of `wanted`.

        Raises:
            LmaasError: It told an error instead: the same one.
            BackendUnavailable: It ended, or told something else.
        """
        stdout = self._process.stdout
        line = await stdout.readline() if stdout is not None else b""
        try:
            value = json.loads(line)
        except ValueError as error:
            raise BackendUnavailable(await self._ended(line)) from error
        if isinstance(value, dict) and "error" in value:
            raise _error_of(value["error"])
        if not isinstance(value, dict) or wanted not in value:
            raise BackendUnavailable(f"{self._name} told {value!r:.80} and not {wanted!r}")
        return value[wanted]

    async def end(self) -> None:
        """Ends it by closing its stdin, and by force where that does not help."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        finally:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        stderr = self._process.stderr
        while stderr is not None and (line := await stderr.readline()):
            self._last_words.append(line.decode("utf-8", "replace"))

    async def _ended(self, line: bytes) -> str:
        if line:
            return f"{self._name} began with {line[:80]!r}, which is no JSON"
        code = await self._process.wait()
        await asyncio.wait([self._listening])
        words = "".join(self._last_words).strip()
        return f"{self._name} ended with exit code {code}; " + (f"its last words: {words}" if words else "silently")


@dataclass(frozen=True, slots=True)
class Served:
    """A server that takes calls.

    Args:
        pid: Its process id.
        url: Where it listens.
        api_key: The only key that it takes.
    """

    pid: int
    url: str
    api_key: Secret = field(repr=False)


@asynccontextmanager
async def served(model: str, options: Sequence[str] = ()) -> AsyncIterator[Served]:
    """`lmaas serve` on a free loopback port, with an API key as a provider has them; leaving ends it.

    Args:
        model: Its `--model`.
        options: Further options of `lmaas serve`.

    Raises:
        LmaasError: It did not start; the message is its own.
    """
    api_key = Secret(_KEY_PREFIX + secrets.token_urlsafe(24))
    arguments = ["serve", f"--model={model}", "--port=0", "--exit-with-parent", *options]
    async with _started(_SERVER, arguments, {_KEYS_VARIABLE: Secret(f"local={api_key}")}, name="the server") as child:
        yield Served(child.pid, await child.told("url"), api_key)


@asynccontextmanager
async def user_process(api_key: Secret | None) -> AsyncIterator[Child]:
    """A user's process (`user_process.py`), which waits for its job; leaving ends it.

    Args:
        api_key: What it calls a server with; None: it calls none.
    """
    environment = {} if api_key is None else {_KEY_VARIABLE: api_key}
    async with _started(_USER, [], environment, name="the user's process") as child:
        yield child


@asynccontextmanager
async def _started(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], *, name: str
) -> AsyncIterator[Child]:
    # -P: -m alone would import from the current folder first, whatever files lie there. In a session of its own a child
    # gets no Ctrl-C of the terminal; it ends when its stdin closes, so it outlives nobody.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | environment,
        limit=_MOST_LINE_BYTES,
        start_new_session=True,
    )
    child = Child(process, name)
    try:
        yield child
    finally:
        await child.end()


def _error_of(told: Mapping[str, str]) -> LmaasError:
    """The error that a child told, of its own class where a caller may want to tell it apart."""
    name, message = told["type"], told["message"]
    if name in _TOLD:
        return _TOLD[name](message)
    is_of_backend = issubclass(getattr(errors, name, LmaasError), BackendError)
    return (BackendError if is_of_backend else LmaasError)(f"{name}: {message}")
