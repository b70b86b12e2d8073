"""Landscapes made of journals: a run is replayed to the bit, and another search goes over ground of the same shape."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_cases import DEV, SMALL, TRAIN, examples, mock

from lmaas_backends.mock import Landscape, MockBackend, Question
from lmaas_backends.mock.landscape import SyntheticLandscape
from lmaas_sdk import (
    Budget,
    Capabilities,
    Dataset,
    Preset,
    ScoreQuery,
    ScoreReply,
    Subspace,
    Tuner,
    TuningResult,
    load_backend,
)
from lmaas_sdk.cli import main
from lmaas_sdk.errors import InvalidQuery, JournalCorrupt, JournalError, JournalMismatch, Unsupported
from lmaas_sdk.planning.conditions import Conditions, Failures
from lmaas_sdk.planning.recorded import RecordedLandscape, recorded_landscape
from lmaas_sdk.planning.recording import read_recording
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.simulate import simulate, sweep
from lmaas_sdk.testing.virtual_loop import run_virtual
from lmaas_sdk.tuning.journal_file import JournalFile, records_of
from lmaas_sdk.tuning.objective import cross_entropy
from lmaas_sdk.tuning.optimizer import MakeOptimizer
from lmaas_sdk.tuning.random_search import RandomSearch

TINY: Preset = replace(SMALL, name="tiny", layout="cat", population=10, dev_every=4)
EVALUATIONS = 400
SEED = 5


async def run(
    opening: Any, path: Path | None, preset: Preset = TINY, *, evaluations: int = EVALUATIONS, **options: Any
) -> TuningResult:
    """A run of the small task, with a journal."""
    async with opening as backend:
        budget = Budget(evaluations=evaluations)
        tuner = Tuner(backend, budget=budget, preset=preset, seed=SEED, journal=path, **options)
        return await tuner.fit(TRAIN, DEV)


def played(path: Path, preset: Preset = TINY, *, evaluations: int = EVALUATIONS, **options: Any) -> Path:
    """The journal of a run on the mock's own landscape."""
    optimizer: MakeOptimizer | None = options.pop("optimizer", None)
    run_virtual(run(mock(**options), path, preset, evaluations=evaluations, optimizer=optimizer))
    return path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuningResult]:
    """A run of the bundled model, and its journal."""
    path = tmp_path_factory.mktemp("real") / "run.journal"
    return path, asyncio.run(run(load_backend("roberta-tiny"), path))


