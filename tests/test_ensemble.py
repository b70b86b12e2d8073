"""Several predictors as one, and several prompts tuned within one budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_cases import DEV, SMALL, TASK, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import (
    Amounts,
    Budget,
    BudgetExceeded,
    BudgetTooSmall,
    GroupResult,
    JournalMismatch,
    PaymentRequired,
    Predictor,
    Price,
    ScoreQuery,
    ScoreReply,
    Task,
    TaskError,
    TextSet,
    open_ledger,
)
from lmaas_sdk.methods import (
    BlackBoxPredictor,
    BlackBoxTuning,
    EnsemblePredictor,
    FeatureLinear,
    InContextLearning,
    ManualPrompt,
    MethodPredictor,
    PromptEnsemble,
    asked_as,
    best_candidates,
    load_predictor,
)
from lmaas_sdk.methods.ensemble import mean_probability
from lmaas_sdk.methods.prompt_ensemble import _spent_by_others

TEXTS = ["a lovely thing", "an awful thing", ""]
OTHER = Task.from_wire(TASK.to_wire() | {"template": "<mask> : {text}"})


async def tuned(backend: object, seed: int = 3, **options: object) -> BlackBoxPredictor:
    budget = Budget(evaluations=80)
    preset = replace(SMALL, dev_every=1)
    method = BlackBoxTuning(backend, budget=budget, preset=preset, seed=seed, **options)  # type: ignore[arg-type]
    return await method.fit(TRAIN, DEV)


async def different(backend: object) -> list[MethodPredictor]:
    """One of each kind, with a template of its own among them."""
    manual = await ManualPrompt(backend, calibration="prior").fit(asked_as(OTHER, TRAIN))  # type: ignore[arg-type]
    shown = await InContextLearning(backend, shots=2).fit(TRAIN)  # type: ignore[arg-type]
    return [manual, shown, await tuned(backend), await tuned(backend, seed=4, calibration="contextual")]


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64))
    return weights / weights.sum(axis=1, keepdims=True)


async def test_probabilities_are_averaged() -> None:
    """Of members of any method, whatever their templates; each has one vote, however extreme its logits."""
    members = await different(mock())
    ensemble = EnsemblePredictor(members, TASK)
    expected = np.mean([softmax(await member.logits(TEXTS)) for member in members], axis=0)
    found = await ensemble.logits(TEXTS)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)
    assert found.dtype == np.float32
    extreme = np.array([[0, 500]], np.float32)
    np.testing.assert_allclose(np.exp(mean_probability([extreme, -extreme])), [[0.5, 0.5]])


async def test_candidates_of_one_run_go_out_in_one_call() -> None:
    """Those of another run in one of its own; the logits are those that each has alone."""
    backend = mock()
    one, other = await tuned(backend), await tuned(backend, seed=4)
    members = [*best_candidates(one, 3), other]
    ensemble = EnsemblePredictor(members)
    before = backend.book.attempts
    found = await ensemble.logits(TEXTS)
    assert backend.book.attempts - before == 2
    alone = [await member.logits(TEXTS) for member in members]
    assert found.tobytes() == mean_probability(alone).tobytes()


@pytest.mark.parametrize("kind", [InContextLearning, FeatureLinear])
async def test_members_that_score_by_themselves_are_reckoned_with(kind: Any, tmp_path: Path) -> None:
    """With a call too few for the last of them nothing is sent; with one for each all are asked."""
    backend, options = mock(), {"shots": 2} if kind is InContextLearning else {"epochs": 1}
    fitted = [await kind(backend, seed=seed, **options).fit(TRAIN) for seed in (1, 2)]
    paths = [member.save(tmp_path / f"{number}.predictor") for number, member in enumerate(fitted)]
    before = backend.book.attempts
    budget = Budget(calls=1)
    with pytest.raises(BudgetExceeded):
        await EnsemblePredictor([load_predictor(path, backend, budget=budget) for path in paths]).predict(TEXTS)
    assert backend.book.attempts == before
    budget = Budget(calls=2)
    await EnsemblePredictor([load_predictor(path, backend, budget=budget) for path in paths]).predict(TEXTS)
    assert backend.book.attempts == before + 2


async def test_features_that_are_kept_take_nothing() -> None:
    """So where a budget has ended, what it has paid for is still predicted."""
    budget = Budget(calls=2)
    linear = await FeatureLinear(mock(), budget=budget, epochs=1).fit(TRAIN)
    ensemble = EnsemblePredictor([linear, await ManualPrompt(mock()).fit(TRAIN)])
    found = await ensemble.predict(TEXTS)
    assert budget.posted.calls == 2
    assert await ensemble.predict(TEXTS) == found
    with pytest.raises(BudgetExceeded):
        await ensemble.predict(["another thing"])


async def test_every_member_asks_its_own_backend() -> None:
    """Also where two of one model share a budget, and the prompts differ by nothing."""
    first, second, budget = mock(), mock(seed=5), Budget(calls=9)
    members = [await ManualPrompt(backend, budget=budget).fit(TRAIN) for backend in (first, second)]
    found = await EnsemblePredictor(members).logits(TEXTS)
    assert (first.book.attempts, second.book.attempts) == (1, 1)
    alone = [await ManualPrompt(backend).fit(TRAIN) for backend in (mock(), mock(seed=5))]
    expected = mean_probability([await member.logits(TEXTS) for member in alone])
    assert found.tobytes() == expected.tobytes()


async def test_the_best_candidates_are_those_on_dev() -> None:
    """The one that was returned first, then by dev; none twice."""
    run = await tuned(mock())
    best = best_candidates(run, 4)
    assert best[0].prompt.to_bytes() == run.prompt.to_bytes()
    scores = [(await one.evaluate(DEV)).value for one in best]
    assert scores == sorted(scores, reverse=True)
    assert len({one.prompt.to_bytes() for one in best}) == len(best) == 4
    assert run.result is not None
    assert len(best_candidates(run, 1000)) <= len(run.result.dev_scored)


async def test_without_a_look_at_dev_there_are_no_best_candidates() -> None:
    """Neither of a run without a dev set, nor of a file."""
    run = await BlackBoxTuning(mock(), budget=Budget(evaluations=8), preset=SMALL).fit(TRAIN)
    with pytest.raises(ValueError, match="fit one with a dev set"):
        best_candidates(run, 2)
    with pytest.raises(ValueError, match="fit one with a dev set"):
        best_candidates(BlackBoxPredictor(run.predictor), 2)
    with pytest.raises(ValueError, match="no dev set"):
        await PromptEnsemble(mock(), best=2).fit(TRAIN)


async def test_its_spend_is_that_of_all_members() -> None:
    """Each client counted once, also where members share one."""
    backend = mock()
    run = await tuned(backend)
    ensemble = EnsemblePredictor([*best_candidates(run, 2), await ManualPrompt(backend).fit(TRAIN)])
    await ensemble.predict(TEXTS)
    assert ensemble.spend.total.tokens == backend.book.tokens
    assert ensemble.spend.by_purpose["predict"].calls == 2


async def test_what_does_not_fit_together_is_not_sent() -> None:
    """Not even the first member's part."""
    backend = mock()
    budget = Budget(calls=1)
    members = [await ManualPrompt(backend, budget=budget).fit(asked_as(task, TRAIN)) for task in (TASK, OTHER)]
    with pytest.raises(BudgetExceeded):
        await EnsemblePredictor(members).predict(TEXTS)
    assert backend.book.attempts == 0


