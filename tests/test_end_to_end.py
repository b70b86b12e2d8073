"""The main job, for real: the bundled model served over HTTP, tuned within a budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from lmaas_sdk import (
    PRESETS,
    Backend,
    Budget,
    Predictor,
    ScoreQuery,
    Task,
    TunedPrompt,
    Tuner,
    few_shot,
    get_task,
    load_backend,
    read_run,
)
from lmaas_sdk import read_folder as read
from lmaas_sdk.cli.demo import demo_splits
from lmaas_sdk.errors import AuthenticationFailed, BackendUnavailable, VerbalizerError
from lmaas_sdk.testing import check_backend
from lmaas_sdk.texts import LabelWords

SMALL = replace(PRESETS["small-model"], population=10, dev_every=2)
PRICE = "0.0004"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Backend]:
    """The bundled model in a child process, with a price."""
    async with load_backend("roberta-tiny", threads=1, price_usd_per_1k_tokens=PRICE) as backend:
        yield backend


@pytest.mark.asyncio(loop_scope="module")
async def test_bundled_model_passes_the_conformance_check(served: Backend) -> None:
    """What every backend promises holds over HTTP."""
    await check_backend(served)


@pytest.mark.asyncio(loop_scope="module")
async def test_two_runs_of_one_seed_are_the_same_to_the_byte(served: Backend, tmp_path: Path) -> None:
    """Core and prompt file agree, and the prompt predicts the same from its file."""
    splits = demo_splits()
    runs = [
        await Tuner(served, budget=Budget(evaluations=40), preset=SMALL, seed=3).fit(splits.train, splits.dev)
        for _ in range(2)
    ]
    assert runs[0].core.to_bytes() == runs[1].core.to_bytes()
    files = [run.prompt.save(tmp_path / f"{number}.prompt").read_bytes() for number, run in enumerate(runs)]
    assert files[0] == files[1]
    texts = ["Warm bread and friendly people.", "It broke on the first day."]
    loaded = Predictor.tuned(served, TunedPrompt.load(tmp_path / "0.prompt"))
    np.testing.assert_array_equal(await loaded.logits(texts), await runs[0].predictor.logits(texts))


@pytest.mark.asyncio(loop_scope="module")
async def test_ledger_of_the_server_and_of_the_run_agree(served: Backend) -> None:
    """Tokens billed are those that were counted before the run, to the token."""
    splits = demo_splits()
    budget = Budget(usd="0.10")
    result = await Tuner(served, budget=budget, preset=SMALL).fit(splits.train, splits.dev, test=splits.dev)
    assert result.stopped == "budget"
    assert served.card.price is not None
    assert budget.posted.nanousd <= 100_000_000
    train = result.spend.by_purpose["train"]
    generation = train.tokens // len(result.generations)
    assert train.tokens == generation * len(result.generations)
    assert train.nanousd == train.tokens * 400


@pytest.mark.asyncio(loop_scope="module")
async def test_label_word_of_several_tokens_is_refused_unless_asked_for(served: Backend) -> None:
    """The default refuses it by name; first piece and mean are the user's choice."""
    rows = [("a fine thing", 1), ("a poor thing", 0)]
    for pieces, refused in (("whole", True), ("first", False), ("mean", False)):
        words = ["bad", "gloriousest"]
        task = Task("t", template="{t} It was <mask> .", labels=["no", "yes"], words=words, pieces=pieces)  # type: ignore[arg-type]
        fit = Tuner(served, budget=Budget(evaluations=10), preset=SMALL).fit(task.examples(rows))
        if refused:
            with pytest.raises(VerbalizerError, match="gloriousest"):
                await fit
        else:
            assert (await fit).evaluations == 10


@pytest.mark.asyncio(loop_scope="module")
async def test_z_of_the_wrong_size_is_refused(served: Backend) -> None:
    """A query cannot even be made with it; the message has both sizes."""
    space = SMALL.subspace(served.card, 1)
    with pytest.raises(ValueError, match=r"\(n_candidates, d\) with d = 50 here, not \(1, 49\)"):
        ScoreQuery(demo_splits().train.text_set, subspace=space, Z=np.zeros((1, 49), np.float32))


@pytest.mark.asyncio(loop_scope="module")
async def test_real_data_is_tuned_on(served: Backend, real_data: Path) -> None:
    """SST-2, 16 shots: the dev choice after 200 evaluations beats the manual prompt on sentences never seen."""
    task = get_task("sst2")
    train, dev = few_shot(read(real_data, task, "train"), 16, seed=42)
    test = read(real_data, task).subset(range(200))
    tuner = Tuner(served, budget=Budget(evaluations=200), preset=PRESETS["small-model"])
    result = await tuner.fit(train, dev, test=test, compare_manual=True)
    assert result.test is not None
    assert result.manual is not None
    assert result.test.value > result.manual.value


async def test_wrong_key_and_server_that_is_gone_are_named() -> None:
    """401 and a refused connection are different errors, and neither shows the key."""
    async with load_backend("roberta-tiny", threads=1) as backend:
        url = str(backend._http.url)  # type: ignore[attr-defined]
        with pytest.raises(AuthenticationFailed) as refused:
            async with load_backend(url, api_key="test-key-of-mallory"):
                pass
        assert "test-key-of-mallory" not in str(refused.value)
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1"):
        async with load_backend(url):
            pass


def test_demo_beats_the_manual_prompt_within_its_budget(tmp_path: Path) -> None:
    """`lmaas demo --json` ends with 0, and prints what it found; its files load."""
    command = [sys.executable, "-m", "lmaas_sdk.cli", "demo", "--json", "--out", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["tuned_accuracy"] > report["manual_accuracy"]
    assert report["cost_usd"] <= report["budget"]["usd"]
    assert report["evaluations"] <= report["budget"]["evaluations"]
    assert TunedPrompt.load(report["prompt_file"]).task.name == "demo-reviews"
    assert report["evaluations"] == read_run(report["run_file"]).evaluations
    assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")


def test_label_words_carry_their_space() -> None:
    """The words of the demo's task reach the model with a leading space."""
    assert demo_splits().train.text_set.label_words == LabelWords((" bad", " great"))
