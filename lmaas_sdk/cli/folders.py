"""Folders that a command writes to, looked at before there is anything to write."""

from __future__ import annotations

from pathlib import Path

__all__ = ["check_folder"]


def check_folder(option: str, path: Path | None) -> None:
    """Refuses a place where no folder can be made.

    Args:
        option: What it was given by.
        path: The folder, which need not be there yet; None: nothing was given.

    Raises:
        ValueError: There is a file where the folder or one above it is to be.
    """
    for one in () if path is None else (path, *path.parents):
        if one.exists() and not one.is_dir():
            raise ValueError(f"{option} is a folder, and {one} is a file: name another, or move the file away")
