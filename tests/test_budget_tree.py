"""A tree of budgets under random operations, against a model that adds up its reservations anew at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.errors import BudgetExceeded

NOTHING = Amounts()
AMOUNTS = st.builds(
    Amounts,
    st.integers(0, 3),
    st.fractions(0, 3, max_denominator=4),
    st.integers(0, 12),
    st.integers(0, 40),
)
PICK = st.integers(min_value=0)
MOST_NODES = 9


@dataclass(eq=False)
class Node:
    """What the model knows of one budget."""

    budget: Budget
    parent: Node | None = None
    aside: Amounts | None = None
    released: bool = False
    children: list[Node] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    def posted(self) -> Amounts:
        own = [hold.posted for hold in self.holds if hold.state == "posted"]
        return sum([*own, *(child.posted() for child in self.children)], NOTHING)

    def pending(self) -> Amounts:
        own = [hold.reservation.amounts for hold in self.holds if hold.state == "pending"]
        return sum([*own, *(child.kept() for child in self.children)], NOTHING)

    def kept(self) -> Amounts:
        """What this budget keeps pending in its parent."""
        return self.pending() if self.aside is None or self.released else self.aside - self.posted()

    def takes(self, amounts: Amounts) -> bool:
        """Whether a reservation fits here and in all that pay for it."""
        if any(node.released for node in self.line()):
            return False
        for node in self.line():
            for unit in UNITS:
                free = node.budget.free(unit)
                if free is not None and getattr(amounts, unit) > free:
                    return False
            if node.aside is not None:
                return True
        return True

    def line(self) -> list[Node]:
        return [self] if self.parent is None else [self, *self.parent.line()]


@dataclass(eq=False)
class Hold:
    """What the model knows of one reservation."""

    reservation: Reservation
    state: str = "pending"
    posted: Amounts = NOTHING
    corrected: bool = False


class BudgetTree(RuleBasedStateMachine):
    """Children, set-aside budgets and reservations anywhere in the tree; no bill is above its reservation."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [Node(Budget(calls=20, evaluations=20, tokens=90, name="top"))]

    @property
    def holds(self) -> list[Hold]:
        return [hold for node in self.nodes for hold in node.holds]

    @precondition(lambda self: len(self.nodes) < MOST_NODES)
    @rule(at=PICK, calls=st.none() | st.integers(0, 8), tokens=st.none() | st.integers(0, 40))
    def add_child(self, at: int, calls: int | None, tokens: int | None) -> None:
        parent = self._node(at)
        limits = Budget(calls=calls, tokens=tokens)
        self._add(Node(parent.budget.child("child", limits, unique=True), parent))

    @precondition(lambda self: len(self.nodes) < MOST_NODES)
    @rule(at=PICK, amounts=AMOUNTS)
    def set_aside(self, at: int, amounts: Amounts) -> None:
        parent = self._node(at)
        if not parent.takes(amounts):
            with pytest.raises(BudgetExceeded):
                parent.budget.set_aside("aside", amounts)
            return
        self._add(Node(parent.budget.set_aside("aside", amounts), parent, amounts))

    @rule(at=PICK, requests=st.lists(AMOUNTS, min_size=1, max_size=3))
    def reserve(self, at: int, requests: list[Amounts]) -> None:
        node = self._node(at)
        if not node.takes(sum(requests, NOTHING)):
            with pytest.raises(BudgetExceeded):
                node.budget.reserve_all(requests)
            return
        node.holds.extend(Hold(reservation) for reservation in node.budget.reserve_all(requests))

    @precondition(lambda self: self.holds)
    @rule(at=PICK, actual=AMOUNTS)
    def post(self, at: int, actual: Amounts) -> None:
        hold = self._hold(at)
        actual = actual.at_most(hold.reservation.amounts)
        if hold.state != "pending":
            with pytest.raises(ValueError, match="resolved"):
                hold.reservation.post(actual)
            return
        hold.reservation.post(actual)
        hold.state, hold.posted = "posted", actual

    @precondition(lambda self: self.holds)
    @rule(at=PICK)
    def void(self, at: int) -> None:
        hold = self._hold(at)
        if hold.state != "pending":
            with pytest.raises(ValueError, match="resolved"):
                hold.reservation.void()
            return
        hold.reservation.void()
        hold.state = "void"

    @precondition(lambda self: self.holds)
    @rule(at=PICK, actual=AMOUNTS)
    def correct(self, at: int, actual: Amounts) -> None:
        hold = self._hold(at)
        if hold.state != "posted" or hold.corrected or (hold.posted - actual).is_negative:
            with pytest.raises(ValueError, match="cannot be corrected"):
                hold.reservation.correct(actual)
            return
        hold.reservation.correct(actual)
        hold.posted, hold.corrected = actual, True

    @rule(at=PICK)
    def release(self, at: int) -> None:
        node = self._node(at)
        if node.aside is not None and not node.released and node.pending() != NOTHING:
            with pytest.raises(ValueError, match="pending"):
                node.budget.release()
            return
        node.budget.release()
        node.released = node.aside is not None

    @invariant()
    def books_agree(self) -> None:
        """Every budget's totals are the sums of what lies in it and below it."""
        for node in self.nodes:
            assert (node.posted(), node.pending()) == (node.budget.posted, node.budget.pending)

    @invariant()
    def nothing_is_over_a_limit(self) -> None:
        """posted + pending + free = limit, and posted + pending <= limit."""
        for node in self.nodes:
            for unit in UNITS:
                limit, free = node.budget.limits[unit], node.budget.free(unit)
                posted, pending = (getattr(node.budget, name) for name in ("posted", "pending"))
                if limit is None or free is None:
                    continue
                assert free >= 0
                assert limit == getattr(posted, unit) + getattr(pending, unit) + Fraction(free)

    def teardown(self) -> None:
        """When all is resolved and released, nothing is pending anywhere."""
        for hold in self.holds:
            if hold.state == "pending":
                hold.reservation.void()
        for node in reversed(self.nodes):
            node.budget.release()
        assert [NOTHING] * len(self.nodes) == [node.budget.pending for node in self.nodes]

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        if node.parent is not None:
            node.parent.children.append(node)

    def _node(self, at: int) -> Node:
        return self.nodes[at % len(self.nodes)]

    def _hold(self, at: int) -> Hold:
        return self.holds[at % len(self.holds)]


BudgetTree.TestCase.settings = settings(max_examples=70, stateful_step_count=40)
test_a_tree_of_budgets = BudgetTree.TestCase
