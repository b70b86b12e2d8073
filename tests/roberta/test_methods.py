"""Every method on real models: the bundled one, and random ones of both families, small and of the papers' size."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predictor_process import told
from roberta.conftest import LARGE_SHAPES, SMALL_SHAPES

import lmaas_sdk.methods
from lmaas_backends.mock import MockBackend
from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_sdk import (
    PRESETS,
    Backend,
    Budget,
    Dataset,
    DeepSubspace,
    Predictor,
    Preset,
    Task,
    TextSet,
    Tuner,
    few_shot,
    get_task,
    load_backend,
    open_cache,
    open_ledger,
    read_folder,
    subsample,
)
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.methods import (
    BlackBoxTuning,
    DeepBlackBoxTuning,
    EnsemblePredictor,
    FeatureBiLSTM,
    FeatureLinear,
    InContextLearning,
    ManualPrompt,
    Method,
    MethodPredictor,
    ModelTuning,
    PromptEnsemble,
    PromptTuning,
    SequentialRandomEmbeddings,
    choose_template,
    choose_words,
    learn_projection,
)
from lmaas_sdk.methods.demonstrations import joined, written_out
from lmaas_sdk.methods.features import input_texts
from lmaas_sdk.texts import Text

PROGRAM = Path(__file__).resolve().parents[1] / "predictor_process.py"
TASK = Task("sst2", template="{S} . It was <mask> .", labels=["negative", "positive"], words=["bad", "great"])
SMALL = replace(PRESETS["small-model"], d=20, prompt_tokens=4, layout="cat", population=6)  # BERT here has 1,600 words
LAYERS = {"roberta-tiny": 4, "small-roberta": 2, "small-bert": 3, "roberta-large": 24, "bert-base": 12}
DEEP = replace(SMALL, layout="add", projection="normal", scale=0.5)


def reviews(count: int, start: int = 0) -> Dataset:
    """Real sentences of many lengths."""
    rows = demo_splits().test
    assert rows is not None
    return TASK.examples([(row.fields, row.label) for row in rows.examples[start : start + count]])


TRAIN, TEST = reviews(40), reviews(12, start=200)
FEW, UNSEEN = (reviews(4), reviews(2, start=200)), reviews(3, start=300)
OTHERS = ["<mask> : {S}", TASK.template]


def splits(shape: str) -> tuple[Dataset, Dataset]:
    """To fit on and to choose by; of a large model few texts, as it takes a second for some."""
    return FEW if shape in LARGE_SHAPES else (TRAIN, TEST)


def spaces(shape: str) -> tuple[Preset, Preset]:
    """How to search one prompt, and one in every layer; of a large model in spaces of the paper's size."""
    sizes = {"d": 500, "prompt_tokens": 50} if shape in LARGE_SHAPES else {}
    return replace(SMALL, **sizes), replace(DEEP, **sizes)


def methods(backend: Backend, preset: Preset = SMALL, deep: Preset = DEEP) -> list[Method]:
    """Every method that needs no gradients, with and without its options; each may spend two generations."""

    def budget() -> Budget:
        return Budget(evaluations=2 * preset.population, calls=100)

    return [
        ManualPrompt(backend, budget=budget()),
        ManualPrompt(backend, budget=budget(), calibration="prior"),
        InContextLearning(backend, budget=budget(), shots=0, instruction="Is it good or bad?"),
        InContextLearning(backend, budget=budget(), shots=1),
        InContextLearning(backend, budget=budget(), calibration="contextual", draw="balanced"),
        FeatureLinear(backend, budget=budget(), epochs=3),
        FeatureLinear(backend, budget=budget(), epochs=3, template=True),
        FeatureBiLSTM(backend, budget=budget(), epochs=3, width=16),
        BlackBoxTuning(backend, budget=budget(), preset=preset),
        BlackBoxTuning(backend, budget=budget(), preset=preset, calibration="prior"),
        BlackBoxTuning(backend, budget=budget(), preset=preset, calibration="contextual"),
        SequentialRandomEmbeddings(backend, budget=budget(), preset=preset, rounds=2, seed=3),
        PromptEnsemble(backend, budget=budget(), preset=preset, members=2, best=2),
        PromptEnsemble(backend, budget=budget(), preset=preset, members=2, templates=OTHERS, calibration="prior"),
        DeepBlackBoxTuning(backend, budget=budget(), preset=deep),
    ]


