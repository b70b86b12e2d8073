"""What the server tells a monitoring system, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["CONTENT_TYPE", "ServerMetrics", "UsageByName"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
UsageByName = Mapping[tuple[str, str], Mapping[str, int]]
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_POSITIONS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_KEEP = 0.98  # of the past, with each unit
_USED = {
    "calls": "Calls that were billed",
    "input_tokens": "Input tokens that were billed",
    "nanousd": "Nano-dollars that were billed",
    "replayed": "Requests that were answered with what another is billed for",
}


class ServerMetrics:
    """The figures of one server process; an `Observer` of its batcher.

    Args:
        lanes: Threads that compute.
        queue: Tells the calls and tokens that wait or compute now.
    """

    def __init__(self, lanes: int, queue: Callable[[], tuple[int, int]]) -> None:
        self._registry = CollectorRegistry()
        self._usage: UsageByName = {}
        registry = self._registry
        self._requests = Counter(
            "lmaas_requests", "Requests, by path and status of the answer", ["path", "status"], registry=registry
        )
        self._answered = Histogram(
            "lmaas_request_seconds",
            "From a request's head to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._waited = Histogram(
            "lmaas_queue_seconds",
            "From a call's coming to its first unit being taken up",
            buckets=_SECONDS,
            registry=registry,
        )
        self._prepared = Histogram(
            "lmaas_batch_seconds", "Time of making units of a call ready", buckets=_SECONDS, registry=registry
        )
        self._computed = Histogram(
            "lmaas_compute_seconds", "Time of computing a unit of a call", buckets=_SECONDS, registry=registry
        )
        self._positions = Histogram("lmaas_batch_tokens", "Positions in a unit", buckets=_POSITIONS, registry=registry)
        self._tokens = Counter(
            "lmaas_computed_tokens", "Positions that were computed, billed or not", registry=registry
        )
        self._flops = Counter(
            "lmaas_useful_flop", "Floating point operations that the answers needed", registry=registry
        )
        self._speed = Gauge(
            "lmaas_lane_flops", "Useful FLOP/s of a thread while it computes, over recent units", registry=registry
        )
        self._recent = (0.0, 0.0)
        Gauge("lmaas_lanes", "Threads that compute side by side", registry=registry).set(lanes)
        self.watch("lmaas_queue_calls", "Calls that wait or compute now", lambda: queue()[0])
        self.watch("lmaas_queue_tokens", "Tokens of the calls that wait or compute now", lambda: queue()[1])
        self._registry.register(self)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Tells one more figure, which is read when it is asked for."""
        Gauge(name, what, registry=self._registry).set_function(read)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request was answered; `path` is one of a few, as every one makes a series."""
        self._requests.labels(path, str(status)).inc()
        self._answered.labels(path).observe(seconds)

    def waited(self, seconds: float) -> None:
        """A call's first unit was taken up after so long."""
        self._waited.observe(seconds)

    def prepared(self, seconds: float) -> None:
        """Units were made ready within so long."""
        self._prepared.observe(seconds)

    def computed(self, positions: int, flops: int, seconds: float) -> None:
        """A unit was computed."""
        self._positions.observe(positions)
        self._computed.observe(seconds)
        self._tokens.inc(positions)
        self._flops.inc(flops)
        recent_flops, recent_s = (_KEEP * old + new for old, new in zip(self._recent, (flops, seconds), strict=True))
        self._recent = (recent_flops, recent_s)
        if recent_s > 0:
            self._speed.set(recent_flops / recent_s)

    def page(self, usage: UsageByName) -> bytes:
        """Everything, with the usage of each API key by its name and endpoint."""
        self._usage = usage
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The usage by name, for the registry."""
        for column, what in _USED.items():
            family = CounterMetricFamily(
                f"lmaas_usage_{column}", f"{what}, by name of the API key", labels=["key", "endpoint"]
            )
            for (name, endpoint), used in self._usage.items():
                family.add_metric([name, endpoint], used[column])
            yield family
