"""Methods beside one another: configurations x tasks x seeds on one budget, in one results file."""

from lmaas_sdk.bench.benchmark import Benchmark, CellEnded
from lmaas_sdk.bench.cells import Cell, TaskData, cells_of, folder_reader, read_task
from lmaas_sdk.bench.configurations import CONFIGURATIONS, Configuration, Setup, black_box, get_configuration, trained
from lmaas_sdk.bench.deployment import DeploymentRow, measure_deployment
from lmaas_sdk.bench.report import BenchReport
from lmaas_sdk.bench.store import ResultsFile, open_results, read_results
from lmaas_sdk.bench.sweep_results import SweepResult
from lmaas_sdk.bench.sweeps import Sweep, sweep_of

__all__ = [
    "CONFIGURATIONS",
    "BenchReport",
    "Benchmark",
    "Cell",
    "CellEnded",
    "Configuration",
    "DeploymentRow",
    "ResultsFile",
    "Setup",
    "Sweep",
    "SweepResult",
    "TaskData",
    "black_box",
    "cells_of",
    "folder_reader",
    "get_configuration",
    "measure_deployment",
    "open_results",
    "read_results",
    "read_task",
    "sweep_of",
    "trained",
]
