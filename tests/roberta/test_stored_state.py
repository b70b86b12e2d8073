"""Checkpoints read a tensor at a time, and those that are left to transformers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from roberta.conftest import TINY
from safetensors.torch import load_file, save_file

from lmaas_backends.roberta import checkpoint
from lmaas_backends.roberta.model import load_model
from lmaas_backends.roberta.stored_state import find_state


def folder_of(family: str, bert_folder: Path) -> Path:
    return {"roberta": TINY, "bert": bert_folder}[family]


def rewritten(source: Path, target: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A copy of a checkpoint with other tensors in its file."""
    shutil.copytree(source, target)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, target / "model.safetensors")
    return target


def digest(folder: Path) -> str:
    return load_model(str(folder)).weights_digest


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_both_ways_read_the_same_numbers(
    family: str, bert_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Read by transformers alone, a model has the same digest, and so have its shards and its pickle."""
    folder = folder_of(family, bert_folder)
    expected = digest(folder)
    assert find_state(str(folder), transformers.AutoConfig.from_pretrained(folder)) is not None
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    shards = tmp_path / "shards"
    shutil.copytree(folder, shards, ignore=shutil.ignore_patterns("model.safetensors"))
    model.save_pretrained(shards, max_shard_size="100KB")
    assert len([*shards.glob("*.safetensors")]) > 1
    assert find_state(str(shards), model.config) is not None
    assert expected == digest(shards)
    monkeypatch.setattr(checkpoint, "find_state", lambda source, config: None)
    assert [expected] * 2 == [digest(folder), digest(shards)]


def test_a_pickle_is_left_to_transformers(bert_folder: Path, tmp_path: Path) -> None:
    """There is no such file to read from, and the numbers are the same."""
    folder = tmp_path / "pickle"
    shutil.copytree(bert_folder, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.save(load_file(bert_folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert find_state(str(folder), transformers.AutoConfig.from_pretrained(folder)) is None
    assert digest(bert_folder) == digest(folder)


@pytest.mark.parametrize("index", ["[]", '{"weight_map": {"a": 1}}', "{", "{}"])
def test_a_broken_index_is_left_to_transformers(index: str, bert_folder: Path, tmp_path: Path) -> None:
    """It reads the single file beside it, or says what is wrong."""
    folder = tmp_path / "indexed"
    shutil.copytree(bert_folder, folder)
    (folder / "model.safetensors.index.json").write_text(index, "utf-8")
    assert find_state(str(folder), transformers.AutoConfig.from_pretrained(folder)) is None
    assert digest(bert_folder) == digest(folder)


def test_old_names_are_left_to_transformers(bert_folder: Path, tmp_path: Path) -> None:
    """gamma and beta, as the first BERTs have them."""
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(bert_folder / "model.safetensors").items()
    }
    folder = rewritten(bert_folder, tmp_path / "old", old)
    assert find_state(str(folder), transformers.AutoConfig.from_pretrained(folder)) is None
    assert digest(bert_folder) == digest(folder)


def test_another_shape_is_left_to_transformers(bert_folder: Path, tmp_path: Path) -> None:
    """Which says what does not fit."""
    weights = load_file(bert_folder / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    folder = rewritten(bert_folder, tmp_path / "cut", weights | {name: weights[name][:, :-1].clone()})
    assert find_state(str(folder), transformers.AutoConfig.from_pretrained(folder)) is None


def test_a_decoder_of_its_own_is_kept(bert_folder: Path, tmp_path: Path) -> None:
    """Where the configuration ties nothing, the head has another table than the embeddings."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(bert_folder)
    config = transformers.BertConfig(**(model.config.to_dict() | {"tie_word_embeddings": False}))
    torch.manual_seed(3)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bert_folder / name, tmp_path)
    weights = load_model(str(tmp_path)).weights
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights.head.decoder.weight, stored["cls.predictions.decoder.weight"])
    assert not torch.equal(weights.head.decoder.weight, weights.words)


def test_a_tied_decoder_is_there_once(bert_folder: Path) -> None:
    """It is the table of words itself, no copy."""
    weights = load_model(str(bert_folder)).weights
    assert weights.head.decoder.weight is weights.words


def test_half_precision_files_are_read_as_float32(bert_folder: Path, tmp_path: Path) -> None:
    """Their numbers, exactly."""
    halves = {name: tensor.half() for name, tensor in load_file(bert_folder / "model.safetensors").items()}
    folder = rewritten(bert_folder, tmp_path / "half", halves)
    words = load_model(str(folder)).weights.words
    assert torch.equal(words, halves["bert.embeddings.word_embeddings.weight"].float())


def test_no_model_of_transformers_is_loaded() -> None:
    """Its modules would stay in memory."""
    code = (
        "import sys; from lmaas_backends.roberta.model import load_model; load_model('roberta-tiny');"
        "print('transformers.models.roberta.modeling_roberta' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False" == found.stdout.strip()
