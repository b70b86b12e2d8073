"""Settings by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lmaas_sdk import PRESETS, Capabilities, ModelCard, Preset, Unsupported
from lmaas_sdk.tuning.presets import get_preset

CARD = ModelCard("m", 16, 2000, 128, "<mask>", Capabilities(), embedding_std=0.25)
IDENTITY_CARD = replace(CARD, capabilities=Capabilities(projections=("uniform", "normal", "identity")))


def test_paper_is_the_papers_setting() -> None:
    """Full CMA-ES, CSA, population 20, sigma0 1, d 500, L 50, uniform, add, cross entropy, dev every 10 generations."""
    paper = {
        "covariance": "full",
        "step_size": "csa",
        "population": 20,
        "sigma0": 1.0,
        "d": 500,
        "prompt_tokens": 50,
        "layout": "add",
        "projection": "uniform",
        "scale": 1.0,
        "objective": "ce",
        "dev_every": 10,
        "choose_by": "metric",
        "plateau": None,
        "racing": "off",
        "algorithm": "cma-es",
        "restarts": 0,
    }
    assert PRESETS["paper"].to_dict() == {"name": "paper"} | paper


def test_other_presets_change_what_their_name_says() -> None:
    """One setting, or the few that make a baseline."""
    paper = PRESETS["paper"]
    assert PRESETS["sep-tpa"] == replace(paper, name="sep-tpa", covariance="diagonal", step_size="tpa")
    assert PRESETS["tpa-40"] == replace(paper, name="tpa-40", step_size="tpa", population=40)
    assert PRESETS["random-search"] == replace(paper, name="random-search", algorithm="random")
    assert PRESETS["ipop"] == replace(paper, name="ipop", step_size="tpa", restarts=3)
    direct = replace(paper, name="direct-search", covariance="diagonal", step_size="tpa", d=0, projection="identity")
    assert PRESETS["direct-search"] == replace(direct, scale=3**-0.5)


def test_direct_search_has_as_many_dimensions_as_the_models_prompt() -> None:
    """L * D, which a preset learns from the card; its prompt starts as spread as the paper's."""
    direct, paper = (PRESETS[name].subspace(IDENTITY_CARD, 1) for name in ("direct-search", "paper"))
    assert (direct.d, direct.projection) == (50 * 16, "identity")
    entries = paper.matrix().astype(np.float64)
    spread = float(np.sqrt((entries**2).sum(axis=1).mean()))  # of a coordinate of A z, for z from N(0, I)
    assert direct.scale == pytest.approx(spread, rel=0.01)


@pytest.mark.parametrize("change", [{"d": 4001}, {"projection": "identity", "d": 0, "prompt_tokens": 251}], ids=repr)
def test_a_full_covariance_matrix_has_an_end(change: dict[str, Any]) -> None:
    """Above 4000 dimensions the refusal says what to take instead; what learns variances only goes on."""
    preset = replace(PRESETS["paper"], name="mine", **change)
    with pytest.raises(ValueError, match=r"at most 4000 dimensions, not d = 40.*take covariance 'diagonal'"):
        preset.subspace(IDENTITY_CARD, 1)
    for other in ({"covariance": "diagonal"}, {"algorithm": "random"}):
        assert replace(preset, **other).subspace(IDENTITY_CARD, 1).d > 4000


def test_normal_scale_is_in_units_of_the_word_embeddings() -> None:
    """alpha times the embeddings' standard deviation, over sigma0, so that A z starts with it whatever sigma0 is."""
    preset = Preset("mine", projection="normal", scale=0.5, sigma0=2.0)
    assert preset.subspace(CARD, 1).scale == 0.5 * 0.25 / 2.0
    assert PRESETS["paper"].subspace(CARD, 1).scale == 1.0


@pytest.mark.parametrize(
    ("width", "d", "prompt_tokens"),
    [(4096, 500, 50), (1024, 500, 50), (768, 500, 28), (256, 500, 3), (128, 102, 1), (16, 13, 1)],
)
def test_sizes_that_are_left_out_follow_the_model(width: int, d: int, prompt_tokens: int) -> None:
    """The paper's at its own model and above, less for smaller ones, and given sizes stay as they are."""
    card, free = replace(CARD, hidden_size=width), replace(PRESETS["paper"], d=None, prompt_tokens=None)
    sized = free.sized(card)
    assert (d, prompt_tokens) == (sized.d, sized.prompt_tokens)
    assert PRESETS["paper"] == PRESETS["paper"].sized(card)
    assert free.subspace(card, 1) == sized.subspace(card, 1)


def test_unknown_preset_is_refused_with_the_known_ones() -> None:
    """A typing error is answered with the list."""
    with pytest.raises(ValueError, match=r"paper, sep-tpa, tpa-40.*not 'papr'"):
        get_preset("papr")


