"""Counted operations: against a published table, against torch's own counter, and at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lmaas_backends.roberta import flops
from lmaas_backends.roberta.flops import WAYS, ModelShape, Workload

LARGE = ModelShape(layers=24, hidden_size=1024, intermediate_size=4096, heads=16, vocab_size=50_265)
BASE = ModelShape(layers=12, hidden_size=768, intermediate_size=3072, heads=12, vocab_size=50_265)
TINY = ModelShape(layers=4, hidden_size=256, intermediate_size=1024, heads=4, vocab_size=50_265)

# TFLOP a generation of 20 candidates x 32 samples, 50 prompt tokens, as the table prints them: large, base, tiny.
TABLE = {
    "naive": ("44.6", "15.6", "2.02"),
    "reference": ("38.2", "10.8", ".43"),
    "unpadded": ("34.9", "9.9", ".38"),
    "mask query": ("33.5", "9.05", ".29"),
    "engine": ("33.1", "8.9", ".26"),
}
SHAPES = (LARGE, BASE, TINY)
FIGURES = [
    pytest.param(way, shape, printed, id=f"{way}-{shape.hidden_size}")
    for way, row in TABLE.items()
    for shape, printed in zip(SHAPES, row, strict=True)
]
CASES = [
    pytest.param(ModelShape(3, 32, 80, 4, 90), (13, 9, 11), id="three layers"),
    pytest.param(ModelShape(2, 48, 64, 3, 70), (7, 7, 7, 12), id="two layers"),
    pytest.param(ModelShape(1, 16, 32, 2, 40), (5,), id="one layer, one text"),
]


def generation(rounding: Callable[[float], int]) -> Workload:
    """The table's generation: texts of 30 + 17 i / 31 tokens, i = 0..31, behind 50 prompt tokens."""
    lengths = tuple(80 + rounding(17 * i / 31) for i in range(32))
    return Workload(lengths, words=2, candidates=20, prompt_tokens=50)


def fits(way: str, shape: ModelShape, printed: str, rounding: Callable[[float], int], slack: float) -> bool:
    """Whether a count, rounded, is the printed figure, or is within a share `slack` of it."""
    half_a_digit = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    tflop = WAYS[way](shape, generation(rounding)) / 1e12
    return abs(tflop - float(printed)) <= max(half_a_digit, slack * float(printed))


@pytest.mark.parametrize(("way", "shape", "printed"), FIGURES)
def test_counts_are_the_tables_to_its_last_digit(way: str, shape: ModelShape, printed: str) -> None:
    """With texts' lengths rounded up (2847 positions), every count is printed as the table has it."""
    assert fits(way, shape, printed, math.ceil, slack=0.0)


def test_counts_at_nearest_lengths_are_the_tables_within_one_percent() -> None:
    """With lengths rounded to the nearest (2832 positions) all but two are, or round to the last printed digit.

    The two are .284 for .29, and 8.805 for 8.9: the table holds what rounding up gives.
    """
    misfits = [
        (way, shape.hidden_size)
        for way, row in TABLE.items()
        for shape, printed in zip(SHAPES, row, strict=True)
        if not fits(way, shape, printed, round, slack=0.01)
    ]
    assert [("mask query", 256), ("engine", 768)] == misfits


