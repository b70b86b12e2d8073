"""What an engine may be loaded with."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from lmaas_backends.roberta.loading import load_engine

MOST = 4 * (os.cpu_count() or 1)


@pytest.mark.parametrize("threads", [0, -1, MOST + 1, 1 << 40])
def test_an_impossible_number_of_threads_is_refused_before_the_model_is_looked_for(threads: int) -> None:
    """The value is told, and torch is left as it was."""
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match=rf"threads is .* not {threads}$"):
        load_engine("/no/such/model", threads=threads)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1.5, "2", True])
def test_threads_are_counted_in_whole_numbers(threads: Any) -> None:
    """Nothing is rounded or read from a string."""
    with pytest.raises(TypeError, match="threads is a whole number of at least 1"):
        load_engine("roberta-tiny", threads=threads)


def test_threads_are_lanes_and_not_in_the_fingerprint() -> None:
    """They change no bit, so a run may go on with another number of them."""
    one, two = load_engine("roberta-tiny", threads=1), load_engine("roberta-tiny", threads=2)
    assert (one.lanes.count, two.lanes.count) == (1, 2)
    assert one.card.fingerprint == two.card.fingerprint
