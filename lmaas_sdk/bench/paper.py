"""Figures of others to stand beside: 16 shots a class, RoBERTa-large, another model than any that is measured here.

Sun et al. 2022 (arXiv:2201.03514); the rows of BBTv2 and BBT-RGB are from the papers that name them so
(arXiv:2205.11200, arXiv:2305.08088). There, prompt tuning and BBT begin from a pretrained prompt on MRPC, SNLI and RTE.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lmaas_sdk.tasks import PAPER_TASKS

__all__ = ["MODEL_OF_PAPER", "PAPER_ACCURACY", "PAPER_DEPLOYMENT", "TASK_TITLES"]

MODEL_OF_PAPER = "RoBERTa-large"

TASK_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "sst2": "SST-2",
        "yelp": "Yelp P.",
        "agnews": "AG's News",
        "dbpedia": "DBPedia",
        "mrpc": "MRPC",
        "snli": "SNLI",
        "rte": "RTE",
        "mr": "MR",
        "trec": "TREC",
    }
)
"""What tables call the tasks of the catalogue."""

_ROWS = {
    "Manual Prompt": (79.82, 89.65, 76.96, 41.33, 67.40, 31.11, 51.62, 62.56),
    "In-Context Learning": (79.79, 85.38, 62.21, 34.83, 45.81, 47.11, 60.36, 59.36),
    "Feature-Linear": (64.80, 79.20, 70.77, 87.78, 68.40, 42.01, 53.43, 66.63),
    "Feature-BiLSTM": (65.95, 74.68, 77.28, 90.37, 71.55, 46.02, 52.17, 68.29),
    "Prompt Tuning": (68.23, 61.02, 84.81, 87.75, 77.48, 64.55, 77.13, 74.42),
    "Model Tuning": (85.39, 91.82, 86.36, 97.98, 77.35, 54.64, 58.60, 78.88),
    "Black-Box Tuning": (89.56, 91.50, 81.51, 87.80, 75.51, 83.83, 77.62, 83.90),
    "BBTv2": (90.33, 92.86, 85.28, 93.64, 77.01, 57.27, 56.68, 79.01),
    "BBT-RGB": (92.89, 94.20, 85.60, 94.41, 79.49, 60.71, 61.82, 81.30),
}

PAPER_ACCURACY: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {name: dict(zip((*PAPER_TASKS, "average"), row, strict=True)) for name, row in _ROWS.items()}
)
"""By method: points by task, and "average"; of MRPC F1."""

PAPER_DEPLOYMENT: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "sst2": {"minutes": 10.1, "server_gb": 3.0, "upload_kb": 6.0, "download_kb": 0.25},
        "agnews": {"minutes": 23.3, "server_gb": 4.6, "upload_kb": 22.0, "download_kb": 1.0},
    }
)
"""Of black-box tuning with 8000 evaluations on one RTX 3090, by task."""
