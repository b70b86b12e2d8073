"""A process that shares a cache file with others: it keeps, asks for and checks answers."""

from __future__ import annotations

import asyncio
import logging
import random
import sys

from reply_cases import content, free, scored

from lmaas_sdk.traffic.cache_file import open_cache

ROUNDS = 150
QUERIES = 40
MAX_BYTES = 10_000


async def main(path: str, seed: int) -> None:
    """Every answer that comes out is the one that belongs to its query."""
    chance = random.Random(seed)
    async with open_cache(path, MAX_BYTES) as cache:
        for _ in range(ROUNDS):
            number = chance.randrange(QUERIES)
            kept = await cache.get(str(number))
            if kept is None:
                await cache.put(str(number), scored(number))
            else:
                assert free(scored(number)) == content(kept)


if __name__ == "__main__":
    logging.basicConfig()  # what the cache has to complain of is told to the test
    logging.getLogger("lmaas_sdk").setLevel(logging.DEBUG)
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
