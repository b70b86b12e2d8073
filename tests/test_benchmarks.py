"""The benchmarks run and tell their figures; what the figures are is not tested."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import client_overhead, figures, ledger, load, load_figures, loop_stall, racing, round_trip
from benchmarks.load_client import Attempt, Call, Offer, Shape
from benchmarks.load_server import Sample, Spent
from lmaas_sdk import Budget, Preset, Tuner, get_task, load_backend


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


async def test_overload_is_measured_on_a_real_server() -> None:
    """Three times what it can compute, for a second: everyone is answered 200 or 429, and every figure is there."""
    plan = load.Plan(load=3.0, uneven=True, seconds=1.0, drain_s=6.0, capacity_s=0.5, most_calls=300, seed=1)
    found = await load.measure(plan, Shape(candidates=1, texts=8), ["--threads=1", "--max-queued-tokens=6000"])
    assert {"200", "429"} >= found["statuses"].keys()
    assert found["attempts"] == sum(found["statuses"].values()) > 0
    assert found["statuses"].get("429", 0) == sum(found["retry_after_s"].values())
    assert found["statuses"]["200"] == sum(client["answered"] for client in found["clients"].values())
    assert set(load.CLIENTS) == found["clients"].keys()
    assert 6000 == found["queue"]["bound_tokens"]
    assert 0 < found["queue"]["peak_tokens"] <= 12_000
    assert 0 < found["server_rss_mb"]["before"] <= found["server_rss_mb"]["peak"]
    assert {"p50", "p90", "p99"} == found["latency_s"]["from_the_first_send"].keys()
    assert min(*found["capacity_tokens_a_second"], found["goodput_of_capacity"], found["cores_used"]["server"]) > 0


async def test_racing_is_measured_beside_the_whole_run() -> None:
    """As many generations in fewer tokens, and more generations in no more tokens, of the product's own runs."""
    texts = [(f"a {('dull', 'lovely')[n % 2]} scene, {'very ' * (n % 3)}long, number {n}", n % 2) for n in range(64)]
    data = (get_task("sst2").examples(texts[:32]), get_task("sst2").examples(texts[32:]))
    preset = Preset("tiny", d=4, prompt_tokens=2, layout="cat", population=12)
    async with load_backend("roberta-tiny", in_process=True, threads=1) as backend:
        found = await racing.compare(backend, preset, data, seed=1, evaluations=60)
        budget = Budget(evaluations=60)
        result = await Tuner(backend, budget=budget, preset=replace(preset, dev_every=5), seed=1).fit(*data)
    whole, raced, at_equal = found["whole"], found["raced"], found["raced_at_equal_generations"]
    assert 5 == whole["end"]["generations"] == at_equal["generations"] < raced["end"]["generations"]
    assert at_equal["tokens"] < raced["end"]["tokens"] <= whole["end"]["tokens"]
    assert 1 - at_equal["tokens"] / whole["end"]["tokens"] == found["tokens_saved"]
    assert result.spend.by_purpose["train"].tokens == whole["end"]["tokens"] == whole["tokens"][-1]
    assert result.generations[-1].lowest_loss == whole["end"]["lowest_train"]
    on_dev = {choice.kind: choice.dev.cross_entropy for choice in result.dev_scored if choice.dev is not None}
    assert (on_dev["mean"], min(on_dev.values())) == (whole["end"]["dev_of_mean"], whole["end"]["lowest_dev"])
    figures_of = racing.summary([{"preset": "tiny", "task": "sst2"} | found])["tiny, sst2"]
    assert [round(found["tokens_saved"], 4), None] == figures_of["tokens saved"]


