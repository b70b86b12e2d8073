"""Where the tasks of the catalogue lie on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lmaas_sdk.errors import TaskError
from lmaas_sdk.tasks.dataset import Dataset, Task
from lmaas_sdk.tasks.readers import read_huggingface

__all__ = ["HUB_SETS", "HubSet", "read_hub"]


@dataclass(frozen=True, slots=True)
class HubSet:
    """A data set of the hub.

    Args:
        name: Its name, with its configuration after a colon.
        columns: Text columns in the order of the template's fields.
        label: The column of the class.
    """

    name: str
    columns: tuple[str, ...]
    label: str = "label"


HUB_SETS: Mapping[str, HubSet] = MappingProxyType(
    {
        "sst2": HubSet("nyu-mll/glue:sst2", ("sentence",)),
        "yelp": HubSet("fancyzhx/yelp_polarity", ("text",)),
        "agnews": HubSet("fancyzhx/ag_news", ("text",)),
        "dbpedia": HubSet("fancyzhx/dbpedia_14", ("content",)),  # without the title, as in Sun et al. 2022
        "mrpc": HubSet("nyu-mll/glue:mrpc", ("sentence1", "sentence2")),
        "snli": HubSet("stanfordnlp/snli", ("premise", "hypothesis")),
        "rte": HubSet("nyu-mll/glue:rte", ("sentence1", "sentence2")),
    }
)
"""The seven of the paper, by the name of the task; read-only."""


def read_hub(task: Task, split: str | None = None) -> Dataset:
    """A split of a task of the catalogue, from the hub.

    Args:
        task: Which.
        split: The split's name there; None: the one the task is evaluated on (`validation` where that is dev).

    Raises:
        MissingExtra: The package `datasets` is not installed.
        TaskError: It is not known where the task lies there, or it cannot be loaded.
    """
    if task.name not in HUB_SETS:
        raise TaskError(
            f"no data set of the hub is known for task {task.name!r}, only for {', '.join(HUB_SETS)}: read it with "
            "read_huggingface, or from a folder"
        )
    found = HUB_SETS[task.name]
    return read_huggingface(found.name, task, split=split, text_columns=found.columns, label_column=found.label)
