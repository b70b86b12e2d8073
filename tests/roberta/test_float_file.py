"""Tensors in a file of the process's own."""

from __future__ import annotations

import torch

from lmaas_backends.roberta.float_file import FloatFile


def test_tensors_come_back_as_they_went_in() -> None:
    """Of any shape and stride, in any order, copied or in place; from bfloat16 as the same numbers."""
    file = FloatFile()
    tensors = [torch.randn(3, 5), torch.randn(7), torch.randn(4, 6).T, torch.randn(2, 2).bfloat16(), torch.randn(1, 1)]
    places = [file.put(tensor) for tensor in tensors]
    for tensor, place in reversed([*zip(tensors, places, strict=True)]):
        assert torch.equal(file.read(place), tensor.float())
        assert torch.equal(file.mapped(place), tensor.float())


def test_what_is_written_into_a_mapping_stays_there() -> None:
    """The file, and whoever reads it next, keep the numbers."""
    file = FloatFile()
    place = file.put(torch.zeros(3))
    file.mapped(place)[:] = 1.0
    assert file.read(place).tolist() == [0.0, 0.0, 0.0]


def test_a_mapping_outlives_its_file() -> None:
    """The file may be forgotten while a tensor in it is in use."""
    file = FloatFile()
    mapped = file.mapped(file.put(torch.arange(5.0)))
    del file
    assert mapped.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
