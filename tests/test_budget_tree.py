"""A tree of budgets in memory under random operations."""

from __future__ import annotations

from budget_tree import BudgetTree
from hypothesis import settings

BudgetTree.TestCase.settings = settings(max_examples=70, stateful_step_count=40)
test_a_tree_of_budgets = BudgetTree.TestCase
