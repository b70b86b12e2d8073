"""A prompt in use."""

from __future__ import annotations

import numpy as np
import pytest
from tuning_cases import TASK, TEST, mock

from lmaas_sdk import Budget, Evaluation, Predictor, Subspace, Task, TaskError, TunedPrompt, Unsupported
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, PromptFileError
from lmaas_sdk.tasks import register_metric
from lmaas_sdk.tuning.predictor import evaluation


def tuned(hidden_size: int = 64, base: np.ndarray | None = None) -> TunedPrompt:
    digest = None if base is None else array_digest(base)
    z = np.random.default_rng(3).standard_normal(20).astype(np.float32)
    arrays = () if base is None else (base,)
    return TunedPrompt(TASK, Subspace(20, 2, hidden_size, base=digest), z, "mock", "", arrays)


async def test_labels_are_the_argmax_of_the_logits() -> None:
    """`predict` names the class with the largest logit."""
    predictor = Predictor.tuned(mock(), tuned())
    texts = ["a lovely thing", "an awful thing", ""]
    logits = await predictor.logits(texts)
    assert logits.shape == (3, 2)
    assert await predictor.predict(texts) == [TASK.labels[index] for index in logits.argmax(axis=1)]


@pytest.mark.parametrize("prompt", [None, tuned()], ids=["manual", "tuned"])
async def test_predictions_are_in_float32_where_a_backend_computes_in_fewer_bits(prompt: TunedPrompt | None) -> None:
    """The logits are those of a backend that has all bits."""
    texts = ["a lovely thing", "an awful thing", ""]
    few, exact = [
        await Predictor(Client(backend, Budget()), TASK, prompt).logits(texts)
        for backend in (mock(precision="bfloat16"), mock())
    ]
    assert few.tobytes() == exact.tobytes()


async def test_many_texts_go_out_in_several_calls_and_come_back_in_order() -> None:
    """More texts than a call takes give the same logits as all at once."""
    texts = [f"thing number {n}" for n in range(25)]
    at_once = await Predictor.tuned(mock(), tuned()).logits(texts)
    backend = mock(max_texts=4)
    in_parts = await Predictor.tuned(backend, tuned()).logits(texts)
    np.testing.assert_array_equal(in_parts, at_once)
    assert backend.book.attempts == 7


async def test_learned_base_is_uploaded_before_it_is_used() -> None:
    """A prompt that carries a learned p0 works on a backend that has never seen it, and the p0 counts."""
    base = np.full((2, 64), 0.5, dtype=np.float32)
    with_base = await Predictor.tuned(mock(), tuned(base=base)).logits(["a thing"])
    without = await Predictor.tuned(mock(), tuned()).logits(["a thing"])
    assert not np.array_equal(with_base, without)


async def test_backend_without_arrays_is_named() -> None:
    """A learned p0 cannot be used where nothing can be uploaded."""

    class NoArrays:
        def __init__(self) -> None:
            self.card, self.score, self.features = mock().card, mock().score, mock().features

        async def aclose(self) -> None:
            pass

    with pytest.raises(Unsupported, match="stores no arrays"):
        await Predictor.tuned(NoArrays(), tuned(base=np.zeros((2, 64), dtype=np.float32))).predict(["a thing"])


def test_prompt_of_another_model_is_refused_at_once() -> None:
    """The widths differ: nothing is sent."""
    with pytest.raises(PromptFileError, match="width 128"):
        Predictor.tuned(mock(), tuned(hidden_size=128))


async def test_budget_holds_for_predictions() -> None:
    """A prediction that does not fit is not sent."""
    backend, budget = mock(), Budget(tokens=5)
    with pytest.raises(BudgetExceeded):
        await Predictor.manual(backend, TASK, budget=budget).predict(["a thing that is longer than that"])
    assert backend.book.attempts == 0


async def test_empty_set_cannot_be_evaluated() -> None:
    """There is no metric of nothing."""
    with pytest.raises(ValueError, match="no examples"):
        await Predictor.manual(mock(), TASK).evaluate(TASK.examples([]))


async def test_set_of_another_task_cannot_be_evaluated() -> None:
    """Its labels would be read in the wrong words."""
    other = Task("other", template="{text} <mask>", labels=["a", "b"], words=["x", "y"])
    with pytest.raises(TaskError, match="'other'"):
        await Predictor.manual(mock(), TASK).evaluate(other.examples([("a text", 0)]))


def test_evaluation_uses_the_metric_of_the_task() -> None:
    """F1 of class 1 where the task says so."""
    task = Task("f", template="{text} <mask>", labels=["n", "y"], words=["No", "Yes"], metric="f1")
    logits = np.array([[0, 1], [0, 1], [1, 0]], dtype=np.float32)
    found = evaluation(logits, task.examples([("a", 1), ("b", 0), ("c", 1)]), shortened=2)
    assert (found.metric, found.value, found.n_texts, found.shortened) == ("f1", 0.5, 3, 2)


def judged(metric: str) -> Evaluation:
    """Of ten texts eight are right: six of class 1, two of the other."""
    task = Task("j", template="{text} <mask>", labels=["n", "y"], words=["No", "Yes"], metric=metric)
    labels, predictions = [1] * 7 + [0] * 3, [1] * 6 + [0, 1, 0, 0]
    logits = np.eye(2, dtype=np.float32)[predictions]
    return evaluation(logits, task.examples([(str(n), label) for n, label in enumerate(labels)]))


def test_an_evaluation_tells_how_far_it_may_be_off() -> None:
    """By Wilson's interval for accuracy: 8 of 10; for F1 mapped from 6 true positives of 8."""
    found = judged("accuracy")
    assert found.interval == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert (found.value, found.confusion) == (0.8, ((0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 6)))
    assert "confusion" not in repr(found)
    assert judged("f1").interval == pytest.approx((0.5808, 0.9629), abs=5e-5)


def test_a_metric_of_ones_own_is_worked_out_once_and_when_asked() -> None:
    """A look at dev costs one call of it, the interval 999 more, and to read it again none."""
    calls = []

    def own(labels: np.ndarray, predictions: np.ndarray) -> float:
        calls.append(len(labels))
        return float(np.mean(labels == predictions))

    register_metric("counted", own)
    found = judged("counted")
    assert len(calls) == 1
    assert found.interval == found.interval == (0.5, 1.0)
    assert calls == [10] * 1000


def test_an_evaluation_whose_texts_are_not_known_has_no_interval() -> None:
    """One that was made by hand, from the value alone."""
    assert Evaluation("accuracy", 0.8, 0.5, 10).interval is None


async def test_manual_prompt_is_the_template_alone() -> None:
    """Its spend counts the texts without any prompt vector."""
    backend = mock()
    await Predictor.manual(backend, TASK).evaluate(TEST)
    plain = backend.book.tokens
    await Predictor.tuned(backend, tuned()).evaluate(TEST)
    assert backend.book.tokens - plain >= plain + 2 * len(TEST)
