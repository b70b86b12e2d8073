"""Predictors of any method, from their files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from predictor_process import TEXTS, told
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import Backend, Budget, BudgetExceeded, Client, Dataset, NotFinite, PredictorFileError
from lmaas_sdk.made_for import MadeFor
from lmaas_sdk.methods import (
    BlackBoxTuning,
    FeatureBiLSTM,
    FeatureLinear,
    InContextLearning,
    ManualPrompt,
    Method,
    MethodPredictor,
    PromptEnsemble,
    SavedPredictor,
    load_predictor,
    register_predictor,
)

Make = Callable[[Backend], Method]
METHODS: dict[str, Make] = {
    "manual": ManualPrompt,
    "manual-prior": lambda backend: ManualPrompt(backend, calibration="prior"),
    "zero-shot": lambda backend: InContextLearning(backend, shots=0, instruction="Say how it was."),
    "few-shot": lambda backend: InContextLearning(backend, shots=5, seed=9, separator="\n"),
    "few-shot-contextual": lambda backend: InContextLearning(backend, shots=5, calibration="contextual"),
    "feature-linear": lambda backend: FeatureLinear(backend, epochs=3, width=8),
    "feature-bilstm": lambda backend: FeatureBiLSTM(backend, epochs=3, width=8),
    "black-box": lambda backend: BlackBoxTuning(backend, budget=Budget(evaluations=24), preset=SMALL),
    "black-box-prior": lambda backend: BlackBoxTuning(
        backend, budget=Budget(evaluations=24), preset=SMALL, calibration="prior"
    ),
    "ensemble": lambda backend: PromptEnsemble(backend, budget=Budget(evaluations=48), preset=SMALL, members=3),
    "ensemble-best": lambda backend: PromptEnsemble(
        backend, budget=Budget(evaluations=24), preset=SMALL, members=1, best=2, calibration="contextual"
    ),
}


@pytest.fixture(params=METHODS)
def make(request: pytest.FixtureRequest) -> Make:
    """Each method in turn."""
    return METHODS[request.param]


def told_by(model: str, *files: Path) -> Any:
    """What a process of its own predicts with each file."""
    program = Path(__file__).parent / "predictor_process.py"
    done = subprocess.run([sys.executable, program, model, *files], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


async def test_a_fresh_process_predicts_the_same(make: Make, tmp_path: Path) -> None:
    """From the file alone, to the last bit; and the same predictor makes the same file."""
    predictor = await make(mock()).fit(TRAIN, DEV)
    file = predictor.save(tmp_path / "a.predictor")
    assert told_by("mock", file) == [await told(predictor)]
    loaded = load_predictor(file, mock())
    assert (type(loaded), loaded.name) == (type(predictor), predictor.name)
    assert loaded.saved().to_bytes() == predictor.saved().to_bytes() == file.read_bytes()


async def test_fitting_twice_makes_the_same_file(make: Make) -> None:
    """Nothing in it depends on chance or the time of day."""
    files = [(await make(mock()).fit(TRAIN, DEV)).saved().to_bytes() for _ in range(2)]
    assert files[0] == files[1]


async def test_a_loaded_predictor_pays_from_its_own_budget(make: Make, tmp_path: Path) -> None:
    """Loading sends nothing; a prediction that does not fit is not sent."""
    file = (await make(mock()).fit(TRAIN, DEV)).save(tmp_path / "a.predictor")
    backend = mock()
    predictor = load_predictor(file, backend, budget=Budget(tokens=3))
    with pytest.raises(BudgetExceeded):
        await predictor.predict(TEXTS)
    assert (backend.book.attempts, predictor.spend.total.calls) == (0, 0)


async def test_a_predictor_of_another_model_is_refused(make: Make, tmp_path: Path) -> None:
    """Before anything is sent."""
    file = (await make(mock()).fit(TRAIN, DEV)).save(tmp_path / "a.predictor")
    with pytest.raises(PredictorFileError, match=r"a\.predictor: this predictor was fitted for mock \(width 64\)"):
        load_predictor(file, mock(hidden_size=128))


async def test_every_method_keeps_to_the_protocol(make: Make) -> None:
    """A name, and a predictor of that name that judges and predicts."""
    method = make(mock())
    predictor = await method.fit(TRAIN, DEV)
    assert predictor.name == method.name
    labels = await predictor.predict(DEV.fields)
    evaluation = await predictor.evaluate(DEV, purpose="dev")
    right = sum(DEV.task.labels[label] == found for label, found in zip(DEV.labels, labels, strict=True))
    assert evaluation.value == right / len(DEV)


def changed(method: Make, change: Callable[[SavedPredictor], SavedPredictor]) -> Any:
    async def write(path: Path) -> Path:
        return change((await method(mock()).fit(TRAIN, DEV)).saved()).save(path)

    return write


def with_settings(**settings: object) -> Callable[[SavedPredictor], SavedPredictor]:
    return lambda saved: replace(saved, settings={**saved.settings, **settings})


def with_arrays(**arrays: object) -> Callable[[SavedPredictor], SavedPredictor]:
    return lambda saved: replace(saved, arrays={**saved.arrays, **arrays})


def with_other_labels(saved: SavedPredictor) -> Any:
    """The same task with labels of other names."""
    return type(saved.task).from_wire(saved.task.to_wire() | {"labels": ["no", "yes"]})


def with_strange_member(saved: SavedPredictor) -> SavedPredictor:
    """An ensemble with a member of a method that nobody knows."""
    member = SavedPredictor("magic", saved.made_for, saved.task)
    return replace(saved, settings={"members": [*saved.settings["members"], member.to_wire()]})


def with_wider_member(saved: SavedPredictor) -> SavedPredictor:
    """An ensemble with a member of another model."""
    member = SavedPredictor("manual", replace(saved.made_for, hidden_size=65), saved.task)
    return replace(saved, settings={"members": [*saved.settings["members"], member.to_wire()]})


LONG_PRIOR = np.zeros(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("manual", lambda saved: replace(saved, method="magic"), "no method 'magic' here: known are manual"),
        ("manual", with_settings(more=1), "has the settings"),
        ("manual", with_arrays(log_prior=LONG_PRIOR), "has arrays of the shapes"),
        ("manual", with_arrays(weights=LONG_PRIOR), "not {'weights': (3,)}"),
        ("few-shot", with_arrays(log_prior=LONG_PRIOR), "has arrays of the shapes"),
        ("few-shot", with_settings(demonstrations={}), "demonstrations are a list"),
        ("few-shot", with_settings(separator=1), "separator are strings"),
        ("few-shot", with_settings(demonstrations=[{"fields": ["a"]}]), "a demonstration has fields and a label"),
        ("few-shot", with_settings(demonstrations=[{"fields": [1], "label": 0}]), "a demonstration has fields"),
        ("few-shot", with_settings(demonstrations=[{"fields": ["a"], "label": True}]), "a demonstration has"),
        ("few-shot", with_settings(demonstrations=[{"fields": ["a"], "label": 2}]), "example 0 has 1 fields"),
        ("few-shot", with_settings(demonstrations=[{"fields": [], "label": 0}]), "example 0 has 0 fields"),
        ("black-box", with_settings(prompt=[]), "the format is 'list'"),
        ("black-box", with_arrays(z=LONG_PRIOR), "has arrays of the shapes"),
        ("black-box-prior", with_arrays(log_prior=LONG_PRIOR), "has arrays of the shapes"),
        ("ensemble", with_settings(members={}), "members are a list of predictors"),
        ("ensemble", with_settings(members=[]), "at least one member"),
        ("ensemble", with_settings(members=[{}]), "the format is None"),
        ("ensemble", with_settings(more=1), "has the settings"),
        ("ensemble", with_arrays(log_prior=LONG_PRIOR), "has arrays of the shapes"),
        ("ensemble", lambda saved: replace(saved, settings={"members": [saved.to_wire()]}), "no member of another"),
        ("ensemble", lambda saved: replace(saved, task=with_other_labels(saved)), "member 0 knows the labels"),
        ("ensemble", with_strange_member, "no method 'magic' here"),
        ("ensemble", with_wider_member, "this predictor was fitted for mock (width 65)"),
        ("black-box", lambda saved: replace(saved, task=replace_name(saved)), "the prompt is of task 'things'"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    method: str, change: Callable[[SavedPredictor], SavedPredictor], named: str, tmp_path: Path
) -> None:
    """A file with a right digest and wrong content, with its path."""
    path = await changed(METHODS[method], change)(tmp_path / "a.predictor")
    with pytest.raises(PredictorFileError, match=r"a\.predictor: ") as refused:
        load_predictor(path, mock())
    assert named in str(refused.value)


def replace_name(saved: SavedPredictor) -> Any:
    """The same task under another name."""
    return type(saved.task).from_wire(saved.task.to_wire() | {"name": "other"})


class Constant(MethodPredictor):
    """Predicts by one weight a class, whatever the text says: a method of one's own."""

    name: ClassVar[str] = "constant"

    def __init__(self, client: Client, train: Dataset, weights: np.ndarray) -> None:
        super().__init__(client, train.task)
        self.weights = weights

    async def score(self, items: Sequence[object], purpose: str) -> tuple[np.ndarray, int]:
        return np.tile(self.weights, (len(items), 1)), 0

    def kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"layer": 4}, {"weights": self.weights}


