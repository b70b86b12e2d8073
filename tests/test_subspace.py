"""The subspace: the same matrix everywhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk import Subspace

GOLDEN = [
    (Subspace(500, 50, 128), "f52c794fc4005bfbd840ced131f84f77e0ae4cc3c7537749381d5c0beddad3c0"),
    (
        Subspace(20, 3, 128, "cat", "normal", scale=0.4, seed=13),
        "731f9ad9f7e21b5c6cec1d6ce855a7aaa2b6e363252180da90963fb98e3b77d3",
    ),
    (
        Subspace(50, 10, 64, "cat", "uniform", scale=2.5, seed=-7),
        "f7d1323b4527c75850702675d39ad030121600b352183b8bc1303fd30ee7af6f",
    ),
]
PRINT_DIGESTS = """
import hashlib
from lmaas_sdk import Subspace
for space in (Subspace(500, 50, 128), Subspace(20, 3, 128, "cat", "normal", scale=0.4, seed=13),
              Subspace(50, 10, 64, "cat", "uniform", scale=2.5, seed=-7)):
    print(hashlib.sha256(space.matrix().tobytes()).hexdigest())
"""


def matrix_digest(space: Subspace) -> str:
    return hashlib.sha256(space.matrix().tobytes()).hexdigest()


@pytest.mark.parametrize(("space", "expected"), GOLDEN)
def test_matrix_has_its_golden_digest(space: Subspace, expected: str) -> None:
    """A seeded A has the bits that it had when these digests were written down."""
    assert matrix_digest(space) == expected


def test_matrix_is_the_same_in_another_process() -> None:
    """Nothing of a process's state goes into A."""
    printed = subprocess.run([sys.executable, "-c", PRINT_DIGESTS], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [expected for _, expected in GOLDEN]


def test_matrix_leaves_other_generators_alone() -> None:
    """numpy's global generator and one of the caller's own stand where they stood."""
    own = np.random.default_rng(5)
    own_before, global_before = own.bit_generator.state, np.random.get_state()  # noqa: NPY002
    Subspace(20, 3, 128, projection="normal").matrix()
    np.testing.assert_equal(np.random.get_state(), global_before)  # noqa: NPY002
    assert own.bit_generator.state == own_before


def test_matrix_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks it is drawn in are no part of its value."""
    whole = [space.matrix() for space, _ in GOLDEN]
    monkeypatch.setattr("lmaas_sdk.tuning.subspace._CHUNK_ENTRIES", 777)
    for (space, _), expected in zip(GOLDEN, whole, strict=True):
        np.testing.assert_array_equal(space.matrix(), expected)


def test_uniform_entries_fill_their_interval() -> None:
    """Entries of `uniform` lie within scale / sqrt(d), with the mean and variance of a uniform distribution."""
    bound = 2.0 / np.sqrt(100)
    entries = Subspace(100, 20, 64, scale=2.0).matrix().astype(np.float64).ravel()
    assert np.abs(entries).max() <= np.float32(bound)
    assert np.abs(entries).max() > 0.999 * bound
    assert entries.mean() == pytest.approx(0.0, abs=5 * bound / np.sqrt(3 * entries.size))
    assert entries.var() == pytest.approx(bound**2 / 3, rel=0.02)


def test_normal_entries_have_the_moments_of_their_distribution() -> None:
    """Entries of `normal` have variance scale^2 / d and nearly the kurtosis of a normal distribution."""
    entries = Subspace(100, 20, 64, projection="normal", scale=3.0).matrix().astype(np.float64).ravel()
    unit = entries / (3.0 / np.sqrt(100))
    assert unit.mean() == pytest.approx(0.0, abs=0.02)
    assert unit.var() == pytest.approx(1.0, rel=0.02)
    assert (unit**4).mean() == pytest.approx(3.0 - 0.1, abs=0.1)  # Irwin-Hall of 12: excess kurtosis -0.1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d": 0}, "d is"),
        ({"prompt_tokens": -1}, "prompt_tokens is"),
        ({"hidden_size": 1.5}, "hidden_size is"),
        ({"layout": "mid"}, "'mid'"),
        ({"projection": "gauss"}, "'gauss'"),
        ({"base": "xyz"}, "'xyz'"),
        ({"scale": float("nan")}, "nan"),
        ({"scale": 0.0}, "0.0"),
        ({"layers": (0, 0)}, "(0, 0)"),
        ({"layers": ()}, "()"),
        ({"layers": (-1,)}, "not (-1,)"),
        ({"layers": (0.5,)}, "not 0.5"),
        ({"layers": "01"}, "'01'"),
        ({"layers": 0}, "layers are a tuple"),
        ({"d": True}, "d is"),
        ({"seed": 1.5}, "seed is a whole number, not 1.5"),
        ({"seed": True}, "seed is a whole number, not True"),
        ({"seed": "abc"}, "seed is a whole number, not 'abc'"),
        ({"seed": None}, "seed is a whole number, not None"),
        ({"seed": float("nan")}, "seed is a whole number, not nan"),
        ({"scale": "1"}, "scale is a positive number, not '1'"),
        ({"scale": True}, "scale is"),
        ({"scale": 10**400}, "scale is"),
        ({"layout": ["add"]}, "layout is"),
        ({"projection": 5}, "projection is"),
        ({"base": 5}, "base is"),
    ],
)
def test_bad_values_are_named(change: dict[str, object], named: str) -> None:
    """A value out of range is refused with its name."""
    values = {"d": 10, "prompt_tokens": 2, "hidden_size": 8} | change
    with pytest.raises((ValueError, TypeError), match=r".") as refused:
        Subspace(**values)  # type: ignore[arg-type]
    assert named in str(refused.value)


def test_an_uploaded_projection_is_not_built_from_a_seed() -> None:
    """Only the server that holds an uploaded array can build A."""
    with pytest.raises(ValueError, match="uploaded array"):
        Subspace(10, 2, 8, projection="ab" * 32).matrix()


def test_the_identity_has_the_size_of_the_prompt() -> None:
    """d is L * D and no other; there is no matrix to build, and the wire form reads back."""
    space = Subspace(16, 2, 8, projection="identity", scale=0.5)
    assert space.shape == (16, 16)
    assert Subspace.from_wire(space.to_wire()) == space
    with pytest.raises(ValueError, match="no matrix is built"):
        space.matrix()
    for wrong in (15, 17, 2):
        with pytest.raises(ValueError, match=rf"d is prompt_tokens \* hidden_size = 16 .*, not {wrong}"):
            Subspace(wrong, 2, 8, projection="identity")


def test_the_identity_has_its_golden_digest() -> None:
    """What names it across versions is its wire form."""
    expected = "780851f60617133020545af44713c0743f06c73ed3ea47912d0da21b4bf98ad5"
    assert Subspace(16, 2, 8, projection="identity", scale=0.5).digest == expected


@given(
    d=st.integers(1, 600),
    layout=st.sampled_from(["add", "cat"]),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(-(2**70), 2**70),
    base=st.none() | st.just("0f" * 32),
)
def test_wire_form_reads_back(d: int, layout: str, scale: float, seed: int, base: str | None) -> None:
    """A subspace that has been through its wire form is equal, digest included."""
    space = Subspace(d, 4, 16, layout, scale=scale, seed=seed, base=base)  # type: ignore[arg-type]
    assert Subspace.from_wire(space.to_wire()) == space
    assert Subspace.from_wire(space.to_wire()).digest == space.digest


WIRE = Subspace(5, 1, 4).to_wire()


@pytest.mark.parametrize(
    "wire",
    [
        {},
        {"d": 5},
        {"d": 5, "prompt_tokens": 1, "hidden_size": 4},
        WIRE | {"colour": "red"},
        WIRE | {"seed": "abc"},
        WIRE | {"seed": 1.0},
        WIRE | {"layers": 0},
        [],
        [["d", 5]],
        None,
        "subspace",
    ],
)
def test_wire_form_with_missing_or_unknown_fields_is_refused(wire: Any) -> None:
    """What is not a subspace is a ValueError."""
    with pytest.raises(ValueError, match="not a subspace"):
        Subspace.from_wire(wire)


def test_numpys_numbers_make_the_same_subspace() -> None:
    """Equal values have one digest and one matrix, whichever type of number they came as."""
    usual = Subspace(20, 2, 8, scale=2.0, seed=7)
    numbers: Any = {"scale": np.float32(2), "seed": np.int64(7), "layers": [np.int64(0)]}
    same = Subspace(np.int64(20), np.int32(2), np.int16(8), **numbers)  # type: ignore[arg-type]
    assert (same, same.digest, hash(same)) == (usual, usual.digest, hash(usual))
    np.testing.assert_array_equal(same.matrix(), usual.matrix())
