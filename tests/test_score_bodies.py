"""Bodies whose heads are remembered are those that are spelled out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmaas_backends.roberta.protocol import JSON, TENSORS, decode_message, encode_message
from lmaas_backends.roberta.wire_queries import SCORE_ARRAYS, read_score, score_message
from lmaas_backends.score_bodies import ScoreBodies
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.subspace import Subspace

SET = "c" * 64
QUERY = ScoreQuery(SET, subspace=Subspace(3, 2, 4), Z=np.array([[1, 2, 3], [4, 5, 6]], np.float32))
ALIKE = [
    QUERY,
    replace(QUERY, precise=True),
    replace(QUERY, rows=(0,)),
    replace(QUERY, top_k=2),
    replace(QUERY, Z=np.ones((1, 3), np.float32)),
    replace(QUERY, subspace=Subspace(3, 2, 4, seed=1)),
    replace(QUERY, frozen=(FrozenPrompt(Subspace(3, 2, 4, layers=(1,)), np.ones(3, np.float32)),)),
    replace(QUERY, frozen=(FrozenPrompt(Subspace(3, 2, 4, layers=(2,)), np.ones(3, np.float32)),)),
    replace(QUERY, frozen=(FrozenPrompt(Subspace(3, 2, 4, layers=(2,)), np.zeros(3, np.float32)),)),
]


@pytest.mark.parametrize("z_dtype", ["float32", "float16"])
@pytest.mark.parametrize("form", [JSON, TENSORS])
def test_a_remembered_head_is_that_of_its_query(form: str, z_dtype: str) -> None:
    """Queries that are alike but for one thing have their own bytes, the first time and afterwards."""
    bodies = ScoreBodies("m", form, z_dtype)
    expected = [encode_message(score_message(query, "m", z_dtype=z_dtype), form) for query in ALIKE]
    assert len(set(expected)) == len(ALIKE)
    for _ in range(2):
        assert expected == [bodies.encoded(query, SET) for query in ALIKE]


def test_a_precise_query_stays_one() -> None:
    """After a plain query of the same kind, and before one."""
    bodies = ScoreBodies("m", TENSORS, "float32")
    asked = [False, True, False, True]
    sent = [bodies.encoded(replace(QUERY, precise=precise), SET) for precise in asked]
    assert asked == [read_score(decode_message(body, TENSORS, SCORE_ARRAYS))[1].precise for body in sent]
