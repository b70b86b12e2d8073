"""Tables on stdout."""

from __future__ import annotations

from rich.console import Console

__all__ = ["stdout_console"]


class _StdoutConsole(Console):
    """Rich's own would end the program where nobody reads stdout, by an exit code that says something else here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError("nobody reads stdout any more")


def stdout_console(*, file_width: int | None = None) -> Console:
    """What a command prints its tables with.

    Args:
        file_width: Of lines where stdout is no terminal, whose own width it has there; None: rich's.
    """
    console = _StdoutConsole()
    return console if console.is_terminal or file_width is None else _StdoutConsole(width=file_width)
