"""Tasks: texts, templates, label words, samples and metrics."""

from lmaas_sdk.tasks.alternatives import TaskKind, candidate_templates
from lmaas_sdk.tasks.catalogue import PAPER_TASKS, TASKS, get_task
from lmaas_sdk.tasks.dataset import Dataset, Example, Task
from lmaas_sdk.tasks.few_shot import few_shot, subsample
from lmaas_sdk.tasks.hub import HUB_SETS, HubSet, read_hub
from lmaas_sdk.tasks.metrics import METRICS, Metric, accuracy, check_metric, f1, get_metric, register_metric
from lmaas_sdk.tasks.readers import read_csv, read_dataset, read_folder, read_huggingface, read_jsonl, read_tsv
from lmaas_sdk.tasks.source import Source
from lmaas_sdk.tasks.template import Fields, Template
from lmaas_sdk.tasks.verbalizer import Verbalizer

__all__ = [
    "HUB_SETS",
    "METRICS",
    "PAPER_TASKS",
    "TASKS",
    "Dataset",
    "Example",
    "Fields",
    "HubSet",
    "Metric",
    "Source",
    "Task",
    "TaskKind",
    "Template",
    "Verbalizer",
    "accuracy",
    "candidate_templates",
    "check_metric",
    "f1",
    "few_shot",
    "get_metric",
    "get_task",
    "read_csv",
    "read_dataset",
    "read_folder",
    "read_hub",
    "read_huggingface",
    "read_jsonl",
    "read_tsv",
    "register_metric",
    "subsample",
]
