"""What a results file says, for people and programs: Markdown, JSON, and a page with pictures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lmaas_sdk.bench.accuracy import AccuracyTable, accuracy_of, of_one_setting
from lmaas_sdk.bench.comparisons import Comparisons, comparisons_of
from lmaas_sdk.bench.curves import dev_panels
from lmaas_sdk.bench.results import DEPLOYMENT, CellResult, done_cells
from lmaas_sdk.bench.sweep_results import SweepResult, sweeps_in
from lmaas_sdk.bench.tables import accuracy_table, chance_table, comparison_tables, deployment_tables, spent_table
from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.reporting.markdown import markdown_table
from lmaas_sdk.reporting.report_figures import Curve, Figure
from lmaas_sdk.reporting.report_page import Section, page_of
from lmaas_sdk.reporting.report_png import draw_png
from lmaas_sdk.reporting.report_svg import draw_panel
from lmaas_sdk.reporting.report_tables import Table

__all__ = ["BenchReport"]

_BIG = ("labels", "predictions")


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Tables and comparisons of what is done.

    Args:
        accuracy: The paper's first table.
        comparisons: What can be told of it.
        deployment: The rows of the paper's second table, as plain values.
        sweeps: The effect of one setting each.
        with_paper: Whether what others published stands beside it, of another model.
        cells: What is done.
    """

    accuracy: AccuracyTable
    comparisons: Comparisons
    deployment: tuple[Mapping[str, Any], ...] = ()
    sweeps: tuple[SweepResult, ...] = ()
    with_paper: bool = False
    cells: tuple[CellResult, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        records: Iterable[Mapping[str, Any]],
        *,
        wanted: Mapping[tuple[str, str], int] | None = None,
        sweeps: Sequence[SweepResult] | None = None,
        with_paper: bool = False,
    ) -> BenchReport:
        """The report of a results file.

        Args:
            records: What `read_results` gives.
            wanted: As of `accuracy_of`: what is planned and missing is shown as missing.
            sweeps: Those to show; None: all that the file has.
            with_paper: As above.
        """
        records = list(records)
        every = done_cells(records)
        done = [cell for cell in every if cell.swept is None]
        comparable, _ = of_one_setting(done)
        deployment = {one["key"]: _deployed(one) for one in records if one.get("kind") == DEPLOYMENT}
        return cls(
            accuracy_of(done, wanted=wanted),
            comparisons_of(comparable),
            tuple(deployment.values()),
            tuple(sweeps_in(every) if sweeps is None else sweeps),
            with_paper,
            tuple(comparable),
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The names of what was measured."""
        swept = (model for sweep in self.sweeps for model in sweep.models)
        deployed = (str(row["model"]) for row in self.deployment)
        return tuple(dict.fromkeys(chain((cell.model for cell in self.cells), swept, deployed)))

    def tables(self) -> list[Table]:
        """All tables, those that there is something for."""
        return [table for section in self._groups() for table in section.tables]

    def _groups(self) -> list[Section]:
        """The tables under the headings of the page; of sweeps, their pictures too."""
        accuracy, compared = list[Table](), comparison_tables(self.comparisons, self.accuracy.metrics)
        if self.accuracy.rows:
            accuracy = [accuracy_table(self.accuracy, with_paper=self.with_paper), spent_table(self.accuracy)]
        if self.comparisons.above_chance:
            compared.insert(0, chance_table(self.comparisons))
        groups = {
            "Methods and tasks": accuracy,
            "Comparisons": compared,
            "Deployment": deployment_tables(self.deployment, with_paper=self.with_paper),
        }
        swept = [replace(_pictures(sweep.figure()), tables=tuple(sweep.tables())) for sweep in self.sweeps]
        return [*swept, *(Section(title, tables=tuple(tables)) for title, tables in groups.items() if tables)]

    def markdown(self) -> str:
        """What was measured, the tables, and notes below them."""
        notes = [f"- {note}" for note in self._notes()]
        parts = [self._subject(), *map(markdown_table, self.tables()), *(["\n".join(notes)] if notes else [])]
        return "\n\n".join(parts) + "\n"

    def _subject(self) -> str:
        return f"On {', '.join(self.models)}." if self.models else "The results file has no results yet."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of a cell all but every single prediction."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "comparisons": self.comparisons.to_dict(),
            "deployment": [dict(row) for row in self.deployment],
            "models": list(self.models),
            "sweeps": [sweep.to_dict() for sweep in self.sweeps],
            "cells": [_without_predictions(cell.record) for cell in self.cells],
        }

    def html(self) -> bytes:
        """One page that needs nothing else; the same bytes for the same results.

        Raises:
            MissingExtra: jinja2 is not installed.
        """
        return page_of("Methods beside one another", (self._subject(),), self._sections(), made_by="bench")

    def _sections(self) -> list[Section]:
        sections = self._groups()
        panels, legend = dev_panels(self.cells)
        if panels:
            title = "Dev metric, the best so far, on average over seeds"
            sections.append(_pictures(Figure("dev", title, panels), legend))
        notes = self._notes()
        return [*sections, *([Section("Notes", notes)] if notes else [])]

    def _notes(self) -> tuple[str, ...]:
        shared = ("Figures as published are of RoBERTa-large, another model.",) if self.with_paper else ()
        return (*self.accuracy.notes, *(note for sweep in self.sweeps for note in sweep.notes), *shared)

    def write(self, folder: str | Path, stem: str = "bench") -> list[Path]:
        """Writes `bench.md`, `bench.json`, and with the extras `report` and `plot` `bench.html` and pictures.

        Args:
            folder: Made if need be; what is there by these names is replaced.
            stem: Of the names.

        Returns:
            What was written.

        Raises:
            OSError: Nothing can be written there.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, bytes] = {
            ".md": self.markdown().encode(),
            ".json": (json.dumps(self.to_dict(), indent=1) + "\n").encode(),
            **self._with_extras(),
        }
        paths = {folder / f"{stem}{ending}": written for ending, written in content.items()}
        for path, written in paths.items():
            path.write_bytes(written)
        return list(paths)

    def _with_extras(self) -> dict[str, bytes]:
        """What can only be made where a package is installed; left out where it is not."""
        found: dict[str, bytes] = {}
        with contextlib.suppress(MissingExtra):
            found[".html"] = self.html()
        for number, figure in enumerate(sweep.figure() for sweep in self.sweeps):
            if any(panel.curves for panel in figure.panels):
                ending = f"-{figure.key}.png"
                with contextlib.suppress(MissingExtra):
                    found[ending if ending not in found else f"-{figure.key}-{number + 1}.png"] = draw_png(figure)
        return found


def _pictures(figure: Figure, legend: tuple[Curve, ...] | None = None) -> Section:
    """Its panels, those that have something; the legend is that of the first where nobody says."""
    panels = [panel for panel in figure.panels if panel.curves]
    shown = panels[0].curves if legend is None and panels else legend or ()
    return Section(figure.title, panels=tuple(draw_panel(figure.title, panel) for panel in panels), legend=shown)


def _deployed(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row, with the digest of what it was measured on where the record has one."""
    row: Mapping[str, Any] = record["row"]
    return row if "inputs" not in record else {**row, "inputs": record["inputs"]}


def _without_predictions(record: Mapping[str, Any]) -> dict[str, Any]:
    test = {name: value for name, value in record["test"].items() if name not in _BIG}
    return {**record, "test": test}
