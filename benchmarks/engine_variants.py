"""The ways of computing that are measured against each other, and the peak of the processor's matrix products."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from benchmarks.engine_models import PROMPT_TOKENS, Corpus
from lmaas_backends.roberta.loading import load_engine
from lmaas_sdk import ScoreQuery, Subspace
from lmaas_sdk.errors import ModelLoadError

__all__ = [
    "D",
    "Padded",
    "Peak",
    "Variant",
    "engine_options",
    "engine_variant",
    "engines",
    "load_variant",
    "subspace",
]

D = 500
PEAK_SHAPES = ((2048, 4096, 1024), (2048, 2048, 2048), (1024, 4096, 1024))  # rows, inputs, outputs

_OPTIONS: dict[str, dict[str, str]] = {
    "plain": {"linears": "plain", "dtype": "float32"},
    "packed": {"linears": "packed", "dtype": "float32"},
    "bf16": {"linears": "packed", "dtype": "bfloat16"},
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A way of computing label logits.

    Args:
        name: In the figures.
        way: Its operations, as `flops.WAYS` names them.
        dtype: Of its products.
        threads: To which torch itself is set while it runs.
        score: Z (candidates, d) to logits (candidates, texts, labels).
        warm: Makes what is made once.
    """

    name: str
    way: str
    dtype: str
    threads: int
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    warm: Callable[[], object]


def subspace(hidden_size: int) -> Subspace:
    """The paper's: 500 dimensions, 50 prompt tokens."""
    return Subspace(d=D, prompt_tokens=PROMPT_TOKENS, hidden_size=hidden_size)


class Padded:
    """transformers' own model, as it is loaded by default: a padded batch a candidate, A z added by a hook.

    Args:
        folder: The model's.
        space: Of the prompts.
        device, dtype: Where, and in what numbers.
    """

    def __init__(self, folder: Path, space: Subspace, *, device: str = "cpu", dtype: str = "float32") -> None:
        numbers = getattr(torch, dtype)
        model: Any = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=numbers).eval()
        self._model = model.to(device)
        self._device, self._dtype = device, dtype
        self._projection = torch.from_numpy(space.matrix()).to(device)
        self._prompt: Tensor | None = None
        self._model.base_model.embeddings.register_forward_hook(self._enter)

    def variants(self, corpus: Corpus, threads: int) -> list[Variant]:
        """With the head at every position (`naive`) and at the mask alone (`reference`)."""
        ids = pad_sequence([torch.tensor(text) for text in corpus.ids], batch_first=True, padding_value=1)
        attends = torch.arange(ids.shape[1]) < torch.tensor(corpus.lengths)[:, None]
        batch = {"input_ids": ids.to(self._device), "attention_mask": attends.long().to(self._device)}
        at = (torch.arange(len(ids)).to(self._device), torch.tensor(corpus.mask_at).to(self._device))

        def naive() -> Tensor:
            logits: Tensor = self._model(**batch).logits
            return logits[at]

        def reference() -> Tensor:
            logits: Tensor = self._model.lm_head(self._model.base_model(**batch).last_hidden_state[at])
            return logits

        return [self._variant(way, corpus, threads=threads) for way in (naive, reference)]

    def _variant(self, way: Callable[[], Tensor], corpus: Corpus, *, threads: int) -> Variant:
        labels = torch.tensor(corpus.label_ids).to(self._device)

        @torch.inference_mode()
        def score(Z: NDArray[np.float32]) -> NDArray[np.float32]:
            found = []
            for z in torch.from_numpy(Z).to(self._device):
                self._prompt = torch.mv(self._projection, z).view(PROMPT_TOKENS, -1)
                found.append(way()[:, labels])
            logits: NDArray[np.float32] = torch.stack(found).float().cpu().numpy()
            return logits

        @torch.inference_mode()
        def warm() -> None:
            self._prompt = None
            self._model(input_ids=torch.tensor([corpus.ids[0]]).to(self._device))

        return Variant(way.__name__, way.__name__, self._dtype, threads, score, warm)

    def _enter(self, module: object, inputs: object, output: Tensor) -> Tensor:
        if self._prompt is None:
            return output
        patched = output.clone()
        patched[:, 1 : 1 + PROMPT_TOKENS] += self._prompt
        return patched


def engine_options() -> dict[str, dict[str, str]]:
    """What `load_engine` is given for each variant; an engine that knows no choice of products is `plain` alone."""
    if "linears" in inspect.signature(load_engine).parameters:
        return _OPTIONS
    return {"plain": {}}


def load_variant(folder: Path, name: str, threads: int) -> Any:
    """The engine as that variant has it."""
    load: Any = load_engine
    return load(str(folder), threads=threads, **engine_options()[name])


@contextmanager
def engines(folder: Path, threads: int) -> Iterator[dict[str, Any]]:
    """The engine, loaded once for each variant; what this machine cannot do is left out, as stderr says."""
    loaded: dict[str, Any] = {}
    try:
        for name in engine_options():
            try:
                loaded[name] = load_variant(folder, name, threads)
            except ModelLoadError as refusal:
                if name == "plain":
                    raise
                print(f"{name} is left out: {refusal}", file=sys.stderr)
        yield loaded
    finally:
        for engine in loaded.values():
            getattr(engine, "close", lambda: None)()


def engine_variant(name: str, engine: Any, corpus: Corpus, *, threads: int) -> Variant:
    """One of them on some texts; an engine with threads of its own leaves none to torch."""
    options = engine_options()[name]
    space = subspace(engine.card.hidden_size)
    counts = engine.register(corpus.texts, space).token_counts
    assert counts == corpus.lengths, f"the engine encodes these texts otherwise: {counts}, not {corpus.lengths}"

    def score(Z: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = engine.score(ScoreQuery(corpus.texts, subspace=space, Z=Z)).logits
        return logits

    return Variant(
        name=name,
        way="engine",
        dtype=options.get("dtype", "float32"),
        threads=1 if options else threads,
        score=score,
        warm=lambda: score(np.zeros((1, D), dtype=np.float32)),
    )


class Peak:
    """The most that matrix products reach here: oneDNN over packed weights, or torch's own where that is missing.

    Args:
        dtype: Of the products.
        threads: That share each product.
    """

    def __init__(self, dtype: str, threads: int) -> None:
        self.dtype, self.threads = dtype, threads
        generator = torch.Generator().manual_seed(0)
        self._products = [self._product(shape, generator) for shape in PEAK_SHAPES]

    def measure(self, clock: Callable[[], float]) -> float:
        """FLOP/s of the best product now."""
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            return max(operations / _elapsed(product, clock) for operations, product in self._products)

    def _product(self, shape: tuple[int, int, int], generator: torch.Generator) -> tuple[int, Callable[[], Tensor]]:
        rows, inputs, outputs = shape
        dtype = getattr(torch, self.dtype)
        x = torch.randn(rows, inputs, generator=generator).to(dtype)
        weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
        bias = torch.zeros(outputs, dtype=dtype)
        product = _packed(x, weight, bias)
        product()  # the first one prepares
        return 2 * rows * inputs * outputs, product


def _elapsed(product: Callable[[], Tensor], clock: Callable[[], float]) -> float:
    began = clock()
    product()
    return clock() - began


def _packed(x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    oneDNN = torch.ops.mkldnn
    try:
        packed = oneDNN._reorder_linear_weight(weight, len(x))
        oneDNN._linear_pointwise(x, packed, bias, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return lambda: functional.linear(x, weight, bias)
    return lambda: oneDNN._linear_pointwise(x, packed, bias, "none", [], "")