@pytest.mark.parametrize("items", ["lovely", "", b"dull", {"a lovely thing"}, {"text": "a lovely thing"}, None, 5])
async def test_one_string_is_no_list_of_texts(items: Any) -> None:
    """Nor is what has no order; nothing is sent."""
    backend = mock()
    manual = await ManualPrompt(backend).fit(TRAIN)
    for predictor in (manual, EnsemblePredictor([manual, await InContextLearning(backend, shots=2).fit(TRAIN)])):
        with pytest.raises(TaskError, match="takes a list of texts"):
            await predictor.predict(items)
    assert backend.book.attempts == 0


async def test_texts_may_come_one_by_one() -> None:
    """A generator is a list of texts, too."""
    manual = await ManualPrompt(mock()).fit(TRAIN)
    for predictor in (manual, EnsemblePredictor([manual]), Predictor.manual(mock(), TASK)):
        assert await predictor.predict(text for text in TEXTS) == await predictor.predict(TEXTS)


async def test_members_of_all_kinds_are_saved(tmp_path: Path) -> None:
    """In one file, from which the same is predicted."""
    ensemble = EnsemblePredictor(await different(mock()), TASK)
    loaded = load_predictor(ensemble.save(tmp_path / "a.predictor"), mock())
    assert isinstance(loaded, EnsemblePredictor)
    assert [member.name for member in loaded.members] == ["manual", "in-context", "black-box", "black-box"]
    assert (await loaded.logits(TEXTS)).tobytes() == (await ensemble.logits(TEXTS)).tobytes()


