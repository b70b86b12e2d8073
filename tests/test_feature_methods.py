"""Feature-Linear and Feature-BiLSTM on the mock, whose hidden states tell its words apart."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_cases import PRICE
from test_features import without_features
from tuning_cases import DEV, TASK, TEST, TRAIN, mock

from lmaas_sdk import (
    Budget,
    BudgetExceeded,
    BudgetTooSmall,
    Dataset,
    EmptyClass,
    MissingExtra,
    NotFinite,
    PredictorFileError,
    RetryPolicy,
    Task,
    TaskError,
    Unsupported,
    open_cache,
    open_ledger,
)
from lmaas_sdk.methods import FeatureBiLSTM, FeatureLinear, load_predictor
from lmaas_sdk.testing import Faults

Kind = type[FeatureLinear] | type[FeatureBiLSTM]
KINDS = (FeatureLinear, FeatureBiLSTM)
FEW: Any = {"epochs": 3, "width": 8}
EACH = 8  # tokens: six words and signs, and two special tokens
WHOLE = EACH * (len(TRAIN) + len(DEV))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each method in turn."""
    return request.param  # type: ignore[no-any-return]


async def test_it_learns_what_the_words_say(kind: Kind) -> None:
    """Texts that it has not seen, with words that it has; chance is a half."""
    predictor = await kind(mock(), epochs=150, width=16, learning_rate=0.01).fit(TRAIN)
    assert (await predictor.evaluate(TEST)).value > 0.85
    assert await predictor.predict(["a lovely thing, number 5", "a dull thing, number 5"]) == ["positive", "negative"]
    assert (await predictor.logits([])).shape == (0, 2)


async def test_features_are_paid_once_whatever_they_are_for(kind: Kind) -> None:
    """In fit as `features`, in one call; judged on what it has read, for nothing; in money and tokens as billed."""
    backend, budget = mock(price=PRICE), Budget()
    method = kind(backend, budget=budget, **FEW)
    predictor = await method.fit(TRAIN, DEV)
    assert {"features": (1, WHOLE)} == spent(predictor)
    await predictor.evaluate(DEV, purpose="dev")
    await predictor.evaluate(TEST)
    await predictor.evaluate(TEST)
    assert {"features": (1, WHOLE), "test": (1, EACH * len(TEST))} == spent(predictor)
    again = await method.fit(TRAIN)
    await again.predict(TEST.fields)
    assert spent(again) == {}
    assert (budget.posted.tokens, budget.posted.nanousd) == (backend.book.tokens, backend.book.nanousd)
    assert budget.posted.evaluations == 0


def spent(predictor: Any) -> dict[str, tuple[int, int]]:
    return {purpose: (amounts.calls, amounts.tokens) for purpose, amounts in predictor.spend.by_purpose.items()}


async def test_both_methods_and_later_processes_share_a_cache_file(kind: Kind, tmp_path: Path) -> None:
    """A fit of the same texts, and a predictor from a file, pay nothing."""
    async with open_cache(tmp_path / "c.cache") as cache:
        first = await kind(mock(), cache=cache, **FEW).fit(TRAIN, DEV)
    async with open_cache(tmp_path / "c.cache") as cache:
        backend = mock()
        again = await kind(backend, cache=cache, **FEW).fit(TRAIN, DEV)
        loaded = load_predictor(again.save(tmp_path / "a.predictor"), backend, cache=cache)
        await loaded.evaluate(DEV)
    assert backend.book.attempts == 0
    assert first.saved().to_bytes() == again.saved().to_bytes()


async def test_what_was_spent_is_in_the_ledger_file(kind: Kind, tmp_path: Path) -> None:
    """A budget of the same name that is opened later knows it."""
    async with open_ledger(tmp_path / "spend.db") as ledger:
        await kind(mock(), budget=Budget(tokens=1000, name="b", ledger=ledger), **FEW).fit(TRAIN, DEV)
    async with open_ledger(tmp_path / "spend.db") as ledger:
        again = Budget(tokens=1000, name="b", ledger=ledger)
        await again.ready()
        assert again.posted.tokens == WHOLE


