"""In-context learning as a method."""

from __future__ import annotations

import numpy as np
import pytest
from tuning_cases import DEV, TASK, TEST, TRAIN, examples, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, BudgetExceeded, BudgetTooSmall, InvalidQuery, Predictor, ScoreQuery, ScoreReply, TaskError
from lmaas_sdk.methods import CONTENT_FREE, MOST_SHOTS, InContextLearning, draw_demonstrations
from lmaas_sdk.methods.calibration import calibrated, log_prior
from lmaas_sdk.texts import MASK, TextSet

TEXTS = ["a lovely thing", "an awful thing", ""]
MANY = examples(0, 80)


class Reader:
    """A mock that keeps what it is asked to score, as the model would read it."""

    def __init__(self, **options: object) -> None:
        self._mock: MockBackend = mock(**options)
        self.card, self.register, self.features = self._mock.card, self._mock.register, self._mock.features
        self.read: list[str] = []

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        assert isinstance(query.texts, TextSet)
        for row in range(len(query.texts)) if query.rows is None else query.rows:
            pieces = query.texts.texts[row]
            self.read.append("".join("<mask>" if piece == MASK else piece.text for piece in pieces))
        return await self._mock.score(query, key=key)

    async def aclose(self) -> None:
        await self._mock.aclose()


async def test_zero_shots_are_the_manual_prompt() -> None:
    """The same bits, and the same spend."""
    backend, plain = mock(), mock()
    predictor = await InContextLearning(backend, shots=0).fit(TRAIN, DEV)
    found = await predictor.logits(TEXTS)
    assert found.tobytes() == (await Predictor.manual(plain, TASK).logits(TEXTS)).tobytes()
    assert (backend.book.tokens, await predictor.shown(TEXTS)) == (plain.book.tokens, [0, 0, 0])


async def test_the_model_reads_demonstrations_then_the_text() -> None:
    """One shot: one labelled example, with its word, before every text."""
    backend = Reader()
    predictor = await InContextLearning(backend, shots=1, seed=3).fit(TRAIN)
    await predictor.predict(["a lovely thing"])
    (example,) = draw_demonstrations(TRAIN, 1, seed=3)
    word = TASK.words[example.label]
    assert backend.read == [f"{example.fields[0]} It was {word} . a lovely thing It was <mask> ."]


async def test_an_instruction_stands_before_all_else() -> None:
    """And the separator between any two."""
    backend = Reader()
    method = InContextLearning(backend, shots=0, instruction="Say how it was.", separator="\n")
    await (await method.fit(TRAIN)).predict(["a thing"])
    assert backend.read == ["Say how it was.\na thing It was <mask> ."]


async def test_at_most_32_are_shown_and_the_default_is_that() -> None:
    """Of eighty examples, where there is room."""
    predictor = await InContextLearning(mock(max_tokens=2000)).fit(MANY)
    assert (await predictor.shown(["a thing"]), len(predictor.demonstrations)) == ([32], MOST_SHOTS)


async def test_as_many_are_shown_as_fit() -> None:
    """Fewer than asked for, and no word of the text is lost."""
    backend = Reader(max_tokens=100)
    predictor = await InContextLearning(backend).fit(MANY)
    evaluation = await predictor.evaluate(TEST)
    shown = await predictor.shown(TEST.fields)
    assert set(shown) <= set(range(3, 12))
    assert evaluation.shortened == predictor.shortened == 0
    for text, (field,) in zip(backend.read, TEST.fields, strict=True):
        assert text.endswith(f" {field} It was <mask> .")


async def test_a_text_that_is_too_long_by_itself_loses_words_and_is_counted() -> None:
    """As under the manual prompt: it has no demonstrations."""
    predictor = await InContextLearning(mock(max_tokens=40)).fit(MANY)
    long = TASK.examples([("thing " * 60, 0), ("a thing", 1)])
    assert (await predictor.evaluate(long)).shortened == 1
    counts = await predictor.shown(long.fields)
    assert counts[0] == 0 < counts[1]


async def test_the_seed_decides_what_is_shown() -> None:
    """The same seed gives the same file; another one another."""
    files = [(await InContextLearning(mock(), shots=4, seed=seed).fit(MANY)).saved().to_bytes() for seed in (1, 1, 2)]
    assert files[0] == files[1] != files[2]


async def test_balance_is_an_option() -> None:
    """Four shots of two classes are two of each."""
    for seed in range(8):
        predictor = await InContextLearning(mock(), shots=4, draw="balanced", seed=seed).fit(MANY)
        assert predictor.demonstrations.class_counts == (2, 2)


