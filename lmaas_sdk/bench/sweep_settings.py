"""What may be swept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["SETTINGS", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What may be swept.

    Args:
        field: Of a preset.
        read: Reads a value from the command line.
        values: What is tried where nobody says.
        title: In tables and pictures.
    """

    field: str
    read: Callable[[str], Any]
    values: tuple[Any, ...]
    title: str

    @property
    def is_number(self) -> bool:
        return self.read is int

    def place(self, value: Any) -> tuple[int, str]:
        """Where a word stands: as in `values`, and any other behind these."""
        return self.values.index(value) if value in self.values else len(self.values), str(value)


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "d": Setting("d", int, (50, 100, 200, 500, 1000), "dimensions of the search, d"),
        "L": Setting("prompt_tokens", int, (5, 10, 20, 50, 100), "prompt tokens, L"),
        "population": Setting("population", int, (5, 10, 20, 30), "population"),
        "projection": Setting("projection", str, ("uniform", "normal"), "projection"),
        "loss": Setting("objective", str, ("ce", "hinge", "metric"), "loss"),
    }
)
"""By the name that the paper's figure 5 and the command line have for it, read-only."""