async def test_a_method_of_ones_own_is_loaded_by_its_name(tmp_path: Path) -> None:
    """What it needs is an array and a restoring function."""
    weights = np.array([0.5, 0.25], dtype=np.float32)
    file = Constant(Client(mock(), Budget()), TRAIN, weights).save(tmp_path / "a.predictor")
    with pytest.raises(PredictorFileError, match="no method 'constant' here"):
        load_predictor(file, mock())
    register_predictor(
        "constant", lambda saved, client: Constant(client, Dataset(saved.task, ()), saved.arrays["weights"])
    )
    loaded = load_predictor(file, mock())
    assert await loaded.predict(TEXTS) == ["negative"] * 3
    assert loaded.saved().made_for == MadeFor.of(mock().card)


@pytest.mark.parametrize("weights", [(0.5, np.nan), (-np.inf, 0.25)], ids=["nan", "no chance"])
async def test_no_label_is_made_of_a_logit_that_is_no_number(weights: tuple[float, float]) -> None:
    """A class may well have no chance at all, but one that is not known is never the likeliest."""
    predictor = Constant(Client(mock(), Budget()), TRAIN, np.array(weights, dtype=np.float32))
    if np.isnan(weights).any():
        for asked in (predictor.predict(TEXTS), predictor.logits(TEXTS), predictor.evaluate(DEV)):
            with pytest.raises(NotFinite, match="a logit of 'constant' is no number: fit again"):
                await asked
    else:
        assert await predictor.predict(TEXTS) == ["positive"] * 3


def test_names_of_the_package_are_taken() -> None:
    """And a name is one, and a function can be called."""
    with pytest.raises(ValueError, match="'manual' is a method of the package"):
        register_predictor("manual", Constant)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not empty"):
        register_predictor(" ", Constant)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="restored by a function"):
        register_predictor("mine", 5)  # type: ignore[arg-type]