@pytest.mark.parametrize("unknown", [["paper"], None, 3], ids=repr)
def test_what_is_no_name_is_refused_like_an_unknown_one(unknown: Any) -> None:
    """A list, None or a number is answered with the known presets too."""
    with pytest.raises(ValueError, match="preset is one of paper"):
        get_preset(unknown)


@pytest.mark.parametrize("setting", ["population", "d", "prompt_tokens", "dev_every"])
@pytest.mark.parametrize("value", [0, -1, 20.0, 1.5, True, "20"], ids=repr)
def test_a_count_is_a_whole_number_in_range(setting: str, value: Any) -> None:
    """The message names the setting, what it may be, and the value."""
    with pytest.raises((ValueError, TypeError), match=f"^{setting} is a whole number of at least .*, not {value!r}"):
        replace(PRESETS["paper"], **{setting: value})


@pytest.mark.parametrize("setting", ["sigma0", "scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 10**400, True, "1", None, 1j], ids=repr)
def test_a_scale_is_a_positive_finite_number(setting: str, value: Any) -> None:
    """Zero, NaN, infinity, what no float holds, and what is no number are refused by name."""
    with pytest.raises((ValueError, TypeError), match=f"^{setting} is a positive"):
        replace(PRESETS["paper"], **{setting: value})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"population": 3}, "population is a whole number of at least 4, not 3"),
        ({"covariance": "diag"}, "covariance is 'full' or 'diagonal', not 'diag'"),
        ({"step_size": "CSA"}, "step_size is 'csa' or 'tpa', not 'CSA'"),
        ({"objective": None}, "objective is 'ce' or 'hinge' or 'metric', not None"),
        ({"objective": ["ce"]}, "objective is 'ce' or 'hinge' or 'metric', not"),
        ({"layout": "prefix"}, "layout is 'add' or 'cat', not 'prefix'"),
        ({"projection": "gauss"}, "projection is 'uniform', 'normal', 'identity' or .*64 hex digits.*, not 'gauss'"),
        ({"projection": "identity"}, "d is 0 with projection 'identity', .*, not 500"),
        ({"projection": "identity", "d": 0, "prompt_tokens": 0}, "prompt_tokens is a whole number of at least 1"),
        ({"algorithm": "cma"}, "algorithm is 'cma-es' or 'sep-cma-es' or 'random', not 'cma'"),
        ({"algorithm": "sep-cma-es"}, "covariance is 'diagonal' with algorithm 'sep-cma-es', not 'full'"),
        (
            {"algorithm": "sep-cma-es", "covariance": "diagonal", "step_size": "tpa"},
            "step_size is 'csa' with algorithm 'sep-cma-es', not 'tpa'",
        ),
        ({"algorithm": "random", "covariance": "diagonal"}, "covariance is 'full' with algorithm 'random'"),
        ({"algorithm": "random", "step_size": "tpa"}, "step_size is 'csa' with algorithm 'random'"),
        ({"algorithm": "random", "restarts": 1}, "restarts is 0 with algorithm 'random', not 1"),
        ({"restarts": -1}, "restarts is a whole number of at least 0, not -1"),
        ({"projection": "AB" * 32}, "projection is .*, not 'ABAB"),
        ({"projection": 5}, "projection is .*, not 5"),
        ({"name": ""}, "name is a string that is not empty, not ''"),
        ({"name": 7}, "name is a string that is not empty, not 7"),
    ],
    ids=repr,
)
def test_impossible_settings_are_refused(change: Any, complaint: str) -> None:
    """The message names the setting, what it may be, and the value."""
    with pytest.raises(ValueError, match=complaint):
        replace(PRESETS["paper"], **change)


def test_equal_settings_are_spelled_alike() -> None:
    """Whole numbers and numpy's make the preset, and the bytes, that Python's own make."""
    usual = Preset("mine", population=8, sigma0=2.0, d=16, scale=1.0, projection="ab" * 32)
    same = Preset("mine", population=np.int64(8), sigma0=2, d=np.int32(16), scale=np.float32(1), projection="ab" * 32)  # type: ignore[arg-type]  # numpy's numbers are what is looked at
    assert json.dumps(same.to_dict()) == json.dumps(usual.to_dict())


@pytest.mark.parametrize(
    ("capabilities", "named"),
    [(Capabilities(layouts=("cat",)), "layout 'add'"), (Capabilities(projections=("normal",)), "projection 'uniform'")],
)
def test_a_backend_that_cannot_is_refused_at_once(capabilities: Capabilities, named: str) -> None:
    """Unsupported names what is lacking."""
    with pytest.raises(Unsupported, match=named):
        PRESETS["paper"].subspace(replace(CARD, capabilities=capabilities), 1)


def test_a_backend_without_the_identity_is_refused_at_once() -> None:
    """What a card does not claim by name is not taken for an uploaded array."""
    with pytest.raises(Unsupported, match="builds no projection 'identity', only"):
        PRESETS["direct-search"].subspace(replace(CARD, capabilities=Capabilities(arrays=True)), 1)
