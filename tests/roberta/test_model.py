"""Models load from the package, a folder or a hub name, and what cannot be used is refused in clear words."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
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


def copied(folder: Path, to: Path) -> Path:
    """A copy of a model's folder, for a test to spoil."""
    shutil.copytree(folder, to / "copy")
    return to / "copy"


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def garbage_for_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"garbage")


def empty_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def cut_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save({"weight": torch.ones(9999)}, file)
    file.write_bytes(file.read_bytes()[:3000])


def weights_in_a_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def word_for_a_size(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8").replace('"hidden_size": 32', '"hidden_size": "wide"'), "utf-8")


def cut_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:1000])


class Hub(socketserver.ThreadingTCPServer):
    """A hub on loopback that hangs up on everyone; counts its callers."""

    daemon_threads = True
    callers = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.callers += 1


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """What the hub's client talks to."""
    with Hub(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


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
    """An empty folder lacks config.json, and the message says which folder to give."""
    with pytest.raises(ModelLoadError, match=r"has no config\.json: give the folder that save_pretrained wrote"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "spoil",
    [
        cut_weights,
        no_weights,
        garbage_for_a_pickle,
        empty_pickle,
        cut_pickle,
        weights_in_a_folder,
        word_for_a_size,
        cut_tokenizer,
    ],
)
def test_damaged_files_are_told_with_the_folder(
    spoil: Callable[[Path], None], bert_folder: Path, tmp_path: Path
) -> None:
    """Whatever kind of file is damaged: which folder, what to do, and no advice to switch a check off."""
    folder = copied(bert_folder, tmp_path)
    spoil(folder)
    with pytest.raises(ModelLoadError) as refusal:
        load_model(str(folder))
    assert f"cannot load model {str(folder)!r}" in str(refusal.value)
    assert str(refusal.value).endswith("(check that its files are whole, or copy or download them again)")
    assert "weights_only" not in str(refusal.value)


@pytest.mark.parametrize("changes", [{"num_attention_heads": 5}, {"num_hidden_layers": 0}])
def test_a_shape_that_no_model_has_is_refused(changes: dict[str, int], bert_folder: Path, tmp_path: Path) -> None:
    """Heads of unequal width, no layer."""
    folder = copied(bert_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")
    ((name, value),) = changes.items()
    with pytest.raises(ModelLoadError, match=f"{name} = {value}"):
        load_model(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, bert_folder: Path, tmp_path: Path) -> None:
    """One entry is enough, and its tensor is named."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(bert_folder)
    folder = copied(bert_folder, tmp_path)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.bias[3] = value
    model.save_pretrained(folder)
    with pytest.raises(
        ModelLoadError, match=r"tensor bert\.encoder\.layer\.1\.output\.dense\.bias of model .*infinity"
    ):
        load_model(str(folder))


def test_a_folder_without_tokenizer_files_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    """transformers would make an empty tokenizer of what is left."""
    folder = copied(bert_folder, tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    with pytest.raises(ModelLoadError, match=r"has no tokenizer: put the model's tokenizer\.json there"):
        load_model(str(folder))


def test_another_models_tokenizer_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    """One with far fewer tokens than the model has embeddings, and one with more."""
    folder = copied(bert_folder, tmp_path)
    few = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (folder / "vocab.txt").write_text("\n".join(few) + "\n", "utf-8")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"has 6 tokens, but the model has embeddings for \d+"):
        load_model(str(folder))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, folder)
    with pytest.raises(ModelLoadError, match=r"has 12288 tokens, but the model has embeddings for \d+"):
        load_model(str(folder))


def test_the_fingerprint_names_all_that_decides_the_bits(bert: Any) -> None:
    """Same weights, but other heads, epsilon, first position or tokenizer: another fingerprint."""
    loaded = bert.loaded
    others = [
        replace(loaded, heads=2),
        replace(loaded, epsilon=1e-5),
        replace(loaded, first_position=1),
        replace(loaded, vocabulary=replace(loaded.vocabulary, tokenizer_json=b"{}")),
        replace(loaded, vocabulary=replace(loaded.vocabulary, special_ids=frozenset({0}))),
        replace(loaded, vocabulary=replace(loaded.vocabulary, strips_before_mask=True)),
    ]
    assert len({model.fingerprint for model in (loaded, *others)}) == 7
    assert "activation=gelu" in loaded.fingerprint


def test_the_fingerprint_is_the_same_from_load_to_load(bert: Any, bert_folder: Path) -> None:
    """Nothing of one process or one object enters it."""
    assert load_model(str(bert_folder)).fingerprint == bert.loaded.fingerprint


def test_roberta_needs_a_padding_index(tmp_path: Path) -> None:
    """Without one nobody knows where its positions begin."""
    folder = copied(TINY, tmp_path)
    config = (folder / "config.json").read_text("utf-8")
    (folder / "config.json").write_text(config.replace('"pad_token_id": 1', '"pad_token_id": null'), "utf-8")
    with pytest.raises(ModelLoadError, match="pad_token_id = None"):
        load_model(str(folder))


def test_an_unreachable_hub_is_asked_once(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """No half minute of retries: it is logged that the hub is asked, then the first failure is told."""
    caplog.set_level(logging.INFO, logger="lmaas_backends")
    with pytest.raises(ModelLoadError, match=r"'nobody/no-such-model' from the local cache and the .*give its folder"):
        load_model("nobody/no-such-model")
    assert hub.callers == 1
    told = [record.getMessage() for record in caplog.records if record.name == "lmaas_backends"]
    assert told == [
        "asking the Hugging Face hub for model 'nobody/no-such-model'; its files are downloaded once",
    ]


def test_a_hub_name_that_cannot_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off line, a name that is not cached tells where it was looked for."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match=r"from the local cache and the Hugging Face hub: .*give its folder"):
        load_model("nobody/no-such-model")


@pytest.mark.parametrize("device", ["abacus", "meta", "hpu", "privateuseone", "mkldnn", "cpu:x", "cuda:999", ""])
def test_a_device_that_cannot_be_used_is_refused(device: str, bert_folder: Path) -> None:
    """Unknown, unsupported, without storage, or not there: it is named."""
    with pytest.raises(ModelLoadError, match=f"device '{device}' cannot be used"):
        load_model(str(bert_folder), device=device)


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