SENT_BY_FIT: dict[str, set[str]] = {
    "manual": set(),
    "in-context": set(),
    "feature-linear": {"features"},
    "feature-bilstm": {"features"},
    "black-box": {"train", "dev"},
    "sequential-embeddings": {"train", "dev"},
    "ensemble": {"train", "dev"},
    "deep-black-box": {"features", "train", "dev"},
}


async def check_books(method: Method, predictor: MethodPredictor) -> None:
    """What is judged is finite, and every call is booked for what it was sent for, within the budget."""
    found = await predictor.evaluate(UNSEEN)
    assert (math.isfinite(found.value), math.isfinite(found.cross_entropy)) == (True, True)
    calibrated = getattr(method, "calibration", None) is not None
    spent = predictor.spend
    assert spent.by_purpose.keys() == SENT_BY_FIT[method.name] | ({"probe"} if calibrated else set()) | {"test"}
    assert spent.total.evaluations == (2 * SMALL.population if "train" in spent.by_purpose else 0)
    assert spent.total.calls <= 100


def tuner(backend: Backend, seed: int, **options: Any) -> Tuner:
    return Tuner(backend, budget=Budget(evaluations=12), preset=SMALL, seed=seed, **options)


async def fitted(backend: Backend, shape: str = "roberta-tiny") -> list[MethodPredictor]:
    """A predictor of every method, and of what chooses how a task is asked or starts from another run."""
    train, dev = splits(shape)
    predictors = []
    for method in methods(backend, *spaces(shape)):
        predictors.append(await method.fit(train, dev))
        await check_books(method, predictors[-1])
    choices = [await choose_words(backend, train, dev), await choose_template(backend, train, dev)]
    predictors += [await ManualPrompt(backend).fit(choice.asked(train)) for choice in choices]
    sources = [await tuner(backend, seed).fit(train, dev) for seed in (1, 2)]
    axes = await learn_projection(backend, sources, 2)
    started = BlackBoxTuning.of(tuner(backend, 3, base=sources[0], projection=axes))
    return [*predictors, EnsemblePredictor(predictors[:3]), await started.fit(train, dev)]


def test_no_method_is_left_out() -> None:
    """Every public one is in the list above, but for those that learn by gradients, which have tests of their own."""
    public = {getattr(lmaas_sdk.methods, name) for name in lmaas_sdk.methods.__all__}
    fits = {one for one in public - {Method} if isinstance(one, type) and hasattr(one, "fit")}
    assert fits == {type(method) for method in methods(MockBackend())} | {PromptTuning, ModelTuning}


async def test_every_method_pays_for_what_it_does_and_its_file_predicts_the_same_in_a_fresh_process(
    shape: str, name: str, backend: InProcessBackend, passing_folder: Path
) -> None:
    """To the last bit, and each has logits of its own, but that the task's own template may be the best."""
    predictors = await fitted(backend, shape)
    files = [predictor.save(passing_folder / f"{number}.predictor") for number, predictor in enumerate(predictors)]
    done = subprocess.run(  # noqa: ASYNC221  (nothing else is under way)
        [sys.executable, PROGRAM, name, *files], capture_output=True, text=True, check=True
    )
    expected = [await told(predictor) for predictor in predictors]
    assert json.loads(done.stdout) == expected
    assert len({str(one["logits"]) for one in expected}) >= len(predictors) - 1


async def test_words_are_chosen_from_what_the_model_would_say(shape: str, backend: InProcessBackend) -> None:
    """Each is one token of its vocabulary, and the manual prompt with them does better than with its own on the way."""
    train, dev = splits(shape)
    choice = await choose_words(backend, train, dev, budget=Budget(evaluations=2))
    own = next(one for one in choice.tried if one.task == TASK)
    assert choice.tried[0].cross_entropy < own.cross_entropy
    for one in choice.tried:
        assert (await backend.register(one.task.examples([("a thing", 0)]).text_set)).shortened == 0  # or it is refused
    predictor = Predictor.manual(backend, choice.task)
    found = await predictor.evaluate(choice.asked(train))
    assert found.cross_entropy == pytest.approx(choice.tried[0].train.cross_entropy, rel=1e-5)
    assert choice.spend.by_purpose["train"].evaluations == 2


