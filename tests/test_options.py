"""What a tuner is given is checked when it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuning_cases import SMALL, TRAIN, mock

from lmaas_sdk import Budget, Tuner, TunerGroup, load_backend


class Asks:
    """It has ask and tell, and does not say how many it asks for."""

    def ask(self) -> list[float]:
        """One vector."""
        return [0.0]

    def tell(self, X: object, values: object) -> None:
        """Learns nothing."""


WRONG: list[tuple[dict[str, object], str]] = [
    ({"budget": 5}, "budget is a Budget.* 5 of int"),
    ({"scheduling": "drop"}, "scheduling is a Scheduling.*'drop' of str"),
    ({"optimizer": "cma"}, "optimizer is what makes a search.*'cma' of str"),
    ({"seed": 1.5}, "seed is a whole number.*1.5 of float"),
    ({"journal": 7}, "journal is the path of a file.* 7 of int"),
    ({"journal": b"run.journal"}, "journal is the path of a file.*of bytes"),
    ({"retry": 3}, "retry is a RetryPolicy.* 3 of int"),
    ({"cache": "cache.sqlite"}, "cache is True, False or an open ReplyCache.*'cache.sqlite' of str"),
    ({"cache": None}, "cache is True, False or an open ReplyCache.*None of NoneType"),
    ({"options": ["note"]}, r"options is a mapping.*\['note'\] of list"),
    ({"options": {"folder": Path("runs")}}, "options are kept as JSON.*runs"),
    ({"options": {"ratio": float("nan")}}, "options are kept as JSON.*nan"),
    ({"quotas": 100}, "quotas are Limits.*100"),
]


@pytest.mark.parametrize(
    ("wrong", "named"), WRONG, ids=[f"{n} {name}" for n, (one, _) in enumerate(WRONG) for name in one]
)
def test_settings_of_the_wrong_type_are_named_when_the_tuner_is_made(wrong: dict[str, object], named: str) -> None:
    """The message says what they are, what was given, and of which type that is."""
    with pytest.raises(TypeError, match=named):
        Tuner(mock(), preset=SMALL, **wrong)  # type: ignore[arg-type]
    if wrong.keys() & {"budget", "journal", "seed"}:
        return
    group = TunerGroup(budget=Budget(evaluations=80))
    with pytest.raises(TypeError, match=named):
        group.add("one", mock(), TRAIN, preset=SMALL, **wrong)  # type: ignore[arg-type]


def test_what_is_no_open_backend_is_said_when_the_tuner_is_made() -> None:
    """Its name is not enough, and neither is one that nobody has opened."""
    for backend in ("mock", load_backend("http://127.0.0.1:1")):
        with pytest.raises(TypeError, match="backend is an open one"):
            Tuner(backend)  # type: ignore[arg-type]


def test_durability_is_checked_when_the_tuner_is_made(tmp_path: Path) -> None:
    """With a journal or without; not only once a run has begun."""
    for journal in (None, tmp_path / "run.journal"):
        with pytest.raises(ValueError, match=r"durability is 'generation' or .*'sometimes'"):
            Tuner(mock(), journal=journal, durability="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="durability"):
        TunerGroup(budget=Budget(), durability="sometimes")  # type: ignore[arg-type]


async def test_a_journal_may_be_any_path(tmp_path: Path) -> None:
    """A string, or whatever says of itself which path it is."""
    for number, kind in enumerate((str, Path)):
        journal = kind(tmp_path / f"{number}.journal")
        await Tuner(mock(), budget=Budget(evaluations=16), preset=SMALL, journal=journal).fit(TRAIN)
        with pytest.raises(ValueError, match="durability"):
            Tuner.resume(journal, mock(), durability="sometimes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="journal is the path of a file"):
        Tuner.resume(7, mock())  # type: ignore[arg-type]


@pytest.mark.parametrize(("made", "named"), [(None, "None of NoneType"), ("cma", "'cma' of str"), (Asks(), "of Asks")])
async def test_what_an_optimizer_factory_makes_is_a_search(made: object, named: str) -> None:
    """Else it is said what was made and what it lacks, and nothing is sent."""
    backend = mock()
    with pytest.raises(TypeError, match=f"optimizer= made .*{named}, which has no .*AskTell"):
        await Tuner(backend, budget=Budget(evaluations=80), preset=SMALL, optimizer=lambda d, seed: made).fit(TRAIN)  # type: ignore[arg-type,return-value]
    assert 0 == backend.book.attempts
