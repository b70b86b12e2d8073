"""One BLAS thread while anybody computes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from threadpoolctl import ThreadpoolController

from lmaas_sdk.tuning.blas import one_blas_thread


def threads() -> set[int]:
    """Of every BLAS that is loaded."""
    return {one["num_threads"] for one in ThreadpoolController().info() if one["user_api"] == "blas"}


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_who_leaves_last_puts_the_setting_back(first_to_leave: int) -> None:
    """Whoever came first: a search beside another one has one thread to its end, or its bits were others."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        sides = ExitStack(), ExitStack()
        for side in sides:
            side.enter_context(one_blas_thread())
        sides[first_to_leave].close()
        assert threads() == {1}
        sides[1 - first_to_leave].close()
        assert threads() == {2}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {2}
