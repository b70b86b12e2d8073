"""The models these tests compute with, beside Hugging Face's own as the reference."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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


@dataclass(frozen=True)
class Shape:
    """A model with random weights.

    Args:
        family: Of the architecture.
        seed: Of the weights.
        sizes: Of its configuration; the vocabulary is that of a small tokenizer.
    """

    family: Literal["roberta", "bert"]
    seed: int
    sizes: Mapping[str, float]

    def write(self, folder: Path) -> None:
        """The model and its tokenizer, as transformers keeps them."""
        torch.manual_seed(self.seed)
        if self.family == "roberta":
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(TINY / name, folder)
            config = transformers.RobertaConfig(vocab_size=12288, type_vocab_size=1, **self.sizes)
            transformers.RobertaForMaskedLM(config).save_pretrained(folder)
            return
        config = transformers.BertConfig(vocab_size=_write_word_pieces(folder), **self.sizes)
        transformers.BertForMaskedLM(config).save_pretrained(folder)


def _write_word_pieces(folder: Path) -> int:
    """A WordPiece tokenizer, and how many tokens it has: about 1,600."""
    signs = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    pieces = [*LETTERS, *"0123456789", *(f"##{sign}" for sign in LETTERS + "0123456789"), "##ing", "great", "bad"]
    syllables = [a + b + c for a in "bcdfglmnprst" for b in "aeiou" for c in LETTERS]
    words = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs, *pieces, *syllables]))
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words) + "\n", "utf-8")
    transformers.BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    return len(words)


# Of the small ones the weights are so large that logits differ.
_NARROW = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.2}
_WIDE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SHAPES = {
    "small-roberta": Shape("roberta", 11, {**_NARROW, "num_hidden_layers": 2, "max_position_embeddings": 98}),
    "small-bert": Shape("bert", 7, {**_NARROW, "num_hidden_layers": 3, "max_position_embeddings": 96}),
    "roberta-large": Shape("roberta", 3, {**_WIDE, "max_position_embeddings": 514}),
    "bert-base": Shape("bert", 3, {}),  # transformers' defaults are its shape
}
SMALL_SHAPES = ("roberta-tiny", "small-roberta", "small-bert")
LARGE_SHAPES = ("roberta-large", "bert-base")  # the paper's, of which the tests that are marked `long` take a few steps


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Writes a model when it is first asked for; all go at the end, as the large ones take gigabytes."""
    root = tmp_path_factory.mktemp("models")

    def written(shape: str) -> Path:
        folder = root / shape
        if not folder.exists():
            folder.mkdir()
            SHAPES[shape].write(folder)
        return folder

    yield written
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def roberta_folder(folder_of: Callable[[str], Path]) -> Path:
    return folder_of("small-roberta")


@pytest.fixture(scope="session")
def bert_folder(folder_of: Callable[[str], Path]) -> Path:
    return folder_of("small-bert")


@pytest.fixture(params=[*SMALL_SHAPES, *(pytest.param(one, marks=pytest.mark.long) for one in LARGE_SHAPES)])
def shape(request: pytest.FixtureRequest) -> str:
    """Each model in turn."""
    found: str = request.param
    return found


@pytest.fixture
def name(shape: str, folder_of: Callable[[str], Path]) -> str:
    """What opens it: a name, or a folder."""
    return str(folder_of(shape)) if shape in SHAPES else shape


@pytest.fixture
def passing_folder(tmp_path: Path) -> Iterator[Path]:
    """For files that may take gigabytes; it goes with the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


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