@pytest.fixture(scope="module")
def landscape(real: tuple[Path, TuningResult]) -> RecordedLandscape:
    return recorded_landscape(real[0])


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a run on the mock."""
    return played(tmp_path_factory.mktemp("mock") / "run.journal", evaluations=80)


def scenario(landscape: RecordedLandscape, **changes: Any) -> Scenario:
    given: dict[str, Any] = {"train": TRAIN, "dev": DEV, "budget": Budget(evaluations=EVALUATIONS), "preset": TINY}
    return Scenario(landscape=landscape, **{**given, **changes})


# -- the same search: a replay


def test_the_same_search_replays_the_run(
    real: tuple[Path, TuningResult], landscape: RecordedLandscape, tmp_path: Path
) -> None:
    """It asks for the same candidates to the bit, as its losses are the recorded ones; looks at dev are the same."""
    recorded, result = real
    again = tmp_path / "again.journal"
    backend = load_backend("mock", **landscape.options(TRAIN, DEV))
    replayed = run_virtual(run(backend, again))
    asked = [[each["asked"] for each in records_of(path) if each["kind"] == "told"] for path in (recorded, again)]
    assert EVALUATIONS / TINY.population == len(asked[0])
    assert asked[0] == asked[1]
    np.testing.assert_allclose(np.array(replayed.core.losses), np.array(result.core.losses), atol=2e-6)
    assert [row["dev_metric"] for row in result.core.dev] == [row["dev_metric"] for row in replayed.core.dev]
    assert result.choice.z.tobytes() == replayed.choice.z.tobytes()
    assert result.prompt.Z.tobytes() == replayed.prompt.Z.tobytes()


def test_a_simulation_replays_it_under_other_conditions(
    real: tuple[Path, TuningResult], landscape: RecordedLandscape
) -> None:
    """Smaller calls, refusals and 429s change when it ends, and not what it finds."""
    trouble = Conditions(failures=Failures(rate_limit=0.1, refused=0.1))
    (one,) = simulate(scenario(landscape, conditions=trouble, candidates_a_call=3), seeds=[SEED], compare=False).runs
    result = real[1]
    assert one.found is not None
    assert result.generations[-1].lowest_loss == pytest.approx(one.found.loss, abs=2e-6)
    assert result.choice.dev is not None
    assert result.choice.dev.value == one.found.dev
    assert one.attempts > one.calls > 160
    assert one.elapsed_s > 0


def test_the_losses_of_recorded_candidates_are_those_recorded(landscape: RecordedLandscape) -> None:
    """By the landscape to the last bit; by the surrogate alone within the noise that it says it leaves."""
    points = landscape.recording.points
    assert EVALUATIONS == len(points)
    assert points.losses.tobytes() == landscape.losses(points.Z.astype(np.float32)).tobytes()
    alone = np.array([landscape.surrogate.loss(z) for z in points.Z.astype(np.float32)])
    assert float(np.sqrt(np.mean((alone - points.losses) ** 2))) <= landscape.noise


# -- another search: a surrogate


async def test_another_population_comes_as_low_as_it_does_on_the_model(landscape: RecordedLandscape) -> None:
    """Twice as many candidates a generation; the real run of them is the judge."""
    other = replace(TINY, population=20)
    truly = (await run(load_backend("roberta-tiny"), None, other)).generations
    told = (await run(load_backend("mock", **landscape.options(TRAIN, DEV)), None, other)).generations
    assert truly[-1].lowest_loss < truly[0].lowest_loss - 3 * landscape.noise
    assert truly[-1].lowest_loss == pytest.approx(told[-1].lowest_loss, abs=3 * landscape.noise)


def test_other_seeds_search_the_same_subspace(landscape: RecordedLandscape) -> None:
    """A run each; only the recorded seed's is the recorded one."""
    runs = simulate(scenario(landscape), seeds=[SEED, 1, 2], compare=False).runs
    lowest = [one.found.loss for one in runs if one.found is not None]
    assert 3 == len(set(lowest))
    assert landscape.surrogate.lowest == pytest.approx(lowest[0], abs=2e-6)
    assert all(loss >= landscape.surrogate.lowest - landscape.surrogate.depth for loss in lowest)


def test_population_step_size_and_algorithm_may_be_others(landscape: RecordedLandscape) -> None:
    """A sweep over searches, each in the recorded subspace."""
    others = [TINY, replace(TINY, sigma0=0.5), replace(TINY, step_size="csa"), replace(TINY, covariance="full")]
    swept = sweep(scenario(landscape, dev=None), seeds=[SEED], compare=False, preset=others, population=[8, 16])
    lowest = [one.runs[0].found.loss for one in swept.simulations if one.runs[0].found is not None]
    assert 8 == len(set(lowest))


def test_a_candidate_is_worth_the_same_in_whatever_call(landscape: RecordedLandscape) -> None:
    """Alone or among others, in any order, on all texts or on some."""
    Z = (3 * np.random.default_rng(0).standard_normal((9, 20))).astype(np.float32)
    order = np.random.default_rng(1).permutation(9)
    together = logits_of(landscape, Z)
    alone = np.concatenate([logits_of(landscape, z[np.newaxis, :]) for z in Z])
    assert together.tobytes() == alone.tobytes()
    assert together[order].tobytes() == logits_of(landscape, Z[order]).tobytes()
    assert together[:, [5, 2]].tobytes() == logits_of(landscape, Z, rows=(5, 2)).tobytes()
    losses = [cross_entropy(logits, TRAIN.labels) for logits in together]
    assert landscape.losses(Z).tolist() == pytest.approx(losses, abs=2e-6)


def test_the_manual_prompt_is_the_origin(landscape: RecordedLandscape) -> None:
    """It has the loss of z = 0."""
    origin = np.zeros((1, 20), np.float32)
    assert logits_of(landscape, origin).tobytes() == logits_of(landscape, None).tobytes()


