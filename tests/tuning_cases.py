"""A small task, data and backend that the tests of tuning share."""

from __future__ import annotations

from dataclasses import replace

from lmaas_backends.mock import MockBackend
from lmaas_sdk import PRESETS, Dataset, Preset, Task

TASK = Task("things", template="{text} It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
SMALL: Preset = replace(PRESETS["sep-tpa"], name="small", d=20, prompt_tokens=2, population=8)

_WORDS = (("dull", "awful", "broken", "sour"), ("lovely", "bright", "fine", "warm"))


def examples(start: int, count: int, task: Task = TASK) -> Dataset:
    """Balanced texts whose words tell the label."""
    rows = [(f"a {_WORDS[n % 2][n // 2 % 4]} thing, number {n}", n % 2) for n in range(start, start + count)]
    return task.examples(rows, name=f"things {start}..")


TRAIN, DEV, TEST = examples(0, 16), examples(100, 12), examples(200, 30)


def mock(**options: object) -> MockBackend:
    return MockBackend(**options)  # type: ignore[arg-type]