async def test_a_template_is_chosen(shape: str, backend: InProcessBackend) -> None:
    """Of those for opinions, by what the manual prompt says under it."""
    train, dev = splits(shape)
    choice = await choose_template(backend, train, dev, budget=Budget(evaluations=9))
    assert len(choice.tried) == choice.spend.by_purpose["train"].evaluations == 9
    assert await Predictor.manual(backend, choice.task).evaluate(choice.asked(train)) == choice.tried[0].train


async def test_methods_are_what_they_wrap(shape: str, backend: InProcessBackend) -> None:
    """The manual prompt and no shots: the template alone; black-box tuning: the tuner."""
    train, dev = splits(shape)
    plain = await Predictor.manual(backend, TASK).logits(dev.fields)
    for method in (ManualPrompt(backend), InContextLearning(backend, shots=0)):
        assert (await (await method.fit(train)).logits(dev.fields)).tobytes() == plain.tobytes()
    tuned = await BlackBoxTuning(backend, budget=Budget(evaluations=12), preset=SMALL, seed=5).fit(train)
    run = await Tuner(backend, budget=Budget(evaluations=12), preset=SMALL, seed=5).fit(train)
    assert tuned.prompt.to_bytes() == run.prompt.to_bytes()


async def test_as_many_demonstrations_stand_before_a_text_as_the_model_has_room_for(backend: InProcessBackend) -> None:
    """No word is lost, what was counted is what is billed, and none that is left out would have fitted."""
    predictor = await InContextLearning(backend).fit(TRAIN)
    asked = TASK.examples([("fine", 1), *((row.fields, row.label) for row in TEST)])
    assert (await predictor.evaluate(asked)).shortened == 0
    shown = await predictor._packing.chosen(TASK.texts(asked.fields))
    assert 0 < max(map(len, shown))
    assert len({len(one) for one in shown}) > 1
    demonstrations = [written_out(TASK, example) for example in predictor.demonstrations]
    for text, chosen in zip(TASK.texts(asked.fields), shown, strict=True):
        for other in set(range(len(demonstrations))) - set(chosen):
            crowded = joined([*(demonstrations[index] for index in (*chosen, other)), text], " ")
            assert (await backend.register(TextSet((crowded,)))).shortened == 1


async def test_the_word_of_a_demonstration_is_the_token_that_the_model_is_asked_for(backend: InProcessBackend) -> None:
    """A text has as many tokens with its word as with the mask: the word is one token there."""
    masked = TextSet(TASK.texts(TEST.fields))
    written = TextSet(tuple(written_out(TASK, example) for example in TEST))
    assert (await backend.register(masked)).token_counts == (await backend.register(written)).token_counts


async def test_special_tokens_in_a_demonstration_are_plain_words(backend: InProcessBackend) -> None:
    """`<mask>` and `[MASK]` in an example's text add no mask."""
    train = TASK.examples([("a <mask> [MASK] </s> [SEP] thing", 1)])
    predictor = await InContextLearning(backend, shots=1).fit(train)
    assert (await predictor.logits(["a thing"])).shape == (1, 2)
    assert await predictor.shown(["a thing"]) == [1]


async def test_a_server_answers_as_the_model_in_this_process_does() -> None:
    """Over HTTP, where tokens are counted by the server: the same demonstrations and the same bits."""
    async with InProcessBackend(threads=1) as here, load_backend("roberta-tiny", threads=1) as there:
        for near, far in zip(await fitted(here), await fitted(there), strict=True):
            assert (await near.logits(TEST.fields)).tobytes() == (await far.logits(TEST.fields)).tobytes()
            assert near.saved().to_bytes() == far.saved().to_bytes()
        words = [await choose_words(backend, TRAIN, TEST) for backend in (here, there)]
        assert words[0].to_dict()["tried"] == words[1].to_dict()["tried"]