def test_dev_losses_go_by_the_looks_of_the_run(landscape: RecordedLandscape) -> None:
    """The dev set's loss is not the train set's, and it rises with it; of any other set it is."""
    Z = landscape.recording.points.Z[[0, 200, -1]].astype(np.float32)
    train, dev = (
        [cross_entropy(logits, each.labels) for logits in logits_of(landscape, Z, each)] for each in (TRAIN, DEV)
    )
    other = examples(500, 12)
    unseen = [cross_entropy(logits, other.labels) for logits in logits_of(landscape, Z, other)]
    assert train == pytest.approx(unseen, abs=2e-6)
    assert train != pytest.approx(dev, abs=1e-3)
    looked = landscape.recording.looked[-2:]
    answers = logits_of(landscape, np.stack([each.z for each in looked]), DEV)
    assert np.stack([each.logits for each in looked]).tobytes() == answers.tobytes()


def test_the_same_journal_makes_the_same_landscape(
    real: tuple[Path, TuningResult], landscape: RecordedLandscape
) -> None:
    """Fit, roughness and every loss, bit for bit; candidates that nobody saw are not on a smooth ground."""
    again = recorded_landscape(real[0])
    Z = (2 * np.random.default_rng(7).standard_normal((50, 20))).astype(np.float32)
    assert (landscape.fingerprint, landscape.to_dict()) == (again.fingerprint, again.to_dict())
    assert landscape.losses(Z).tobytes() == again.losses(Z).tobytes()
    rough, smooth = (replace(landscape, roughness=part).losses(Z) for part in (1.0, 0.0))
    alone = [landscape.surrogate.loss(z) for z in Z]
    assert alone == smooth.tolist()
    assert landscape.noise == pytest.approx(float(np.std(rough - smooth)), rel=0.4)


def test_what_is_said_of_the_fit(landscape: RecordedLandscape) -> None:
    """In words and in numbers; both sides of it are known of a run of forty generations."""
    told = landscape.to_dict()
    quality = landscape.fit_quality
    assert (EVALUATIONS, SEED) == (told["candidates"], told["seed"])
    assert quality.to_dict() == told["fit_quality"]
    assert quality.beyond is not None
    assert quality.between.error == landscape.noise
    assert f"rank correlation {quality.between.rank:.2f}" in str(landscape)
    assert (40, True) == (told["generations"], told["is_over"])
    assert "no end" not in str(landscape)
    assert json.loads(json.dumps(scenario(landscape).to_dict()))["landscape"] == json.loads(json.dumps(told))


# -- where it is defined


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d": 21}, "d 20, not 21"),
        ({"seed": 6}, "seed 5, not 6"),
        ({"projection": "normal"}, "projection 'uniform', not 'normal'"),
        ({"prompt_tokens": 3}, "prompt_tokens 2, not 3"),
        ({"layout": "add"}, "layout 'cat', not 'add'"),
    ],
)
def test_another_subspace_is_refused(landscape: RecordedLandscape, change: dict[str, Any], named: str) -> None:
    """Before anything is scored, and the message says what differs."""
    other = replace(landscape.recording.subspace, **change)
    backend = MockBackend(**landscape.options(TRAIN))  # type: ignore[arg-type]  # options are by name
    with pytest.raises(InvalidQuery, match=named):
        run_virtual(backend.register(TRAIN.text_set, other))
    with pytest.raises(InvalidQuery, match=named):
        landscape.losses(np.zeros((1, other.d), np.float32), other)


def test_a_scenario_of_another_subspace_is_refused(landscape: RecordedLandscape) -> None:
    """Before it is played."""
    with pytest.raises(InvalidQuery, match="d 20, not 30"):
        simulate(scenario(landscape, preset=replace(TINY, d=30)))


def test_another_scale_is_the_same_place_in_other_units(landscape: RecordedLandscape) -> None:
    """Half of z in a projection of twice the size is the same prompt."""
    subspace = landscape.recording.subspace
    Z = (2 * np.random.default_rng(3).standard_normal((4, 20))).astype(np.float32)
    twice = replace(subspace, scale=2 * subspace.scale)
    assert landscape.losses(Z, subspace).tobytes() == landscape.losses(Z / 2, twice).tobytes()


