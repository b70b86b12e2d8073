"""The tree of errors is as drawn."""

from __future__ import annotations

import inspect
import re

import pytest

from lmaas_sdk import errors


def drawn_tree() -> dict[str, str]:
    """Parent by name, read from the module's drawing."""
    parents: dict[str, str] = {}
    line_of_descent = ["LmaasError"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│ ]*[├└]── )(\w+)", line)
        if found:
            depth = len(found[1]) // 4
            line_of_descent[depth:] = [found[2]]
            parents[found[2]] = line_of_descent[depth - 1]
    return parents


def test_drawing_names_every_error_with_its_parent() -> None:
    """The docstring's tree is the tree of classes."""
    classes = {
        name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind is not errors.LmaasError
    }
    assert drawn_tree() == {name: kind.__bases__[0].__name__ for name, kind in classes.items()}


@pytest.mark.parametrize("name", ["TaskError", "BudgetTooSmall", "PromptFileError", "InvalidQuery"])
def test_mistakes_of_the_caller_are_value_errors(name: str) -> None:
    """What the caller got wrong is also a ValueError."""
    assert issubclass(getattr(errors, name), ValueError)


def test_budget_message_says_everything() -> None:
    """A refusal names the budget, the limit, what is posted, pending and asked for."""
    refusal = errors.BudgetExceeded("demo", "tokens", limit=100, posted=60, pending=30, asked=20)
    assert str(refusal) == "budget 'demo' allows 100 tokens: 60 posted, 30 pending, 20 more asked for"
