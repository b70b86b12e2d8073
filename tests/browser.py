"""A headless Chromium for tests, spoken to over its DevTools protocol on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

__all__ = ["BrowserPage", "browser_program", "opened_page"]

_FLAGS = (
    "--headless",
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)
_MOST_BYTES = 1 << 26


def browser_program() -> str:
    """Where Chromium is: `$CHROMIUM`, or on the path.

    A test is skipped where there is none, and fails where `LMAAS_TEST_BROWSER=1` says that there has to be one.
    """
    named = os.environ.get("CHROMIUM", "chromium")
    program = shutil.which(named)
    if program is not None:
        return program
    why = f"no browser {named!r}: install Debian's package chromium, or name another in CHROMIUM"
    if os.environ.get("LMAAS_TEST_BROWSER") == "1":
        pytest.fail(f"LMAAS_TEST_BROWSER is 1, and there is {why}")
    pytest.skip(why)


class BrowserPage:
    """A tab; `requests` and `complaints` are what it asked for and what its console said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._session, self._numbers = socket, "", itertools.count(1)
        self._events: list[str] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def open(self) -> None:
        """Makes the tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            await self.call(f"{domain}.enable")

    async def show(self, page: Path, *, width: int, scheme: str) -> None:
        """Loads a file (an absolute path) at a width, in the `light` or the `dark`."""
        phone = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._events.clear()
        await self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._take(await self._receive())

    async def value(self, expression: str) -> Any:
        """What JavaScript says of the page; the page itself has none."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def accessible(self) -> list[dict[str, Any]]:
        """The page as assistive technology has it: role, name and level of every node that is not left out."""
        nodes = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                **{one["name"]: one["value"].get("value") for one in node.get("properties", ())},
            }
            for node in nodes
            if not node["ignored"]
        ]

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": self._session} if self._session else {}))
        while (answer := await self._receive()).get("id") != number:
            self._take(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def _receive(self) -> dict[str, Any]:
        received: dict[str, Any] = await self._socket.receive_json()
        return received

    def _take(self, event: dict[str, Any]) -> None:
        method, told = event.get("method", ""), event.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(str(told))


@contextlib.asynccontextmanager
async def opened_page(profile: Path) -> AsyncIterator[BrowserPage]:
    """A tab of a browser of its own, which ends with it."""
    browser = await asyncio.create_subprocess_exec(
        browser_program(),
        *_FLAGS,
        f"--user-data-dir={profile}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            address = await _address(browser)
            async with session.ws_connect(address, max_msg_size=_MOST_BYTES) as socket:
                page = BrowserPage(socket)
                await page.open()
                yield page
    finally:
        with contextlib.suppress(ProcessLookupError):
            browser.kill()
        await browser.communicate()


async def _address(browser: asyncio.subprocess.Process) -> str:
    assert browser.stderr is not None
    said = []
    async for line in browser.stderr:
        said.append(line.decode("utf-8", "replace"))
        found = re.search(r"DevTools listening on (ws://\S+)", said[-1])
        if found:
            return found[1]
    pytest.fail(f"the browser ended before it listened: {''.join(said)[-2000:]}")
