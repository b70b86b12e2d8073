"""Loading a masked language model: the bundled one, a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lmaas_backends.roberta.checkpoint import ACTIVATION, Checkpoint, read_checkpoint  # isort: split

import numpy as np
import torch
from numpy.typing import NDArray

from lmaas_backends.roberta.arithmetic import Arithmetic
from lmaas_backends.roberta.linears import Dtype, LinearsName, PlainLinear
from lmaas_backends.roberta.named_weights import digest_of, made_of
from lmaas_backends.roberta.vocabulary import Vocabulary, plain_tokenizer
from lmaas_backends.roberta.weight_reading import ReadWeights, read_weights
from lmaas_backends.roberta.weights import Weights
from lmaas_sdk.errors import CorruptModel, ModelLoadError

__all__ = ["BUNDLED", "ENGINE_VERSION", "LoadedModel", "load_model", "verify_files"]

BUNDLED = "roberta-tiny"
ENGINE_VERSION = 2
_BUNDLED_FOLDER = Path(__file__).parent / "tiny"
_CHECKSUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to compute with.

    Args:
        name: What it is called at a backend.
        weights: Its numbers.
        precise: The same in float32 throughout, where `arithmetic` has fewer bits; None: `weights` is that.
        weights_digest: SHA-256 of all numbers, in hex.
        arithmetic: How it is computed.
        vocabulary: Its tokenizer.
        heads, epsilon, first_position: As in `forward.Forward`.
        max_tokens: Most positions a text may take.
        tokenizer_digest: SHA-256 of tokenizer.json, in hex.
        embedding_std: Standard deviation of the word embeddings, to 6 significant digits.
        reread: Reads its numbers once more, as plain float32 that can be differentiated.
    """

    name: str
    weights: Weights
    precise: Weights | None
    weights_digest: str
    arithmetic: Arithmetic
    vocabulary: Vocabulary
    heads: int
    epsilon: float
    first_position: int
    max_tokens: int
    tokenizer_digest: str
    embedding_std: float
    reread: Callable[[], Weights]

    @property
    def fingerprint(self) -> str:
        """Names the path that computes: equal fingerprints, equal bits."""
        return (
            f"lmaas-roberta/{ENGINE_VERSION} {self.arithmetic.fingerprint} heads={self.heads} "
            f"epsilon={self.epsilon!r} first_position={self.first_position} activation={ACTIVATION} "
            f"tokenizer={self.vocabulary.digest()[:16]} weights={self.weights_digest[:16]}"
        )

    def tuned(self, arrays: Mapping[str, NDArray[np.float32]]) -> LoadedModel:
        """The same model with other weights, computed in the same way.

        Args:
            arrays: All of them, as `named_weights.by_name` names them; they are held, and copied.
        """
        tensors = _tensors(arrays, self.arithmetic.device)
        return replace(
            self,
            weights=made_of(tensors, self.arithmetic.make),
            precise=made_of(tensors, PlainLinear) if self.arithmetic.reduced else None,
            weights_digest=digest_of(arrays),
            reread=lambda: made_of(_tensors(arrays, self.arithmetic.device), PlainLinear),
        )


def load_model(
    name_or_path: str, *, device: str = "cpu", linears: LinearsName = "auto", dtype: Dtype = "float32"
) -> LoadedModel:
    """Loads a RoBERTa or BERT masked language model.

    Args:
        name_or_path: `roberta-tiny` (bundled, checked against its digests), a folder, or a name on the hub.
        device: Where it computes: `cpu`, or `cuda` where there is one.
        linears: How linear maps are computed; see `linears.choose_linears`.
        dtype: Of the linear maps: `float32`; or, for more speed and less memory at the price of rank errors among
            candidates that are close, `bfloat16`, or on CUDA `float16`. Queries may still ask for float32.

    Raises:
        CorruptModel: A file of the bundled model differs from its digest.
        NoLanguageModelHead: The checkpoint holds no masked-language-model head.
        ModelLoadError: There is no such model, it cannot be reached, a file of it is missing or damaged, it is of
            another family, or the device, the dtype or the linears cannot be used.
    """
    arithmetic = Arithmetic.choose(device=device, linears=linears, dtype=dtype)
    checkpoint = read_checkpoint(name_or_path, _source(name_or_path))
    vocabulary = _vocabulary(name_or_path, checkpoint)
    read = _read(name_or_path, checkpoint, arithmetic)
    reread = partial(_reread, name_or_path, arithmetic.plain, digest=read.digest)
    return _assemble(_name(name_or_path), checkpoint, read, arithmetic=arithmetic, vocabulary=vocabulary, reread=reread)


