"""A landscape made of a run's journal: what the run saw it answers again, and for the rest it has a surrogate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import digest
from lmaas_sdk.errors import InvalidQuery, JournalError
from lmaas_sdk.planning.answers import Answers
from lmaas_sdk.planning.recording import Recording, read_recording
from lmaas_sdk.planning.roughness import draw_of, fitting_roughness, name_of
from lmaas_sdk.planning.surrogate import FitQuality, Surrogate, fit_surrogate
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.objective import cross_entropy
from lmaas_sdk.tuning.optimizer import MakeOptimizer, Optimizer
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.searches import make_optimizer
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Question", "RecordedLandscape", "recorded_landscape"]

_FEWEST_LOOKS = 6
_SAME_SCALE = 1e-9
_STD_DIGITS = 6  # as a card has it


class Question(Protocol):
    """What a landscape is asked for: the logits of candidates on some texts of a set."""

    @property
    def Z(self) -> NDArray[np.float32] | None:
        """(n_candidates, d); None: the manual prompt."""
        ...

    @property
    def subspace(self) -> Subspace | None:
        """Where they lie."""
        ...

    @property
    def texts(self) -> TextSet:
        """The whole set."""
        ...

    @property
    def rows(self) -> NDArray[np.int64]:
        """(n_texts,): those of it that are asked about."""
        ...


@dataclass(frozen=True, slots=True)
class _Gap:
    """The dev loss of a candidate by its train loss: `offset + slope * loss`."""

    offset: float = 0.0
    slope: float = 1.0

    def loss(self, train: float) -> float:
        return max(self.offset + self.slope * train, 1e-3)


@dataclass(frozen=True, eq=False)
class RecordedLandscape:
    """The loss that a run saw, to be searched again: `Scenario(landscape=recorded_landscape("run.journal"))`.

    A candidate that the run scored has the loss that it had; on the run's own dev set, the logits that it had where
    they were asked for. Any other has the loss that a surrogate tells, and upon it a part of the noise that the
    surrogate leaves, which is a function of the candidate: the part with which a search comes down as fast as the run
    did. So the same search replays the run, and another one goes its own way over ground of much the same shape.

    It is a loss over the run's own subspace, so d, prompt tokens, layout, projection and the subspace's seed are the
    recorded ones; all else may be another: population, sigma0, algorithm, the seed of the search, budget, quotas, and
    how candidates are cut into calls.

    Args:
        recording: The run.
        surrogate: Fitted to it.
        roughness: How many standard deviations of the surrogate's noise are added to what it tells.
        datasets: Whose texts it can answer about.
    """

    recording: Recording = field(repr=False)
    surrogate: Surrogate = field(repr=False)
    roughness: float = 1.0
    datasets: tuple[Dataset, ...] = field(default=(), repr=False)

    @property
    def preset(self) -> Preset:
        """The settings of the run's search."""
        return self.recording.preset

    @property
    def seed(self) -> int:
        """Of the run's search and of its subspace."""
        return self.recording.seed

    @property
    def fit_quality(self) -> FitQuality:
        """How well the surrogate tells generations that it was not fitted to."""
        return self.surrogate.quality

    @property
    def noise(self) -> float:
        """Standard deviation of losses about the surrogate's."""
        return self.surrogate.noise

    @cached_property
    def fingerprint(self) -> str:
        """Of the run and its losses."""
        points = self.recording.points
        return digest([self.recording.run, self.recording.subspace.digest, points.losses.tolist()])

    def to_dict(self) -> dict[str, object]:
        """See `Landscape`."""
        return {
            "run": self.recording.run,
            "seed": self.seed,
            "candidates": len(self.recording.points),
            "generations": self.recording.generations,
            "is_over": self.recording.is_over,
            "lowest_loss": self.surrogate.lowest,
            "noise": self.noise,
            "roughness": self.roughness,
            "fit_quality": self.fit_quality.to_dict(),
        }

    def __str__(self) -> str:
        points, quality = self.recording.points, self.fit_quality
        lines = [
            f"a landscape of {len(points)} candidates that a run scored, lowest loss {self.surrogate.lowest:.4f}; "
            f"beside them it is a surrogate's, within about {self.noise:.4f}",
            f"  generations left out between others: {quality.between}",
        ]
        if quality.beyond is not None:
            lines.append(f"  the last third of the run, from the first two: {quality.beyond}")
        if not self.recording.is_over:
            held = self.recording.generations
            lines.append(f"  the journal holds {held} generations and no end: its run was cut short or is under way")
        return "\n".join(lines)

    # -- for a simulation

    def options(self, *datasets: Dataset) -> Mapping[str, object]:
        """See `Landscape`."""
        preset, subspace, std = self.recording.preset, self.recording.subspace, 1.0
        if preset.projection == "normal":
            std = round(subspace.scale * preset.sigma0 / preset.scale, _STD_DIGITS)
        known = replace(self, datasets=datasets or self.datasets)
        return {"landscape": known, "hidden_size": subspace.hidden_size, "embedding_std": std}

    def tuner_options(self, preset: Preset, seed: int) -> Mapping[str, object]:
        """See `Landscape`: the seed is that of the search alone, and the subspace stays where it is."""
        if seed == self.recording.seed:
            return {"seed": seed}
        return {"seed": self.recording.seed, "optimizer": partial(_search_of_seed, preset, seed)}

    # -- for the mock

    def check(self, subspace: Subspace) -> None:
        """Refuses another subspace than the recorded one.

        Raises:
            InvalidQuery: It names what differs.
        """
        mine = self.recording.subspace
        rescaled = replace(subspace, scale=mine.scale)
        if rescaled == mine:
            return
        before, after = mine.to_wire(), rescaled.to_wire()
        differing = [name for name in before if before[name] != after[name]]
        named = [f"{name} {before[name]!r:.20}, not {after[name]!r:.20}" for name in differing]
        raise InvalidQuery(
            f"the landscape of run {self.recording.run[:8]} was recorded with {'; '.join(named)}: another subspace has "
            "another loss, so keep the recorded one (population, sigma0, algorithm, budget and quotas may be others)"
        )

    def losses(self, Z: NDArray[np.float32], subspace: Subspace | None = None) -> NDArray[np.float64]:
        """The train losses of candidates, each worked out by itself.

        Args:
            Z: (n_candidates, d).
            subspace: Where they lie; None: in the recorded one.

        Raises:
            InvalidQuery: The subspace is another.
        """
        if subspace is not None:
            self.check(subspace)
            factor = subspace.scale / self.recording.subspace.scale
            if abs(factor - 1.0) > _SAME_SCALE:
                Z = (Z * factor).astype(np.float32)
        return np.array([self._loss(z) for z in Z])

    def logits(self, question: Question) -> NDArray[np.float32]:
        """Logits whose mean cross entropy over the whole set is the loss: (n_candidates, n_texts, n_labels) float32.

        Raises:
            InvalidQuery: The subspace is another, or nobody said which labels are right.
        """
        answers, is_dev = self._answers_of(question.texts)
        d = self.recording.subspace.d
        Z = np.zeros((1, d), np.float32) if question.Z is None else question.Z
        losses = self.losses(Z, question.subspace)
        found = [self._answer(z, loss, answers, is_dev=is_dev) for z, loss in zip(Z, losses.tolist(), strict=True)]
        return np.stack([logits[question.rows] for logits in found])

    def _answer(self, z: NDArray[np.float32], loss: float, answers: Answers, *, is_dev: bool) -> NDArray[np.float32]:
        if not is_dev:
            return answers.logits(loss)
        looked = self._looked.get(name_of(z))
        return answers.logits(self._gap.loss(loss)) if looked is None else looked

    def _loss(self, z: NDArray[np.float32]) -> float:
        known = self._known.get(name_of(z))
        return self.surrogate.loss(z, draw=self.roughness * draw_of(z)) if known is None else known

    def _answers_of(self, texts: TextSet) -> tuple[Answers, bool]:
        known = self._by_texts.get(texts.digest)
        if known is None:
            raise InvalidQuery(
                f"the landscape does not know which labels of these {len(texts)} texts are right: give the data set "
                "that they are of, landscape.options(train, dev)"
            )
        return known

    @cached_property
    def _by_texts(self) -> dict[str, tuple[Answers, bool]]:
        """By the digest of a text set: how it is answered, and whether it is the run's dev set."""
        return {
            dataset.text_set.digest: (
                Answers(dataset.labels, len(dataset.task.labels), name=dataset.digest),
                dataset.digest == self.recording.dev,
            )
            for dataset in self.datasets
        }

    @cached_property
    def _known(self) -> dict[bytes, float]:
        points = self.recording.points
        return dict(zip(map(name_of, points.Z.astype(np.float32)), points.losses.tolist(), strict=True))

    @cached_property
    def _looked(self) -> dict[bytes, NDArray[np.float32]]:
        return {name_of(looked.z): looked.logits for looked in self.recording.looked}

    @cached_property
    def _gap(self) -> _Gap:
        """Fitted to the looks that the run took at its dev set, where there are enough of them."""
        dev = next((each for each in self.datasets if each.digest == self.recording.dev), None)
        looked = self.recording.looked
        if dev is None or len(looked) < _FEWEST_LOOKS:
            return _Gap()
        train = self.losses(np.stack([each.z for each in looked]))
        seen = np.array([cross_entropy(each.logits, dev.labels) for each in looked])
        spread = float(train.var())
        slope = max(float(np.mean((train - train.mean()) * (seen - seen.mean()))) / spread, 0.0) if spread else 0.0
        return _Gap(float(seen.mean()) - slope * float(train.mean()), slope)


def recorded_landscape(journal: str | Path, *, optimizer: MakeOptimizer | None = None) -> RecordedLandscape:
    """Makes a landscape of a run's journal, finished or not; deterministic, and a matter of seconds.

    Args:
        journal: The file.
        optimizer: As the run had it, where it had one of its own.

    Raises:
        JournalError: The journal cannot be read, or holds no landscape: the message says why.
        JournalCorrupt: It is damaged.
        JournalMismatch: The search asks for other candidates than it did.
    """
    recording = read_recording(Path(journal), optimizer=optimizer)
    try:
        surrogate = fit_surrogate(recording.points)
    except ValueError as error:
        raise JournalError(f"the run of {journal} is no landscape: {error}") from error
    make = optimizer or partial(make_optimizer, recording.preset)
    another = partial(make, recording.subspace.d, recording.seed + 1)
    return RecordedLandscape(recording, surrogate, fitting_roughness(recording.points, surrogate, another))


def _search_of_seed(preset: Preset, own_seed: int, d: int, _seed: int) -> Optimizer:
    return make_optimizer(preset, d, own_seed)
