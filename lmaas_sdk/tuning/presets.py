"""Settings of a search, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.objective import Objective
from lmaas_sdk.tuning.optimizer import StepSize
from lmaas_sdk.tuning.selection import DevRule
from lmaas_sdk.tuning.subspace import Layout, Subspace, positive_number

__all__ = ["PRESETS", "Preset", "get_preset"]

_Covariance = Literal["full", "diagonal"]
RacingChoice = Literal["off", "auto", "on"]
_LEAST_POPULATION = 4
_CHOICES = {
    "covariance": get_args(_Covariance),
    "step_size": get_args(StepSize),
    "objective": get_args(Objective),
    "choose_by": get_args(DevRule),
    "racing": get_args(RacingChoice),
}


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that decides what a search does, but for the seed and the data.

    Args:
        name: Recorded in results; not empty.
        covariance: `full` or `diagonal` (separable CMA-ES).
        step_size: `csa` or `tpa`.
        population: Candidates of a generation, at least 4.
        sigma0: The first step size, above 0.
        d, prompt_tokens, layout, projection: Of the subspace; d 500 and L 50 are the paper's.
        scale: Of the projection. For `uniform` it multiplies the bound 1/sqrt(d). For `normal` it is alpha:
            coordinates of A z start with the standard deviation alpha times that of the word embeddings, whatever d
            and sigma0 are.
        objective: `ce`, `hinge` or `metric`.
        dev_every: Generations between two scorings on the dev set.
        choose_by: What candidates are compared by on the dev set: the task's `metric`, and cross entropy where that is
            equal; or `cross_entropy`, which a dev set of a few dozen texts tells more reliably.
        plateau: Generations without improvement, on dev where there is a dev set, after which a run ends; None: none.
        racing: Whether candidates are scored on a part of the training set first, and those that are clearly worse on
            no more: `on`, `off`, or `auto`, where tokens or money bind rather than calls.

    Raises:
        ValueError: A setting is out of its range; the message names it and says what it may be.
        TypeError: A setting is of another type: a fraction where a whole number is wanted, or no number.
    """

    name: str
    covariance: _Covariance = "full"
    step_size: StepSize = "csa"
    population: int = 20
    sigma0: float = 1.0
    d: int = 500
    prompt_tokens: int = 50
    layout: Layout = "add"
    projection: str = "uniform"
    scale: float = 1.0
    objective: Objective = "ce"
    dev_every: int = 10
    choose_by: DevRule = "metric"
    plateau: int | None = None
    racing: RacingChoice = "off"

    def __post_init__(self) -> None:
        _check_name(self.name)
        for choice, allowed in _CHOICES.items():
            if (value := getattr(self, choice)) not in allowed:
                raise ValueError(f"{choice} is {' or '.join(map(repr, allowed))}, not {value!r:.80}")
        # the subspace knows what its settings may be; the width is the model's, and any will do here
        space = Subspace(self.d, self.prompt_tokens, 1, self.layout, self.projection, scale=self.scale)
        numbers = {name: getattr(space, name) for name in ("d", "prompt_tokens", "scale")} | {
            "sigma0": positive_number("sigma0", self.sigma0),
            "population": whole_number("population", self.population, at_least=_LEAST_POPULATION),
            "dev_every": whole_number("dev_every", self.dev_every, at_least=1),
        }
        if self.plateau is not None:
            numbers["plateau"] = whole_number("plateau", self.plateau, at_least=1)
        for name, number in numbers.items():  # equal settings are spelled alike in results, 1 and 1.0 too
            object.__setattr__(self, name, number)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def subspace(self, card: ModelCard, seed: int) -> Subspace:
        """The subspace of a run on a model.

        Raises:
            Unsupported: The backend takes no such soft prompts.
        """
        can = card.capabilities
        if self.layout not in can.layouts:
            raise Unsupported(f"{card.name} takes no soft prompts of layout {self.layout!r}, only {list(can.layouts)}")
        uploaded = self.projection not in ("uniform", "normal")
        if self.projection not in can.projections and not (uploaded and can.arrays):
            raise Unsupported(f"{card.name} builds no projection {self.projection!r}, only {list(can.projections)}")
        scale = self.scale * card.embedding_std / self.sigma0 if self.projection == "normal" else self.scale
        return Subspace(
            self.d, self.prompt_tokens, card.hidden_size, self.layout, self.projection, scale=scale, seed=seed
        )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a preset's name is a string that is not empty, not {name!r:.80}")


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("paper"),
        Preset("sep-tpa", covariance="diagonal", step_size="tpa"),
        Preset("tpa-40", step_size="tpa", population=40),
        # a model of few parameters overfits 16 shots a class at once: fewer dimensions, and a look at dev often
        Preset("small-model", d=50, prompt_tokens=10, layout="cat", dev_every=2),
    )
}


def get_preset(preset: str | Preset) -> Preset:
    """A preset by name, or the one given; `dataclasses.replace` makes one of your own.

    Raises:
        ValueError: No preset has that name.
    """
    if isinstance(preset, Preset):
        return preset
    if preset not in tuple(PRESETS):
        raise ValueError(f"preset is one of {', '.join(PRESETS)}, or a Preset of your own, not {preset!r:.80}")
    return PRESETS[preset]