async def test_calibration_divides_by_what_inputs_without_content_get() -> None:
    """Under the same instruction and demonstrations; three texts are scored for it, as a probe."""
    backend = Reader()
    predictor = await InContextLearning(backend, shots=2, calibration="contextual").fit(TRAIN)
    assert [text.split(" . ")[-1] for text in backend.read] == [f"{text} It was <mask> ." for text in CONTENT_FREE]
    plain = await InContextLearning(mock(), shots=2).fit(TRAIN)
    prior = log_prior(await plain.logits(CONTENT_FREE))
    np.testing.assert_array_equal(calibrated(await plain.logits(TEXTS), prior), await predictor.logits(TEXTS))
    spent = {purpose: amounts.calls for purpose, amounts in predictor.spend.by_purpose.items()}
    assert (spent, predictor.spend.total.evaluations) == ({"probe": 1, "predict": 1}, 0)


async def test_without_calibration_fitting_sends_nothing() -> None:
    """Drawing and writing out are done here."""
    backend = mock()
    await InContextLearning(backend, budget=Budget(calls=0)).fit(TRAIN)
    assert backend.book.attempts == 0


async def test_budgets_hold() -> None:
    """Too small for the calibration: nothing is sent; too small for the texts: neither."""
    backend = mock()
    with pytest.raises(BudgetTooSmall, match="before the first call"):
        await InContextLearning(backend, budget=Budget(tokens=50), calibration="contextual").fit(TRAIN)
    with pytest.raises(BudgetTooSmall):
        await InContextLearning(backend, budget=Budget(wall_s=0), calibration="contextual").fit(TRAIN)
    predictor = await InContextLearning(backend, budget=Budget(tokens=500)).fit(TRAIN)
    with pytest.raises(BudgetExceeded):
        await predictor.evaluate(TEST)
    assert backend.book.attempts == 0
    await predictor.predict(["a thing"])
    assert 0 < backend.book.tokens <= 500


async def test_demonstrations_cost_tokens() -> None:
    """What is billed is what was counted beforehand: text and demonstrations."""
    bills = []
    for shots in (0, 4, 16):
        backend = mock()
        predictor = await InContextLearning(backend, shots=shots).fit(TRAIN)
        await predictor.predict(["a thing"])
        assert predictor.spend.total.tokens == backend.book.tokens
        bills.append(backend.book.tokens)
    assert bills == sorted(set(bills))


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"shots": 33}, ValueError, "at most 32, not 33"),
        ({"shots": -1}, ValueError, "shots is a whole number of at least 0"),
        ({"shots": 1.5}, TypeError, "shots is a whole number"),
        ({"seed": "7"}, TypeError, "seed is a whole number"),
        ({"draw": "best"}, ValueError, "random, balanced, not 'best'"),
        ({"calibration": "prior"}, ValueError, "'contextual' or None, not 'prior'"),
        ({"instruction": None}, TypeError, "instruction is a string"),
        ({"separator": 5}, TypeError, "separator is a string"),
        ({"instruction": "so \ud83d"}, ValueError, "instruction holds half a surrogate pair"),
        ({"separator": "\udfff"}, ValueError, "separator holds half a surrogate pair"),
        ({"budget": 5}, TypeError, "budget is a Budget"),
    ],
)
def test_options_are_checked_when_they_are_given(
    options: dict[str, object], error: type[Exception], named: str
) -> None:
    """The message says the option, the value and what would do."""
    with pytest.raises(error, match=named):
        InContextLearning(mock(), **options)  # type: ignore[arg-type]


async def test_there_must_be_something_to_show() -> None:
    """Shots of no examples; without shots there need be none."""
    nothing = TASK.examples([])
    with pytest.raises(TaskError, match="no examples to show"):
        await InContextLearning(mock(), shots=1).fit(nothing)
    assert len((await InContextLearning(mock(), shots=0).fit(nothing)).demonstrations) == 0


async def test_an_instruction_that_leaves_no_room_is_said_when_it_is_first_used() -> None:
    """It is not cut; a calibration is a use of it."""
    backend, options = mock(max_tokens=20), {"instruction": "so " * 40, "shots": 1}
    predictor = await InContextLearning(backend, **options).fit(TRAIN)  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="text 0"):
        await predictor.predict(["a thing"])
    with pytest.raises(InvalidQuery, match="text 0"):
        await InContextLearning(backend, calibration="contextual", **options).fit(TRAIN)  # type: ignore[arg-type]
    assert backend.book.attempts == 0


async def test_texts_of_several_fields_are_shown_and_calibrated() -> None:
    """A content-free input stands in every field."""
    pairs = TASK.__class__("pairs", template="{S1} ? <mask> , {S2}", labels=["no", "yes"], words=["No", "Yes"])
    train = pairs.examples([(("It rains.", "Rain falls."), 1), (("It rains.", "I slept."), 0)])
    backend = Reader()
    predictor = await InContextLearning(backend, shots=1, seed=1, calibration="contextual").fit(train)
    assert backend.read[0].endswith(" N/A ? <mask> , N/A")
    assert set(await predictor.predict([("It snows.", "Snow falls.")])) <= {"no", "yes"}
