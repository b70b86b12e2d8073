"""Named configurations: a method with its settings, ready to be measured beside others.

One line in `CONFIGURATIONS` adds a method. `black-box:PRESET` stands for black-box tuning with any preset, and
`NAME@N` for a configuration whose search has N evaluations, whatever the others have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits, ModelCard
from lmaas_sdk.methods import (
    DEEP_PRESET,
    BlackBoxTuning,
    DeepBlackBoxTuning,
    FeatureBiLSTM,
    FeatureLinear,
    InContextLearning,
    ManualPrompt,
    Method,
    ModelTuning,
    PromptTuning,
)
from lmaas_sdk.methods.demonstrations import MOST_SHOTS
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.journal_file import LONGEST_HEADER, has_sent
from lmaas_sdk.tuning.presets import PRESETS, Preset
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["CONFIGURATIONS", "Configuration", "Setup", "black_box", "get_configuration", "trained"]

_Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """What a method is made with for one cell.

    Args:
        backend: The model.
        budget: What the cell may spend.
        seed: Of the cell.
        journal: Where a search keeps its journal, or has one to go on with; None: nowhere.
        despite_changes: Go on with a journal although packages or the engine have changed.
        retry, quotas, cache: As of `Client`.
    """

    backend: Backend
    budget: Budget
    seed: int
    journal: Path | None = None
    despite_changes: bool = False
    retry: RetryPolicy | None = None
    quotas: str | Limits | Mapping[str, Limits] | None = None
    cache: ReplyCache | bool = True

    @property
    def connection(self) -> dict[str, Any]:
        """The options that every method takes beside its backend."""
        return {"budget": self.budget, "retry": self.retry, "quotas": self.quotas, "cache": self.cache}


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """A method with its settings.

    Args:
        name: What it is asked for by, and called in files.
        title: What a table calls it.
        method: Name of the method.
        make: Makes the method; blocking.
        settings: Of a model's card: what decides the outcome beside data, seed and budget, in plain values for JSON.
            What is as it is by default is better left out, so that a new setting changes no old cell.
        searches: Whether it spends evaluations, as many as it is given.
        needs_weights: Whether it trains the model itself, which has to be in this process.
        is_seeded: Whether seed and training data matter to it; one cell a task is all that others have.
        evaluations: Those of its search, in the place of what all are given.
        swept: The setting that it has another value of than the rest of a sweep, and what that is of; None: it is of
            no sweep.
    """

    name: str
    title: str
    method: str
    make: Callable[[Setup], Method]
    settings: Callable[[ModelCard], _Settings] = field(default=lambda card: {})
    searches: bool = False
    needs_weights: bool = False
    is_seeded: bool = True
    evaluations: int | None = None
    swept: tuple[str, str] | None = None


def _manual(setup: Setup) -> Method:
    return ManualPrompt(setup.backend, **setup.connection)


def _manual_calibrated(setup: Setup) -> Method:
    return ManualPrompt(setup.backend, calibration="prior", **setup.connection)


def _in_context(setup: Setup) -> Method:
    return InContextLearning(setup.backend, shots=MOST_SHOTS, seed=setup.seed, **setup.connection)


def trained(
    method: Callable[..., Method], name: str, title: str, *, needs_weights: bool = False, **options: Any
) -> Configuration:
    """A method that takes a seed beside its connection.

    Args:
        method: Its class.
        name, title: Of the configuration, and of the method.
        needs_weights: Whether it trains the model itself.
        options: Of the method, in plain values for JSON; everything else is as it is by default.
    """

    def make(setup: Setup) -> Method:
        return method(setup.backend, seed=setup.seed, **options, **setup.connection)

    return Configuration(name, title, name, make, settings=lambda card: options, needs_weights=needs_weights)


def black_box(
    preset: Preset,
    *,
    name: str | None = None,
    title: str | None = None,
    method: type[BlackBoxTuning | DeepBlackBoxTuning] = BlackBoxTuning,
) -> Configuration:
    """A search by calls alone, with a preset.

    Args:
        preset: Its settings.
        name: Of the configuration; None: `black-box:` and the preset's.
        title: None: by the preset's name.
        method: What searches.
    """

    def make(setup: Setup) -> Method:
        options = setup.connection
        if setup.journal is not None and _is_begun(setup.journal):
            tuner = Tuner.resume(setup.journal, setup.backend, despite_changes=setup.despite_changes, **options)
            return method.of(tuner)
        return method(setup.backend, preset=preset, seed=setup.seed, journal=setup.journal, **options)

    return Configuration(
        name or f"black-box:{preset.name}",
        title or f"Black-Box Tuning ({preset.name})",
        method.name,
        make,
        settings=lambda card: _unusual(preset.sized(card)),
        searches=True,
    )


def _is_begun(journal: Path) -> bool:
    """Whether there is a run to go on with."""
    if not journal.exists():
        return False
    with journal.open("rb") as file:
        return has_sent(file.read(LONGEST_HEADER))


def _unusual(preset: Preset) -> dict[str, Any]:
    """The settings that are not the paper's, but for the name, which decides nothing."""
    return {
        setting.name: value
        for setting in fields(preset)
        if setting.name != "name" and (value := getattr(preset, setting.name)) != setting.default
    }