def _tensors(arrays: Mapping[str, NDArray[np.float32]], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array, device=device) for name, array in arrays.items()}


def verify_files(folder: Path) -> None:
    """Checks every file that a folder's SHA256SUMS lists.

    Raises:
        CorruptModel: A file is missing or differs; the message names it, the digest expected and the one found.
    """
    for line in (folder / _CHECKSUMS).read_text("ascii").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
        if found != expected:
            raise CorruptModel(
                f"{path} is damaged: its SHA-256 is to be {expected}, but is {found}: install the package again"
            )


def _source(name_or_path: str) -> str:
    """What transformers is given: a folder where there is one, else the name."""
    if name_or_path == BUNDLED:
        verify_files(_BUNDLED_FOLDER)
        return str(_BUNDLED_FOLDER)
    path = Path(name_or_path).expanduser()
    if name_or_path and path.is_dir():
        return str(path)
    if not name_or_path or path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise ModelLoadError(
            f"no model at {name_or_path!r}: there is no such folder. Give a folder with config.json, weights and "
            f"tokenizer, a name on the Hugging Face hub, or {BUNDLED!r}"
        )
    return name_or_path


def _read(name: str, checkpoint: Checkpoint, arithmetic: Arithmetic) -> ReadWeights:
    device = str(arithmetic.device)
    try:
        return read_weights(checkpoint, name=name, make=arithmetic.make, reduced=arithmetic.reduced, device=device)
    except RuntimeError as error:
        raise ModelLoadError(f"the weights do not fit on device {device!r}: {error}. Take device='cpu'") from error


def _reread(name_or_path: str, plain: Arithmetic, *, digest: str) -> Weights:
    read = _read(name_or_path, read_checkpoint(name_or_path, _source(name_or_path)), plain)
    if read.digest != digest:
        raise ModelLoadError(f"the weights of model {name_or_path!r} have changed since it was loaded: load it again")
    return read.weights


def _check_tokenizer(name: str, tokenizer: Any, rows: int) -> None:
    # Embeddings are often padded to a round number of rows, but never to twice the tokens.
    if not rows / 2 <= len(tokenizer) <= rows:
        raise ModelLoadError(
            f"the tokenizer of model {name!r} has {len(tokenizer)} tokens, but the model has embeddings for {rows}: "
            "put the model's own tokenizer files beside its weights"
        )


def _vocabulary(name: str, checkpoint: Checkpoint) -> Vocabulary:
    tokenizer, rows = checkpoint.tokenizer, checkpoint.word_rows
    _check_tokenizer(name, tokenizer, rows)
    ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or None in ids or max(ids) >= rows:
        raise ModelLoadError(f"the tokenizer of model {name!r} has no usable start, end and mask tokens (ids {ids})")
    mask = backend.get_added_tokens_decoder()[tokenizer.mask_token_id]
    return Vocabulary(
        tokenizer=plain_tokenizer(backend.to_str()),
        tokenizer_json=checkpoint.tokenizer_json,
        size=rows,
        cls_id=ids[0],
        sep_id=ids[1],
        mask_id=ids[2],
        unk_id=tokenizer.unk_token_id,
        special_ids=frozenset(tokenizer.all_special_ids),
        mask=mask.content,
        strips_before_mask=mask.lstrip,
        strips_after_mask=mask.rstrip,
    )


def _assemble(
    name: str,
    checkpoint: Checkpoint,
    read: ReadWeights,
    *,
    arithmetic: Arithmetic,
    vocabulary: Vocabulary,
    reread: Callable[[], Weights],
) -> LoadedModel:
    config = checkpoint.config
    # RoBERTa counts positions from the padding index on (its row is padding's own); BERT from 0.
    first_position = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return LoadedModel(
        name=name,
        weights=read.weights,
        precise=read.precise,
        weights_digest=read.digest,
        arithmetic=arithmetic,
        vocabulary=vocabulary,
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        first_position=first_position,
        max_tokens=len(read.weights.positions) - first_position,
        tokenizer_digest=hashlib.sha256(vocabulary.tokenizer_json).hexdigest(),
        embedding_std=read.embedding_std,
        reread=reread,
    )


def _name(name_or_path: str) -> str:
    path = Path(name_or_path).expanduser()
    return path.resolve().name if name_or_path != BUNDLED and path.is_dir() else name_or_path
