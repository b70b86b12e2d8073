"""A CUDA device that is none: its tensors say `cuda:0`, and the processor keeps their numbers and computes with them.

It is as strict as the real one about where things are: an operation on tensors of both places fails, and so does
reading a tensor of the card from the processor's side without a copy. It notes what makes the processor wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

__all__ = ["NAME", "Card", "pretended_card"]

NAME = "cuda:0"
_PINNED = ("aten::pin_memory", "aten::_pin_memory")


class OnCard(Tensor):
    """A tensor of the card."""

    kept: Tensor
    card: Card

    @staticmethod
    def __new__(cls, kept: Tensor, card: Card) -> OnCard:
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            kept.shape,
            strides=kept.stride(),
            storage_offset=kept.storage_offset(),
            dtype=kept.dtype,
            device="meta",  # a build of torch without CUDA asks its driver about any other
        )
        made.kept, made.card = kept, card
        return made  # type: ignore[no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(NAME)

    def tolist(self) -> Any:
        """By a copy, as torch itself does it for a device."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        card = next(one.card for one in tree_flatten((args, kwargs))[0] if isinstance(one, OnCard))
        return card.computed(func, args, kwargs or {})


class Card(TorchDispatchMode):
    """The device. While it is entered, this thread can make tensors there; those that are there work on any thread.

    Attributes:
        launched: The thread and the name of every operation whose result is on the card, in order.
        waits: The names of those that made their thread wait until all before them was done.
        attended: Strides of the last two axes, and the first byte's place modulo 16, of all that attention was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # under which torch does not look for a driver
        self.launched: list[tuple[int, str]] = []
        self.waits: list[str] = []
        self.attended: list[tuple[int, int, int]] = []
        self._pinned: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.computed(func, args, kwargs or {})

    def computed(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """An operation, on whichever side its tensors are."""
        name = func.name().partition(".")[0]
        if name in _PINNED:
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        if name == "aten::is_pinned":
            return False
        flat, spec = tree_flatten((args, dict(kwargs)))
        target = next((one for one in flat if isinstance(one, torch.device)), None)
        here = [one for one in flat if isinstance(one, Tensor) and not isinstance(one, OnCard)]
        there = [one for one in flat if isinstance(one, OnCard)]
        if target is None and there and any(one.dim() for one in here):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {NAME} and cpu")
        ends_there = bool(there) if target is None else target.type == "cuda"
        self._note(name, there=there, here=here, ends_there=ends_there, is_queued=bool(kwargs.get("non_blocking")))
        plain_args, plain_kwargs = tree_unflatten([_plain(one) for one in flat], spec)
        found = func(*plain_args, **plain_kwargs)
        if target is not None and bool(there) != ends_there:
            found = tree_map(lambda one: one.clone() if isinstance(one, Tensor) else one, found)
        return tree_map(lambda one: self._placed(one, there), found) if ends_there else found

    def _placed(self, found: Any, inputs: Sequence[OnCard]) -> Any:
        """A result as a tensor of the card: the very one that came in, where it was changed in place."""
        if not isinstance(found, Tensor):
            return found
        same = [one for one in inputs if one.kept is found]
        with torch.inference_mode(found.is_inference()):  # a view of a tensor that is none of that mode is none either
            return same[0] if same else OnCard(found, self)

    def _note(
        self, name: str, *, there: Sequence[OnCard], here: Sequence[Tensor], ends_there: bool, is_queued: bool
    ) -> None:
        if ends_there:
            self.launched.append((threading.get_ident(), name))
        if there and (not ends_there or name == "aten::_local_scalar_dense"):
            self.waits.append(name)
        sources = [one for one in here if one.dim()]
        if (
            ends_there
            and sources
            and not (is_queued and all(any(one is pin for pin in self._pinned) for one in sources))
        ):
            self.waits.append(name)
        if name == "aten::scaled_dot_product_attention":
            for one in there:
                place = one.storage_offset() * one.element_size() % 16
                self.attended.append((one.stride(-1), one.stride(-2), place))


def _plain(one: Any) -> Any:
    if isinstance(one, OnCard):
        return one.kept
    return torch.device("cpu") if isinstance(one, torch.device) else one


@contextmanager
def pretended_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """The card, while this is open; torch's build need know nothing of CUDA."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "pretended")
    with Card() as card:
        yield card
