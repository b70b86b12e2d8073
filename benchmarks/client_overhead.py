"""CPU time of a call in this process: the whole stack, against bare aiohttp and against `openai`'s client.

    python -m benchmarks.client_overhead [--calls 1000] [--rounds 7] [--json FILE]

All three talk to one stub in another process (benchmarks/stub_server.py) over loopback, in turns. The stack is
everything that a paid call passes: cache and coalescing, a budget with every limit and a parent, a quota with requests
and tokens a minute, adaptive concurrency, circuit breaker, retries, idempotency key, the HTTP backend.

`openai` (pip install openai; left out where it is missing) asks for the same: one token of each of the 32 texts, with
the two best log-probabilities. `openai_one_text` is the least that it can be asked, one text and no log-probabilities.
Bars: at most 2.5 times bare aiohttp, and at least 4 times less than `openai`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.figures import tell
from benchmarks.stub_server import CARD, LABELS, MODEL, TEXTS, TOKENS
from lmaas_backends.roberta.protocol import TENSORS
from lmaas_backends.roberta.wire_queries import score_message
from lmaas_sdk import MASK, Budget, LabelWords, Limits, Piece, ScoreQuery, Subspace, TextSet, load_backend
from lmaas_sdk.client import Client

Send = Callable[[int], Awaitable[object]]

D = 500
CONCURRENCIES = (20, 200)
SUBSPACE = Subspace(D, 50, CARD.hidden_size)
SENTENCES = tuple(
    (Piece("field", f"a film of {n} hours that goes on"), Piece("template", " . It was"), MASK) for n in range(TEXTS)
)
TEXT_SET = TextSet(SENTENCES, LabelWords((" bad", " great")))


def candidate(number: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """A candidate of its own for every call, so that no answer comes from the cache."""
    z = np.full((1, D), 0.5, np.float32)
    z[0, 0] = number
    return z


def score_query(number: int, texts: TextSet | str = TEXT_SET) -> ScoreQuery:
    """One candidate on all texts."""
    return ScoreQuery(texts, subspace=SUBSPACE, Z=candidate(number))


async def cpu_s_a_call(send: Send, *, calls: int, concurrency: int, first: int) -> float:
    """CPU seconds of this process a call, with so many calls under way."""
    numbers = iter(range(first, first + calls))

    async def worker() -> None:
        for number in numbers:
            await send(number)

    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return (time.process_time() - started) / calls


async def measure(url: str, *, calls: int, rounds: int) -> list[dict[str, Any]]:
    """CPU microseconds a call of every client, and medians of their ratios, at each concurrency."""
    rows = []
    for concurrency in CONCURRENCIES:
        times: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            async for name, send in senders(url, concurrency):
                first = (turn + 1) * calls
                gc.collect()  # each pays for its own garbage
                taken = await cpu_s_a_call(send, calls=calls, concurrency=concurrency, first=first)
                if turn:  # the first round warms up
                    times.setdefault(name, []).append(taken)
        rows.append({"concurrency": concurrency} | summary(times))
    return rows


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and medians of the ratios within a round."""
    found: dict[str, Any] = {f"{name}_us": round(statistics.median(taken) * 1e6, 1) for name, taken in times.items()}
    for name, over in (("lmaas_sdk", "aiohttp"), ("openai", "lmaas_sdk"), ("openai_one_text", "lmaas_sdk")):
        if name in times and over in times:
            ratios = [a / b for a, b in zip(times[name], times[over], strict=True)]
            found[f"{name}_over_{over}"] = round(statistics.median(ratios), 2)
    return found


async def senders(url: str, concurrency: int) -> Any:
    """Every client in turn, each with connections of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        yield "aiohttp", bare(session, url)
    async with load_backend(url, api_key="test-key-benchmark") as backend:
        yield "lmaas_sdk", whole_stack(backend, concurrency)
    if importlib.util.find_spec("openai") is not None:
        import openai  # noqa: PLC0415  (a peer, not a dependency)

        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="test-key-benchmark") as client:
            yield "openai", by_openai(client)
            yield "openai_one_text", one_text_by_openai(client)


def bare(session: aiohttp.ClientSession, url: str) -> Send:
    """The same request written by hand: a frame in, logits out, and nothing around it."""
    fields = score_message(score_query(0, TEXT_SET.digest), MODEL).fields
    headers = {"Content-Type": TENSORS, "Authorization": "Bearer test-key-benchmark"}

    async def send(number: int) -> object:
        z = candidate(number)
        head = json.dumps({**fields, "Z": {"dtype": "float32", "shape": z.shape}}).encode()
        body = b"".join((struct.pack("<I", len(head)), head, z.tobytes()))
        async with session.post(f"{url}/v1/score", data=body, headers=headers) as response:
            response.raise_for_status()
            answer = await response.read()
        (length,) = struct.unpack_from("<I", answer)
        told = json.loads(answer[4 : 4 + length])
        return np.frombuffer(answer[4 + length :], "<f4").reshape(told["logits"]["shape"]), told["usage"]

    return send


def whole_stack(backend: Any, concurrency: int) -> Send:
    """One call through everything."""
    many = 10**9
    parent = Budget(calls=many, evaluations=many, tokens=10**15, usd=10**6)
    limits = Limits(requests_per_minute=many, tokens_per_minute=10**12, concurrency=concurrency)
    client = Client(backend, parent.child("run", Budget(calls=many, tokens=10**15)), quotas=limits)
    counts = (TOKENS // TEXTS,) * TEXTS

    async def send(number: int) -> object:
        call = client.call(score_query(number), f"call-{number}", purpose="train", token_counts=counts)
        return await client.score(call)

    return send


def by_openai(client: Any) -> Send:
    """What a score call asks, by the nearest means there: a token of every text, with the best two of its place."""
    prompts = ["".join(piece.text for piece in sentence if piece is not MASK) for sentence in SENTENCES]

    async def send(number: int) -> object:
        asked = [f"{number} {prompt}" for prompt in prompts]
        completion = await client.completions.create(model=MODEL, prompt=asked, max_tokens=1, logprobs=LABELS)
        return [choice.logprobs.top_logprobs[0] for choice in completion.choices], completion.usage

    return send


def one_text_by_openai(client: Any) -> Send:
    """One completion of about as many bytes up, and one word down."""
    prompt = "a film that goes on and on . " * 70

    async def send(number: int) -> object:
        return await client.completions.create(model=MODEL, prompt=f"{number} {prompt}", max_tokens=1)

    return send


@contextmanager
def stub() -> Iterator[str]:
    """The stub's URL while it runs."""
    command = [sys.executable, "-m", "benchmarks.stub_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    with stub() as url:
        rows = asyncio.run(measure(url, calls=args.calls, rounds=args.rounds))
    found = {"rows": rows, "calls": args.calls, "rounds": args.rounds}
    tell(found, "benchmarks.client_overhead", args.json)


if __name__ == "__main__":
    main()
