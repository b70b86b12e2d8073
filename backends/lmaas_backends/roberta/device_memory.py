"""A device's memory: how small things get there, and what is said when it is full."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from lmaas_sdk.errors import BackendUnavailable

__all__ = ["sent", "within_memory"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_FREED_S = 1.0  # by when others may have given some back
_log = logging.getLogger("lmaas_backends")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor's on a device; on the processor itself it is the same one.

    On CUDA the copy only joins the queue. A plain one would have this thread wait for all that computes, and nothing
    would be made ready meanwhile. Meant for small tensors: the memory that they leave from is kept.
    """
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def within_memory(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """Has a function say in this package's words that a device's memory is full, and give back what nobody uses.

    Nothing of such a call was billed, and it may be tried again: others may have ended by then.
    """

    @functools.wraps(work)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return work(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            told = " ".join(str(error).split())[:200]
        # Raised out here, with no cause: the frames of the failure hold the tensors that filled the memory.
        _log.warning("the device's memory is full: %s", told)
        torch.cuda.empty_cache()
        raise BackendUnavailable(
            f"the device's memory is full ({told}): ask for fewer texts or candidates in a call, serve with fewer bits "
            "(--dtype), or end what else fills it",
            retry_after_s=_FREED_S,
        )

    return checked
