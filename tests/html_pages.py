"""A page of HTML as the tests look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Element", "HtmlTable", "parse_page", "tables_of"]

_VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass(slots=True)
class Element:
    """An element with its attributes and what is in it, in order."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, white space folded."""
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join(" ".join(parts).split())

    def all(self, tag: str) -> list[Element]:
        """Every element of a kind in it."""
        inside = [child for child in self.children if isinstance(child, Element)]
        return [one for child in inside for one in ([child] if child.tag == tag else []) + child.all(tag)]


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table of a page: its caption, the titles of its columns, and its rows."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("page", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop().tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def close(self) -> None:
        super().close()
        assert [self.root] == self._open, f"left open: {[one.tag for one in self._open[1:]]}"


def parse_page(page: str) -> Element:
    """The page as a tree; an element that is closed in the wrong place fails."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    return parser.root


def tables_of(page: Element) -> list[HtmlTable]:
    """The tables of a page, in order."""
    return [
        HtmlTable(
            caption=table.all("caption")[0].text,
            columns=[cell.text for cell in table.all("thead")[0].all("th")],
            rows=[
                [cell.text for cell in row.children if isinstance(cell, Element)]
                for row in table.all("tbody")[0].all("tr")
            ],
        )
        for table in page.all("table")
    ]
