"""Fewer bits than float32 has, as an accelerator computes in."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Precision", "rounded_to_bfloat16"]

Precision = Literal["float32", "bfloat16"]

_DROPPED = np.uint32(0xFFFF)  # a bfloat16 is the upper half of a float32
_BELOW_HALF = np.uint32(0x7FFF)


def rounded_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers with 8 significant bits, of two as near the even one; `values` are finite."""
    bits = values.view(np.uint32)
    is_odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + _BELOW_HALF + is_odd) & ~_DROPPED).view(np.float32)
