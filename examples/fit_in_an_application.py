"""Tune a prompt inside an application, keep it in a file, and answer with it elsewhere.

    python examples/fit_in_an_application.py

The bundled model is served on this machine at a price, so the budget in dollars is a hard limit as it would be with a
provider. With eight examples and so small a model, mind how it is done, not how good the answers are.
"""

import asyncio
import tempfile
from pathlib import Path

from lmaas_sdk import Budget, Predictor, Task, TunedPrompt, Tuner, load_backend

FEEDBACK = Task(
    "feedback", template="{message} It was <mask> .", labels=["complaint", "praise"], words=["terrible", "great"]
)
TRAIN = [
    ("The parcel came a week late and the box was soaked.", "complaint"),
    ("Your courier carried the sofa up four floors, smiling all the way.", "praise"),
    ("Nobody picks up the phone, whatever the hour.", "complaint"),
    ("Checkout took ten seconds; I wish every shop were like this.", "praise"),
    ("The new app loses my basket each time I look at another page.", "complaint"),
    ("Thank you for mending the lamp free of charge.", "praise"),
    ("I was billed twice and still wait for my money.", "complaint"),
    ("Every question of mine was answered before lunch.", "praise"),
]


async def tune(prompt_file: Path) -> None:
    """What a nightly job would do: spend at most two cents on a better prompt."""
    async with load_backend("roberta-tiny", price_usd_per_1k_tokens="0.0004") as backend:
        tuner = Tuner(backend, budget=Budget(usd="0.02"), seed=42)
        result = await tuner.fit(FEEDBACK.examples(TRAIN))
    result.prompt.save(prompt_file)
    spent = result.to_dict()
    print(f"stopped={result.stopped!r} after {result.evaluations} evaluations in {spent['calls']} calls")
    print(f"{spent['tokens']} tokens, {spent['cost_usd']} of 0.02 USD")


async def answer(prompt_file: Path, messages: list[str]) -> list[str]:
    """What a request handler would do, with the prompt file alone and a budget of its own."""
    async with load_backend("roberta-tiny") as backend:
        predictor = Predictor.tuned(backend, TunedPrompt.load(prompt_file), budget=Budget(calls=10))
        return await predictor.predict(messages)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        prompt_file = Path(folder) / "feedback.prompt"
        asyncio.run(tune(prompt_file))
        messages = ["The chair wobbles and a leg is scratched.", "Lovely people, quick and kind."]
        for message, label in zip(messages, asyncio.run(answer(prompt_file, messages)), strict=True):
            print(f"{label:9}  {message}")


if __name__ == "__main__":
    main()
