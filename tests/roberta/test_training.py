"""Training by gradients: the engine's own forward pass, and transformers' gradients as the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.named_weights import by_name, made_of
from lmaas_backends.roberta.training import Training
from lmaas_sdk.backend import ScoreQuery
from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Layout, Subspace

FIELDS = ("a moving film", "dull and far too long", "fine", "so bad that it is good again , or nearly")
LABELS = np.array([1, 0, 1, 0])
L = 3


@pytest.fixture
def opened(model: Any) -> Iterator[Engine]:
    found = Engine(model.loaded)
    yield found
    found.close()


def prompt_space(engine: Engine, layout: Layout = "add", **changes: Any) -> Subspace:
    width = engine.card.hidden_size
    return Subspace(L * width, L, width, layout, **({"projection": "identity"} | changes))


def begun(engine: Engine, texts: TextSet, subspace: Subspace | None = None, rate: float = 1e-2) -> Training:
    return engine.training(texts, LABELS, learning_rate=rate, subspace=subspace)


def scored(engine: Engine, texts: TextSet, learned: dict[str, Any], subspace: Subspace | None) -> NDArray[np.float32]:
    """What a call answers for what was learned: with the prompt, or by an engine with these weights."""
    if subspace is not None:
        return engine.score(ScoreQuery(texts, subspace=subspace, Z=learned["z"][None])).logits[0]
    tuned = engine.tuned(learned)
    logits = tuned.score(ScoreQuery(texts)).logits[0]
    tuned.close()
    return logits


@pytest.mark.parametrize("kind", ["add", "cat", "weights"])
def test_logits_in_training_are_those_of_a_call(model: Any, opened: Engine, kind: str) -> None:
    """Before the first step and after some, on texts of the training and on others."""
    texts, others = model.texts(*FIELDS), model.texts("a thing", "another thing that is longer")
    subspace = None if kind == "weights" else prompt_space(opened, "add" if kind == "add" else "cat")
    training = begun(opened, texts, subspace)
    for steps in (0, 3):
        for _ in range(steps):
            training.step([0, 1, 2, 3])
        learned = training.learned()
        for asked in (texts, others):
            np.testing.assert_allclose(training.logits(asked), scored(opened, asked, learned, subspace), atol=1e-4)
    assert np.abs(
        training.logits(texts) - scored(opened, texts, begun(opened, texts, subspace).learned(), subspace)
    ).max()


@pytest.mark.parametrize(("kind", "rate"), [("add", 0.05), ("weights", 1e-3)])
def test_the_loss_falls(model: Any, opened: Engine, kind: str, rate: float) -> None:
    """And what a step returns is the loss before it."""
    texts = model.texts(*FIELDS)
    training = begun(opened, texts, prompt_space(opened) if kind == "add" else None, rate)
    expected = functional.cross_entropy(torch.from_numpy(training.logits(texts)), torch.from_numpy(LABELS)).item()
    losses = [training.step([0, 1, 2, 3]) for _ in range(12)]
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < 0.9 * losses[0]


def test_a_step_is_that_of_transformers_and_torch(model: Any, opened: Engine) -> None:
    """The model of Hugging Face's, trained on the same batches one text at a time, ends at the same logits."""
    texts = model.texts(*FIELDS)
    training = begun(opened, texts, rate=1e-3)
    hf = type(model.hf)(model.hf.config)
    hf.load_state_dict(model.hf.state_dict())
    hf.eval()
    adam = torch.optim.Adam(hf.parameters(), lr=1e-3)
    words = [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in model.label_words.words]

    def logits(field: str) -> torch.Tensor:
        ids = model.ids(field)
        answer = hf(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits
        found: torch.Tensor = answer[0, ids.index(model.tokenizer.mask_token_id), words]
        return found

    for rows in ([0, 1], [2, 3], [3, 0]):
        adam.zero_grad()
        loss = functional.cross_entropy(
            torch.stack([logits(FIELDS[row]) for row in rows]), torch.from_numpy(LABELS[rows])
        )
        loss.backward()
        adam.step()
        assert training.step(rows) == pytest.approx(loss.item(), rel=1e-3)
    with torch.no_grad():
        expected = torch.stack([logits(field) for field in FIELDS]).numpy()
    np.testing.assert_allclose(training.logits(texts), expected, atol=5e-3)


def test_the_gradient_of_a_prompt_is_the_slope_of_the_loss(model: Any, opened: Engine) -> None:
    """Along a random direction, by differences; steps of Adam at a tiny rate go downhill in every coordinate."""
    texts, space = model.texts(*FIELDS), prompt_space(opened)
    training = begun(opened, texts, space, rate=1e-4)
    training.step([0, 1, 2, 3])
    gradient = training._learner.parameters["z"].grad
    assert gradient is not None
    direction = np.random.default_rng(3).standard_normal(space.d).astype(np.float32)

    def loss(size: float) -> float:
        logits = opened.score(ScoreQuery(texts, subspace=space, Z=size * direction[None])).logits[0]
        return functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(LABELS)).item()

    slope = (loss(2e-3) - loss(-2e-3)) / 4e-3
    assert float(gradient @ torch.from_numpy(direction)) == pytest.approx(slope, rel=0.02, abs=2e-3)
    moved = training.learned()["z"]
    assert (np.sign(moved) == -np.sign(gradient.numpy())).mean() > 0.99


