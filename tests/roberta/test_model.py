"""Models load from the package, a folder or a hub name, and what cannot be used is refused in clear words."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers

import lmaas_backends.roberta.model as model_module
from lmaas_backends.roberta.model import load_model, verify_files
from lmaas_sdk.errors import CorruptModel, ModelLoadError, NoLanguageModelHead

TINY = Path(model_module.__file__).parent / "tiny"


def test_the_bundled_model_is_checked_and_described(roberta: Any) -> None:
    """Name, digests, unit of the normal projection and the path that computes."""
    loaded = roberta.loaded
    assert loaded.name == "roberta-tiny"
    assert loaded.tokenizer_digest == hashlib.sha256((TINY / "tokenizer.json").read_bytes()).hexdigest()
    std = roberta.hf.get_input_embeddings().weight.double().std(correction=0).item()
    assert loaded.embedding_std == float(f"{std:.6g}")
    for part in (f"torch={torch.__version__}", "float32", torch.backends.cpu.get_cpu_capability(), "weights="):
        assert part in loaded.fingerprint


def test_every_shipped_file_is_in_the_checksums() -> None:
    """Configuration, weights and both tokenizer files are verified."""
    listed = [line.split("  ")[1] for line in (TINY / "SHA256SUMS").read_text("ascii").splitlines()]
    assert sorted(listed) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_named_with_both_digests(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped byte keeps the bundled model from loading."""
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder)
    damaged = bytearray((folder / name).read_bytes())
    expected = hashlib.sha256(damaged).hexdigest()
    damaged[100] ^= 1
    (folder / name).write_bytes(damaged)
    monkeypatch.setattr(model_module, "_BUNDLED_FOLDER", folder)
    with pytest.raises(CorruptModel) as refusal:
        load_model("roberta-tiny")
    found = hashlib.sha256(damaged).hexdigest()
    assert all(part in str(refusal.value) for part in (str(folder / name), expected, found))


def test_a_missing_file_is_corrupt(tmp_path: Path) -> None:
    """A listed file that is not there is named too."""
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  weights.bin\n", "ascii")
    with pytest.raises(CorruptModel, match=r"weights\.bin .* is no such file"):
        verify_files(tmp_path)


def test_a_folder_is_called_by_its_name(bert: Any) -> None:
    """Any other model goes through the same code by path."""
    assert bert.loaded.name == "small-bert"
    assert (bert.loaded.max_tokens, bert.loaded.first_position) == (96, 0)


def test_a_folder_with_a_vocabulary_only_gets_its_tokenizer_written(bert_folder: Path, tmp_path: Path) -> None:
    """Without tokenizer.json the fast tokenizer's own JSON stands for it."""
    folder = tmp_path / "old"
    shutil.copytree(bert_folder, folder)
    (folder / "tokenizer.json").unlink()
    loaded = load_model(str(folder))
    assert loaded.tokenizer_digest == hashlib.sha256(loaded.vocabulary.tokenizer_json).hexdigest()
    assert loaded.vocabulary.tokenizer_json.startswith(b"{")


def test_loading_is_quiet(bert_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar and no report, and transformers speaks again afterwards."""
    before = transformers.logging.get_verbosity()
    load_model(str(bert_folder))
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == before
    assert transformers.utils.logging.is_progress_bar_enabled()


@pytest.mark.parametrize("kind", [transformers.RobertaModel, transformers.RobertaForSequenceClassification])
def test_a_checkpoint_without_a_head_is_refused(kind: Any, tmp_path: Path) -> None:
    """An encoder and a classifier hold no masked-language-model head."""
    kind.from_pretrained(TINY).save_pretrained(tmp_path)
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    shutil.copy(TINY / "tokenizer_config.json", tmp_path)
    with pytest.raises(NoLanguageModelHead, match="no masked-language-model head"):
        load_model(str(tmp_path))


def test_another_family_is_refused_by_its_type(tmp_path: Path) -> None:
    """A DistilBERT is named as such before its weights are read."""
    transformers.DistilBertConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"of type 'distilbert'; this engine computes roberta and bert only"):
        load_model(str(tmp_path))


def test_another_activation_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    """A model that this forward would compute wrongly is not loaded."""
    transformers.BertConfig.from_pretrained(bert_folder, hidden_act="relu").save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="hidden_act = 'relu'"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("path", ["/no/such/folder", "./no-such-folder", "a/b/c", ""])
def test_a_missing_folder_is_refused_at_once(path: str) -> None:
    """What can only be a path is not looked for on the hub."""
    with pytest.raises(ModelLoadError, match="there is no such folder"):
        load_model(path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """An empty folder says what was tried."""
    with pytest.raises(ModelLoadError, match=r"cannot load model .* with AutoConfig from the folder"):
        load_model(str(tmp_path))


def test_a_hub_name_that_cannot_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off line, a name that is not cached tells where it was looked for."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match=r"from the local cache and the Hugging Face hub: .*give its folder"):
        load_model("nobody/no-such-model")


def test_a_device_that_is_not_there_is_refused(bert_folder: Path) -> None:
    """An unknown device is named."""
    with pytest.raises(ModelLoadError, match=r"device 'abacus' cannot be used"):
        load_model(str(bert_folder), device="abacus")


def test_without_torch_the_extra_is_named() -> None:
    """Where torch cannot be imported, the error says what to install."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lmaas_sdk.errors import MissingExtra\n"
        "try: from lmaas_backends.roberta.loading import load_engine\n"
        "except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'lmaas-sdk[local]'" in done.stdout