def test_pairs_that_were_measured_alike_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the file are not measured again; with other settings it is begun anew."""
    path = tmp_path / "racing.json"
    end = {"generations": 5, "lowest_train": 0.5, "dev_of_mean": 0.7, "lowest_dev": 0.6}
    key = {"preset": "paper", "task": "mr", "seed": 13, "evaluations": 60}
    row = key | {"whole": {"end": end}, "raced": {"end": end}, "raced_at_equal_generations": end, "tokens_saved": 0.25}
    racing.Results(path).keep(row)
    kept = racing.Results(path)
    assert kept.has(key)
    assert not kept.has(key | {"seed": 21})
    assert {"paper, mr": 1} == {name: found["seeds"] for name, found in json.loads(path.read_text())["summary"].items()}
    monkeypatch.setattr(racing, "SHOTS", 8)
    assert not racing.Results(path).has(key)


def test_an_offer_comes_at_random_and_is_bounded() -> None:
    """The same seed, the same times; clients in proportion; never more calls than were allowed."""
    offer = Offer({"a": 30.0, "b": 10.0}, seconds=100.0, drain_s=0.0, answers_s=0.0, most_calls=10_000)
    arrivals = list(offer.arrivals(1))
    assert arrivals == list(offer.arrivals(1)) != list(offer.arrivals(2))
    assert sorted(arrivals) == arrivals
    assert arrivals[-1][0] < 100.0
    assert 3700 < len(arrivals) < 4300
    assert pytest.approx(0.75, abs=0.03) == sum(name == "a" for _, name in arrivals) / len(arrivals)
    bounded = Offer({"a": 30.0, "b": 10.0}, seconds=100.0, drain_s=0.0, answers_s=0.0, most_calls=10)
    assert arrivals[:10] == list(bounded.arrivals(1))


def window(calls: list[Call], **other: Any) -> load_figures.Window:
    """Ten seconds at three times 100 tokens a second, of which one call takes 100."""
    told = {"load": 3.0, "weights": {"a": 1.0, "b": 1.0}, "begin": 0.0, "seconds": 10.0, "tokens": 100, "late_s": 0.0}
    told["capacity"] = (load_figures.Capacity(100.0, 100.0),) * 2
    told["spent"] = Spent(wall_s=10.0, had_core_s=10.0, client_cpu_s=1.0, server_cpu_s=9.0)
    told["samples"] = [Sample(2, 200, 300, promises=1, rss_mb=50.0, computed_tokens=0)]
    told["rss_mb"] = (40.0, 45.0)
    return load_figures.Window(calls=calls, **(told | other))


def answered(client: str, at: float) -> Call:
    return Call(client, at, [Attempt(at, at + 0.5, "200")])


def test_figures_of_a_load_are_those_of_its_calls() -> None:
    """Nine answers in time and one too late, one call refused twice that was let in then, and one that gave up."""
    calls = [answered("ab"[number % 2], float(number)) for number in range(9)]
    calls.append(Call("a", 8.0, [Attempt(8.0, 8.0, "429", 1), Attempt(9.0, 9.0, "429", 1), Attempt(10.0, 12.0, "200")]))
    calls.append(Call("b", 9.0, [Attempt(9.0, 9.0, "429", 60)], given_up=True))
    found = load_figures.figures_of(window(calls))
    assert 0.9 == found["goodput_of_capacity"] == found["goodput_of_capacity_with_a_core"]
    assert ({"200": 10, "429": 3}, 1) == (found["statuses"], found["given_up"])
    assert {"admitted": 1, "refused_again": 1, "admitted_share": 0.5} == found["returns"]
    assert {"<= 1": 2, "<= 60": 1} == found["retry_after_s"]
    assert (0.67, 50.0) == (found["queue"]["peak_of_bound"], found["server_rss_mb"]["peak"])
    assert (0.833, 0.8) == tuple(found["clients"][name]["admitted_at_first"] for name in "ab")
    assert [">= 0.8 of obeyed Retry-After admitted"] == load_figures.missed(found)


def test_each_bar_that_is_missed_is_named() -> None:
    """Goodput, other statuses, queue, memory, fairness; a core that was taken away is no fault of the server's."""
    half = [answered("a", float(number)) for number in range(5)]
    assert ["goodput >= 0.9 of capacity"] == load_figures.missed(load_figures.figures_of(window(half)))
    spent = Spent(wall_s=10.0, had_core_s=5.0, client_cpu_s=1.0, server_cpu_s=5.0)
    assert [] == load_figures.missed(load_figures.figures_of(window(half, spent=spent)))
    full = [Sample(9, 900, 300, promises=1, rss_mb=500.0, computed_tokens=0)]
    shy = [*half, Call("b", 1.0, [Attempt(1.0, 1.0, "503"), Attempt(2.0, 2.0, "429")])]
    weights = {"a": 9.0, "b": 1.0}
    assert [
        "no other status than 200 and 429",
        "every 429 with Retry-After",
        "queue within 2 times its bound",
        "memory grows by at most 128 MB",
        "goodput >= 0.9 of capacity",
        ">= 0.8 of obeyed Retry-After admitted",
        "client b, within its share, is let in >= 0.9 of the time",
    ] == load_figures.missed(load_figures.figures_of(window(shy, samples=full, weights=weights)))


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
