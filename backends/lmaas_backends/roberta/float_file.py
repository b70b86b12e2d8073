"""Float32 tensors in a file of this process's own, so that memory holds only what of them is in use.

The file has no name and goes with the process. The checkpoint's own file could be mapped for nothing, but somebody may
overwrite it, which ends a process that has it mapped.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["FloatFile", "Stored"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies in its file: first byte and shape."""

    offset: int
    shape: tuple[int, ...]


class FloatFile:
    """A temporary file of float32 tensors.

    Raises:
        OSError: There is no folder for temporary files, or no room in it; `put` raises it, too.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="lmaas-", buffering=0)  # noqa: SIM115 - it lives as long as this
        weakref.finalize(self, self._file.close)
        self._end = 0

    def put(self, tensor: Tensor) -> Stored:
        """Writes a tensor behind the others."""
        numbers = tensor.detach().to(torch.float32).contiguous()
        stored = Stored(self._end, tuple(numbers.shape))
        self._file.seek(self._end)
        left = numbers.numpy().data.cast("B")
        while left:
            left = left[self._file.write(left) :]
        pages = -(-numbers.nbytes // mmap.ALLOCATIONGRANULARITY)
        self._end += pages * mmap.ALLOCATIONGRANULARITY
        return stored

    def mapped(self, stored: Stored) -> Tensor:
        """The tensor in place: what is looked at comes into memory. Writing to it changes this mapping alone."""
        nbytes = 4 * int(np.prod(stored.shape, dtype=np.int64))
        mapping = mmap.mmap(self._file.fileno(), nbytes, access=mmap.ACCESS_COPY, offset=stored.offset)
        return torch.from_numpy(np.frombuffer(mapping, np.float32).reshape(stored.shape))

    def read(self, stored: Stored) -> Tensor:
        """A copy of the tensor in memory."""
        return self.mapped(stored).clone()
