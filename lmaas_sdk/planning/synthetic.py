"""Data and a model that are made up: for a simulation the sizes are what counts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from lmaas_sdk.seeding import raw_words, whole_number
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.tuning.presets import Preset

__all__ = ["Landscape", "SyntheticLandscape", "SyntheticTexts"]

_CLASS_WORDS, _OTHER_WORDS = 50, 2000
_LONGEST = 512  # as many as the mock takes; it would cut what is longer
_MOST_WORDS = 1_000_000
_TELLING = 4  # one word in so many tells the class
_WORDS = ("bad", "great", "fine", "poor", "good", "nice", "sad", "dull")


@dataclass(frozen=True, slots=True)
class SyntheticTexts:
    """A data set of made-up words, drawn by the seed of a run; one word in four hints at the class.

    Args:
        count: Texts; the classes take turns.
        tokens: Tokens of a text by itself, which template, prompt and special tokens come on top of: of each text
            alike, or of one after another and from the beginning again (the measured lengths of real texts, say);
            at most 512, which is as many as the model takes, and a million of all texts together.
        classes: From 2 to 8.

    Raises:
        TypeError: A number is no whole number.
        ValueError: A number is out of its range, or there are fewer texts than classes.
    """

    count: int = 32
    tokens: int | tuple[int, ...] = 25
    classes: int = 2

    def __post_init__(self) -> None:
        if not 2 <= whole_number("classes", self.classes) <= len(_WORDS):
            raise ValueError(f"classes is a whole number from 2 to {len(_WORDS)}, not {self.classes}")
        whole_number("count", self.count, at_least=self.classes)
        if not self._lengths:
            raise ValueError("tokens has at least one length: give the tokens of a text")
        for length in self._lengths:
            if whole_number("tokens", length, at_least=1) > _LONGEST:
                raise ValueError(f"tokens is at most {_LONGEST}, as many as the model takes, not {length}")
        if self.count * sum(self._lengths) > _MOST_WORDS * len(self._lengths):
            raise ValueError(f"count times tokens is at most {_MOST_WORDS:,}, and {self.count} such texts have more")

    @property
    def task(self) -> Task:
        """What is asked about them: the template has four tokens, the mask included."""
        labels = [f"class {label}" for label in range(self.classes)]
        return Task("synthetic", template="{text} It was <mask> .", labels=labels, words=_WORDS[: self.classes])

    def dataset(self, seed: int, name: str) -> Dataset:
        """The texts of a seed.

        Args:
            seed: Of the words.
            name: Other names have other words: "train", "dev".
        """
        lengths = list(itertools.islice(itertools.cycle(self._lengths), self.count))
        drawn = iter(raw_words(seed, f"synthetic texts/{name}", sum(lengths)).tolist())
        rows = []
        for row, length in enumerate(lengths):
            label = row % self.classes
            rows.append((" ".join(_word(number, label) for number in itertools.islice(drawn, length)), label))
        return self.task.examples(rows, name)

    @property
    def _lengths(self) -> tuple[int, ...]:
        return self.tokens if isinstance(self.tokens, tuple) else (self.tokens,)


def _word(number: int, label: int) -> str:
    """A word of the class's own, or one of all."""
    kind, number = number % _TELLING, number // _TELLING
    return f"c{label}n{number % _CLASS_WORDS}" if kind == 0 else f"w{number % _OTHER_WORDS}"


class Landscape(Protocol):
    """What a simulated search searches."""

    def options(self, *datasets: Dataset) -> Mapping[str, object]:
        """The options of `load_backend("mock", ...)` that make it; those about a provider's manners are none of its.

        Args:
            datasets: Whose texts are asked about, where they are known.
        """
        ...

    def tuner_options(self, preset: Preset, seed: int) -> Mapping[str, object]:
        """The options of a `Tuner` that has it search with the seed of a run."""
        ...

    def to_dict(self) -> Mapping[str, object]:
        """Plain values for JSON: what a reader has to know of it."""
        ...


@dataclass(frozen=True, slots=True)
class SyntheticLandscape:
    """The mock's own landscape: a smooth one of few directions that matter.

    Args:
        effective_dim: How many; the more, the longer a search takes.
        ruggedness: Above 0: it has many local minima, the deeper the larger.
        noise: Standard deviation of each logit; above 0 the model does not repeat itself.
        hidden_size: The model's width, which presets of no size of their own go by.
        seed: Of the model; the seed of a run does not change it.
    """

    effective_dim: int = 10
    ruggedness: float = 0.0
    noise: float = 0.0
    hidden_size: int = 1024
    seed: int = 0

    def options(self, *_datasets: Dataset) -> Mapping[str, object]:
        """See `Landscape`."""
        return self.to_dict()

    def tuner_options(self, _preset: Preset, seed: int) -> Mapping[str, object]:
        """See `Landscape`."""
        return {"seed": seed}

    def to_dict(self) -> Mapping[str, object]:
        """See `Landscape`."""
        return asdict(self)
