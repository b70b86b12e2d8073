"""A prompt file: one file, no code in it, the same bytes for the same prompt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_a_prompt_without_a_subspace_is_a_file_too(tmp_path: Path) -> None:
    """Projection `identity`: z is the prompt, no array is needed, and the file loads equal."""
    z = np.linspace(-1, 1, 8, dtype=np.float32)
    saved = prompt(subspace=Subspace(8, 2, 4, projection="identity", scale=0.25), z=z)
    loaded = TunedPrompt.load(saved.save(tmp_path / "a.prompt"))
    assert (loaded.to_bytes(), loaded.arrays) == (saved.to_bytes(), ())
    np.testing.assert_array_equal(loaded.z, z)


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
        ({"z": {"shape": [-1], "float32": "AAAAAAAAAAAAAAAA"}}, "z has a shape"),
        ({"z": {"shape": [True], "float32": "AAAAAA=="}}, "z has a shape"),
        ({"z": {"shape": [3.0], "float32": "AAAAAAAAAAAAAAAA"}}, "z has a shape"),
        ({"z": {"shape": [], "float32": "AAAAAA=="}}, "z has a shape"),
        ({"z": {"shape": [10**30], "float32": ""}}, "z has 0 bytes"),
        ({"z": {"shape": [3], "float32": 5}}, "z has a shape"),
        ({"z": {"shape": [3], "float32": "AAAAAAAAAAAAAAAA", "more": 1}}, "z has a shape"),
        ({"z": None}, "z has a shape"),
        ({"subspace": {"d": 3}}, "not a prompt of this version"),
        ({"subspace": []}, "not a prompt of this version"),
        ({"subspace": Subspace(3, 2, 4).to_wire() | {"seed": "abc"}}, "seed is a whole number, not 'abc'"),
        ({"subspace": Subspace(3, 2, 4).to_wire() | {"seed": 1.5}}, "seed is a whole number, not 1.5"),
        ({"subspace": Subspace(3, 2, 4).to_wire() | {"scale": 10**400}}, "scale is a positive"),
        ({"subspace": Subspace(3, 2, 4).to_wire() | {"layers": [0.5]}}, "a layer is a whole number"),
        ({"arrays": [{"shape": [3], "float32": "AAAA"}]}, r"arrays\[0\] has 3 bytes"),
        ({"arrays": {}}, "arrays is a list, not {}"),
        ({"arrays": [5]}, r"arrays\[0\] has a shape"),
        ({"model": 5}, "model is a str, not 5"),
        ({"tokenizer_digest": None}, "tokenizer_digest is a str, not None"),
        ({"task": None}, "a task has name"),
        ({"colour": "red"}, "a prompt file has format, model"),
        ({"format": {"deep": []}}, "the format is"),
    ],
)
def test_content_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """A file with a right digest and wrong content is refused too."""
    path = rewritten(prompt().save(tmp_path / "a.prompt"), change)
    with pytest.raises(PromptFileError, match=named):
        TunedPrompt.load(path)


HOSTILE = {
    "nan": (b'{"format": NaN}', "NaN is no number of JSON's"),
    "infinity": (b'{"format": -Infinity}', "-Infinity is no number of JSON's"),
    "float-too-large": (prompt().to_bytes().replace(b'"seed":42', b'"seed":1e999'), "Out of range float"),
    "key-twice": (prompt().to_bytes().replace(b'"model":', b'"model":"other","model":'), "'model' is given twice"),
    "inner-key-twice": (prompt().to_bytes().replace(b'"d":3', b'"d":4,"d":3'), "'d' is given twice"),
    "deep-list": (b"[" * 200_000, "nested too deep"),
    "deep-task": (b'{"format":"lmaas-prompt/1","task":' + b'{"a":' * 100_000, "nested too deep"),
    "empty": (b"", "not JSON"),
    "not-text": (b"\xff\xfe\x00", "not JSON"),
    "integer-too-long": (b'{"seed":' + b"9" * 5000 + b"}", "not JSON"),
    "null": (b"null", "'NoneType'"),
}


@pytest.mark.parametrize(("raw", "named"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_a_prompt_file_error(raw: bytes, named: str) -> None:
    """Whatever the bytes are, one error says that this is no prompt file, and why."""
    with pytest.raises(PromptFileError, match=named):
        TunedPrompt.from_bytes(raw)


@pytest.mark.parametrize("depth", range(50, 1000, 50))
def test_no_depth_of_nesting_gets_through(depth: int) -> None:
    """What can be parsed and not shown, or not hashed, is refused like what cannot be parsed."""
    nested = b'{"format":"lmaas-prompt/1","model":%s1%s}' % (b"[" * depth, b"]" * depth)
    with pytest.raises(PromptFileError):
        TunedPrompt.from_bytes(nested)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values within a JSON value."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The JSON value with another one in one place."""
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = with_value(value[path[0]], path[1:], new)
    return changed


