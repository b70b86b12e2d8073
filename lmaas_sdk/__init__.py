"""Tune language models that can only be called, within a budget that cannot be overrun."""

import logging

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.audit import state_ledger
from lmaas_sdk.accounting.budget import Budget, BudgetWarning, Reservation
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.accounting.ledger_reader import LedgerReader
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import PriceTable, read_price_table
from lmaas_sdk.accounting.prices import PriceTier
from lmaas_sdk.accounting.tokens import TokenCounts, count_tokens
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.accounting.verification import verify_ledger
from lmaas_sdk.backend import (
    ArrayStore,
    Backend,
    Capabilities,
    FeatureQuery,
    FeatureReply,
    Limits,
    ModelCard,
    Price,
    Registration,
    ScoreQuery,
    ScoreReply,
    TextRegistry,
    Usage,
)
from lmaas_sdk.client import Call, Client
from lmaas_sdk.errors import (
    AttemptTimeout,
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    BudgetExceeded,
    BudgetTooSmall,
    CircuitOpen,
    CorruptModel,
    EmptyClass,
    InvalidQuery,
    JournalCorrupt,
    JournalError,
    JournalInUse,
    JournalMismatch,
    LedgerConflict,
    LedgerError,
    LmaasError,
    MissingExtra,
    ModelLoadError,
    NoLanguageModelHead,
    NotFinite,
    OutcomeUnknown,
    PaymentRequired,
    PredictorFileError,
    PromptFileError,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    Retryable,
    RetryBudgetExhausted,
    RunFileError,
    ServerFault,
    ServerUntrusted,
    TaskError,
    UnknownDataset,
    UnknownPrice,
    UnknownTask,
    Unsupported,
    VerbalizerError,
)
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency, Outage
from lmaas_sdk.planning.counted import OnPaper
from lmaas_sdk.planning.estimate import estimate
from lmaas_sdk.planning.estimated import Estimate
from lmaas_sdk.planning.jobs import JobsSimulation, TuningJob
from lmaas_sdk.planning.learned import History, read_history
from lmaas_sdk.planning.ranges import Range
from lmaas_sdk.planning.recorded import RecordedLandscape, recorded_landscape
from lmaas_sdk.planning.scenario import Scenario, price_named
from lmaas_sdk.planning.simulate import SimulatedMoment, simulate, simulate_async, sweep, sweep_async
from lmaas_sdk.planning.simulate_jobs import simulate_jobs
from lmaas_sdk.planning.simulation import Simulation, Sweep
from lmaas_sdk.planning.synthetic import SyntheticLandscape, SyntheticTexts
from lmaas_sdk.registry import load_backend
from lmaas_sdk.reporting.report import write_report
from lmaas_sdk.reporting.report_runs import read_run
from lmaas_sdk.tasks import (
    Dataset,
    Task,
    Template,
    Verbalizer,
    few_shot,
    get_task,
    read_dataset,
    read_folder,
    register_metric,
    subsample,
)
from lmaas_sdk.texts import MASK, LabelWords, Piece, Text, TextSet
from lmaas_sdk.traffic.cache import MemoryCache, ReplyCache
from lmaas_sdk.traffic.cache_file import FileCache, open_cache
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.ask_tell import AskTell
from lmaas_sdk.tuning.deep_subspace import DeepSubspace
from lmaas_sdk.tuning.events import DevScored, Event, GenerationDone, Listener, Resumed, RunPlanned, Waiting
from lmaas_sdk.tuning.frozen import FrozenPrompt
from lmaas_sdk.tuning.group import TunerGroup
from lmaas_sdk.tuning.group_result import GroupResult
from lmaas_sdk.tuning.journal import Durability
from lmaas_sdk.tuning.listening import RunEvents
from lmaas_sdk.tuning.optimizer import Batch, MakeOptimizer, Optimizer
from lmaas_sdk.tuning.predictor import Evaluation, Predictor
from lmaas_sdk.tuning.presets import PRESETS, Preset
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.run_record import RunRecord
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.selection import Choice
from lmaas_sdk.tuning.subspace import Subspace
from lmaas_sdk.tuning.tuner import Tuner

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a program says where records go, or they go nowhere

__all__ = [
    "MASK",
    "PRESETS",
    "QUOTA_PRESETS",
    "Amounts",
    "ArrayStore",
    "AskTell",
    "AttemptTimeout",
    "AuthenticationFailed",
    "Backend",
    "BackendError",
    "BackendUnavailable",
    "Batch",
    "Budget",
    "BudgetExceeded",
    "BudgetTooSmall",
    "BudgetWarning",
    "Call",
    "Capabilities",
    "Choice",
    "CircuitOpen",
    "Client",
    "Conditions",
    "CorruptModel",
    "Dataset",
    "DeepSubspace",
    "DevScored",
    "Durability",
    "EmptyClass",
    "Estimate",
    "Evaluation",
    "Event",
    "Failures",
    "FeatureQuery",
    "FeatureReply",
    "FileCache",
    "FrozenPrompt",
    "GenerationDone",
    "GroupResult",
    "History",
    "InvalidQuery",
    "JobsSimulation",
    "JournalCorrupt",
    "JournalError",
    "JournalInUse",
    "JournalMismatch",
    "Label",
    "LabelWords",
    "Latency",
    "Ledger",
    "LedgerConflict",
    "LedgerError",
    "LedgerReader",
    "Limits",
    "Listener",
    "LmaasError",
    "MakeOptimizer",
    "MemoryCache",
    "MemoryLedger",
    "MissingExtra",
    "ModelCard",
    "ModelLoadError",
    "NoLanguageModelHead",
    "NotFinite",
    "OnPaper",
    "Optimizer",
    "Outage",
    "OutcomeUnknown",
    "PaymentRequired",
    "Piece",
    "Predictor",
    "PredictorFileError",
    "Preset",
    "Price",
    "PriceTable",
    "PriceTier",
    "PromptFileError",
    "ProtocolError",
    "QuotaExceeded",
    "Range",
    "RateLimited",
    "RecordedLandscape",
    "Registration",
    "ReplyCache",
    "Reservation",
    "Resumed",
    "RetryBudgetExhausted",
    "RetryPolicy",
    "Retryable",
    "RunEvents",
    "RunFileError",
    "RunPlanned",
    "RunRecord",
    "Scenario",
    "Scheduling",
    "ScoreQuery",
    "ScoreReply",
    "ServerFault",
    "ServerUntrusted",
    "SimulatedMoment",
    "Simulation",
    "SqliteLedger",
    "Subspace",
    "Sweep",
    "SyntheticLandscape",
    "SyntheticTexts",
    "Task",
    "TaskError",
    "Template",
    "Text",
    "TextRegistry",
    "TextSet",
    "TokenCounts",
    "TunedPrompt",
    "Tuner",
    "TunerGroup",
    "TuningJob",
    "TuningResult",
    "UnknownDataset",
    "UnknownPrice",
    "UnknownTask",
    "Unsupported",
    "Usage",
    "Verbalizer",
    "VerbalizerError",
    "Waiting",
    "count_tokens",
    "estimate",
    "few_shot",
    "find_price",
    "format_usd",
    "get_task",
    "load_backend",
    "open_cache",
    "open_ledger",
    "price_named",
    "read_dataset",
    "read_folder",
    "read_history",
    "read_price_table",
    "read_run",
    "recorded_landscape",
    "register_metric",
    "simulate",
    "simulate_async",
    "simulate_jobs",
    "state_ledger",
    "subsample",
    "sweep",
    "sweep_async",
    "verify_ledger",
    "write_report",
]
