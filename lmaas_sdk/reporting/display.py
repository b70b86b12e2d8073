"""Where progress is shown: a few lines that change on a terminal, some twenty plain ones elsewhere; on stderr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["Display"]

_LINES_PER_RUN = 20
_GROWTH = 1.3  # where nobody knows how much there is to do, a line is due when so many times as much is done
_GAP = "  "


class Display:
    """Shows how much of something is done, and what else is to be said of it.

    Args:
        unit: What is counted: "evaluations".
        console: None: stderr.
        elapsed_s: Seconds since it began, shown on a terminal.
    """

    def __init__(self, unit: str, console: Console | None = None, *, elapsed_s: Callable[[], float]) -> None:
        self._unit, self._elapsed_s = unit, elapsed_s
        self._console = console or Console(stderr=True)
        self._done: float = 0
        self._total: float | None = None
        self._parts: Sequence[str] = ("waiting for the first ones",)
        self._shown: float = -1  # of `done`, in the latest plain line
        self._shown_parts: Sequence[str] = self._parts
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=4)
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._shown >= 0 and self._parts != self._shown_parts:
            self._show()

    @property
    def is_live(self) -> bool:
        """Whether it is on a terminal."""
        return self._live is not None

    def update(self, done: float, total: float | None, parts: Sequence[str]) -> None:
        """Shows another state.

        Args:
            done, total: In the unit; no total: nobody knows.
            parts: What else to say; those that are empty are left out.
        """
        self._done, self._total, self._parts = done, total, [part for part in parts if part]
        if self._live is None and self._is_due():
            self._show()

    def line(self, text: str) -> None:
        """A line that stays: above what changes, on a terminal."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        self._shown, self._shown_parts = self._done, self._parts
        self.line(_GAP.join((self._counted(), *self._parts)))

    def _is_due(self) -> bool:
        """Whether a plain line is: some twenty of them in a run."""
        done, total, shown = self._done, self._total, self._shown
        if total is None:
            return shown < 0 or done >= _GROWTH * shown
        step = max(1, total // _LINES_PER_RUN)
        return done // step != shown // step or (done >= total and shown < done)

    def _counted(self) -> str:
        return f"{self._done:.12g}/{'?' if self._total is None else f'{self._total:.12g}'} {self._unit}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._bar()
        for line in _packed(self._parts, options.max_width):
            yield Text(line, no_wrap=True, overflow="ellipsis")

    def _bar(self) -> Table:
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, justify="right")
        elapsed = str(timedelta(seconds=int(self._elapsed_s())))
        if not self._total:
            bar.add_row(self._counted(), "", elapsed)
        else:
            part = min(1.0, self._done / self._total)
            bar.add_row(self._counted(), ProgressBar(self._total, self._done), f"{100 * part:.0f} %  {elapsed}")
        return bar


def _packed(parts: Sequence[str], width: int) -> list[str]:
    """The parts in as few lines as they fit into, in their order."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(_GAP) + len(part) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(part)
    return lines
