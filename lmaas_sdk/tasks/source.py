"""Where a task's data usually lie, and what they are called there."""

from __future__ import annotations

from dataclasses import dataclass

from lmaas_sdk.errors import TaskError

__all__ = ["Source", "squash"]


@dataclass(frozen=True, slots=True)
class Source:
    """How a task's data usually lie on disk.

    Args:
        names: Names of the folder, the usual one first; case and punctuation do not matter.
        columns: Text columns in the order of the template's fields; empty: the reader's own choice.
        evaluation_split: The split that results are reported on.
        dropped_labels: Labels that mark a row to leave out, such as `-1` where annotators did not agree.
    """

    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    evaluation_split: str = "test"
    dropped_labels: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, object]:
        return {
            "names": list(self.names),
            "columns": list(self.columns),
            "evaluation_split": self.evaluation_split,
            "dropped_labels": list(self.dropped_labels),
        }

    @classmethod
    def from_wire(cls, value: object) -> Source:
        """Reads what `to_wire` wrote.

        Raises:
            TaskError: It is of another form.
        """
        match value:
            case {
                "names": list(names),
                "columns": list(columns),
                "evaluation_split": str(split),
                "dropped_labels": list(dropped),
                **rest,
            } if not rest and all(isinstance(text, str) for text in (*names, *columns, *dropped)):
                return cls(tuple(names), tuple(columns), split, tuple(dropped))
        raise TaskError(f"a source has names, columns, evaluation_split and dropped_labels, not {value!r:.120}")


def squash(name: str) -> str:
    """A name without case and punctuation, for comparing: `SST-2` -> `sst2`."""
    return "".join(character for character in name.casefold() if character.isalnum())