@pytest.mark.parametrize("kind", ["add", "weights"])
def test_the_same_steps_have_the_same_bits_and_draw_no_random_number(model: Any, opened: Engine, kind: str) -> None:
    """Two trainings side by side; torch's generator is where it was, and so are the engine's answers."""
    texts, space = model.texts(*FIELDS), prompt_space(opened) if kind == "add" else None
    before, answer = torch.get_rng_state(), opened.score(ScoreQuery(texts)).logits.tobytes()
    trainings = [begun(opened, texts, space) for _ in range(2)]
    losses = [[training.step(rows) for training in trainings] for rows in ([0, 1, 2], [3, 1])]
    assert all(first == second for first, second in losses)
    first, second = (training.learned() for training in trainings)
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in second.items()
    }
    assert torch.equal(torch.get_rng_state(), before)
    assert opened.score(ScoreQuery(texts)).logits.tobytes() == answer


def test_a_batch_of_several_chunks_has_the_gradient_of_the_whole(
    model: Any, opened: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut to one text a chunk, a step goes the same way."""
    texts, space = model.texts(*FIELDS), prompt_space(opened)
    whole, cut = begun(opened, texts, space, rate=1e-4), begun(opened, texts, space, rate=1e-4)
    loss = whole.step([0, 1, 2, 3])
    monkeypatch.setattr("lmaas_backends.roberta.training.most_positions", lambda device, width: 1)
    assert cut.step([0, 1, 2, 3]) == pytest.approx(loss, rel=1e-5)
    gradients = [training._learner.parameters["z"].grad for training in (whole, cut)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_weights_go_out_by_name_and_come_back(model: Any, opened: Engine) -> None:
    """All of them, in float32 of one or two axes, and an engine made of them answers as before, to the bit."""
    texts = model.texts(*FIELDS)
    learned = begun(opened, texts).learned()
    assert {(array.dtype.name, array.ndim) for array in learned.values()} <= {("float32", 1), ("float32", 2)}
    assert scored(opened, texts, learned, None).tobytes() == opened.score(ScoreQuery(texts)).logits.tobytes()
    tensors = by_name(model.loaded.reread())
    assert by_name(made_of(tensors, model.loaded.arithmetic.plain.make)).keys() == tensors.keys() == learned.keys()


def test_other_weights_have_another_fingerprint(model: Any, opened: Engine) -> None:
    """So that no cache takes one for the other; the card is that of the engine made of them."""
    training = begun(opened, model.texts(*FIELDS))
    same, _ = training.learned(), training.step([0, 1])
    other = training.learned()
    cards = [opened.tuned_card(weights) for weights in (same, other)]
    assert len({card.fingerprint for card in (*cards, opened.card)}) == 3
    tuned = opened.tuned(other)
    assert tuned.card == cards[1]
    tuned.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("words"), "'words' are missing"),
        (lambda weights: weights.update(more=np.ones(2, np.float32)), "'more' are none of this model's"),
        (lambda weights: weights.update(words=np.ones((2, 2), np.float32)), "'words' are float32 of shape"),
        (lambda weights: weights.update(words=weights["words"].astype(float)), "not float64"),
    ],
)
def test_weights_of_another_model_are_refused(model: Any, opened: Engine, change: Any, named: str) -> None:
    """The message says which."""
    weights = begun(opened, model.texts(*FIELDS)).learned()
    change(weights)
    with pytest.raises(ValueError, match=named):
        opened.tuned_card(weights)


def test_what_cannot_be_trained_is_refused(model: Any, opened: Engine) -> None:
    """Another projection, and texts without label words."""
    texts = model.texts(*FIELDS)
    with pytest.raises(InvalidQuery, match="'identity', not 'uniform'"):
        begun(opened, texts, prompt_space(opened, projection="uniform"))
    with pytest.raises(InvalidQuery, match="no label words"):
        begun(opened, TextSet(texts.texts))


def test_fewer_bits_are_trained_in_float32(model: Any) -> None:
    """The weights that come out at once are those of the checkpoint, and precise calls answer with them."""
    from lmaas_backends.roberta.loading import load_engine

    texts = model.texts(*FIELDS)
    reduced, exact = load_engine(model.hf.name_or_path, dtype="bfloat16", threads=1), Engine(model.loaded)
    learned = reduced.training(texts, LABELS, learning_rate=1e-3).learned()
    tuned = reduced.tuned(learned)
    for precise in (False, True):
        query = ScoreQuery(texts, precise=precise)
        assert tuned.score(query).logits.tobytes() == reduced.score(query).logits.tobytes()
    np.testing.assert_allclose(
        tuned.score(ScoreQuery(texts, precise=True)).logits, exact.score(ScoreQuery(texts)).logits, atol=1e-4
    )
    for engine in (reduced, exact, tuned):
        engine.close()
