"""Tune the prompt of a model that somebody else serves.

    lmaas serve --model roberta-tiny --port 8080
    python examples/connect_to_a_server.py http://127.0.0.1:8080

The API key, where the server wants one, is read from the environment variable LMAAS_API_KEY.
"""

import asyncio
import sys

from lmaas_sdk import AuthenticationFailed, BackendUnavailable, Budget, Predictor, Task, Tuner, load_backend

MOOD = Task("mood", template="{text} It was <mask> .", labels=["low", "high"], words=["bad", "great"])
TRAIN = MOOD.examples(
    [
        ("Rain again, and the bus drove past me.", "low"),
        ("We laughed until the neighbours joined in.", "high"),
        ("My knee hurts on every stair.", "low"),
        ("The whole garden smells of roses this morning.", "high"),
    ]
)
TEXTS = ["Somebody scratched my car.", "What a sunny, easy day!"]


async def run(url: str) -> None:
    async with load_backend(url, timeout_s=30) as backend:
        card = backend.card
        print(f"{card.name}: width {card.hidden_size}, up to {card.max_tokens} tokens, price {card.price or 'none'}")
        print("manual prompt:", await Predictor.manual(backend, MOOD).predict(TEXTS))
        tuner = Tuner(backend, budget=Budget(evaluations=200))
        result = await tuner.fit(TRAIN, max_wait_s=60)
        print("tuned prompt: ", await result.predict(TEXTS))
        print(f"stopped={result.stopped!r}; calls by purpose:", end=" ")
        print({purpose: amounts.calls for purpose, amounts in result.spend.by_purpose.items()})


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("say which server: python examples/connect_to_a_server.py http://127.0.0.1:8080")
    try:
        asyncio.run(run(sys.argv[1]))
    except (AuthenticationFailed, BackendUnavailable) as error:
        sys.exit(f"cannot use {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
