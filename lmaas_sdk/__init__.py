"""Tune language models that can only be called, within a budget that cannot be overrun."""

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import (
    Backend,
    Capabilities,
    FeatureQuery,
    FeatureReply,
    Limits,
    ModelCard,
    Price,
    ScoreQuery,
    ScoreReply,
    Usage,
)
from lmaas_sdk.errors import (
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    BudgetExceeded,
    BudgetTooSmall,
    LmaasError,
    QuotaExceeded,
    RateLimited,
    TaskError,
    UnknownTask,
    Unsupported,
)
from lmaas_sdk.registry import load_backend
from lmaas_sdk.tasks import Dataset, Task, Template, Verbalizer, few_shot, get_task, read_dataset, read_folder
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.predictor import Evaluation, Predictor
from lmaas_sdk.tuning.presets import PRESETS, Preset
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.subspace import Subspace
from lmaas_sdk.tuning.tuner import Tuner

__all__ = [
    "PRESETS",
    "Amounts",
    "AuthenticationFailed",
    "Backend",
    "BackendError",
    "BackendUnavailable",
    "Budget",
    "BudgetExceeded",
    "BudgetTooSmall",
    "Capabilities",
    "Dataset",
    "Evaluation",
    "FeatureQuery",
    "FeatureReply",
    "Limits",
    "LmaasError",
    "ModelCard",
    "Predictor",
    "Preset",
    "Price",
    "QuotaExceeded",
    "RateLimited",
    "RetryPolicy",
    "ScoreQuery",
    "ScoreReply",
    "Subspace",
    "Task",
    "TaskError",
    "Template",
    "TunedPrompt",
    "Tuner",
    "TuningResult",
    "UnknownTask",
    "Unsupported",
    "Usage",
    "Verbalizer",
    "few_shot",
    "get_task",
    "load_backend",
    "read_dataset",
    "read_folder",
]
