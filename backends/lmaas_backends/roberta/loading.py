"""From the options of a server to an engine that is ready to compute."""

from __future__ import annotations

from lmaas_backends.roberta.model import load_model  # isort: split

from lmaas_backends.roberta.engine import Engine

__all__ = ["load_engine"]


def load_engine(model: str, *, device: str = "cpu", threads: int | None = None) -> tuple[Engine, bytes]:
    """The engine of a model and its tokenizer.json.

    Args:
        model: As `load_model` takes it.
        device: Where it computes.
        threads: Threads that compute; None: torch's own choice. They are set before the first operation, and count in
            the card's fingerprint.

    Raises:
        MissingExtra: torch or transformers is not installed.
        ModelLoadError: The model cannot be loaded.
    """
    import torch  # noqa: PLC0415 - after model.py, which says which extra to install when there is no torch

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_model(model, device=device)
    return Engine(loaded), loaded.vocabulary.tokenizer_json
