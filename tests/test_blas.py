"""One BLAS thread while anybody computes."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

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


def test_the_first_of_two_searches_to_leave_takes_no_thread_limit_from_the_other() -> None:
    """The number of BLAS threads is the process's; it is as before once nobody computes."""
    is_in, go_on = threading.Event(), threading.Event()
    seen: list[set[int]] = []

    def other() -> None:
        with one_blas_thread():
            is_in.set()
            go_on.wait(60)
            seen.append(threads())

    with threadpool_limits(limits=2, user_api="blas"):
        before, beside = threads(), threading.Thread(target=other)
        with one_blas_thread():
            beside.start()
            assert is_in.wait(60)
        go_on.set()
        beside.join(60)
        assert ([{1}], before) == (seen, threads())
