"""A prompt file: one file, no code in it, the same bytes for the same prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmaas_sdk import Capabilities, ModelCard, Subspace, Task, TunedPrompt
from lmaas_sdk.canonical import array_digest, canonical_json, digest
from lmaas_sdk.errors import PromptFileError

TASK = Task("t", template="{text} It was <mask> .", labels=["no", "yes"], words=["bad", "great"])
CARD = ModelCard("tiny", 4, 2000, 128, "<mask>", Capabilities(), tokenizer_digest="aa")
BASE = np.arange(8, dtype=np.float32).reshape(2, 4)


def prompt(**changes: object) -> TunedPrompt:
    z = np.array([0.1, -2.5, 3e-7], dtype=np.float32)
    return replace(TunedPrompt(TASK, Subspace(3, 2, 4), z, "tiny", "aa"), **changes)


def rewritten(path: Path, change: dict[str, object]) -> Path:
    """A prompt file whose content was changed, with a digest that matches."""
    content = json.loads(path.read_bytes()) | change
    content.pop("digest")
    path.write_bytes(canonical_json(content | {"digest": digest(content)}))
    return path


@pytest.mark.parametrize("arrays", [(), (BASE,)])
def test_saved_prompt_loads_equal(tmp_path: Path, arrays: tuple[np.ndarray, ...]) -> None:
    """What is saved is loaded, a learned p0 included, to the last bit."""
    base = array_digest(BASE) if arrays else None
    saved = prompt(subspace=Subspace(3, 2, 4, base=base), arrays=arrays)
    loaded = TunedPrompt.load(saved.save(tmp_path / "a.prompt"))
    assert loaded.to_bytes() == saved.to_bytes()
    assert loaded.task == TASK
    np.testing.assert_array_equal(loaded.z, saved.z)


def test_file_is_json_with_a_digest(tmp_path: Path) -> None:
    """The file holds text and numbers, nothing that a loader would run."""
    content = json.loads(prompt().save(tmp_path / "a.prompt").read_bytes())
    assert content.pop("digest") == digest(content)
    assert content["format"] == "lmaas-prompt/1"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda raw: raw[:40], "not JSON"),
        (lambda raw: b"[1]", "'list'"),
        (lambda raw: raw.replace(b"lmaas-prompt/1", b"lmaas-prompt/9"), "'lmaas-prompt/9'"),
        (lambda raw: raw.replace(b"great", b"grand"), "changed or damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, named: str) -> None:  # type: ignore[no-untyped-def]
    """A damaged file is refused with its path and what is wrong."""
    path = tmp_path / "a.prompt"
    path.write_bytes(damage(prompt().to_bytes()))
    with pytest.raises(PromptFileError, match=r".") as refused:
        TunedPrompt.load(path)
    assert named in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"z": {"shape": [2], "float32": "AAAAAAAAAAA="}}, r"z has shape \(2,\), but d is 3"),
        ({"z": {"shape": [3], "float32": "AADAf////3////9/"}}, "NaN"),
        ({"z": {"shape": [3], "float32": "!"}}, "not a prompt of this version"),
        ({"subspace": {"d": 3}}, "not a prompt of this version"),
        ({"arrays": [{"shape": [3], "float32": "AAAA"}]}, "not a prompt of this version"),
    ],
)
def test_content_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """A file with a right digest and wrong content is refused too."""
    path = rewritten(prompt().save(tmp_path / "a.prompt"), change)
    with pytest.raises(PromptFileError, match=named):
        TunedPrompt.load(path)


def test_array_that_the_subspace_names_must_be_in_the_file() -> None:
    """A prompt that needs a learned p0 does not load without it."""
    with pytest.raises(PromptFileError, match="are not in the file"):
        TunedPrompt.from_bytes(prompt(subspace=Subspace(3, 2, 4, base="0e" * 32)).to_bytes())


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The message says which file cannot be read."""
    with pytest.raises(PromptFileError, match=r"none\.prompt"):
        TunedPrompt.load(tmp_path / "none.prompt")


@pytest.mark.parametrize(
    ("card", "named"), [({"hidden_size": 8}, "width 8"), ({"tokenizer_digest": "bb"}, "another tokenizer")]
)
def test_another_model_is_refused(card: dict[str, object], named: str) -> None:
    """A prompt of one model is nonsense to another, and says so."""
    prompt().check_fits(CARD)
    with pytest.raises(PromptFileError, match=named):
        prompt().check_fits(replace(CARD, **card))  # type: ignore[arg-type]
