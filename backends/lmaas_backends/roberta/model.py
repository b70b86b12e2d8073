"""Loading a masked language model: the bundled one, a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmaas_sdk.errors import CorruptModel, MissingExtra, ModelLoadError, NoLanguageModelHead

try:
    import torch
    import transformers
    from transformers.utils import logging as hub_logging
    from transformers.utils.hub import cached_file
except ImportError as missing:
    raise MissingExtra(
        f"a local model needs torch and transformers; {missing.name} is not installed: pip install 'lmaas-sdk[local]'"
    ) from missing

from lmaas_backends.roberta.vocabulary import Vocabulary, plain_tokenizer
from lmaas_backends.roberta.weights import Weights, collect_weights

__all__ = ["BUNDLED", "ENGINE_VERSION", "LoadedModel", "load_model", "verify_files"]

BUNDLED = "roberta-tiny"
ENGINE_VERSION = 1
_BUNDLED_FOLDER = Path(__file__).parent / "tiny"
_CHECKSUMS = "SHA256SUMS"
_FAMILIES = ("roberta", "bert")
_HEAD_PREFIXES = ("lm_head.", "cls.predictions.")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to compute with.

    Args:
        name: What it is called at a backend.
        weights: Its numbers, float32.
        vocabulary: Its tokenizer.
        heads, epsilon, first_position: As in `forward.Forward`.
        max_tokens: Most positions a text may take.
        tokenizer_digest: SHA-256 of tokenizer.json, in hex.
        embedding_std: Standard deviation of the word embeddings, to 6 significant digits.
    """

    name: str
    weights: Weights
    vocabulary: Vocabulary
    heads: int
    epsilon: float
    first_position: int
    max_tokens: int
    tokenizer_digest: str
    embedding_std: float

    @property
    def fingerprint(self) -> str:
        """Names the path that computes as torch is set now: equal fingerprints, equal bits."""
        return _fingerprint(self.weights)


def load_model(name_or_path: str, *, device: str = "cpu") -> LoadedModel:
    """Loads a RoBERTa or BERT masked language model.

    Args:
        name_or_path: `roberta-tiny` (bundled, checked against its digests), a folder, or a name on the hub.
        device: Where it computes: `cpu`, or `cuda` where there is one.

    Raises:
        CorruptModel: A file of the bundled model differs from its digest.
        NoLanguageModelHead: The checkpoint holds no masked-language-model head.
        ModelLoadError: There is no such model, it cannot be reached, or it is of another family.
    """
    source = _source(name_or_path)
    with _quiet():
        config = _read(transformers.AutoConfig, name_or_path, source)
        _check_config(name_or_path, config)
        tokenizer = _read(transformers.AutoTokenizer, name_or_path, source)
        model, loading = _read(
            transformers.AutoModelForMaskedLM, name_or_path, source, dtype=torch.float32, output_loading_info=True
        )
        tokenizer_json = _tokenizer_json(source, tokenizer)
    _check_complete(name_or_path, loading)
    weights = _weights(model, device)
    return _assemble(
        _name(name_or_path), config, weights, _vocabulary(name_or_path, tokenizer, tokenizer_json, weights)
    )


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


def _read(auto: Any, name: str, source: str, **options: object) -> Any:
    """One `from_pretrained`; what goes wrong there is told in this package's words."""
    try:
        return auto.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        tried = "the folder" if Path(source).is_dir() else "the local cache and the Hugging Face hub"
        raise ModelLoadError(
            f"cannot load model {name!r} with {auto.__name__} from {tried}: {' '.join(str(error).split())[:300]} "
            "(check the name, or download the model and give its folder)"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars and load reports off stderr; what matters of them is raised as an error."""
    log: Any = hub_logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def _check_config(name: str, config: Any) -> None:
    if config.model_type not in _FAMILIES:
        raise ModelLoadError(
            f"model {name!r} is of type {config.model_type!r}; this engine computes {' and '.join(_FAMILIES)} only"
        )
    required = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
    for option, value in required.items():
        if getattr(config, option, value) != value:
            raise ModelLoadError(
                f"model {name!r} has {option} = {getattr(config, option)!r}; this engine computes {value!r} only"
            )


def _check_complete(name: str, loading: dict[str, Any]) -> None:
    missing = sorted(loading["missing_keys"])
    if any(key.startswith(_HEAD_PREFIXES) for key in missing):
        raise NoLanguageModelHead(
            f"model {name!r} holds no masked-language-model head (missing: {', '.join(missing[:3])}, ...): it was "
            "saved as an encoder or a classifier; give the checkpoint it was made from"
        )
    if missing or loading["mismatched_keys"]:
        wrong = missing or sorted(map(str, loading["mismatched_keys"]))
        raise ModelLoadError(f"model {name!r} is incomplete: no fitting weights for {', '.join(wrong[:3])}")


def _tokenizer_json(source: str, tokenizer: Any) -> bytes:
    path = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if path is not None:
        return Path(path).read_bytes()
    serialized: str = tokenizer.backend_tokenizer.to_str()
    return serialized.encode()


def _weights(model: Any, device: str) -> Weights:
    try:
        place = str(torch.device(device))
        return collect_weights(
            model.state_dict(), model.config.model_type, model.config.num_hidden_layers, device=place
        )
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"device {device!r} cannot be used: {error}. Take device='cpu'") from error


def _vocabulary(name: str, tokenizer: Any, tokenizer_json: bytes, weights: Weights) -> Vocabulary:
    ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or None in ids or max(ids) >= len(weights.words):
        raise ModelLoadError(f"the tokenizer of model {name!r} has no usable start, end and mask tokens (ids {ids})")
    mask = backend.get_added_tokens_decoder()[tokenizer.mask_token_id]
    return Vocabulary(
        tokenizer=plain_tokenizer(backend.to_str()),
        tokenizer_json=tokenizer_json,
        size=len(weights.words),
        cls_id=ids[0],
        sep_id=ids[1],
        mask_id=ids[2],
        unk_id=tokenizer.unk_token_id,
        special_ids=frozenset(tokenizer.all_special_ids),
        mask=mask.content,
        strips_before_mask=mask.lstrip,
        strips_after_mask=mask.rstrip,
    )


def _assemble(name: str, config: Any, weights: Weights, vocabulary: Vocabulary) -> LoadedModel:
    # RoBERTa counts positions from the padding index on (its row is padding's own); BERT from 0.
    first_position = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return LoadedModel(
        name=name,
        weights=weights,
        vocabulary=vocabulary,
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        first_position=first_position,
        max_tokens=len(weights.positions) - first_position,
        tokenizer_digest=hashlib.sha256(vocabulary.tokenizer_json).hexdigest(),
        embedding_std=float(f"{weights.words.double().std(correction=0).item():.6g}"),
    )


def _name(name_or_path: str) -> str:
    path = Path(name_or_path).expanduser()
    return path.resolve().name if name_or_path != BUNDLED and path.is_dir() else name_or_path


def _fingerprint(weights: Weights) -> str:
    device = weights.words.device.type
    unit = torch.backends.cpu.get_cpu_capability() if device == "cpu" else torch.cuda.get_device_name()
    return (
        f"lmaas-roberta/{ENGINE_VERSION} float32 torch={torch.__version__} device={device}:{unit} "
        f"threads={torch.get_num_threads()} weights={weights.digest()[:16]}"
    )
