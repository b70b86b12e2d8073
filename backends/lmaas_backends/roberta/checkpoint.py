"""A checkpoint's files, in a folder or on the Hugging Face hub: found, read by transformers, and checked."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lmaas_sdk.errors import MissingExtra, ModelLoadError, NoLanguageModelHead

try:
    import torch
    import transformers
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError
    from torch import Tensor
    from transformers.utils import logging as hub_logging
    from transformers.utils.hub import cached_file
except ImportError as missing:
    raise MissingExtra(
        f"a local model needs torch and transformers; {missing.name} is not installed: pip install 'lmaas-sdk[local]'"
    ) from missing

from lmaas_backends.roberta.stored_state import find_state  # after what says which extra to install

__all__ = ["ACTIVATION", "Checkpoint", "read_checkpoint"]

ACTIVATION = "gelu"
_FAMILIES = ("roberta", "bert")
_HEAD_PREFIXES = ("lm_head.", "cls.predictions.")
_TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
_log = logging.getLogger("lmaas_backends")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What was read, complete and of a family that can be computed.

    Args:
        config, tokenizer: As transformers reads them.
        tokenizer_json: The bytes of tokenizer.json.
        take: Tells a tensor by its name, once.
        word_rows: Rows of the word embeddings.
    """

    config: Any
    tokenizer: Any
    tokenizer_json: bytes
    take: Callable[[str], Tensor]
    word_rows: int


def read_checkpoint(name: str, source: str) -> Checkpoint:
    """Reads a RoBERTa or BERT masked language model.

    Args:
        name: What messages call it.
        source: Its folder, or its name on the hub.

    Raises:
        NoLanguageModelHead: The checkpoint holds no masked-language-model head.
        ModelLoadError: A file is missing or damaged, the hub cannot be reached, or the model is of another family.
    """
    folder = Path(source) if Path(source).is_dir() else None
    if folder is None:
        _ask_hub(name, source)
    elif not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"the folder of model {name!r} has no config.json: give the folder that save_pretrained wrote, with "
            "config.json, weights and tokenizer"
        )
    with _quiet():
        config = _read(transformers.AutoConfig, name, source)
        _check_config(name, config)
        if folder is not None:
            _check_tokenizer_files(name, folder)
        tokenizer = _read(transformers.AutoTokenizer, name, source)
        tokenizer_json = _tokenizer_json(source, tokenizer)
        stored = find_state(source, config)
        if stored is not None:
            return Checkpoint(config, tokenizer, tokenizer_json, stored.take, config.vocab_size)
        state = _read_by_transformers(name, source)
    words = state[f"{config.model_type}.embeddings.word_embeddings.weight"]
    return Checkpoint(config, tokenizer, tokenizer_json, state.pop, len(words))


def _read_by_transformers(name: str, source: str) -> dict[str, Tensor]:
    """The tensors by way of a model, which also says what is wrong with a checkpoint."""
    model, loading = _read(
        transformers.AutoModelForMaskedLM, name, source, dtype=torch.float32, output_loading_info=True
    )
    _check_complete(name, loading)
    return dict(model.state_dict())


def _ask_hub(name: str, source: str) -> None:
    """Fails at once where the hub cannot be reached: its own client tries for half a minute before it says so."""
    try:
        if isinstance(try_to_load_from_cache(source, "config.json"), str):
            return
        _log.info("asking the Hugging Face hub for model %r; its files are downloaded once", name)
        get_hf_file_metadata(hf_hub_url(source, "config.json"))
    except HfHubHTTPError:
        return  # The hub is there; what it has against this name is told when the files are read.
    except Exception as error:
        raise _failure(repr(name), source, error=error) from error


def _read(auto: Any, name: str, source: str, **options: object) -> Any:
    """One `from_pretrained`; what goes wrong there is told in this package's words."""
    try:
        return auto.from_pretrained(source, **options)
    # What the readers of safetensors, pickles, JSON and tokenizers raise on a damaged file has no common base.
    except Exception as error:
        raise _failure(f"{name!r} with {auto.__name__}", source, error=error) from error


def _failure(what: str, source: str, *, error: Exception) -> ModelLoadError:
    tried = "the local cache and the Hugging Face hub"
    advice = "check the name and the connection, or download the model again and give its folder"
    if Path(source).is_dir():
        tried, advice = "the folder", "check that its files are whole, or copy or download them again"
    why = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, (SafetensorError, UnpicklingError, EOFError)):
        # An unpickler's own advice is to switch its safety off.
        why = "its weights are damaged or cut short" + (f": {why}" if isinstance(error, SafetensorError) else "")
    return ModelLoadError(f"cannot load model {what} from {tried}: {why} ({advice})")


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
    if config.num_hidden_layers < 1 or config.hidden_size % config.num_attention_heads:
        raise ModelLoadError(
            f"model {name!r} has num_hidden_layers = {config.num_hidden_layers}, hidden_size = {config.hidden_size} "
            f"and num_attention_heads = {config.num_attention_heads}: there is to be a layer, and every head an equal "
            "part of the width"
        )
    required = {"hidden_act": ACTIVATION, "position_embedding_type": "absolute", "is_decoder": False}
    for option, value in required.items():
        if getattr(config, option, value) != value:
            raise ModelLoadError(
                f"model {name!r} has {option} = {getattr(config, option)!r}; this engine computes {value!r} only"
            )
    if config.model_type == "roberta" and not isinstance(config.pad_token_id, int):
        raise ModelLoadError(
            f"model {name!r} has pad_token_id = {config.pad_token_id!r}: RoBERTa counts positions from it, so "
            "config.json is to give a number"
        )


def _check_tokenizer_files(name: str, folder: Path) -> None:
    """transformers makes an empty tokenizer where there is no file of one, and says nothing."""
    if not any(all((folder / part).is_file() for part in parts) for parts in _TOKENIZERS):
        raise ModelLoadError(
            f"the folder of model {name!r} has no tokenizer: put the model's tokenizer.json there (or vocab.txt, or "
            "vocab.json and merges.txt)"
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