class Counted:
    """A random RoBERTa of transformers, whose matrix products torch counts."""

    def __init__(self, shape: ModelShape, lengths: tuple[int, ...]) -> None:
        torch.manual_seed(3)
        config = transformers.RobertaConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.intermediate_size,
            max_position_embeddings=32,
            initializer_range=0.2,
        )
        # torch's counter does not see into the processor's fused attention
        self.hf: Any = transformers.RobertaForMaskedLM(config).eval()
        self.hf.set_attn_implementation("eager")
        self.shape, self.lengths = shape, lengths
        self.ids = [torch.randint(5, shape.vocab_size, (length,)) for length in lengths]
        self.mask_at = [length - 2 for length in lengths]

    def count(self, compute: Callable[[], object]) -> int:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            compute()
        return int(counter.get_total_flops())

    def padded(self) -> dict[str, Tensor]:
        ids = torch.nn.utils.rnn.pad_sequence(self.ids, batch_first=True, padding_value=1)
        return {"input_ids": ids, "attention_mask": (ids != 1).long()}

    def reference(self) -> Tensor:
        states = self.hf.base_model(**self.padded()).last_hidden_state
        return self.hf.lm_head(states[torch.arange(len(self.ids)), self.mask_at])  # type: ignore[no-any-return]

    def unpadded(self, words: list[int]) -> Tensor:
        states = [self.hf.base_model(input_ids=ids[None]).last_hidden_state[0] for ids in self.ids]
        return self.head(torch.stack([one[at] for one, at in zip(states, self.mask_at, strict=True)]), words)

    def mask_query(self, words: list[int]) -> Tensor:
        states = []
        for ids, at in zip(self.ids, self.mask_at, strict=True):
            hidden = self.hf.base_model.embeddings(input_ids=ids[None])
            for layer in self.hf.base_model.encoder.layer[:-1]:
                hidden = layer(hidden)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            states.append(self.last_layer(hidden[0], at))
        return self.head(torch.cat(states), words)

    def last_layer(self, hidden: Tensor, at: int) -> Tensor:
        """The layer's output at one position (1, D), no key and no value being projected."""
        layer, heads = self.hf.base_model.encoder.layer[-1], self.shape.heads
        attention, asking = layer.attention.self, hidden[at : at + 1]
        query = attention.query(asking).view(heads, 1, -1)
        absorbed = query @ attention.key.weight.view(heads, -1, self.shape.hidden_size)
        scores = absorbed @ hidden.T / math.sqrt(query.shape[-1])  # the key's bias adds the same to every score
        mixed = scores.softmax(dim=-1) @ hidden
        context = mixed @ attention.value.weight.view(heads, -1, self.shape.hidden_size).transpose(1, 2)
        attended = layer.attention.output(context.reshape(1, -1) + attention.value.bias, asking)
        return layer.output(layer.intermediate(attended), attended)  # type: ignore[no-any-return]

    def head(self, states: Tensor, words: list[int]) -> Tensor:
        head = self.hf.lm_head
        transformed = head.layer_norm(torch.nn.functional.gelu(head.dense(states)))
        return torch.nn.functional.linear(transformed, head.decoder.weight[words], head.bias[words])


@pytest.mark.parametrize(("shape", "lengths"), CASES)
def test_padded_ways_are_what_torch_counts_in_transformers(shape: ModelShape, lengths: tuple[int, ...]) -> None:
    """The naive and the reference's forward of transformers' own model, once for each of two candidates."""
    model, work = Counted(shape, lengths), Workload(lengths, words=2, candidates=2)
    assert 2 * model.count(lambda: model.hf(**model.padded())) == flops.naive(shape, work)
    assert 2 * model.count(model.reference) == flops.reference(shape, work)


@pytest.mark.parametrize("words", [[3, 8], list(range(40))])
@pytest.mark.parametrize(("shape", "lengths"), CASES)
def test_saving_ways_are_what_torch_counts_and_change_no_logit(
    shape: ModelShape, lengths: tuple[int, ...], words: list[int]
) -> None:
    """Texts one by one, with the last layer whole and with its keys and values absorbed: equal logits, counted."""
    model, work = Counted(shape, lengths), Workload(lengths, words=len(words))
    assert model.count(lambda: model.unpadded(words)) == flops.unpadded(shape, work)
    assert model.count(lambda: model.mask_query(words)) == flops.mask_query(shape, work)
    with torch.inference_mode():
        expected = model.reference()[:, words]
        torch.testing.assert_close(model.unpadded(words), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.mask_query(words), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt_tokens", [0, 4])
@pytest.mark.parametrize(("shape", "lengths"), CASES[:2])
def test_kept_projections_of_layer_0_are_saved(shape: ModelShape, lengths: tuple[int, ...], prompt_tokens: int) -> None:
    """A candidate saves query, key and value at all positions but the prompt's, which are projected once."""
    model = Counted(shape, lengths)
    work = Workload(lengths, words=2, candidates=3, prompt_tokens=prompt_tokens)
    attention = model.hf.base_model.encoder.layer[0].attention.self
    saved = torch.zeros(sum(lengths) - prompt_tokens, shape.hidden_size)
    counted = model.count(lambda: [part(saved) for part in (attention.query, attention.key, attention.value)])
    assert 3 * counted == flops.mask_query(shape, work) - flops.engine(shape, work)


def test_one_layer_saves_nothing_more() -> None:
    """Its layer 0 is the last one, where nothing but the mask's query is projected anyway."""
    shape, work = ModelShape(1, 16, 32, 2, 40), Workload((5, 6), words=2, prompt_tokens=3)
    assert flops.mask_query(shape, work) == flops.engine(shape, work)


@pytest.mark.parametrize("words", [2, 50_265])
@pytest.mark.parametrize("shape", [LARGE, BASE, TINY])
def test_no_way_takes_more_than_the_one_before(shape: ModelShape, words: int) -> None:
    """With a prompt and without, for label words and for all words."""
    for prompt_tokens in (0, 50):
        work = Workload((80, 80, 97), words=words, candidates=2, prompt_tokens=prompt_tokens)
        counts = [count(shape, work) for count in WAYS.values()]
        assert counts == sorted(counts, reverse=True)
