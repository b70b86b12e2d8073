"""Predictors in a process of their own: `python predictor_process.py MODEL FILE...`.

It loads each file, predicts `TEXTS`, and prints what came as one JSON object. MODEL is "mock", or what an in-process
backend loads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget
from lmaas_sdk.methods import MethodPredictor, load_predictor

TEXTS = ("a lovely thing", "an awful thing", "")


def backend_of(model: str) -> AbstractAsyncContextManager[Any]:
    """The model, not yet loaded."""
    if model == "mock":
        return MockBackend()
    from lmaas_backends.roberta.in_process import InProcessBackend

    return InProcessBackend(model)


async def told(predictor: MethodPredictor) -> dict[str, object]:
    """What it predicts: every bit of the logits, and labels."""
    return {"logits": (await predictor.logits(TEXTS)).tobytes().hex(), "labels": await predictor.predict(TEXTS)}


async def main(model: str, *files: str) -> None:
    """Predicts with each."""
    async with backend_of(model) as backend:
        print(json.dumps([await told(load_predictor(file, backend, budget=Budget(calls=8))) for file in files]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
