"""What this machine's arithmetic makes of fixed numbers: where that differs, so do the bits of logits."""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor
from torch.nn import functional

from lmaas_backends.roberta.linears import MakeLinear

__all__ = ["bits_of"]

_DIGITS = 12


@functools.lru_cache(maxsize=16)
def bits_of(make: MakeLinear, dtype: torch.dtype, threads: int) -> str:
    """A digest of the operations that a forward pass is made of, on the CPU.

    The name of a processor's vector unit is not enough: the libraries choose among several ways for one, by the exact
    processor and by environment variables.

    Args:
        make: Makes the linear maps.
        dtype: Of their inputs.
        threads: torch's number of them, which is 1 wherever an engine computes.
    """
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hidden = numbers(67, 128)
    wide, narrow = make(numbers(384, 128) / 8, numbers(384)), make(numbers(128, 384) / 8, numbers(128))
    widened = wide.gelu(hidden.to(dtype))
    heads = numbers(3, 2, 2, 41, 64).to(dtype)
    states, asked = numbers(2, 53, 128), numbers(2, 4, 128)
    made = (
        wide(hidden.to(dtype)),
        narrow(widened),
        functional.scaled_dot_product_attention(*heads),
        functional.layer_norm(hidden, (128,)),
        functional.gelu(functional.linear(hidden[:5], states[0])),
        torch.softmax(asked @ states.transpose(1, 2), dim=-1) @ states,
        torch.mv(numbers(640, 50), numbers(50)),
    )
    state = hashlib.sha256()
    for tensor in made:
        state.update(tensor.float().numpy().tobytes())
    return state.hexdigest()[:_DIGITS]
