"""Settings by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmaas_sdk import PRESETS, Capabilities, ModelCard, Preset, Unsupported
from lmaas_sdk.tuning.presets import get_preset

CARD = ModelCard("m", 16, 2000, 128, "<mask>", Capabilities(), embedding_std=0.25)


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
    }
    assert PRESETS["paper"].to_dict() == {"name": "paper"} | paper


def test_other_presets_change_what_their_name_says() -> None:
    """`sep-tpa` is separable with TPA, `tpa-40` has TPA and a population of 40."""
    paper = PRESETS["paper"]
    assert PRESETS["sep-tpa"] == replace(paper, name="sep-tpa", covariance="diagonal", step_size="tpa")
    assert PRESETS["tpa-40"] == replace(paper, name="tpa-40", step_size="tpa", population=40)


def test_normal_scale_is_in_units_of_the_word_embeddings() -> None:
    """alpha times the embeddings' standard deviation, over sigma0, so that A z starts with it whatever sigma0 is."""
    preset = Preset("mine", projection="normal", scale=0.5, sigma0=2.0)
    assert preset.subspace(CARD, 1).scale == 0.5 * 0.25 / 2.0
    assert PRESETS["paper"].subspace(CARD, 1).scale == 1.0


def test_unknown_preset_is_refused_with_the_known_ones() -> None:
    """A typing error is answered with the list."""
    with pytest.raises(ValueError, match=r"paper, sep-tpa, tpa-40.*not 'papr'"):
        get_preset("papr")


@pytest.mark.parametrize("change", [{"population": 3}, {"sigma0": 0.0}, {"dev_every": 0}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(PRESETS["paper"], **change)


@pytest.mark.parametrize(
    ("capabilities", "named"),
    [(Capabilities(layouts=("cat",)), "layout 'add'"), (Capabilities(projections=("normal",)), "projection 'uniform'")],
)
def test_a_backend_that_cannot_is_refused_at_once(capabilities: Capabilities, named: str) -> None:
    """Unsupported names what is lacking."""
    with pytest.raises(Unsupported, match=named):
        PRESETS["paper"].subspace(replace(CARD, capabilities=capabilities), 1)
