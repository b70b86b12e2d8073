"""Whether there is time for one more generation and for what comes after it."""

from __future__ import annotations

import pytest

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.tuning.pace import spare_s

GENERATION, TEST = Amounts(calls=2, tokens=1000), Amounts(calls=1, tokens=4000)


@pytest.mark.parametrize(
    ("servers", "needed_s"),
    [(1, 10 * (1 + 1.25 * 4)), (2, 10 * (1 + 1.25 * 8)), (3, 10 * (1 + 1.25 * 8))],
)
def test_a_step_in_one_call_takes_one_server_as_long_as_ever(servers: int, needed_s: float) -> None:
    """A generation that two share is over in half the time; the test after it is one call, which one computes."""
    spare = [
        spare_s(left_s, generation_s=10, generation=GENERATION, after=[TEST], slots=16, servers=servers)
        for left_s in (None, needed_s, needed_s + 2)
    ]
    assert [None, 0.0, 2.0] == spare