def test_a_normal_projection_keeps_its_unit(tmp_path: Path) -> None:
    """Its scale is the model's spread of embeddings over sigma0, so the simulated model has the same spread."""
    preset = replace(TINY, projection="normal", sigma0=0.7, scale=0.3)
    made = recorded_landscape(played(tmp_path / "run.journal", preset, evaluations=80, embedding_std=0.123457))
    assert 0.123457 == made.options()["embedding_std"]
    assert {"preset": preset}.items() <= {"preset": made.preset}.items()
    (one,) = simulate(scenario(made, preset=preset, budget=Budget(evaluations=80)), seeds=[SEED], compare=False).runs
    assert one.found is not None
    assert made.surrogate.lowest == pytest.approx(one.found.loss, abs=2e-6)


async def test_texts_of_unknown_labels_are_refused(landscape: RecordedLandscape) -> None:
    """No logits have a loss where nobody says what is right."""
    backend = MockBackend(**landscape.options(TRAIN))  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="which labels of these 12 texts are right"):
        await backend.score(ScoreQuery(DEV.text_set), key="k")


# -- journals


def test_a_run_with_a_search_of_its_own_needs_it(tmp_path: Path) -> None:
    """As a resumed one does; another search is found out."""

    def own(d: int, seed: int) -> RandomSearch:
        return RandomSearch(d, population=10, sigma0=1.0, seed=seed)

    path = played(tmp_path / "run.journal", evaluations=80, optimizer=own)
    with pytest.raises(JournalError, match="give recorded_landscape the optimizer="):
        recorded_landscape(path)
    assert 80 == len(recorded_landscape(path, optimizer=own).recording.points)
    with pytest.raises(JournalMismatch, match="generation 0"):
        recorded_landscape(path, optimizer=lambda d, seed: own(d, seed + 1))


def test_a_run_that_is_under_way_has_a_landscape(synthetic: Path, tmp_path: Path) -> None:
    """Of what it has told, with the journal open and its last line half written."""
    path = tmp_path / "run.journal"
    lines = synthetic.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]) + b"0123")
    file = JournalFile(path, exists=True)
    before = path.read_bytes()
    try:
        found = read_recording(path).points
    finally:
        file.close()
    assert before == path.read_bytes()
    assert 0 < len(found) < 80
    assert found.losses.tolist() == read_recording(synthetic).points.losses[: len(found)].tolist()
    landscape = recorded_landscape(path)
    generations = int(found.generations.max()) + 1
    assert (generations, False) == (landscape.to_dict()["generations"], landscape.to_dict()["is_over"])
    assert f"the journal holds {generations} generations and no end" in str(landscape)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_journal_is_refused(synthetic: Path, tmp_path: Path, seed: int) -> None:
    """Whichever byte of its whole lines was changed; nothing is made of the rest."""
    content, chance = bytearray(synthetic.read_bytes()), random.Random(seed)
    place = chance.randrange(17, len(content) - 1)
    content[place] ^= 1 + chance.randrange(127)
    path = tmp_path / "run.journal"
    path.write_bytes(bytes(content))
    with pytest.raises(JournalError, match=r"check sum|no journal|its first line"):
        recorded_landscape(path)


def edited(path: Path, to: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Path:
    """A journal with right check sums and other records; None: it is left out."""
    file = JournalFile(to, exists=False)
    for record in records_of(path):
        changed = change(dict(record))
        if changed is not None:
            file.append([changed], durable=False)
    file.close()
    return to


def _without(kind: str, field: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda record: {name: value for name, value in record.items() if record["kind"] != kind or name != field}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_without("told", "values"), JournalCorrupt, "no record that a run writes"),
        (_without("told", "generation"), JournalCorrupt, "no record that a run writes"),
        (_without("run", "subspace"), JournalError, "did not keep the subspace"),
        (lambda record: None if record["kind"] == "told" else record, JournalError, "no generation yet"),
        (lambda record: record if record.get("generation") != 1 else None, JournalMismatch, "generation 1"),
        (lambda record: None if record.get("generation", 0) > 0 else record, JournalError, "at least 20 candidates"),
    ],
    ids=["no values", "no number", "no subspace", "nothing told", "one lost", "too little"],
)
def test_a_journal_that_does_not_hold_it_is_refused(
    synthetic: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], dict[str, Any] | None],
    error: type[Exception],
    message: str,
) -> None:
    """With the reason, though its check sums are right."""
    with pytest.raises(error, match=message):
        recorded_landscape(edited(synthetic, tmp_path / "edited.journal", change))


