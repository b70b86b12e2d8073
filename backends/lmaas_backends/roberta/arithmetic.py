"""In what numbers, where, and by whose products a model is computed: decided before its weights are read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import get_args

import torch

from lmaas_backends.roberta.linears import Dtype, LinearsName, MakeLinear, PlainLinear, choose_linears
from lmaas_backends.roberta.probe import bits_of
from lmaas_sdk.errors import ModelLoadError

__all__ = ["Arithmetic"]

_DEVICES = ("cpu", "cuda")
_log = logging.getLogger("lmaas_backends")


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a model is computed.

    Args:
        device: Where.
        dtype: Of the inputs, weights and outputs of linear maps.
        linears: The name of what computes them.
        make: Makes one of them.
    """

    device: torch.device
    dtype: torch.dtype
    linears: str
    make: MakeLinear

    @classmethod
    def choose(cls, *, device: str, linears: LinearsName, dtype: Dtype) -> Arithmetic:
        """Checks what was asked for against this machine.

        Raises:
            ModelLoadError: The device, the dtype or the linears cannot be used; the message says what can.
        """
        place, numbers = _device(device), _dtype(dtype, device)
        try:
            name, make = choose_linears(linears, numbers, place)
        except ValueError as error:
            raise ModelLoadError(str(error)) from error
        if numbers == torch.bfloat16 and place.type == "cpu" and name == "plain":
            _log.warning("without packed products bfloat16 saves memory here, but is slower than float32")
        if place.type == "cuda":
            _sum_in_float32()
        return cls(place, numbers, name, make)

    @property
    def reduced(self) -> bool:
        """Whether it has fewer bits than float32."""
        return self.dtype != torch.float32

    @property
    def plain(self) -> Arithmetic:
        """The same place, in float32 and by torch's own products, which can be differentiated."""
        return replace(self, dtype=torch.float32, linears="plain", make=PlainLinear)

    @property
    def fingerprint(self) -> str:
        """Names it: equal fingerprints, equal bits of equal models."""
        place = self.device
        numbers = str(self.dtype).removeprefix("torch.")
        named = f"{numbers} linears={self.linears} torch={torch.__version__} device={place.type}:"
        if place.type != "cpu":
            return named + torch.cuda.get_device_name(place)
        bits = bits_of(self.make, self.dtype, torch.get_num_threads())
        return f"{named}{torch.backends.cpu.get_cpu_capability()} bits={bits}"


def _device(name: str) -> torch.device:
    """The device, once it has held a number; `cuda` alone is the one that is current now."""
    if name.partition(":")[0] not in _DEVICES:
        raise ModelLoadError(f"device {name!r} cannot be used: this engine computes on {' or '.join(_DEVICES)}")
    try:
        place = torch.zeros(1, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise ModelLoadError(f"device {name!r} cannot be used: {why}. Take device='cpu'") from error
    return torch.device("cpu") if place.type == "cpu" else place  # there is one, whatever its number


def _dtype(name: str, device: str) -> torch.dtype:
    if name not in get_args(Dtype):
        raise ModelLoadError(f"dtype is one of {', '.join(get_args(Dtype))}, not {name!r}")
    if name == "float16" and not device.startswith("cuda"):
        raise ModelLoadError("dtype float16 is for CUDA: on a CPU take bfloat16, or float32")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _sum_in_float32() -> None:
    """Products of 16-bit numbers are summed in float32, and float32 is no TensorFloat-32."""
    products = torch.backends.cuda.matmul
    products.allow_fp16_reduced_precision_reduction = False
    products.allow_bf16_reduced_precision_reduction = False
    products.allow_tf32 = False