async def test_members_answer_the_same_question() -> None:
    """There is at least one, none is an ensemble, and labels, fields and model agree."""
    manual = await ManualPrompt(mock()).fit(TRAIN)
    labels = Task("things", template="{text} <mask>", labels=["a", "b"], words=["bad", "great"])
    fields = Task.from_wire(TASK.to_wire() | {"template": "{other} <mask>"})
    with pytest.raises(ValueError, match="at least one member"):
        EnsemblePredictor([])
    with pytest.raises(ValueError, match="no member of another"):
        EnsemblePredictor([EnsemblePredictor([manual])])
    with pytest.raises(ValueError, match="member 1 is of the model 'mock'"):
        EnsemblePredictor([manual, await ManualPrompt(mock(hidden_size=32)).fit(TRAIN)])
    for task in (labels, fields):
        other = await ManualPrompt(mock()).fit(task.examples([("a", 0)]))
        with pytest.raises(TaskError, match="member 1"):
            EnsemblePredictor([manual, other])


async def test_the_method_tunes_members_within_one_budget() -> None:
    """From a seed each, side by side; what it took is told by purpose, and is what the backend billed."""
    backend, budget = mock(), Budget(evaluations=120)
    ensemble = await PromptEnsemble(backend, budget=budget, preset=SMALL, members=3, seed=7).fit(TRAIN, DEV)
    assert ensemble.spend.by_purpose["train"].evaluations == budget.posted.evaluations == 120
    assert ensemble.spend.total.tokens == backend.book.tokens
    alone = await BlackBoxTuning(mock(), budget=Budget(evaluations=40), preset=SMALL, seed=8).fit(TRAIN, DEV)
    assert ensemble.members[1].saved().to_bytes() == alone.saved().to_bytes()
    assert (await ensemble.evaluate(TEST)).n_texts == len(TEST)


async def test_members_may_have_templates_of_their_own() -> None:
    """In turn; the ensemble is asked as the data are."""
    method = PromptEnsemble(
        mock(), budget=Budget(evaluations=32), preset=SMALL, members=3, templates=[TASK.template, OTHER.template.text]
    )
    ensemble = await method.fit(TRAIN, DEV)
    assert [member.task for member in ensemble.members] == [TASK, OTHER, TASK]
    assert ensemble.task == TASK


async def test_a_budget_for_fewer_members_has_fewer() -> None:
    """And one that pays for no generation is refused, with nothing sent."""
    method = PromptEnsemble(mock(), budget=Budget(evaluations=17), preset=SMALL, members=5)
    assert len((await method.fit(TRAIN, DEV)).members) == 2
    backend = mock()
    with pytest.raises(BudgetTooSmall):
        await PromptEnsemble(backend, budget=Budget(evaluations=7), preset=SMALL).fit(TRAIN, DEV)
    assert backend.book.attempts == 0


@pytest.mark.parametrize("limits", [{}, {"usd": "5.00"}, None])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_all_members_share_the_default(limits: dict[str, str] | None, is_kept: bool, tmp_path: Path) -> None:
    """8000 evaluations in all, where a budget limits nothing that is charged; with journals, also when gone on with."""
    preset, journals = replace(SMALL, population=500), tmp_path / "runs" if is_kept else None
    for _ in range(2 if is_kept else 1):
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            budget = None if limits is None else Budget(**limits, ledger=ledger)  # type: ignore[arg-type]
            method = PromptEnsemble(mock(), budget=budget, preset=preset, members=4, journals=journals)
            assert (await method.fit(TRAIN)).spend.by_purpose["train"].evaluations == 8000
            assert budget is None or budget.posted.evaluations == 8000


