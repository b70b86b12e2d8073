"""Settings of a search, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.objective import Objective
from lmaas_sdk.tuning.optimizer import StepSize, check_covariance_size
from lmaas_sdk.tuning.selection import DevRule
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Layout, Subspace, positive_number

__all__ = ["DEFAULT_PRESET", "PRESETS", "Preset", "get_preset"]

_Algorithm = Literal["cma-es", "sep-cma-es", "random"]
_Covariance = Literal["full", "diagonal"]
RacingChoice = Literal["off", "auto", "on"]
_LEAST_POPULATION = 4
_PAPERS_WIDTH, _PAPERS_D, _PAPERS_TOKENS = 1024, 500, 50  # with RoBERTa-large
_PART_OF_A_PROMPT = 0.8
_CHOICES = {
    "algorithm": get_args(_Algorithm),
    "covariance": get_args(_Covariance),
    "step_size": get_args(StepSize),
    "objective": get_args(Objective),
    "choose_by": get_args(DevRule),
    "racing": get_args(RacingChoice),
}
# the one thing that an algorithm without a choice can be, and what recorded settings then say
_ONLY: dict[str, dict[str, object]] = {
    "sep-cma-es": {"covariance": "diagonal", "step_size": "csa"},
    "random": {"covariance": "full", "step_size": "csa", "restarts": 0},
}


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that decides what a search does, but for the seed and the data.

    Args:
        name: Recorded in results; not empty.
        covariance: `full` or `diagonal` (separable CMA-ES).
        step_size: `csa` or `tpa`.
        population: Candidates of a generation, at least 4; of the first search, where there are restarts.
        sigma0: The first step size, above 0.
        d, prompt_tokens, layout, projection: Of the subspace; d 500 and L 50 are the paper's, and None leaves
            each to `sized`. With `identity` the prompt itself is searched, in L * D dimensions: d is 0 here, since D is
            the model's.
        scale: Of the projection. For `uniform` it multiplies the bound 1/sqrt(d). For `normal` it is alpha:
            coordinates of A z start with the standard deviation alpha times that of the word embeddings, whatever d
            and sigma0 are.
        objective: `ce`, `hinge` or `metric`.
        dev_every: Generations between two scorings on the dev set.
        choose_by: What candidates are compared by on the dev set: the task's `metric`, and cross entropy where that is
            equal; or `cross_entropy`, which a dev set of a few dozen texts tells more reliably.
        plateau: Generations without improvement, on dev where there is a dev set, after which a run ends; None: none.
        racing: Whether candidates are scored on a part of the training set first, and those that are clearly worse on
            no more: `on`, `off`, or `auto`, where tokens or money bind rather than calls. Where no class has three
            rows there is no race, which `on` logs as a warning.
        algorithm: `cma-es` (the package `cma`); `sep-cma-es` (the package `cmaes`: `diagonal` and `csa`, at little
            work a generation); `random`: random search, for which `covariance` and `step_size` mean nothing and
            stay as they are by default.
        restarts: At most so many times a search that has come to its end is started anew, from the origin and with
            twice the population (IPOP); 0: none, and it goes on.

    Raises:
        ValueError: A setting is out of its range; the message names it and says what it may be.
        TypeError: A setting is of another type: a fraction where a whole number is wanted, or no number.
    """

    name: str
    covariance: _Covariance = "full"
    step_size: StepSize = "csa"
    population: int = 20
    sigma0: float = 1.0
    d: int | None = 500
    prompt_tokens: int | None = 50
    layout: Layout = "add"
    projection: str = "uniform"
    scale: float = 1.0
    objective: Objective = "ce"
    dev_every: int = 10
    choose_by: DevRule = "metric"
    plateau: int | None = None
    racing: RacingChoice = "off"
    algorithm: _Algorithm = "cma-es"
    restarts: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        for choice, allowed in _CHOICES.items():
            if (value := getattr(self, choice)) not in allowed:
                raise ValueError(f"{choice} is {' or '.join(map(repr, allowed))}, not {value!r:.80}")
        numbers = self._checked_space() | {
            "sigma0": positive_number("sigma0", self.sigma0),
            "population": whole_number("population", self.population, at_least=_LEAST_POPULATION),
            "dev_every": whole_number("dev_every", self.dev_every, at_least=1),
            "restarts": whole_number("restarts", self.restarts, at_least=0),
        }
        if self.plateau is not None:
            numbers["plateau"] = whole_number("plateau", self.plateau, at_least=1)
        for setting, only in _ONLY.get(self.algorithm, {}).items():
            if (value := getattr(self, setting)) != only:
                raise ValueError(f"{setting} is {only!r} with algorithm {self.algorithm!r}, not {value!r:.80}")
        for name, number in numbers.items():  # equal settings are spelled alike in results, 1 and 1.0 too
            object.__setattr__(self, name, number)

    def _checked_space(self) -> dict[str, float | None]:
        """d, prompt_tokens and scale; the subspace knows what they may be, and any width will do here."""
        direct = self.projection == "identity"
        if direct and (self.d is None or whole_number("d", self.d) != 0):
            raise ValueError(f"d is 0 with projection 'identity', prompt_tokens times the model's width, not {self.d}")
        tokens = 1 if self.prompt_tokens is None else whole_number("prompt_tokens", self.prompt_tokens, at_least=1)
        d = tokens if direct or self.d is None else self.d
        space = Subspace(d, tokens, 1, self.layout, self.projection, scale=self.scale)
        given = {"d": None if self.d is None else 0 if direct else space.d, "scale": space.scale}
        return given | {"prompt_tokens": None if self.prompt_tokens is None else tokens}

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def sized(self, card: ModelCard) -> Preset:
        """The same for a model: sizes that are None are worked out from its width D.

        A small model overfits a few dozen texts by a long prompt, so L falls with the square of D from the paper's 50
        at 1024; d is four fifths of the prompt's own dimensions, and at most the paper's 500. Measured at D 128
        (benchmarks/presets.py), and the paper's at 1024; no dependence on the number of texts was found.
        """
        width = card.hidden_size
        tokens = self.prompt_tokens or max(1, min(round(_PAPERS_TOKENS * (width / _PAPERS_WIDTH) ** 2), _PAPERS_TOKENS))
        d = min(round(_PART_OF_A_PROMPT * tokens * width), _PAPERS_D) if self.d is None else self.d
        return replace(self, d=max(1, d) if self.d is None else d, prompt_tokens=tokens)

    def subspace(self, card: ModelCard, seed: int) -> Subspace:
        """The subspace of a run on a model.

        Raises:
            Unsupported: The backend takes no such soft prompts.
            ValueError: So many dimensions cannot be searched with a full covariance matrix.
        """
        can = card.capabilities
        if self.layout not in can.layouts:
            raise Unsupported(f"{card.name} takes no soft prompts of layout {self.layout!r}, only {list(can.layouts)}")
        uploaded = self.projection not in NAMED_PROJECTIONS
        if self.projection not in can.projections and not (uploaded and can.arrays):
            raise Unsupported(f"{card.name} builds no projection {self.projection!r}, only {list(can.projections)}")
        scale = self.scale * card.embedding_std / self.sigma0 if self.projection == "normal" else self.scale
        if self.d is None or self.prompt_tokens is None:
            return self.sized(card).subspace(card, seed)
        d = self.prompt_tokens * card.hidden_size if self.projection == "identity" else self.d
        if self.algorithm == "cma-es" and self.covariance == "full":
            check_covariance_size(d)
        return Subspace(d, self.prompt_tokens, card.hidden_size, self.layout, self.projection, scale=scale, seed=seed)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a preset's name is a string that is not empty, not {name!r:.80}")


DEFAULT_PRESET = "default"
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("paper"),
        Preset("sep-tpa", covariance="diagonal", step_size="tpa"),
        Preset("tpa-40", step_size="tpa", population=40),
        # a model of few parameters overfits 16 shots a class at once: fewer dimensions, and a look at dev often
        Preset("small-model", d=50, prompt_tokens=10, layout="cat", dev_every=2),
        # chosen by benchmarks/presets.py and benchmarks/dev_choice.py
        Preset("default", d=None, prompt_tokens=None, layout="cat", dev_every=5, plateau=40),
        Preset("random-search", algorithm="random"),
        # no subspace; the scale has a prompt start as spread as the paper's: a sum of d terms from U(-1, 1) / sqrt(d)
        Preset("direct-search", covariance="diagonal", step_size="tpa", d=0, projection="identity", scale=3**-0.5),
        # TPA, as a search has to come to an end within a budget for a restart to happen
        Preset("ipop", step_size="tpa", restarts=3),
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
