"""What a method costs in deployment: the paper's second table (Sun et al. 2022, table 3), measured.

Server and user are two processes that share nothing but a connection, and the bytes of that are counted on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.bench.cells import ReadSplit, TaskData, folder_reader, read_task
from lmaas_sdk.bench.configurations import get_configuration
from lmaas_sdk.bench.deployment_row import DeploymentRow, Traffic, traffic_of
from lmaas_sdk.bench.max_length import CutDataset, cut_to_length
from lmaas_sdk.bench.memory import PeakMemory, peak_of_process
from lmaas_sdk.bench.processes import Child, served, user_process
from lmaas_sdk.bench.relay import counting_relay
from lmaas_sdk.bench.user_job import UserJob, UserReport
from lmaas_sdk.client import Client
from lmaas_sdk.errors import LmaasError, Unsupported
from lmaas_sdk.registry import load_backend
from lmaas_sdk.tasks import Task, get_task

__all__ = ["DeploymentRow", "Traffic", "measure_deployment"]

_TUNES_WEIGHTS = frozenset({"model-tuning"})
_QUERIES = ("train", "features")
_NO_SERVER = PeakMemory(None, "there is no server")


async def measure_deployment(  # noqa: PLR0913  (all but two by name)
    configurations: Sequence[str],
    task: Task | str,
    *,
    data: str | Path | ReadSplit,
    max_length: int,
    evaluations: int = 8000,
    seed: int = 42,
    shots: int = 16,
    test_rows: int | None = 1000,
    model: str = "roberta-tiny",
    threads: int | None = None,
    on_row: Callable[[DeploymentRow], None] | None = None,
    on_failure: Callable[[str, LmaasError], None] | None = None,
    is_over: Callable[[], bool] | None = None,
) -> list[DeploymentRow]:
    """Measures configurations one after the other, each with a server and a user's process of its own.

    A method that refuses to work over the API (`Unsupported`) is measured again with the model in the user's process.

    Args:
        configurations: Names, as of `get_configuration`; one with evaluations of its own (`NAME@N`) has those.
        task: On what; a name of the catalogue, or a task of one's own.
        data: A folder of data sets, or what reads a split.
        max_length: Most tokens of a sample; longer ones are cut beforehand, on the user's side.
        evaluations: The budget of a search.
        seed: Of the few-shot sample and of the methods.
        shots: Examples a class, for train and for dev each.
        test_rows: Most rows of the test set, drawn by seed 0; None: all.
        model: What `lmaas serve` serves and `load_backend` opens: a name or a folder.
        threads: That compute, in the server or in the user's process; None: as many as the model takes by itself.
        on_row: Called with each row once it is measured.
        on_failure: Called with the configuration of a row that failed and its error, upon which the next row is
            measured; None: the error is raised.
        is_over: Asked before each row; where it says so, no other is begun.

    Raises:
        ValueError: There is no such configuration; nothing was measured.
        TaskError: The data cannot be used.
        LmaasError: A server or a method failed, and there is no `on_failure`; the message is its own.
    """
    for name in configurations:
        get_configuration(name)
    if not configurations:
        return []
    task = get_task(task) if isinstance(task, str) else task
    read = folder_reader(data) if isinstance(data, (str, Path)) else data
    given = await asyncio.to_thread(read_task, read, task, shots=shots, test_rows=test_rows)
    plan = _Plan(await _cut(given, seed, max_length, model=model), max_length, model)
    rows = []
    for name in configurations:
        if is_over is not None and is_over():
            break
        try:
            row = await _measured(plan, plan.job(name, evaluations=evaluations, seed=seed, threads=threads))
        except LmaasError as error:
            if on_failure is None:
                raise
            on_failure(name, error)
            continue
        if on_row is not None:
            on_row(row)
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all rows have in common."""

    sets: dict[str, CutDataset]
    max_length: int
    model: str

    def job(self, configuration: str, *, evaluations: int, seed: int, threads: int | None) -> UserJob:
        """What a user does who has the model in the own process."""
        own = get_configuration(configuration).evaluations
        data = {name: cut.dataset for name, cut in self.sets.items()}
        return UserJob(configuration, self.model, True, threads, own or evaluations, seed, **data)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of one user from outside: the server's peak memory, before and after `fit` and at the end, and the
    traffic."""

    report: UserReport
    idle: PeakMemory = _NO_SERVER
    after_fit: PeakMemory = _NO_SERVER
    peak: PeakMemory = _NO_SERVER
    traffic: dict[str, Traffic] = field(default_factory=dict)


async def _cut(given: TaskData, seed: int, max_length: int, *, model: str) -> dict[str, CutDataset]:
    train, dev = await asyncio.to_thread(given.drawn, seed)
    sets = {"train": train, "dev": dev, "test": given.test}
    async with load_backend(model) as backend:
        client = Client(backend, Budget())
        return {name: await cut_to_length(client, dataset, max_length) for name, dataset in sets.items()}


async def _measured(plan: _Plan, job: UserJob) -> DeploymentRow:
    try:
        seen = await _as_a_service(job)
    except Unsupported:
        async with user_process(None) as user:
            await _fitted(user, job)
            return _row(plan, job, _Seen(await _tested(user)))
    return _row(plan, replace(job, in_process=False), seen)


async def _as_a_service(job: UserJob) -> _Seen:
    options = [] if job.threads is None else [f"--threads={job.threads}"]
    async with served(job.model, options) as server, counting_relay(server.url) as relay:
        idle = await asyncio.to_thread(peak_of_process, server.pid)
        async with user_process(server.api_key) as user:
            await _fitted(user, replace(job, model=relay.url, in_process=False))
            of_fit = len(relay.exchanges)
            after_fit = await asyncio.to_thread(peak_of_process, server.pid)
            report = await _tested(user)
            peak = await asyncio.to_thread(peak_of_process, server.pid)
        return _Seen(report, idle, after_fit, peak, traffic_of(relay.exchanges, report.purposes, of_fit=of_fit))


async def _fitted(user: Child, job: UserJob) -> None:
    await user.tell(job.to_wire())
    await user.told("fitted")


async def _tested(user: Child) -> UserReport:
    await user.tell()
    return UserReport.from_wire(await user.told("report"))


def _row(plan: _Plan, job: UserJob, seen: _Seen) -> DeploymentRow:
    report = seen.report
    queries = _queries(job, seen)
    asked = [seen.traffic[purpose] for purpose in _QUERIES if purpose in seen.traffic]
    sizes = {f"{name}_rows": len(cut.dataset) for name, cut in plan.sets.items()}
    cuts = {f"cut_{name}": cut.cut for name, cut in plan.sets.items()}
    return DeploymentRow(
        configuration=job.configuration,
        method=report.method,
        task=job.train.task.name,
        model=plan.model,
        max_length=plan.max_length,
        seed=job.seed,
        threads=job.threads,
        deployment_efficient=report.method not in _TUNES_WEIGHTS,
        as_a_service=not job.in_process,
        metric=report.metric,
        test_metric=report.test_metric,
        training_time_s=report.training_time_s,
        user_memory_bytes=report.peak.size_bytes,
        server_memory_bytes=seen.peak.size_bytes,
        user_memory_fit_bytes=report.peak_after_fit.size_bytes,
        server_memory_fit_bytes=seen.after_fit.size_bytes,
        user_memory_idle_bytes=report.peak_before_fit.size_bytes,
        server_memory_idle_bytes=seen.idle.size_bytes,
        memory_source=f"user: {report.peak.source}; server: {seen.peak.source}",
        queries=queries,
        upload_bytes=sum(one.up_bytes for one in asked) / queries if queries else None,
        download_bytes=sum(one.down_bytes for one in asked) / queries if queries else None,
        traffic=seen.traffic,
        attempts=sum(report.attempts.values()) if not job.in_process else 0,
        evaluations=report.evaluations,
        tokens=report.tokens,
        kept_bytes=report.kept_bytes,
        user_loads_torch=report.loads_torch,
        shortened=report.shortened,
        **sizes,
        **cuts,
    )


def _queries(job: UserJob, seen: _Seen) -> float:
    """How many times the whole training set was asked about: evaluations, or features of as many texts."""
    if "train" in seen.traffic:
        return seen.report.evaluations
    return (len(job.train) + len(job.dev)) / len(job.train) if "features" in seen.traffic else 0.0
