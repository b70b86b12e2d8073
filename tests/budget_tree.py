"""A tree of budgets under random operations, against a model that adds up its reservations anew at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.transfers import Label
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
    reachable: bool = True
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
        if self.aside is None:
            return self.pending()
        return NOTHING if self.released else self.aside - self.posted()

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
    sent: bool = False
    unknown: bool = False
    corrected: bool = False
    reachable: bool = True


class BudgetTree(RuleBasedStateMachine):
    """Children, set-aside budgets and reservations anywhere in the tree; no bill is above its reservation."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledger = self.new_ledger()
        self.nodes = [Node(self.new_top())]
        self.keys = count()

    def new_ledger(self) -> Ledger:
        return MemoryLedger()

    def new_top(self) -> Budget:
        return Budget(calls=20, evaluations=20, tokens=90, name="top", ledger=self.ledger)

    @property
    def holds(self) -> list[Hold]:
        return [hold for node in self.nodes for hold in node.holds if hold.reachable]

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
        labels = [Label("train", "mock/score", f"k{next(self.keys)}") for _ in requests]
        if not node.takes(sum(requests, NOTHING)):
            with pytest.raises(BudgetExceeded):
                node.budget.reserve_all(requests, labels)
            return
        node.holds.extend(Hold(reservation) for reservation in node.budget.reserve_all(requests, labels))

    @precondition(lambda self: self.holds)
    @rule(at=PICK)
    def mark_sent(self, at: int) -> None:
        hold = self._hold(at)
        if hold.state != "pending" or hold.sent:
            with pytest.raises(ValueError, match="cannot be sent"):
                self.runner.run(hold.reservation.mark_sent())
            return
        self.runner.run(hold.reservation.mark_sent())
        hold.sent = True

    @precondition(lambda self: self.holds)
    @rule(at=PICK)
    def refused(self, at: int) -> None:
        hold = self._hold(at)
        if hold.state != "pending" or not hold.sent:
            with pytest.raises(ValueError, match="cannot have been refused"):
                hold.reservation.refused()
            return
        hold.reservation.refused()
        hold.sent = False

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
    def post_unknown(self, at: int) -> None:
        hold = self._hold(at)
        if hold.state != "pending":
            with pytest.raises(ValueError, match="resolved"):
                hold.reservation.post_unknown()
            return
        hold.reservation.post_unknown()
        hold.state, hold.posted, hold.unknown = "posted", hold.reservation.amounts, True

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
        hold.posted, hold.corrected, hold.unknown = actual, True, False

    @rule(at=PICK)
    def release(self, at: int) -> None:
        node = self._node(at)
        if node.aside is not None and not node.released and not _is_settled(node):
            with pytest.raises(ValueError, match="pending"):
                node.budget.release()
            return
        node.budget.release()
        node.released = node.aside is not None

    @invariant()
    def books_agree(self) -> None:
        """Every budget's totals are the sums of what lies in it and below it."""
        self.settle()
        for node in self.living():
            assert (node.posted(), node.pending()) == (node.budget.posted, node.budget.pending)

    @invariant()
    def nothing_is_over_a_limit(self) -> None:
        """posted + pending + free = limit, and posted + pending <= limit."""
        for node in self.living():
            for unit in UNITS:
                limit, free = node.budget.limits[unit], node.budget.free(unit)
                posted, pending = (getattr(node.budget, name) for name in ("posted", "pending"))
                if limit is None or free is None:
                    continue
                assert free >= 0
                assert limit == getattr(posted, unit) + getattr(pending, unit) + Fraction(free)

    @invariant()
    def unknown_outcomes_wait_for_a_correction(self) -> None:
        """Each under its own key, and no other."""
        for hold in self.holds:
            label = hold.reservation.label
            found = [one.id for one in self.ledger.unknown(label.endpoint, label.key)]
            assert found == ([hold.reservation.id] if hold.unknown else [])

    def settle(self) -> None:
        """Waits until everything is booked."""
        self.ledger.run(lambda book: None)

    def living(self) -> Iterator[Node]:
        """Budgets that this process has a handle on."""
        return (node for node in self.nodes if node.reachable)

    def teardown(self) -> None:
        """When all is resolved and released, nothing is pending anywhere."""
        for hold in self.holds:
            if hold.state == "pending":
                hold.reservation.void()
        for node in reversed(list(self.living())):
            node.budget.release()
        self.settle()
        assert {NOTHING} == {node.budget.pending for node in self.living()}
        self.runner.close()

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        if node.parent is not None:
            node.parent.children.append(node)

    def _node(self, at: int) -> Node:
        living = list(self.living())
        return living[at % len(living)]

    def _hold(self, at: int) -> Hold:
        return self.holds[at % len(self.holds)]


def _is_settled(node: Node) -> bool:
    """Whether nothing in it is open: no reservation, however small, and no amount set aside."""
    if any(hold.state == "pending" for hold in node.holds):
        return False
    return all(_is_settled(child) and (child.aside is None or child.released) for child in node.children)