def test_losses_that_are_no_cross_entropies_are_refused(tmp_path: Path) -> None:
    """Logits are made for those alone."""
    with pytest.raises(JournalError, match="minimised 'hinge'"):
        recorded_landscape(played(tmp_path / "run.journal", replace(TINY, objective="hinge"), evaluations=80))


def test_a_file_that_is_not_there_is_an_error_of_the_journal(tmp_path: Path) -> None:
    """As elsewhere."""
    with pytest.raises(JournalError, match="cannot read the journal"):
        recorded_landscape(tmp_path / "none.journal")


# -- the mock


class Level:
    """A landscape where all labels are as likely."""

    fingerprint = "level"

    def check(self, subspace: Subspace) -> None:
        """It is level everywhere."""

    def logits(self, question: Question) -> Any:
        count = 1 if question.Z is None else len(question.Z)
        return np.zeros((count, len(question.rows), len(question.labels)), np.float32)


async def test_a_mock_plays_what_it_is_given() -> None:
    """Its own landscape is one of that kind; another answers in its place, under another fingerprint."""
    own: Landscape = SyntheticLandscape(effective_dim=3, seed=0, ruggedness=0.0)
    assert isinstance(own, Landscape)
    given, plain = mock(landscape=Level()), mock()
    reply: ScoreReply = await given.score(ScoreQuery(TRAIN.text_set), key="k")
    assert not reply.logits.any()
    assert plain.card.fingerprint != given.card.fingerprint
    same = await mock(landscape=own).score(ScoreQuery(TRAIN.text_set), key="k")
    assert (
        await mock(effective_dim=3).score(ScoreQuery(TRAIN.text_set), key="k")
    ).logits.tobytes() == same.logits.tobytes()


async def test_a_given_landscape_has_label_logits_alone() -> None:
    """It is asked for no other words, and whoever promises them is told."""
    with pytest.raises(Unsupported, match="top_k"):
        await mock(landscape=Level()).score(ScoreQuery(TRAIN.text_set, top_k=3), key="k")
    with pytest.raises(ValueError, match="leave the capability top_k out"):
        mock(landscape=Level(), capabilities=Capabilities(top_k=True))
    with pytest.raises(TypeError, match="landscape has check, logits and a fingerprint"):
        mock(landscape="run.journal")


# -- the command


def test_the_command_takes_a_journal(synthetic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Preset and seed are the run's, so that it is replayed; how good the fit is stands below the table."""
    command = [
        "simulate",
        "--landscape",
        str(synthetic),
        "--train-texts",
        "16",
        "--no-compare",
        "--budget-evaluations",
        "80",
    ]
    assert 0 == main([*command, "--json"])
    told = json.loads(capsys.readouterr().out)
    lowest = recorded_landscape(synthetic).surrogate.lowest
    assert lowest == pytest.approx(told["runs"][0]["found"]["loss"], abs=2e-6)
    assert (SEED, "tiny") == (told["runs"][0]["seed"], told["scenario"]["preset"]["name"])
    assert 0 == main(command)
    printed = capsys.readouterr().out
    assert str(recorded_landscape(synthetic)) in printed
    assert f"{lowest:.4f}" in printed


def test_the_command_refuses_what_is_no_landscape(
    synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A preset of another subspace, and a file that is no journal: exit code 2, and the reason."""
    assert 2 == main(["simulate", "--landscape", str(synthetic), "--preset", "paper"])
    assert "another subspace has another loss" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "no.journal").write_text("no", "utf-8")
    assert 2 == main(["simulate", "--landscape", str(tmp_path / "no.journal")])
    assert "is no journal of a run" in " ".join(capsys.readouterr().err.split())


def logits_of(
    landscape: RecordedLandscape, Z: Any, dataset: Dataset = TRAIN, *, rows: tuple[int, ...] | None = None
) -> Any:
    """Of a mock that plays it: (n_candidates, n_texts, n_labels)."""
    backend = MockBackend(**landscape.options(TRAIN, DEV, *([] if dataset in (TRAIN, DEV) else [dataset])))  # type: ignore[arg-type]
    subspace = None if Z is None else landscape.recording.subspace
    query = ScoreQuery(dataset.text_set, rows=rows, Z=Z, subspace=subspace)
    return run_virtual(backend.score(query, key="k")).logits
