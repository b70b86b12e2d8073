"""The file of a predictor, whatever its method."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuning_cases import TASK, mock

from lmaas_sdk import PredictorFileError
from lmaas_sdk.canonical import canonical_json, digest
from lmaas_sdk.made_for import MadeFor
from lmaas_sdk.methods import SavedPredictor

CARD = mock().card
WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def saved(**changes: object) -> SavedPredictor:
    """A predictor of a method that has weights, such as one on features has."""
    arrays = {"weights": WEIGHTS, "bias": np.array([0.1, -3e-7], dtype=np.float32)}
    plain = SavedPredictor("linear", MadeFor("tiny", 64, "aa"), TASK, {"layer": 3, "pool": "first"}, arrays)
    return replace(plain, **changes)  # type: ignore[arg-type]


def rewritten(change: dict[str, object]) -> bytes:
    """A file whose content was changed, with a digest that matches."""
    content = json.loads(saved().to_bytes()) | change
    content.pop("digest")
    return canonical_json(content | {"digest": digest(content)})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """To the last bit, and the same predictor makes the same bytes."""
    path = saved().save(tmp_path / "a.predictor")
    loaded = SavedPredictor.load(path)
    assert loaded.to_bytes() == saved().to_bytes() == path.read_bytes()
    assert (loaded.method, loaded.made_for, loaded.task) == ("linear", MadeFor("tiny", 64, "aa"), TASK)
    assert loaded.settings == {"layer": 3, "pool": "first"}
    np.testing.assert_array_equal(WEIGHTS, loaded.arrays["weights"])


def test_a_file_is_json_with_a_digest() -> None:
    """Text and numbers, nothing that a loader would run."""
    content = json.loads(saved().to_bytes())
    assert content.pop("digest") == digest(content)
    assert content["format"] == "lmaas-predictor/1"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (saved().to_bytes()[:50], "not JSON"),
        (b"[1]", "'list'"),
        (saved().to_bytes().replace(b"linear", b"lineal"), "changed or damaged"),
        (rewritten({"format": "lmaas-prompt/1"}), "this version reads 'lmaas-predictor/1'"),
        (rewritten({"colour": "red"}), "a predictor file has format, method"),
        (rewritten({"method": 5}), "method is a str, not 5"),
        (rewritten({"hidden_size": True}), "hidden_size is a int, not True"),
        (rewritten({"settings": []}), "settings is a dict"),
        (rewritten({"arrays": {"w": {"shape": [2], "float32": "AAAA"}}}), "array 'w' has 3 bytes"),
        (rewritten({"arrays": {"w": {"shape": [1], "float32": "!"}}}), "not a predictor of this version"),
        (rewritten({"arrays": {"w": {"shape": [1], "float32": "AADAfw=="}}}), "NaN"),
        (rewritten({"task": None}), "a task has name"),
    ],
)
def test_damage_and_nonsense_are_named(tmp_path: Path, content: bytes, named: str) -> None:
    """With the file's path and what is wrong."""
    path = tmp_path / "a.predictor"
    path.write_bytes(content)
    with pytest.raises(PredictorFileError, match=r"a\.predictor: ") as refused:
        SavedPredictor.load(path)
    assert named in str(refused.value)


@given(st.integers(0, 600), st.binary(max_size=8))
def test_noise_in_a_file_is_an_error_of_its_own_and_no_other(start: int, noise: bytes) -> None:
    """Whatever is wrong with it."""
    raw = saved().to_bytes()
    with contextlib.suppress(PredictorFileError):
        SavedPredictor.from_bytes(raw[:start] + noise + raw[start + len(noise) :])


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(PredictorFileError, match=r"cannot write the predictor file .*make the folder .*missing first"):
        saved().save(tmp_path / "missing" / "a.predictor")
    with pytest.raises(PredictorFileError, match=r"cannot read the predictor file .*none: No such file"):
        SavedPredictor.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ({"hidden_size": 8}, r"fitted for tiny \(width 64\); mock has width 8"),
        ({"tokenizer_digest": "bb"}, "another tokenizer"),
    ],
)
def test_another_model_is_refused(card: dict[str, object], named: str) -> None:
    """By width or tokenizer; a tokenizer that is not known is no reason."""
    saved().check_fits(replace(CARD, tokenizer_digest=""))
    with pytest.raises(PredictorFileError, match=named):
        saved().check_fits(replace(CARD, **card))  # type: ignore[arg-type]


def test_what_a_method_does_not_write_is_refused() -> None:
    """Settings by name, arrays by name and shape."""
    shapes = {"weights": (2, 3), "bias": (2,)}
    saved().expect(settings=("layer", "pool"), shapes=shapes)
    with pytest.raises(PredictorFileError, match=r"has the settings \['layer'\], not \['layer', 'pool'\]"):
        saved().expect(settings=("layer",), shapes=shapes)
    with pytest.raises(PredictorFileError, match="has arrays of the shapes"):
        saved().expect(settings=("layer", "pool"), shapes=shapes | {"bias": (3,)})