async def test_a_budget_below_the_training_features_is_refused_before_anything_is_sent(kind: Kind) -> None:
    """There is nothing to learn from without them."""
    backend = mock(max_texts=4)
    for dev in (None, DEV):
        with pytest.raises(BudgetTooSmall, match="before the first call"):
            await kind(backend, budget=Budget(calls=3), **FEW).fit(TRAIN, dev)
    assert backend.book.attempts == 0
    assert (await kind(backend, budget=Budget(calls=4), **FEW).fit(TRAIN)).chosen_by == "last"


async def test_dev_is_left_out_where_its_features_cannot_be_paid(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """The last epoch is taken, which the predictor and the log say; nothing is sent of dev."""
    backend = mock()
    with caplog.at_level(logging.WARNING, "lmaas_sdk.methods"):
        predictor = await kind(backend, budget=Budget(tokens=WHOLE - 1), **FEW).fit(TRAIN, DEV)
    assert (predictor.chosen_by, predictor.epoch, backend.book.tokens) == ("last", 3, EACH * len(TRAIN))
    assert "dev_left_out" in [record.__dict__["lmaas_event"] for record in caplog.records]
    alone = await kind(mock(), **FEW).fit(TRAIN)
    assert (predictor.stopped, alone.stopped) == ("budget", "done")
    assert predictor.saved().to_bytes() == alone.saved().to_bytes()


async def test_patience_ends_the_training_by_dev(kind: Kind) -> None:
    """On labels turned around dev gets worse and worse; what would come after is not seen any more."""
    options = FEW | {"epochs": 300}
    wrong = DEV.task.examples([(fields, 1 - label) for fields, label in zip(TRAIN.fields, TRAIN.labels, strict=True)])
    whole = await kind(mock(), **options).fit(TRAIN, wrong)
    short = await kind(mock(), patience=2, **options).fit(TRAIN, wrong)
    assert (whole.stopped, short.stopped) == ("done", "plateau")
    assert short.epoch <= whole.epoch


async def test_patience_without_a_dev_set_is_refused_before_anything_is_sent(kind: Kind) -> None:
    """It would count nothing."""
    backend = mock()
    with pytest.raises(ValueError, match="give dev=, or patience=None"):
        await kind(backend, patience=2, **FEW).fit(TRAIN)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises((TypeError, ValueError), match="patience"):
            kind(backend, patience=wrong, **FEW)
    assert backend.book.attempts == 0


async def test_training_features_that_came_are_used_where_the_budget_ends_at_dev(kind: Kind) -> None:
    """The calls are used up by a second attempt at dev's: what was paid is not lost, and not paid again."""
    backend = mock(max_texts=16, faults=Faults(script=[None, "server_fault"]))
    budget = Budget(calls=2)
    predictor = await kind(backend, budget=budget, **FEW).fit(TRAIN, DEV)
    assert (predictor.chosen_by, backend.book.attempts, budget.posted.calls) == ("last", 2, 2)


async def test_texts_to_predict_that_do_not_fit_are_not_sent(kind: Kind) -> None:
    """Together, or not at all."""
    backend = mock()
    predictor = await kind(backend, budget=Budget(tokens=WHOLE + 20), **FEW).fit(TRAIN, DEV)
    with pytest.raises(BudgetExceeded):
        await predictor.evaluate(TEST)
    assert backend.book.tokens == WHOLE


async def test_the_epoch_is_the_best_on_dev_or_the_last(kind: Kind) -> None:
    """Trained up to the chosen epoch without dev, it is the same predictor."""
    chosen = await kind(mock(), epochs=12, width=8, learning_rate=0.05).fit(TRAIN, DEV)
    assert chosen.chosen_by == "dev"
    there = await kind(mock(), epochs=chosen.epoch, width=8, learning_rate=0.05).fit(TRAIN)
    assert (there.chosen_by, there.epoch) == ("last", chosen.epoch)
    assert (await chosen.logits(TEST.fields)).tobytes() == (await there.logits(TEST.fields)).tobytes()


async def test_seed_and_options_decide_the_weights(kind: Kind) -> None:
    """Each of them; the same ones give the same bytes, and torch's own random numbers neither tell nor are touched."""
    import torch

    changes: list[Any] = [{}, {"seed": 1}, {"epochs": 4}, {"learning_rate": 1e-3}, {"batch_size": 5}, {"width": 9}]
    changes.append({"template": True})
    files = [(await kind(mock(), **(FEW | change)).fit(TRAIN)).saved().to_bytes() for change in changes]
    assert len(set(files)) == len(files)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert (await kind(mock(), **FEW).fit(TRAIN)).saved().to_bytes() == files[0]
    assert torch.equal(before, torch.get_rng_state())


async def test_how_many_threads_torch_has_changes_nothing(kind: Kind) -> None:
    """Not a bit of the weights, nor the setting of others."""
    import torch

    def threads() -> int:
        return torch.get_num_threads()

    files, before = [], threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            files.append((await kind(mock(), **FEW).fit(TRAIN)).saved().to_bytes())
            with ThreadPoolExecutor() as another:
                assert (threads(), another.submit(threads).result()) == (count, count)
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


async def test_a_texts_logits_do_not_depend_on_its_company(kind: Kind) -> None:
    """Alone, among few or among many, in any order: the same bits."""
    predictor = await kind(mock(), **FEW).fit(TRAIN)
    fields = TEST.fields + TRAIN.fields
    together = await predictor.logits(fields)
    for row in (0, 7, 45):
        assert (await predictor.logits([fields[row]])).tobytes() == together[row].tobytes()
    assert (await predictor.logits(fields[::-1])).tobytes() == together[::-1].tobytes()


async def test_a_training_that_diverges_is_told() -> None:
    """It gives no predictor, whose file nobody could load; what was paid for is kept for the next try."""
    backend = mock()
    with pytest.raises(NotFinite, match=r"the training diverged; take a learning_rate below 1e\+30"):
        await FeatureLinear(backend, **FEW | {"learning_rate": 1e30}).fit(TRAIN, DEV)
    assert backend.book.attempts == 1


async def test_with_the_template_its_words_are_read_too(kind: Kind) -> None:
    """And paid: four more and the mask."""
    backend = mock()
    predictor = await kind(backend, template=True, **FEW).fit(TRAIN)
    assert backend.book.tokens == len(TRAIN) * (EACH + 4)
    assert predictor.saved().settings["template"] is True


async def test_texts_that_lose_words_are_counted(kind: Kind) -> None:
    """In the evaluation, and over all that was predicted."""
    predictor = await kind(mock(max_tokens=20), **FEW).fit(TRAIN)
    long = TASK.examples([("thing " * 40, 0), ("a thing", 1)])
    assert [(await predictor.evaluate(long)).shortened for _ in range(2)] == [1, 1]
    assert predictor.shortened == 2


async def test_a_predictor_needs_no_torch(kind: Kind, tmp_path: Path) -> None:
    """It predicts from its file, in a process that never has it."""
    file = (await kind(mock(), **FEW).fit(TRAIN)).save(tmp_path / "a.predictor")
    program = "\n".join(
        [
            "import asyncio, sys",
            "sys.modules['torch'] = None",
            "from lmaas_backends.mock import MockBackend",
            "from lmaas_sdk.methods import load_predictor",
            f"predictor = load_predictor({str(file)!r}, MockBackend())",
            "print(asyncio.run(predictor.predict(['a lovely thing'])))",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: ASYNC221
    assert done.stdout.strip() in ("['positive']", "['negative']")


async def test_without_torch_nothing_is_paid(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what to install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    backend = mock()
    with pytest.raises(MissingExtra, match=r"lmaas-sdk\[local\]"):
        await kind(backend, **FEW).fit(TRAIN)
    assert backend.book.attempts == 0


async def test_a_model_without_features_is_unsupported(kind: Kind, tmp_path: Path) -> None:
    """When the method is made, and when a predictor is loaded."""
    file = (await kind(mock(), **FEW).fit(TRAIN)).save(tmp_path / "a.predictor")
    backend = mock()
    backend.card = without_features(backend.card)
    with pytest.raises(Unsupported, match="features: mock"):
        kind(backend)
    with pytest.raises(Unsupported, match="features: mock"):
        load_predictor(file, backend)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"width": 0}, ValueError, "width is a whole number of at least 1, not 0"),
        ({"epochs": 0}, ValueError, "epochs is a whole number of at least 1"),
        ({"epochs": 1.5}, TypeError, "epochs is a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size is"),
        ({"learning_rate": 0}, ValueError, "learning_rate is a finite number above 0, not 0"),
        ({"learning_rate": float("nan")}, ValueError, "above 0, not nan"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate is a number above 0, not 'fast' of str"),
        ({"seed": "one"}, TypeError, "seed is a whole number"),
        ({"template": 1}, TypeError, "template is True or False, not 1"),
        ({"budget": 5}, TypeError, "budget is a Budget"),
        ({"retry": 3}, TypeError, "retry is a RetryPolicy"),
        ({"quotas": "none-2021"}, ValueError, "none-2021"),
        ({"cache": "yes"}, TypeError, "cache is True, False"),
    ],
)
def test_options_are_checked_when_they_are_given(
    kind: Kind, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    """Not when the first call is made."""
    with pytest.raises(error, match=named):
        kind(mock(), **options)
    with pytest.raises(TypeError, match="backend is an open one"):
        kind("roberta-tiny")  # type: ignore[arg-type]


async def test_data_are_checked_before_anything_is_sent(kind: Kind) -> None:
    """Two sets are of one task, and there is something to learn of every class and to choose by."""
    other = Task("other", template="{text} <mask>", labels=["a", "b"], words=["x", "y"])
    backend = mock()
    method = kind(backend, retry=RetryPolicy(), **FEW)
    cases: list[tuple[Any, Dataset | None, type[Exception]]] = [
        ([("a", 0)], None, TypeError),
        (TRAIN, other.examples([("a", 0)]), TaskError),
        (TRAIN, TASK.examples([]), TaskError),
        (TASK.examples([("a", 0)]), None, EmptyClass),
    ]
    for train, dev, error in cases:
        with pytest.raises(error):
            await method.fit(train, dev)
    assert backend.book.attempts == 0


@pytest.mark.parametrize(
    ("settings", "arrays", "named"),
    [
        ({"chosen_by": "luck"}, {}, "chosen_by is dev or last"),
        ({"template": 0}, {}, "template is True or False"),
        ({"epoch": 0}, {}, "epoch is a whole number of at least 1, not 0"),
        ({"width": "8"}, {}, "width is a whole number of at least 1, not '8'"),
        ({"width": 9}, {}, "has arrays of the shapes"),
        ({"more": 1}, {}, "has the settings"),
        ({}, {"out_bias": np.zeros(3, np.float32)}, "has arrays of the shapes"),
        ({}, {"more": np.zeros(3, np.float32)}, "has arrays of the shapes"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused(
    kind: Kind, settings: dict[str, Any], arrays: dict[str, Any], named: str, tmp_path: Path
) -> None:
    """It names the file and what is wrong with it."""
    saved = (await kind(mock(), **FEW).fit(TRAIN)).saved()
    changed = replace(saved, settings={**saved.settings, **settings}, arrays={**saved.arrays, **arrays})
    with pytest.raises(PredictorFileError, match=r"a\.predictor: ") as refused:
        load_predictor(changed.save(tmp_path / "a.predictor"), mock())
    assert named in str(refused.value)
