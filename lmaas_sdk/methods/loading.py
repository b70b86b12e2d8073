"""Predictors of any method from their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import PredictorFileError
from lmaas_sdk.methods.black_box import BlackBoxPredictor
from lmaas_sdk.methods.connection import Connection
from lmaas_sdk.methods.deep import DeepBlackBoxPredictor
from lmaas_sdk.methods.ensemble import EnsemblePredictor
from lmaas_sdk.methods.feature_bilstm import FeatureBiLSTMPredictor
from lmaas_sdk.methods.feature_linear import FeatureLinearPredictor
from lmaas_sdk.methods.in_context import InContextPredictor
from lmaas_sdk.methods.manual import ManualPredictor
from lmaas_sdk.methods.method import MethodPredictor
from lmaas_sdk.methods.model_tuning import ModelTuningPredictor
from lmaas_sdk.methods.prompt_tuning import PromptTuningPredictor
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy

__all__ = ["Restore", "load_predictor", "register_predictor"]

Restore = Callable[[SavedPredictor, Client], MethodPredictor]
"""Makes a predictor of what its file holds, which may come from anyone; a ValueError says that it makes no sense."""

_OURS: Mapping[str, Restore] = {
    ManualPredictor.name: ManualPredictor.restored,
    InContextPredictor.name: InContextPredictor.restored,
    FeatureLinearPredictor.name: FeatureLinearPredictor.restored,
    FeatureBiLSTMPredictor.name: FeatureBiLSTMPredictor.restored,
    BlackBoxPredictor.name: BlackBoxPredictor.restored,
    EnsemblePredictor.name: lambda saved, client: EnsemblePredictor.restored(saved, client, _restored),
    DeepBlackBoxPredictor.name: DeepBlackBoxPredictor.restored,
    PromptTuningPredictor.name: PromptTuningPredictor.restored,
    ModelTuningPredictor.name: ModelTuningPredictor.restored,
}
_KNOWN = dict(_OURS)


def _restored(saved: SavedPredictor, client: Client) -> MethodPredictor:
    saved.check_fits(client.backend.card)
    if saved.method not in _KNOWN:
        raise PredictorFileError(
            f"no method {saved.method!r:.80} here: known are {', '.join(_KNOWN)}; add one's own with register_predictor"
        )
    return _KNOWN[saved.method](saved, client)


def load_predictor(
    path: str | Path,
    backend: Backend,
    *,
    budget: Budget | None = None,
    retry: RetryPolicy | None = None,
    quotas: str | Limits | Mapping[str, Limits] | None = None,
    cache: ReplyCache | bool = True,
) -> MethodPredictor:
    """The predictor that a file holds, of whatever method, on a model like the one it was made for.

    Args:
        path: Of the file.
        backend: The model; nothing is sent to it yet.
        budget: What predictions are paid from; None: no limit.
        retry, quotas, cache: As of `Client`.

    Raises:
        PredictorFileError: The file is missing or damaged, of an unknown format or method, or of another model.
        Unsupported: The backend lacks what the method needs: one that can only be called takes no tuned weights.
        TypeError: An option is of another type; the message names it.
    """
    client = Connection(backend, budget, retry, quotas, cache).client()
    saved = SavedPredictor.load(path)
    try:
        return _restored(saved, client)
    except ValueError as error:
        raise PredictorFileError(f"{path}: {error}") from error


def register_predictor(name: str, restore: Restore) -> None:
    """Makes predictors of a method of one's own known to `load_predictor`, by the name in their files.

    Registering a name again replaces one's own function, so a notebook's cell may run twice.

    Raises:
        ValueError: The name is empty or one of the package's.
        TypeError: `restore` cannot be called.
    """
    if not name.strip():
        raise ValueError(f"a method's name is a string that is not empty, not {name!r:.80}")
    if name in _OURS:
        raise ValueError(f"{name!r} is a method of the package: choose another name")
    if not callable(restore):
        raise TypeError(f"method {name!r} is restored by a function of (saved, client), not {restore!r:.80}")
    _KNOWN[name] = restore
