"""The threads on which an engine computes, a chunk at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from lmaas_backends.roberta.device_memory import within_memory
from lmaas_backends.roberta.work import Step

__all__ = ["Lanes"]


@dataclass(slots=True)
class Lanes:
    """Threads that compute side by side, each alone with its chunk.

    Chunks go to threads whole, instead of all threads sharing every product: nobody waits for anybody in between, and
    how many threads there are decides no bit. torch's own number of threads becomes 1 for this process.

    Args:
        count: How many.
    """

    count: int
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.count, "lane")

    @property
    def places(self) -> int:
        """As `work.WorkLanes` says."""
        return self.count + 1

    def submit(self, step: Step) -> Future[None]:
        """Runs a step as soon as a thread is free."""
        return self._pool.submit(_inferring, step)

    def run(self, steps: Iterable[Step]) -> None:
        """Runs steps, of which the next is made while others run, and waits for all of them.

        Raises:
            Exception: Whatever the first step to fail raised, or `steps` itself; no step is begun after that.
        """
        room = threading.Semaphore(self.places)
        under_way: list[Future[None]] = []
        failed = threading.Event()

        def ended(done: Future[None]) -> None:
            if done.exception() is not None:
                failed.set()
            room.release()

        try:
            for step in steps:
                room.acquire()
                if failed.is_set():
                    break
                under_way.append(self.submit(step))
                under_way[-1].add_done_callback(ended)
        finally:
            errors = [future.exception() for future in under_way]
        for error in errors:
            if error is not None:
                raise error

    def everywhere(self, step: Step) -> None:
        """Runs a step once on every thread, while nothing else runs."""
        together = threading.Barrier(self.count)

        def once() -> None:
            together.wait()
            step()

        for future in [self.submit(once) for _ in range(self.count)]:
            future.result()

    def close(self) -> None:
        """Waits for what runs; nothing may be submitted any more."""
        self._pool.shutdown(wait=True)


@within_memory
def _inferring(step: Step) -> None:
    torch.set_num_threads(1)  # each time: the libraries below keep part of it for the whole process, not for a thread
    with torch.inference_mode():
        step()
