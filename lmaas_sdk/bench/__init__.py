"""Methods beside one another: configurations x tasks x seeds on one budget, in one results file."""

from lmaas_sdk.bench.benchmark import Benchmark, CellEnded
from lmaas_sdk.bench.cells import Cell, TaskData, cells_of, folder_reader, read_task
from lmaas_sdk.bench.configurations import CONFIGURATIONS, Configuration, Setup, black_box, get_configuration
from lmaas_sdk.bench.store import ResultsFile, read_results

__all__ = [
    "CONFIGURATIONS",
    "Benchmark",
    "Cell",
    "CellEnded",
    "Configuration",
    "ResultsFile",
    "Setup",
    "TaskData",
    "black_box",
    "cells_of",
    "folder_reader",
    "get_configuration",
    "read_results",
    "read_task",
]
