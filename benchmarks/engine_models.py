"""The models and the texts with which the engine is measured.

Random weights are as fast as trained ones, so roberta-large, roberta-base and a small model are made here, each in a
folder that transformers and the engine both load. Their tokenizer is the bundled model's, filled up with tokens that no
text holds.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import lmaas_backends.roberta
from lmaas_backends.roberta.flops import ModelShape, Workload
from lmaas_sdk import Dataset, TextSet, few_shot, get_task, read_folder

__all__ = [
    "PROMPT_TOKENS",
    "RECIPES",
    "Corpus",
    "Recipe",
    "make_model",
    "sst2_corpus",
    "table_corpus",
    "table_examples",
]

BUNDLED = Path(lmaas_backends.roberta.__file__).parent / "tiny"
PROMPT_TOKENS = 50
_VOCABULARY = 50_265
_FIRST_BASE_TOKEN = 1000
_TEXTS, _SHOTS, _SEED = 32, 16, 42


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model to measure.

    Args:
        shape: Its sizes.
        candidates: That a round scores for every thread; a generation of 20 takes minutes on a large model.
        rounds: Where none are asked for.
        random: Made here; else the bundled model.
    """

    shape: ModelShape
    candidates: int
    rounds: int
    random: bool = True


RECIPES = {
    "roberta-large": Recipe(ModelShape(24, 1024, 4096, 16, _VOCABULARY), candidates=1, rounds=2),
    "roberta-base": Recipe(ModelShape(12, 768, 3072, 12, _VOCABULARY), candidates=1, rounds=3),
    "4x256": Recipe(ModelShape(4, 256, 1024, 4, _VOCABULARY), candidates=2, rounds=5),
    "roberta-tiny": Recipe(ModelShape(4, 128, 512, 2, 12_288), candidates=5, rounds=5, random=False),
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts to score under a prompt of 50 base tokens.

    Args:
        name: `table` or `sst2`.
        texts: What the engine is given.
        ids: What a model reads of each, base tokens included; found by the tokenizer alone, without the engine.
        mask_at: Where each has its mask.
        label_ids: Tokens of the label words.
    """

    name: str
    texts: TextSet
    ids: tuple[tuple[int, ...], ...]
    mask_at: tuple[int, ...]
    label_ids: tuple[int, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions of each text."""
        return tuple(map(len, self.ids))

    def work(self, candidates: int) -> Workload:
        """What scoring so many candidates on it takes."""
        return Workload(self.lengths, len(self.label_ids), candidates, PROMPT_TOKENS)


def make_model(recipe: Recipe, folder: Path) -> Path:
    """Writes a random model of that shape into a folder, or finds the bundled one; returns where it is."""
    if not recipe.random:
        return BUNDLED
    torch.manual_seed(_SEED)
    shape = recipe.shape
    config = transformers.RobertaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        # At any width, what a layer adds and the logits are then about 1, and every position matters to them.
        initializer_range=shape.hidden_size**-0.5,
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)
    _write_tokenizer(folder, shape.vocab_size)
    return folder


def _write_tokenizer(folder: Path, tokens: int) -> None:
    shutil.copy(BUNDLED / "tokenizer_config.json", folder)
    tokenizer = json.loads((BUNDLED / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({f"unused{index}": index for index in range(len(vocabulary), tokens)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")


def table_corpus(folder: Path) -> Corpus:
    """32 texts of 30 + round(17 i / 31) tokens, i = 0 .. 31, special tokens included, of words drawn by a seed."""
    corpus = _corpus("table", transformers.AutoTokenizer.from_pretrained(folder), table_examples(folder))
    assert list(corpus.lengths) == _table_lengths()
    return corpus


def table_examples(folder: Path, *, seed: int = _SEED) -> Dataset:
    """The texts of `table_corpus`, or by another seed others as long, as examples of SST-2 of either class in turn."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    words = [token[1:] for token in tokenizer.get_vocab() if re.fullmatch("Ġ[a-z]{3,}", token)]
    draw = np.random.default_rng(seed)
    around = len(_encode(tokenizer, sorted(words)[:1])[0]) - 1
    fields = [" ".join(draw.choice(sorted(words), length - around)) for length in _table_lengths()]
    return get_task("sst2").examples([(field, index % 2) for index, field in enumerate(fields)])


def _table_lengths() -> list[int]:
    return [PROMPT_TOKENS + 30 + round(17 * index / (_TEXTS - 1)) for index in range(_TEXTS)]


def sst2_corpus(folder: Path, data: Path) -> Corpus:
    """The 32 texts that a run on SST-2 trains on: 16 a class of data/SST-2/train.tsv."""
    train, _ = few_shot(read_folder(data, get_task("sst2"), "train"), _SHOTS, seed=_SEED)
    return _corpus("sst2", transformers.AutoTokenizer.from_pretrained(folder), train)


def _corpus(name: str, tokenizer: Any, dataset: Dataset) -> Corpus:
    ids = _encode(tokenizer, [fields[0] for fields in dataset.fields])
    words = tokenizer([f" {word}" for word in dataset.task.words], add_special_tokens=False)["input_ids"]
    assert all(len(word) == 1 for word in words)
    return Corpus(
        name=name,
        texts=dataset.text_set,
        ids=tuple(map(tuple, ids)),
        mask_at=tuple(text.index(tokenizer.mask_token_id) for text in ids),
        label_ids=tuple(word[0] for word in words),
    )


def _encode(tokenizer: Any, fields: Sequence[str]) -> list[list[int]]:
    """Ids of each text in the task's template, behind the base tokens that a prompt is added to."""
    written = [f" . {field} . It was {tokenizer.mask_token} ." for field in fields]
    base = list(range(_FIRST_BASE_TOKEN, _FIRST_BASE_TOKEN + PROMPT_TOKENS))
    return [[ids[0], *base, *ids[1:]] for ids in tokenizer(written)["input_ids"]]