async def test_money_for_fewer_evaluations_than_the_default_binds() -> None:
    """Where the model has a price: as long as the money goes, and not a cent more."""
    backend, budget = mock(price=Price(1_000_000_000)), Budget(usd="0.50", warn_at=())
    ensemble = await PromptEnsemble(backend, budget=budget, preset=SMALL, members=2).fit(TRAIN)
    assert 0 < budget.posted.nanousd <= 500_000_000
    assert ensemble.spend.by_purpose["train"].evaluations % 8 == 0


@pytest.mark.parametrize(
    ("calls", "options", "seeds"),
    [
        (4, {}, [7, 8]),
        (5, {}, [7, 8]),
        (6, {}, [7, 8, 9]),
        (10, {"best": 2, "calibration": "prior"}, [7, 7, 8, 8]),
        (3, {"calibration": "prior"}, [7]),
    ],
)
async def test_as_many_members_as_equal_parts_pay_for(calls: int, options: dict[str, object], seeds: list[int]) -> None:
    """A generation and its look at dev are two calls, a calibration one: none fails for a part that is too small."""
    preset = replace(SMALL, dev_every=1)
    budget = Budget(calls=calls, warn_at=())
    method = PromptEnsemble(mock(), budget=budget, preset=preset, members=3, seed=7, **options)  # type: ignore[arg-type]
    ensemble = await method.fit(TRAIN, DEV)
    assert [one.prompt.subspace.seed for one in ensemble.members if isinstance(one, BlackBoxPredictor)] == seeds
    assert budget.posted.calls <= calls


async def test_members_stay_as_many_when_a_program_goes_on(tmp_path: Path) -> None:
    """In a ledger file, where less is free then; another number of them is refused."""
    found = []
    for _ in range(2):
        async with open_ledger(tmp_path / "spend.ledger") as ledger:
            budget = Budget(calls=5, ledger=ledger, warn_at=())
            method = PromptEnsemble(mock(), budget=budget, preset=SMALL, members=3, journals=tmp_path / "runs")
            found.append((await method.fit(TRAIN, DEV)).saved().to_bytes())
    assert found[0] == found[1]
    with pytest.raises(JournalMismatch, match="are of 3 members, and this is of 2: give members=3, or another folder"):
        await PromptEnsemble(mock(), preset=SMALL, members=2, journals=tmp_path / "runs").fit(TRAIN, DEV)


async def test_a_refusal_names_the_budget_that_was_given() -> None:
    """And what one generation takes."""
    method = PromptEnsemble(mock(), budget=Budget(calls=1, name="mine"), preset=SMALL)
    with pytest.raises(BudgetTooSmall, match="budget 'mine' allows 1 calls: 0 posted, 0 pending, 2 more asked for"):
        await method.fit(TRAIN, DEV)


class RefusesTopics(MockBackend):
    """Does not answer where the mask comes first."""

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        if isinstance(query.texts, TextSet) and query.texts.texts[0][0].kind == "mask":
            raise PaymentRequired("no money for topics")
        return await super().score(query, key=key)


async def test_a_member_that_fails_is_left_out() -> None:
    """And where all fail, the first one's error is raised."""
    options = {"preset": SMALL, "members": 2, "templates": [TASK.template, OTHER.template]}
    ensemble = await PromptEnsemble(RefusesTopics(), budget=Budget(evaluations=32), **options).fit(TRAIN, DEV)  # type: ignore[arg-type]
    assert [member.task for member in ensemble.members] == [TASK]
    with pytest.raises(PaymentRequired, match="no money for topics"):
        await PromptEnsemble(RefusesTopics(), preset=SMALL, templates=[OTHER.template]).fit(TRAIN, DEV)


class RefusesDev(MockBackend):
    """Does not answer about the dev set."""

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        if query.texts == DEV.text_set:
            raise PaymentRequired("no money for dev")
        return await super().score(query, key=key)


