"""The benchmarks run and tell their figures; what the figures are is not tested."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import client_overhead, figures, ledger, loop_stall, round_trip


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with client_overhead.stub() as found:
        yield found


async def test_every_client_is_measured_at_every_concurrency(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bare aiohttp and the whole stack are there, with the ratio between them; a peer only where it is installed."""
    monkeypatch.setattr(client_overhead, "CONCURRENCIES", (2, 4))
    rows = await client_overhead.measure(url, calls=8, rounds=1)
    assert [2, 4] == [row["concurrency"] for row in rows]
    wanted = {"aiohttp_us", "lmaas_sdk_us", "lmaas_sdk_over_aiohttp"}
    assert all(wanted <= row.keys() and row["lmaas_sdk_us"] > 0 for row in rows)


def test_the_ledger_is_measured_in_memory_and_on_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of synchronising, with and without marks, four processes, and a file that has entries already."""
    monkeypatch.setattr(ledger, "TASKS", 4)
    monkeypatch.setattr(ledger, "_START_S", 0.0)
    found = ledger.measure(tmp_path, pairs=20, rounds=1, entries=60)
    modes = {"NORMAL", "NORMAL, marked as sent", "FULL", "FULL, marked as sent"}
    assert modes == found["pairs_a_second_on_a_file"].keys()
    figures_of = [
        found["in_memory_us_a_pair"],
        found["pairs_a_second_of_4_processes"],
        *found["pairs_a_second_on_a_file"].values(),
    ]
    assert all(figure["median"] > 0 and len(figure["rounds"]) == 1 for figure in figures_of)
    assert (60, {"entries", "size_mb", "open_s", "verify_s"}) == (
        found["large_file"]["entries"],
        found["large_file"].keys(),
    )


async def test_stalls_of_the_loop_are_measured(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks and ticks are counted, and what the benchmark put into the loop is gone afterwards."""
    monkeypatch.setattr(loop_stall, "CONCURRENCY", 4)
    plain = asyncio.Handle._run
    found = await loop_stall.measure(url, tmp_path, calls=16)
    assert {"callback_cpu", "callback", "tick_late", "garbage_pause"} == found.keys()
    assert min(found[name]["count"] for name in ("callback_cpu", "callback", "tick_late")) > 0
    assert plain is asyncio.Handle._run


async def test_the_round_trip_is_measured_in_every_form() -> None:
    """Through the real server process: both ways to send arrays, and half precision."""
    with round_trip.instant_server() as server:
        found = await round_trip.measure(server, calls=3, rounds=1)
    assert ["raw float32", "raw float16", "base64 float32"] == list(found)
    assert all(0 < form["median_ms"] <= form["p90_ms"] for form in found.values())


async def test_a_callback_that_blocks_is_seen() -> None:
    """The longest callback is at least as long as a sleep within it."""
    stalls = loop_stall.Stalls()
    with stalls.watched():
        asyncio.get_running_loop().call_soon(time.sleep, 0.02)
        await asyncio.sleep(0.001)
    assert max(stalls.callbacks) >= 0.02
    assert stalls.summary()["callback"]["max_ms"] >= 20


def test_figures_are_kept_with_what_they_depend_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file holds what is printed: the figures, the command and the environment."""
    monkeypatch.setattr(sys, "argv", ["some.py", "--calls", "3"])
    figures.tell({"rate": 1}, "benchmarks.some", tmp_path / "some.json")
    kept = json.loads((tmp_path / "some.json").read_text("utf-8"))
    assert json.loads(capsys.readouterr().out) == kept
    assert (1, "python -m benchmarks.some --calls 3") == (kept["rate"], kept["command"])
    assert {"python", "sqlite", "cores", "load_average"} <= kept["environment"].keys()
