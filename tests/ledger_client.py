"""A program that makes calls booked in a ledger file: `python ledger_client.py URL FILE CALLS`. Tests kill it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

import numpy as np

from lmaas_sdk import Budget, LabelWords, Piece, ScoreQuery, Subspace, TextSet, load_backend
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.client import Client
from lmaas_sdk.texts import MASK

TEXTS = TextSet(((Piece("field", "a film"), MASK),), LabelWords((" bad", " great")))
SUBSPACE = Subspace(4, 2, 4)
TOKENS = 10
AT_ONCE = 16


def answered(path: str) -> set[str]:
    """Keys of the calls whose answer an earlier run has booked."""
    if not Path(path).exists():
        return set()
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT key FROM entries WHERE kind = 'post' AND unknown = 0")
        return {key for (key,) in rows}
    except sqlite3.OperationalError:  # killed before it had made the tables
        return set()
    finally:
        connection.close()


async def main(url: str, path: str, calls: int) -> None:
    """Makes the calls, each under a key of its own that is the same in every run."""
    known = answered(path)
    numbers = iter([number for number in range(calls) if f"call {number}" not in known])
    async with open_ledger(path) as ledger, load_backend(url) as backend:
        budget = Budget(tokens=TOKENS * calls, calls=2 * calls, name="cap", ledger=ledger)
        client = Client(backend, budget)

        async def worker() -> None:
            for number in numbers:
                query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=np.full((1, 4), number, np.float32))
                call = client.call(query, f"call {number}", purpose="train", token_counts=(TOKENS,))
                await client.score(call)
                print(number, flush=True)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