_ALL = (
    Configuration("manual", "Manual Prompt", "manual", _manual, is_seeded=False),
    Configuration(
        "manual-calibrated",
        "Manual Prompt (prior-calibrated)",
        "manual",
        _manual_calibrated,
        settings=lambda card: {"calibration": "prior"},
    ),
    Configuration(
        "in-context", "In-Context Learning", "in-context", _in_context, settings=lambda card: {"shots": MOST_SHOTS}
    ),
    trained(FeatureLinear, "feature-linear", "Feature-Linear"),
    # of the paper's 1000 epochs most change nothing: 100 of the one, 200 of the other that are no better on dev end it
    trained(FeatureBiLSTM, "feature-bilstm", "Feature-BiLSTM", patience=100),
    trained(PromptTuning, "prompt-tuning", "Prompt Tuning", needs_weights=True, patience=20),
    trained(ModelTuning, "model-tuning", "Model Tuning", needs_weights=True),
    *(black_box(preset) for preset in PRESETS.values()),
    black_box(DEEP_PRESET, name="deep", title="Deep Black-Box Tuning (BBTv2)", method=DeepBlackBoxTuning),
)

CONFIGURATIONS: dict[str, Configuration] = {configuration.name: configuration for configuration in _ALL}
"""All that can be measured, by name, in the order of the paper's table."""

_WITH_EVALUATIONS = re.compile(r"(?P<name>.+)@(?P<evaluations>.*)")


def get_configuration(name: str) -> Configuration:
    """A configuration by name, with evaluations of its own where `@N` follows.

    Raises:
        ValueError: There is none of that name, N is no number of evaluations, or one that does not search is to have
            some.
    """
    if name in CONFIGURATIONS:
        return CONFIGURATIONS[name]
    found = _WITH_EVALUATIONS.fullmatch(name)
    plain = name if found is None else found["name"]
    if found is None or plain not in CONFIGURATIONS:
        raise ValueError(f"a configuration is one of {', '.join(CONFIGURATIONS)}, not {plain!r:.80}")
    configuration = CONFIGURATIONS[plain]
    if not configuration.searches:
        raise ValueError(f"{plain!r} searches nothing, so it takes no evaluations: leave out @{found['evaluations']}")
    return replace(configuration, evaluations=_evaluations_of(name, found["evaluations"]))


def _evaluations_of(name: str, given: str) -> int:
    if not (given.isascii() and given.isdigit()) or int(given) < 1:
        raise ValueError(f"what follows @ is a whole number of evaluations, at least 1, not as in {name!r:.80}")
    return int(given)
