"""How texts are cut into chunks, and where everything stands in one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaas_backends.roberta.chunks import Cut, most_positions
from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.text_encoder import PLAIN, EncodedText
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.tuning.subspace import Subspace

FIELDS = ("a", "a slow film", "bad", "a slow film too", "so it was")


def cut(lengths: list[int], most: int) -> Cut:
    texts = tuple(EncodedText(tuple(range(length)), (0,), length) for length in lengths)
    return Cut.of("key", texts, PLAIN, most=most)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=200), st.integers(512, 4096))
def test_chunks_hold_every_text_once_within_bounds(lengths: list[int], most: int) -> None:
    """Texts of like length together, never more positions than allowed, and hardly more chunks than that takes."""
    made = cut(lengths, most)
    assert sorted(index for run in made.runs for index in run) == list(range(len(lengths)))
    assert [lengths[index] for run in made.runs for index in run] == sorted(lengths)
    assert all(made.positions(run) <= most for run in range(len(made.runs)))
    assert sum(map(made.positions, range(len(made.runs)))) == sum(lengths)
    assert len(made.runs) <= 2 * (sum(lengths) // most + 1)


def test_chunks_are_of_like_size() -> None:
    """2832 positions within 1024 are three chunks of about a third, not two full ones and a rest."""
    made = cut([50 + 30 + round(17 * i / 31) for i in range(32)], 1024)
    assert [made.positions(run) for run in range(len(made.runs))] == [996, 983, 853]


def test_a_chunk_is_as_large_as_its_processor_likes() -> None:
    """Wide models get fewer positions; an accelerator many."""
    cpu = torch.device("cpu")
    assert [most_positions(cpu, width) for width in (128, 256, 768, 1024, 8192)] == [4096, 3072, 1024, 768, 512]
    assert most_positions(torch.device("cuda"), 1024) == 32_768


@pytest.mark.parametrize("layout", ["add", "cat"])
def test_a_chunk_with_room_for_three_holds_each_candidate_as_if_alone(model: Any, layout: Any) -> None:
    """Every copy's rows and positions carry the numbers of a chunk of its own."""
    engine = Engine(model.loaded)
    space = Subspace(4, 3, engine.card.hidden_size, layout=layout)
    job = engine.job(ScoreQuery(model.texts(*FIELDS), subspace=space, Z=torch.zeros(3, 4).numpy()))
    forward, chunks, made = job._way.forward, job._way.chunks, job._cut
    one, three = chunks.chunk(made, 0), chunks.chunk(made, 0, 3)
    vectors = torch.randn(3, 3, engine.card.hidden_size)
    together = forward.states_at_mask(three, forward.enter(vectors, three.base))
    assert (three.positions, len(three.rows)) == (3 * one.positions, 15)
    for candidate in range(3):
        alone = forward.states_at_mask(one, forward.enter(vectors[candidate : candidate + 1], one.base))
        mine = three.candidates == candidate
        assert three.rows[mine].tolist() == one.rows.tolist()
        torch.testing.assert_close(together[mine], alone, rtol=0, atol=2e-5)
