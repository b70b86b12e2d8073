"""Linear maps behind one small interface, and the choice of the library that computes them.

`plain` is `torch.nn.functional.linear`. `packed` is oneDNN over weights that were laid out for it beforehand: as fast
as the processor goes where torch's own library for float32 is not (on AMD above all), and with GELU fused in. Its
operators are private to torch, so they are tried out once, and left alone where they are missing or wrong.
"""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Dtype", "Linear", "LinearsName", "MakeLinear", "PackedLinear", "PlainLinear", "choose_linears"]

LinearsName = Literal["auto", "packed", "plain"]
Dtype = Literal["float32", "bfloat16", "float16"]
_log = logging.getLogger("lmaas_backends")

_X86 = ("x86_64", "AMD64")
_UNITS = ("AVX2", "AVX512")
# Of the probe: a wide product, a narrow one, and sizes that fill no vector register.
_PROBED_SHAPES = ((96, 256, 192), (33, 128, 512), (7, 50, 19))
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}


class Linear(Protocol):
    """A linear map of the last axis, for inputs (n, in) of one dtype."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n, out)."""
        ...

    def gelu(self, inputs: Tensor) -> Tensor:
        """GELU (by the error function) of the map's outputs: (n, out)."""
        ...


MakeLinear = Callable[[Tensor, Tensor], Linear]


@dataclass(frozen=True, slots=True, eq=False)
class PlainLinear:
    """The map as torch computes it: weight (out, in), bias (out,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight, self.bias)

    def gelu(self, inputs: Tensor) -> Tensor:
        return functional.gelu(self(inputs))


@dataclass(frozen=True, slots=True, eq=False)
class PackedLinear:
    """The map by oneDNN: `packed` is the weight in the layout that `pack` gave it, and of no other use."""

    packed: Tensor
    bias: Tensor

    @classmethod
    def pack(cls, weight: Tensor, bias: Tensor) -> PackedLinear:
        """Lays a weight (out, in) out anew; the original is not kept."""
        return cls(torch.ops.mkldnn._reorder_linear_weight(weight), bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        return self._pointwise(inputs, "none")

    def gelu(self, inputs: Tensor) -> Tensor:
        return self._pointwise(inputs, "gelu")

    def _pointwise(self, inputs: Tensor, after: str) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.bias, after, [], "none")
        return outputs


def choose_linears(wanted: LinearsName, dtype: torch.dtype, device: torch.device) -> tuple[str, MakeLinear]:
    """How linear maps are computed here: the name that stands in the fingerprint, and what makes one of them.

    The choice looks at the kind of processor and at whether the products are right, never at how long they take: it is
    the same on the same machine at any time.

    Args:
        wanted: `auto`: `packed` where it works, else `plain`.
        dtype: Of inputs, weights and outputs; what is made converts float32 weights to it.
        device: Where it computes.

    Raises:
        ValueError: There is no such choice, or `packed` was asked for and does not work here; the message says why.
    """
    if wanted not in get_args(LinearsName):
        raise ValueError(f"linears is one of {', '.join(get_args(LinearsName))}, not {wanted!r}")
    hindrance = None if wanted == "plain" else _hindrance(dtype, device.type)
    if wanted == "packed" and hindrance is not None:
        raise ValueError(f"linears='packed' cannot be used here: {hindrance}. Take 'auto' or 'plain'")
    if hindrance is not None and device.type == "cpu":
        _log.info("linear maps are computed by torch's own library, not packed: %s", hindrance)
    if wanted == "plain" or hindrance is not None:
        return "plain", lambda weight, bias: PlainLinear(_moved(weight, dtype, device), _moved(bias, dtype, device))
    return "packed", lambda weight, bias: PackedLinear.pack(weight.to(dtype), _moved(bias, dtype, device))


def _moved(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return tensor.to(device=device, dtype=dtype, copy=True).contiguous()


@functools.cache
def _hindrance(dtype: torch.dtype, device: str) -> str | None:
    """Why products cannot be packed here; None: they can."""
    if device != "cpu":
        return f"they are for the CPU, not for {device}"
    if not torch._C._has_mkldnn:
        return "this build of torch has no oneDNN"
    unit = torch.backends.cpu.get_cpu_capability()
    if platform.machine() not in _X86 or not unit.startswith(_UNITS):
        return f"they are tried on x86-64 with AVX2 or later alone, and this is {platform.machine()} with {unit}"
    if dtype not in _TOLERANCE:
        return f"they are for {' and '.join(str(known) for known in _TOLERANCE)}, not for {dtype}"
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this processor has no bfloat16"
    return _probe(dtype)


def _probe(dtype: torch.dtype) -> str | None:
    """What is wrong with packed products on this machine, tried out on small ones; None: nothing."""
    generator = torch.Generator().manual_seed(0)
    try:
        for rows, width, out in _PROBED_SHAPES:
            inputs, weight = (torch.randn(n, width, generator=generator).to(dtype) for n in (rows, out))
            bias = torch.randn(out, generator=generator).to(dtype)
            plain, packed = PlainLinear(weight, bias), PackedLinear.pack(weight, bias)
            for found, expected in ((packed(inputs), plain(inputs)), (packed.gelu(inputs), plain.gelu(inputs))):
                error = (found - expected).abs().max() / expected.abs().max()
                if not error <= _TOLERANCE[dtype]:
                    return f"oneDNN's product of {rows} x {width} by {width} x {out} is off by {error:g}"
            if not torch.equal(packed(inputs), packed(inputs)):
                return "oneDNN's products differ from one time to the next"
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        return f"torch {torch.__version__} lacks its private operators for this ({str(error).splitlines()[0][:120]})"
    return None
