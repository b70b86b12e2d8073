"""What is known of the candidates of a generation, text by text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from client_cases import COUNTS, SUBSPACE, TEXTS, points

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.client import Client
from lmaas_sdk.tuning.objective import Objective, losses
from lmaas_sdk.tuning.parts import Part, Scorable
from lmaas_sdk.tuning.racing import Racing
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.scoreboard import Scoreboard

LABELS = np.array([1, 0, 0, 1])
LOGITS = np.random.Generator(np.random.Philox(3)).standard_normal((5, 4, 2)).astype(np.float32)


def parts(count: int, *rows: int, most_texts: int = 64) -> list[Part]:
    """The calls that score so many candidates on some rows; none: on all."""
    scheduler = Scheduler(Client(MockBackend(max_texts=most_texts), Budget()), "run")
    ready = Scorable(TEXTS, SUBSPACE, COUNTS)
    return scheduler.parts(ready, points(count), "train", label=0, rows=rows or None)


def board(objective: Objective = "ce") -> Scoreboard:
    return Scoreboard(5, LABELS, objective=objective, metric="accuracy")


def put(onto: Scoreboard, candidates: list[int], *rows: int, logits: Any = LOGITS) -> list[int]:
    """Puts what the logits of these candidates on these rows tell onto the board."""
    (part,) = parts(len(candidates), *rows)
    some = logits[candidates][:, list(rows)] if rows else logits[candidates]
    return onto.put(candidates, part, onto.read(part, some))


@pytest.mark.parametrize("objective", ["ce", "hinge", "metric"])
def test_a_loss_is_the_same_however_it_came(objective: Objective) -> None:
    """In one call, text by text, or in parts of the texts: to the last bit."""
    expected = dict(enumerate(losses(objective, LOGITS, LABELS, metric="accuracy").tolist()))
    whole, single = board(objective), board(objective)
    assert [] == put(whole, list(range(5)))
    for row in (2, 0, 3, 1):
        put(single, list(range(5)), row)
    split = board(objective)
    for part in parts(5, most_texts=3):
        split.put(range(5), part, split.read(part, LOGITS[part.candidates, part.rows]))
    assert expected == whole.scored == single.scored == split.scored
    assert 5 == whole.evaluations == single.evaluations == split.evaluations


def test_who_has_no_finite_loss_is_told_and_not_counted() -> None:
    """The others of the answer are."""
    onto = board()
    (part,) = parts(3)
    assert [4] == onto.put([0, 4, 2], part, np.array([0.5, np.nan, 0.7]))
    assert ({0: 0.5, 2: 0.7}, 2) == (onto.scored, onto.evaluations)


def test_a_part_of_the_texts_is_a_part_of_an_evaluation() -> None:
    """Nobody has a loss by it."""
    onto = board()
    put(onto, [0, 1, 2], 0, 1)
    assert ({}, 1.5) == (onto.scored, onto.evaluations)


def test_who_was_dropped_is_behind_all_that_ended_the_race() -> None:
    """Those that went sooner further than those that went later; who was known before counts as one that ended."""
    onto = board()
    put(onto, [0, 1, 2], 0)
    put(onto, [0, 1], 1)
    put(onto, [0], 2, 3)
    behind = onto.behind([1, 2])
    assert onto.scored[0] < behind[1] < behind[2]
    onto.know({4: 100.0})
    behind = onto.behind([0, 1, 2])
    assert 100.0 < behind[1] < behind[2]
    assert {1, 2} == behind.keys()


def test_a_race_that_nobody_ended_has_nobody_behind() -> None:
    """With nobody known either there is nothing to tell; else the dropped are as bad as the worst that is known."""
    onto = board()
    put(onto, [0, 1, 2], 0)
    assert {} == onto.behind([1, 2])
    onto.know({4: 0.25, 3: 0.5})
    assert {1: 0.5, 2: 0.5} == onto.behind([1, 2])


def test_all_go_on_where_nothing_was_scored() -> None:
    """There is nothing to compare them by."""
    assert (0, 2, 3) == board().survivors([0, 2, 3], Racing(), keep=1, must_keep=())