FULL = json.loads(prompt(subspace=Subspace(3, 2, 4, base=array_digest(BASE)), arrays=(BASE,)).to_bytes())
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500)
@given(st.sampled_from([path for path in places(FULL) if path and path != ("digest",)]), JSON_VALUES)
def test_any_value_in_any_place_loads_or_is_refused(path: tuple[Any, ...], new: Any) -> None:
    """A wrong type or value anywhere in a file with a right digest is a PromptFileError and nothing else."""
    fields = with_value(FULL, path, new)
    fields.pop("digest")
    with contextlib.suppress(PromptFileError):
        loaded = TunedPrompt.from_bytes(canonical_json(fields | {"digest": digest(fields)}))
        assert TunedPrompt.from_bytes(loaded.to_bytes()).to_bytes() == loaded.to_bytes()


@given(st.binary(max_size=60), st.integers(0, 2000), st.integers(0, 60))
def test_any_bytes_load_or_are_refused(noise: bytes, start: int, length: int) -> None:
    """Bytes overwritten anywhere never raise another error."""
    raw = prompt().to_bytes()
    with contextlib.suppress(PromptFileError):
        TunedPrompt.from_bytes(raw[:start] + noise + raw[start + length :])


def test_an_array_has_the_shape_that_the_subspace_needs() -> None:
    """An array under the right digest and of the wrong shape is refused before a backend is asked."""
    wrong = BASE.reshape(4, 2)
    with pytest.raises(PromptFileError, match=r"has shape \(4, 2\), and the subspace needs \(2, 4\)"):
        TunedPrompt.from_bytes(prompt(subspace=Subspace(3, 2, 4, base=array_digest(wrong)), arrays=(wrong,)).to_bytes())


def test_saving_replaces_the_old_file(tmp_path: Path) -> None:
    """The new prompt stands in its place, and nothing else is left in the folder."""
    path = prompt().save(tmp_path / "a.prompt")
    prompt(model="other").save(str(path))
    assert TunedPrompt.load(path).model == "other"
    assert [path] == list(tmp_path.iterdir())


def test_saving_behind_a_link_keeps_the_link(tmp_path: Path) -> None:
    """The file that the link names is replaced."""
    real, link = tmp_path / "real.prompt", tmp_path / "link.prompt"
    link.symlink_to(real)
    prompt().save(link)
    assert (True, False) == (link.is_symlink(), real.is_symlink())
    assert TunedPrompt.load(real).model == "tiny"


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk shows as an error with the path; the prompt that was there is still whole."""
    path = prompt().save(tmp_path / "a.prompt")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PromptFileError, match=r"cannot write the prompt file .*a\.prompt: No space left on device"):
        prompt(model="other").save(path)
    assert TunedPrompt.load(path).model == "tiny"
    assert [path] == list(tmp_path.iterdir())


def test_a_place_that_is_none_is_named(tmp_path: Path) -> None:
    """A missing folder says to make it; a folder in the file's place is no file; nothing is left over."""
    with pytest.raises(PromptFileError, match=r"cannot write .*a\.prompt: make the folder .*missing first"):
        prompt().save(tmp_path / "missing" / "a.prompt")
    (tmp_path / "taken").mkdir()
    with pytest.raises(PromptFileError, match=r"cannot write the prompt file .*taken"):
        prompt().save(tmp_path / "taken")
    with pytest.raises(PromptFileError, match="null byte"):
        TunedPrompt.load(tmp_path / "a\0b")
    assert [tmp_path / "taken"] == list(tmp_path.iterdir())


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
