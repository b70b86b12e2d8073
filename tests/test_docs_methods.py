"""docs/methods.md: its programs run, and its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmaas_sdk import methods
from lmaas_sdk.methods import (
    BlackBoxTuning,
    DeepBlackBoxTuning,
    FeatureBiLSTM,
    FeatureLinear,
    InContextLearning,
    ManualPrompt,
    ModelTuning,
    PromptEnsemble,
    PromptTuning,
)

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "methods.md").read_text("utf-8")

PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


METHODS = (
    ManualPrompt,
    InContextLearning,
    FeatureLinear,
    FeatureBiLSTM,
    BlackBoxTuning,
    DeepBlackBoxTuning,
    PromptTuning,
    ModelTuning,
    PromptEnsemble,
)


def run(program: str) -> None:
    exec(compile(program, "docs/methods.md", "exec"), {"__name__": "page"})  # noqa: S102 - our own page


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every method fits and is judged; the last one predicts from its file."""
    monkeypatch.chdir(tmp_path)
    run(PROGRAMS[0])
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [name, "accuracy"] for name in ("manual", "manual", "in-context", "deep-black-box", "black-box")
    ]
    assert [line.split()[3] for line in lines[:3]] == ["1", "2", "2"]
    assert last == "black-box ['positive', 'negative']"
    assert (tmp_path / "things.predictor").exists()


def test_heads_on_features_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is paid for is paid once."""
    monkeypatch.chdir(tmp_path)
    run(PROGRAMS[1])
    assert capsys.readouterr().out.splitlines() == ["feature-linear dev 1 1", "feature-bilstm dev 1 1"]


def test_the_method_of_ones_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is fitted, saved, and loaded by its name."""
    monkeypatch.chdir(tmp_path)
    run(PROGRAMS[3])
    assert capsys.readouterr().out == "['positive']\n"


def test_the_gradient_methods_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both learn without a call, and the prompt is used behind an API."""
    monkeypatch.chdir(tmp_path)
    run(PROGRAMS[2])
    assert capsys.readouterr().out.splitlines() == [
        "prompt-tuning 20 True 0",
        "model-tuning 5 True 0",
        "prompt-tuning 1",
    ]


def test_the_methods_are_all_named() -> None:
    """The table has each with its class."""
    rows = re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert rows == [(kind.name, kind.__name__) for kind in METHODS]


def test_the_public_names_are_sorted_and_documented() -> None:
    """Constants, classes, functions; each class and function says what it is."""
    names = methods.__all__
    assert sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name)) == names
    assert all(len(getattr(methods, name).__doc__ or "") > 20 for name in names)
