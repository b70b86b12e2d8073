"""The server under load: the real command as a child process, with what it uses, as the kernel and /metrics tell it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np

__all__ = ["LoadedServer", "Sample", "Spent", "Used", "started"]

_KEYS_VARIABLE = "LMAAS_SERVER_API_KEYS"
_METRICS_KEY = "metrics"
_SAMPLE_S = 0.5
_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server held at one time: calls and tokens in its queue with their bound, promises, resident memory.

    `computed_tokens` are all since it was started.
    """

    calls: int
    tokens: int
    most_tokens: int
    promises: int
    rss_mb: float
    computed_tokens: int


@dataclass(frozen=True, slots=True)
class LoadedServer:
    """A running server.

    Args:
        url: Where it listens.
        keys: Its API keys by the names of the clients.
        pid: Of its process.
        session: For asking what it holds.
    """

    url: str
    keys: dict[str, str]
    pid: int
    session: aiohttp.ClientSession

    def threads(self) -> dict[str, tuple[float, float]]:
        """Of each of its threads: CPU seconds so far, and the seconds in which it could have run and had no core."""
        found = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            ran_ns, waited_ns, _ = map(int, (task / "schedstat").read_text("ascii").split())
            found[task.name] = (ran_ns / 1e9, waited_ns / 1e9)
        return found

    @property
    def rss_mb(self) -> float:
        """Resident memory, in MB of 10^6 bytes."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text("ascii"))
        assert found is not None
        return round(int(found[1]) * 1024 / 1e6, 1)

    async def sample(self) -> Sample:
        """What it holds now."""
        headers = {"Authorization": f"Bearer {self.keys[_METRICS_KEY]}"}
        async with self.session.get(f"{self.url}/metrics", headers=headers) as answer:
            answer.raise_for_status()
            page = await answer.text()
        told = {name: int(float(value)) for name, value in re.findall(r"^lmaas_(\w+) (\S+)$", page, re.MULTILINE)}
        return Sample(
            calls=told["queue_calls"],
            tokens=told["queue_tokens"],
            most_tokens=told["queue_most_tokens"],
            promises=told["queue_promises"],
            rss_mb=self.rss_mb,
            computed_tokens=told["computed_tokens_total"],
        )

    @asynccontextmanager
    async def sampled(self) -> AsyncIterator[list[Sample]]:
        """Samples, of which more come while this is open."""
        samples = [await self.sample()]

        async def sample_on() -> None:
            while True:
                await asyncio.sleep(_SAMPLE_S)
                samples.append(await self.sample())

        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(sample_on())
            try:
                yield samples
            finally:
                sampling.cancel()


@asynccontextmanager
async def started(clients: Sequence[str], options: Sequence[str]) -> AsyncIterator[LoadedServer]:
    """The server while it runs, with an API key for each client.

    Raises:
        RuntimeError: It did not start; its log is told.
    """
    keys = {name: secrets.token_hex(16) for name in (*clients, _METRICS_KEY)}
    entries = ",".join(f"{name}={key}" for name, key in keys.items())
    command = [sys.executable, "-m", "lmaas_backends.roberta.server", "--exit-with-parent", *options]
    environment = os.environ | {_KEYS_VARIABLE: entries, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(  # noqa: ASYNC220 - nothing else is to run before it does
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        line = json.loads(await asyncio.to_thread(process.stdout.readline) or "{}")
        if "url" not in line:
            log.seek(0)
            raise RuntimeError(f"the server did not start: {log.read()[-2000:].decode(errors='replace')}")
        try:
            async with aiohttp.ClientSession() as session:
                yield LoadedServer(line["url"], keys, process.pid, session)
        finally:
            await asyncio.to_thread(process.communicate, timeout=_END_S)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stretch of time was spent on.

    Args:
        wall_s: How long it was.
        had_core_s: The same without the time in which the server's busiest thread could have run and other programs
            had the cores.
        client_cpu_s, server_cpu_s: CPU time of this process and of the server.
    """

    wall_s: float
    had_core_s: float
    client_cpu_s: float
    server_cpu_s: float


@dataclass(frozen=True, slots=True)
class Used:
    """What was used up to some time."""

    at: float
    client_cpu_s: float
    threads: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, server: LoadedServer) -> Used:
        """Up to now."""
        return cls(time.monotonic(), time.process_time(), server.threads())

    def since(self, server: LoadedServer) -> Spent:
        """From then to now."""
        now = Used.of(server)
        ran = {name: tuple(np.subtract(both, self.threads.get(name, (0, 0)))) for name, both in now.threads.items()}
        _, lacked_s = max(ran.values())
        wall_s = now.at - self.at
        return Spent(
            wall_s=wall_s,
            had_core_s=wall_s - lacked_s,
            client_cpu_s=now.client_cpu_s - self.client_cpu_s,
            server_cpu_s=sum(cpu_s for cpu_s, _ in ran.values()),
        )