@pytest.mark.parametrize("shape", SMALL_SHAPES, indirect=True)
@pytest.mark.parametrize(("kind", "epochs"), [(FeatureLinear, 200), (FeatureBiLSTM, 30)])
async def test_a_head_learns_from_the_features_of_real_models(
    kind: type[FeatureLinear] | type[FeatureBiLSTM], epochs: int, backend: InProcessBackend
) -> None:
    """More of the training texts than the larger class has, of random models too; each is paid once, by its tokens."""
    budget = Budget()
    predictor = await kind(backend, budget=budget, epochs=epochs, width=32, learning_rate=0.01).fit(TRAIN)
    assert (await predictor.evaluate(TRAIN)).value > max(TRAIN.class_counts) / len(TRAIN) + 0.1
    counted = await backend.register(TextSet(input_texts(TASK, TRAIN.fields, template=False)))
    assert (budget.posted.calls, budget.posted.tokens) == (1, sum(counted.token_counts))


async def test_two_fields_are_read_with_a_space_between_them(backend: InProcessBackend) -> None:
    """As many tokens as the two written as one."""
    pairs = Task("pairs", template="{S1} ? <mask> , {S2}", labels=["no", "yes"], words=["bad", "great"])
    two, one = input_texts(pairs, [("It rains.", "It is wet.")], template=False), reviewed("It rains. It is wet.")
    registered = [await backend.register(TextSet(texts)) for texts in (two, one)]
    assert registered[0].token_counts == registered[1].token_counts


def reviewed(text: str) -> tuple[Text, ...]:
    return input_texts(TASK, [text], template=False)


async def test_features_over_http_are_paid_by_the_ledgers_count(tmp_path: Path) -> None:
    """A server with a price: what it billed is what was booked, each text once for each pool, whoever asks again."""
    async with load_backend("roberta-tiny", threads=1, price_usd_per_1k_tokens="0.5") as server:
        async with open_ledger(tmp_path / "spend.db") as ledger, open_cache(tmp_path / "c.cache") as cache:
            budget = Budget(usd="10", name="b", ledger=ledger)
            for kind in (FeatureBiLSTM, FeatureBiLSTM, FeatureLinear):
                predictor = await kind(server, budget=budget, cache=cache, epochs=2, width=8).fit(TRAIN, TEST)
                await predictor.evaluate(TEST)
        counted = await server.register(TextSet(input_texts(TASK, TRAIN.fields + TEST.fields, template=False)))
    tokens = 2 * sum(counted.token_counts)  # once for each pool
    assert (budget.posted.calls, budget.posted.tokens) == (2, tokens)
    assert budget.posted.nanousd == tokens * 500_000


async def test_the_calibrated_manual_prompt_is_above_chance_on_real_reviews(real_data: Path) -> None:
    """By more than two standard errors of the larger class's share, at each seed, where the plain prompt is not."""
    task = get_task("sst2")
    pool, test = read_folder(real_data, task, "train"), subsample(read_folder(real_data, task), 400, seed=0)
    chance = max(test.class_counts) / len(test)
    bar = chance + 2 * (chance * (1 - chance) / len(test)) ** 0.5
    async with InProcessBackend(threads=1) as backend:
        for seed in (13, 21, 42):
            train, _ = few_shot(pool, 16, seed=seed)
            plain, calibrated = [
                await (await ManualPrompt(backend, calibration=calibration).fit(train)).evaluate(test)
                for calibration in (None, "prior")
            ]
            assert plain.value < bar < calibrated.value


async def test_deep_tuning_lowers_the_loss_in_every_layer(shape: str, backend: InProcessBackend) -> None:
    """Each layer has had its turns, and its prompt is not nothing; what is chosen is better than no prompts there."""
    preset = replace(DEEP, population=4)  # 96 evaluations are a generation for each of roberta-large's 24 layers
    method = DeepBlackBoxTuning(backend, budget=Budget(evaluations=96), preset=preset, seed=1)
    train, _ = splits(shape)
    predictor = await method.fit(train)
    assert predictor.result is not None
    space = predictor.prompt.subspace
    assert isinstance(space, DeepSubspace)
    assert [part.layers for part in space.parts] == [(layer,) for layer in range(LAYERS[shape])]
    assert all(predictor.prompt.z[block].any() for block in space.blocks)
    nothing = replace(predictor.prompt, z=np.zeros_like(predictor.prompt.z))
    begun = await Predictor(predictor.client, TASK, nothing).evaluate(train, purpose="dev")
    assert predictor.result.choice.train_loss is not None
    assert predictor.result.choice.train_loss < begun.cross_entropy
