"""What is found wrong in a ledger file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Discrepancies", "Discrepancy"]

_MOST_LISTED = 1000  # one wrong entry early on can make all later ones wrong


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that a ledger file says and that cannot be so.

    Attributes:
        what: "posted tokens", "resolved twice".
        where: "account 'team/run'", "entry 17", "the file".
        expected: What follows from everything else.
        found: What is there.
    """

    what: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: expected {self.expected}, found {self.found}"

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


class Discrepancies:
    """A list that ends at a thousand, and a count that does not."""

    def __init__(self) -> None:
        self.listed: list[Discrepancy] = []
        self.count = 0

    def add(self, what: str, where: str, *, expected: object, found: object) -> None:
        """Notes one."""
        self.count += 1
        if len(self.listed) < _MOST_LISTED:
            self.listed.append(Discrepancy(what, where, str(expected), str(found)))
