"""docs/calls.md: its examples run, and its numbers are the defaults."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from tuning_cases import SMALL, TRAIN

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, RetryPolicy, Tuner
from lmaas_sdk.traffic import circuit
from lmaas_sdk.traffic.cache import MemoryCache
from lmaas_sdk.traffic.cache_file import open_cache
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "calls.md").read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    """All Python blocks of the page run one after another."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/calls.md", "exec"), names)  # noqa: S102 - our own page


async def test_a_second_run_on_the_same_cache_sends_nothing(tmp_path: Path) -> None:
    """What the page says of a file: the same run again is all evaluations and no call."""
    spent = []
    for _ in range(2):
        async with open_cache(tmp_path / "answers.cache") as cache:
            budget = Budget(evaluations=24)
            await Tuner(MockBackend(), budget=budget, preset=SMALL, cache=cache).fit(TRAIN)
        spent.append((budget.posted.evaluations, budget.posted.calls))
    assert spent == [(24, 3), (24, 0)]


def test_the_numbers_are_the_defaults() -> None:
    """Attempts, backoff, retry budget, patience, circuit, cache."""
    policy = RetryPolicy()
    told = (policy.attempts, policy.first_wait_s, policy.longest_wait_s, policy.budget_ratio, policy.budget_floor)
    assert (5, 0.25, 20.0, 0.1, 10) == told
    assert policy.patience_s == 120
    assert (circuit.FAILURES, circuit.OUTAGE_S, circuit.FIRST_PAUSE_S, circuit.LONGEST_PAUSE_S) == (20, 5, 1, 30)
    assert MemoryCache()._max_bytes == 64 << 20
    assert [] == [field.name for field in fields(RetryPolicy) if field.name not in PAGE and "wait_s" not in field.name]


def test_the_preset_is_as_told() -> None:
    """Nine endpoints, 100 a day, features 1000."""
    a_day = [limits.requests_per_day for limits in QUOTA_PRESETS["wudao-2021"].values()]
    assert sorted(a_day) == [100] * 7 + [1000] * 2
