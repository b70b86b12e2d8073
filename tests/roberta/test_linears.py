"""Linear maps by both libraries, and how one of them is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lmaas_backends.roberta import linears
from lmaas_backends.roberta.linears import PackedLinear, PlainLinear, choose_linears

CPU = torch.device("cpu")
PACKED = linears._hindrance(torch.float32, "cpu") is None
needs_packed = pytest.mark.skipif(not PACKED, reason="this processor has no packed products")


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What was found out about this machine is forgotten before and after."""
    linears._hindrance.cache_clear()
    yield
    linears._hindrance.cache_clear()


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_packed
@pytest.mark.parametrize("rows", [1, 7, 64, 333])
def test_packed_maps_are_the_plain_ones(rows: int) -> None:
    """With and without GELU, to a rounding of float32."""
    weight, bias, inputs = numbers(96, 130), numbers(96), numbers(rows, 130)
    plain, packed = PlainLinear(weight, bias), PackedLinear.pack(weight, bias)
    torch.testing.assert_close(packed(inputs), plain(inputs), rtol=0, atol=2e-5)
    torch.testing.assert_close(packed.gelu(inputs), plain.gelu(inputs), rtol=0, atol=2e-5)


@needs_packed
def test_auto_is_packed_where_that_works() -> None:
    """On the CPU, for float32; a device that is none of ours gets the plain maps."""
    assert choose_linears("auto", torch.float32, CPU)[0] == "packed"
    assert choose_linears("plain", torch.float32, CPU)[0] == "plain"
    assert choose_linears("auto", torch.float32, torch.device("meta"))[0] == "plain"


def test_float16_is_never_packed() -> None:
    """Asked for by name, the refusal says for what it is."""
    with pytest.raises(ValueError, match=r"'packed' cannot be used here: .*Take 'auto' or 'plain'"):
        choose_linears("packed", torch.float16, CPU)
    with pytest.raises(ValueError, match="linears is one of auto, packed, plain, not 'fast'"):
        choose_linears("fast", torch.float32, CPU)  # type: ignore[arg-type]


@pytest.mark.usefixtures("asked_anew")
def test_another_processor_gets_plain_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing breaks there: the choice falls on `plain`, and says why where `packed` is insisted on."""
    monkeypatch.setattr(linears.platform, "machine", lambda: "aarch64")
    assert choose_linears("auto", torch.float32, CPU)[0] == "plain"
    with pytest.raises(ValueError, match="x86-64 with AVX2 or later alone, and this is aarch64"):
        choose_linears("packed", torch.float32, CPU)


@pytest.mark.usefixtures("asked_anew")
@needs_packed
def test_operators_that_are_missing_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are private to torch, and a release may drop them."""

    def gone(weight: torch.Tensor, bias: torch.Tensor) -> PackedLinear:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(PackedLinear, "pack", gone)
    assert choose_linears("auto", torch.float32, CPU)[0] == "plain"
    with pytest.raises(ValueError, match=r"lacks its private operators for this .*_reorder_linear_weight"):
        choose_linears("packed", torch.float32, CPU)


@pytest.mark.usefixtures("asked_anew")
@needs_packed
@pytest.mark.parametrize(
    ("faulty", "told"),
    [(lambda found: found * 1.001, "is off by"), (lambda found: found + torch.rand(1) / 1e6, "differ")],
)
def test_products_that_are_wrong_are_left_alone(monkeypatch: pytest.MonkeyPatch, faulty: Any, told: str) -> None:
    """A thousandth too large, or another bit each time."""
    right = PackedLinear.__call__
    monkeypatch.setattr(PackedLinear, "__call__", lambda self, inputs: faulty(right(self, inputs)))
    assert choose_linears("auto", torch.float32, CPU)[0] == "plain"
    with pytest.raises(ValueError, match=told):
        choose_linears("packed", torch.float32, CPU)
