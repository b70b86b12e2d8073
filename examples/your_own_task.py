"""A task of your own, from a CSV file.

    python examples/your_own_task.py

`questions.csv` has the columns `text` and `label`. The words that stand for the labels must be single tokens of the
model; where one is not, an error says so before anything is spent.
"""

import asyncio
from pathlib import Path

from lmaas_sdk import Budget, Task, Tuner, few_shot, load_backend, read_dataset

CSV = Path(__file__).with_name("questions.csv")
NEW = ["Who scored in the final minute?", "Which sauce goes with lamb?", "Is the drummer on tour this spring?"]


async def main() -> None:
    task = Task(
        "questions",
        template="{text} This is about <mask> .",
        labels=["sport", "music", "kitchen"],
        words={"sport": "football", "music": "music", "kitchen": "food"},
    )
    questions = read_dataset(CSV, task)
    train, dev = few_shot(questions, shots=4, seed=42)
    seen = {*train, *dev}
    test = questions.subset([row for row, example in enumerate(questions) if example not in seen])
    async with load_backend("roberta-tiny") as backend:
        tuner = Tuner(backend, budget=Budget(evaluations=300), seed=42)
        result = await tuner.fit(train, dev, test=test, compare_manual=True)
        report = result.to_dict()
        print(f"{task.metric} on {len(test)} questions that were not used:", end=" ")
        print(f"manual prompt {report['manual_accuracy']:.2f}, tuned {report['tuned_accuracy']:.2f}")
        for text, label in zip(NEW, await result.predict(NEW), strict=True):
            print(f"{label:8} {text}")


if __name__ == "__main__":
    asyncio.run(main())
