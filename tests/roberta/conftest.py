"""The models these tests compute with, beside Hugging Face's own as the reference."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
import transformers
from numpy.typing import NDArray

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_backends.roberta.model import LoadedModel, load_model
from lmaas_sdk.texts import MASK, LabelWords, Piece, Text, TextSet

TINY = Path(__file__).resolve().parents[2] / "backends" / "lmaas_backends" / "roberta" / "tiny"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Reference:
    """A model loaded by this package, and the same loaded by transformers alone."""

    loaded: LoadedModel
    hf: Any
    tokenizer: Any
    label_words: LabelWords

    def texts(self, *fields: str) -> TextSet:
        """Each field in the SST-2 template."""
        return TextSet(tuple(review(field) for field in fields), self.label_words)

    def ids(self, field: str) -> list[int]:
        """What the model's own tokenizer makes of the template written out."""
        return list(self.tokenizer(f"{field} . It was {self.tokenizer.mask_token} .")["input_ids"])

    def states(self, ids: Sequence[int], layout: str = "plain", vectors: NDArray[np.float32] | None = None) -> Any:
        """Hidden states of one text by transformers: embeddings and every layer, each (T, D).

        `add`: a hook adds `vectors` (L, D) to the embedding output from position 1; `cat`: it puts them in front.
        """

        def enter(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
            if vectors is None:
                return output
            prompt = torch.from_numpy(vectors)
            if layout == "cat":
                return torch.cat([prompt[None], output], dim=1)
            patched = output.clone()
            patched[0, 1 : 1 + len(prompt)] += prompt
            return patched

        length = len(ids) + (len(vectors) if vectors is not None and layout == "cat" else 0)
        hook = self.hf.base_model.embeddings.register_forward_hook(enter)
        try:
            with torch.no_grad():
                answer = self.hf.base_model(
                    input_ids=torch.tensor([ids]),
                    attention_mask=torch.ones(1, length, dtype=torch.long),
                    output_hidden_states=True,
                )
        finally:
            hook.remove()
        return [states[0] for states in answer.hidden_states]

    def mask_logits(
        self, ids: Sequence[int], layout: str = "plain", vectors: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Logits of all words at the mask: (vocabulary,)."""
        head = self.hf.lm_head if hasattr(self.hf, "lm_head") else self.hf.cls
        at = list(ids).index(self.tokenizer.mask_token_id)
        at += len(vectors) if vectors is not None and layout == "cat" else 0
        with torch.no_grad():
            logits: NDArray[np.float32] = head(self.states(ids, layout, vectors)[-1][at]).numpy()
        return logits


def review(field: str) -> Text:
    return (Piece("field", field), Piece("template", " . It was "), MASK, Piece("template", " ."))


def write_bert(folder: Path) -> None:
    """A small BERT with random weights, so large that logits differ, and a WordPiece vocabulary of 1,600 tokens."""
    signs = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    pieces = [*LETTERS, *"0123456789", *(f"##{sign}" for sign in LETTERS + "0123456789"), "##ing", "great", "bad"]
    syllables = [a + b + c for a in "bcdfglmnprst" for b in "aeiou" for c in LETTERS]
    words = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs, *pieces, *syllables]))
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words) + "\n", "utf-8")
    transformers.BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=96,
        initializer_range=0.2,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)


def write_roberta(folder: Path) -> None:
    """A small RoBERTa with random weights and the bundled model's tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, folder)
    torch.manual_seed(11)
    config = transformers.RobertaConfig(
        vocab_size=12288,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=98,
        type_vocab_size=1,
        initializer_range=0.2,
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small-roberta"
    folder.mkdir()
    write_roberta(folder)
    return folder


@pytest.fixture(params=["roberta-tiny", "small-roberta", "small-bert"])
def name(request: pytest.FixtureRequest, roberta_folder: Path, bert_folder: Path) -> str:
    """Each model in turn: a name, or a folder."""
    return {"small-roberta": str(roberta_folder), "small-bert": str(bert_folder)}.get(request.param, request.param)


@pytest_asyncio.fixture
async def backend(name: str) -> AsyncIterator[InProcessBackend]:
    async with InProcessBackend(name, threads=1) as opened:
        yield opened


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small-bert"
    folder.mkdir()
    write_bert(folder)
    return folder


def _reference(name: str, folder: Path, words: tuple[str, ...]) -> Reference:
    hf = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Reference(load_model(name), hf, transformers.AutoTokenizer.from_pretrained(folder), LabelWords(words))


@pytest.fixture(scope="session")
def roberta() -> Reference:
    """The bundled model."""
    return _reference("roberta-tiny", TINY, (" bad", " great"))


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> Reference:
    """A random BERT, loaded by its folder."""
    return _reference(str(bert_folder), bert_folder, ("bad", "great"))


@pytest.fixture(scope="session", params=["roberta", "bert"])
def model(request: pytest.FixtureRequest) -> Reference:
    """Each family in turn."""
    found: Reference = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def engine(model: Reference) -> Engine:
    return Engine(model.loaded)
