"""The engine's benchmark runs on a small model, and its figures follow from what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from benchmarks import engine, engine_figures, engine_memory, engine_models, engine_variants
from benchmarks.engine_models import Corpus, Recipe
from benchmarks.engine_variants import Variant
from lmaas_backends.roberta import flops
from lmaas_backends.roberta.flops import ModelShape
from lmaas_sdk import TextSet
from lmaas_sdk.errors import ModelLoadError

RECIPE = Recipe(ModelShape(2, 32, 64, 4, 13_000), candidates=2, rounds=1)
ALWAYS = {"naive", "reference", "plain"}  # the others depend on the processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a vocabulary larger than its tokenizer's was."""
    return engine_models.make_model(RECIPE, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A made-up SST-2 of 32 texts a class, of unequal lengths."""
    rows = [f"{'a fine and honest scene ' * (1 + number % 5)}number {number}\t{number % 2}" for number in range(64)]
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2" / "train.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n", "utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small products for the peak, and torch's threads as they were."""
    monkeypatch.setattr(engine_variants, "PEAK_SHAPES", ((64, 32, 48), (48, 64, 32)))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_variant_is_measured_against_naive(folder: Path, data: Path) -> None:
    """On both sets of texts, with one thread and with two; in float32 the engine's logits are naive's within the bar.

    So the hook puts the prompt where the engine puts it, and both read the same tokens.
    """
    torch.set_num_threads(2)
    rows = engine.measure("small", RECIPE, folder, rounds=1, data=data)
    names = {row["variant"] for row in rows}
    assert names >= ALWAYS
    expected = [
        (threads, lengths, name) for threads in (1, 2) for lengths in ("sst2", "table") for name in sorted(names)
    ]
    assert expected == sorted((row["threads"], row["lengths"], row["variant"]) for row in rows)
    assert all(row["max_error"] <= 1e-5 for row in rows if row["dtype"] == "float32")
    assert all(len(row["seconds"]) == 1 and min(row["seconds"]) > 0 for row in rows)
    assert {2, 4} == {row["candidates"] for row in rows}
    assert all(row["ratio"] > 0 and row["of_peak"] > 0 for row in rows)


def test_the_prompt_is_in_the_logits(folder: Path) -> None:
    """Naive's logits are others for another z, so equal logits say something."""
    padded = engine_variants.Padded(folder, engine_variants.subspace(32))
    naive, _ = padded.variants(engine_models.table_corpus(folder), 1)
    ones, zeros = (torch.full((1, engine_variants.D), value).numpy() for value in (1.0, 0.0))
    assert abs(naive.score(ones) - naive.score(zeros)).max() > 0.01


def test_texts_are_as_long_as_the_table_says(folder: Path) -> None:
    """The work that is counted is the work that is done."""
    corpus = engine_models.table_corpus(folder)
    assert tuple(80 + round(17 * index / 31) for index in range(32)) == corpus.lengths
    assert flops.Workload(corpus.lengths, words=2, candidates=3, prompt_tokens=50) == corpus.work(3)


def test_random_models_have_the_sizes_of_their_recipe(folder: Path) -> None:
    """As does the bundled one; and their tokenizers fill the vocabulary."""
    for where, shape in ((folder, RECIPE.shape), (engine_models.BUNDLED, engine_models.RECIPES["roberta-tiny"].shape)):
        config = json.loads((where / "config.json").read_text("utf-8"))
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
        assert ModelShape(*(config[name] for name in names)) == shape
        assert len(transformers.AutoTokenizer.from_pretrained(where)) == shape.vocab_size


def setting(**changes: Any) -> engine_figures.Setting:
    """One text of 60 positions on a model of which the engine does a known part of naive's operations."""
    corpus = Corpus("table", TextSet(()), ((0,) * 60,), (58,), (3, 4))
    values = {"model": "roberta-large", "shape": RECIPE.shape, "corpus": corpus, "candidates": 1, "threads": 1}
    return engine_figures.Setting(**(values | changes))


def variant(name: str, way: str, dtype: str = "float32") -> Variant:
    return Variant(name, way, dtype, 1, lambda Z: Z, lambda: None)


def test_figures_follow_from_the_rounds() -> None:
    """The median of each round's own ratio, not the ratio of medians; the peak of the variant's own dtype."""
    peaks = {"float32": 4e9, "bfloat16": 8e9}
    errors = {"naive": 0.0, "packed": 2e-6, "bf16": 3e-2}
    rounds = [
        engine_figures.Round({"naive": naive, "packed": packed, "bf16": 0.5}, peaks, errors | {"packed": error})
        for naive, packed, error in ((2.0, 1.0, 1e-6), (9.0, 3.0, 4e-6), (4.0, 1.0, 2e-6))
    ]
    variants = [variant("naive", "naive"), variant("packed", "engine"), variant("bf16", "engine", "bfloat16")]
    naive, packed, bf16 = engine_figures.figures_of(setting(), variants, rounds)
    work = setting().corpus.work(1)
    useful = flops.engine(RECIPE.shape, work)
    assert (1.0, 3.0, 8.0) == (naive["ratio"], packed["ratio"], bf16["ratio"])
    assert (3.0, 3.5, 5.0, 6.5) == (packed["bar"], packed["aim"], bf16["bar"], bf16["aim"])
    assert round(4.0 * 4e9 / useful, 2) == packed["ceiling"]
    assert round(4.0 * 8e9 / useful, 2) == bf16["ceiling"]
    assert (None, None, None) == (naive["ceiling"], naive["bar"], naive["aim"])
    assert (4e-6, 3e-2) == (packed["max_error"], bf16["max_error"])
    assert round(useful / 0.5 / 8e9, 3) == bf16["of_peak"]
    assert ("CPU", [1.0, 3.0, 1.0]) == (packed["clock"], packed["seconds"])


def test_the_share_of_the_peak_is_that_of_the_ceiling() -> None:
    """As the table says: ratio over ceiling, whatever the speeds."""
    shape = ModelShape(24, 1024, 4096, 16, 50_265)
    rounds = [engine_figures.Round({"naive": 0.06, "packed": 0.02}, {"float32": 9e11}, {"naive": 0.0, "packed": 0.0})]
    variants = [variant("naive", "naive"), variant("packed", "engine")]
    _, packed = engine_figures.figures_of(setting(shape=shape), variants, rounds)
    assert pytest.approx(packed["of_peak"], rel=0.01) == packed["ratio"] / packed["ceiling"]


def test_bars_that_are_no_ratios_stand_beside_what_was_measured() -> None:
    """The share of the peak at roberta-large, the worst error in float32 of the engine alone, and memory."""
    rounds = [
        engine_figures.Round(
            {"naive": 2.0, "packed": 1.0, "bf16": 1.0},
            {"float32": 4e9, "bfloat16": 8e9},
            {"naive": 0.0, "packed": 3e-6, "bf16": 0.02},
        )
    ]
    variants = [variant("naive", "naive"), variant("packed", "engine"), variant("bf16", "engine", "bfloat16")]
    rows = engine_figures.figures_of(setting(), variants, rounds)
    bars = engine_figures.other_bars(rows, [{"dtype": "bfloat16", "scoring_gb": 1.1}])
    assert [rows[1]["of_peak"], 3e-6, 1.1] == [bar["measured"] for bar in bars]
    assert [">= 0.75", "<= 1e-05", "<= 1.2"] == [bar["bar"] for bar in bars]


def test_a_table_leaves_out_what_is_not_there() -> None:
    """One line a row, columns in their order."""
    rows = [{"a_b": 1, "c": None}, {"a_b": 2.5, "c": "x"}]
    assert "| a b | c |\n|---|---|\n| 1 |  |\n| 2.5 | x |" == engine_figures.table(rows, ("a_b", "c"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_that_of_a_process_of_its_own(folder: Path) -> None:
    """Its variant and dtype are told; loading adds to the imports, and the peak is the most of all."""
    name = next(iter(engine_variants.engine_options()))
    found = engine_memory.memory_of_a_child(folder, name, threads=1, candidates=1)
    assert name == found["variant"]
    assert 0 < found["imported_gb"] <= found["loaded_gb"] <= found["peak_gb"]
    assert found["loaded_gb"] - 0.05 < found["scoring_gb"] <= found["peak_gb"]


def test_the_command_tells_its_figures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tables for people, and as JSON with what they depend on."""
    monkeypatch.setattr(engine, "RECIPES", {"small": RECIPE})
    monkeypatch.setattr("sys.argv", ["engine", "--models", "small", "--rounds", "1", "--json", str(tmp_path / "f")])
    torch.set_num_threads(1)
    engine.main()
    kept = json.loads((tmp_path / "f").read_text("utf-8"))
    assert ALWAYS <= {row["variant"] for row in kept["rows"]}
    assert {"processor", "torch", "transformers", "environment", "memory", "other_bars"} <= kept.keys()
    assert "| small | table | 1 | CPU | naive |" in capsys.readouterr().out
    assert torch.get_num_threads() == 1


def test_a_variant_that_the_machine_refuses_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And said to be; but not the plain one, which every machine computes."""
    refused = {"plain": {}, "other": {"device": "none"}}
    load = engine_variants.load_engine

    def picky(model: str, *, device: str = "cpu", **options: Any) -> Any:
        if device == "none":
            raise ModelLoadError("no such device")
        return load(model, device=device, **options)

    monkeypatch.setattr(engine_variants, "engine_options", lambda: refused)
    monkeypatch.setattr(engine_variants, "load_engine", picky)
    with engine_variants.engines(folder, 1) as loaded:
        assert ["plain"] == list(loaded)
    assert "other is left out: no such device" in capsys.readouterr().err
    refused["plain"] = {"device": "none"}
    with pytest.raises(ModelLoadError, match="no such device"), engine_variants.engines(folder, 1):
        pass