async def test_a_run_that_was_cut_short_before_dev_gives_what_it_has() -> None:
    """One prompt, where several were wanted; what was paid for is not lost."""
    backend, budget = RefusesDev(), Budget(evaluations=32)
    ensemble = await PromptEnsemble(backend, budget=budget, preset=SMALL, members=2, best=3).fit(TRAIN, DEV)
    assert len(ensemble.members) == 2
    assert ensemble.spend.total.tokens == backend.book.tokens


async def test_what_members_spent_that_failed_is_told() -> None:
    """Beside the spend of the others."""
    lost = GroupResult({}, {"b": PaymentRequired("late")}, {"a": Amounts(3), "b": Amounts(2, 1, 9)}, {}, 0.0)
    assert _spent_by_others(lost).by_purpose == {"train": Amounts(2, 1, 9)}
    member = await ManualPrompt(mock()).fit(TRAIN)
    assert EnsemblePredictor([member], beside=_spent_by_others(lost)).spend.total == Amounts(2, 1, 9)


async def test_journals_let_a_program_go_on(tmp_path: Path) -> None:
    """The same program again makes the same file, and pays for nothing that was answered."""
    files, attempts = [], []
    for _ in range(2):
        backend = mock()
        method = PromptEnsemble(
            backend, budget=Budget(evaluations=32), preset=SMALL, members=2, journals=tmp_path / "runs"
        )
        files.append((await method.fit(TRAIN, DEV)).saved().to_bytes())
        attempts.append(backend.book.attempts)
    assert files[0] == files[1]
    assert (attempts[0] > 0, attempts[1]) == (True, 0)


async def test_no_member_is_dropped_to_calibrate_the_others_when_it_goes_on(tmp_path: Path) -> None:
    """What all calibrations take has to be free again, since no journal has them; nothing is sent where it is not."""

    def ensemble(backend: MockBackend, calls: int) -> PromptEnsemble:
        budget = Budget(calls=calls)
        return PromptEnsemble(
            backend, budget=budget, preset=SMALL, members=3, calibration="prior", journals=tmp_path / "runs"
        )

    assert 3 == len((await ensemble(mock(), 9).fit(TRAIN)).members)
    later = mock()
    with pytest.raises(BudgetTooSmall, match="what calibration takes"):
        await ensemble(later, 1).fit(TRAIN)
    assert 0 == later.book.attempts


async def test_each_member_is_calibrated_by_itself() -> None:
    """From what was set aside: the search leaves enough."""
    backend, budget = mock(), Budget(calls=24)
    method = PromptEnsemble(backend, budget=budget, preset=SMALL, members=2, best=2, calibration="prior")
    ensemble = await method.fit(TRAIN, DEV)
    priors = [member.prior for member in ensemble.members if isinstance(member, BlackBoxPredictor)]
    assert (len(priors), any(prior is None for prior in priors)) == (4, False)
    assert ensemble.spend.by_purpose["probe"].calls == 4
    assert backend.book.attempts <= 24


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"members": 0}, ValueError, "members is a whole number of at least 1"),
        ({"best": 0}, ValueError, "best is a whole number of at least 1"),
        ({"templates": "{text} <mask>"}, TaskError, "not the single"),
        ({"templates": ["{text}"]}, TaskError, "exactly one <mask>"),
        ({"calibration": "more"}, ValueError, "'prior', 'contextual' or None, not 'more'"),
        ({"preset": "none"}, ValueError, "preset is one of"),
        ({"budget": 5}, TypeError, "budget is a Budget"),
        ({"journals": 5}, TypeError, "journals is the path of a folder"),
    ],
)
def test_options_are_checked_when_they_are_given(
    options: dict[str, object], error: type[Exception], named: str
) -> None:
    """Not when the first call is made."""
    with pytest.raises(error, match=named):
        PromptEnsemble(mock(), **options)  # type: ignore[arg-type]


async def test_a_template_of_other_fields_is_refused_before_anything_is_sent() -> None:
    """With what the data have."""
    backend = mock()
    with pytest.raises(TaskError, match="same fields"):
        await PromptEnsemble(backend, preset=SMALL, templates=["{other} <mask>"]).fit(TRAIN, DEV)
    assert backend.book.attempts == 0
