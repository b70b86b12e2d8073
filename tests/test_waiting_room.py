"""Who is let in, and who is told to come again, and when."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from served import SetClock

from lmaas_backends.roberta.waiting_room import Occupancy, Ticket, WaitingRoom

SPEED = 10.0  # tokens a second


class Room:
    """A room for 100 tokens, of which 10 are computed a second when `passes` says that time goes by."""

    def __init__(self, most: int = 100) -> None:
        self.clock = SetClock()
        self.room = WaitingRoom(lambda: most, lambda tokens: tokens / SPEED, self.clock)
        self.inside: list[Occupancy] = []
        self._number = 0

    def enter(self, tokens: int, client: str = "ann", call: str | None = None) -> float | None:
        """None: let in; else the seconds to wait."""
        self._number += 1
        entered = self.room.enter(Ticket(client, call or f"call {self._number}"), tokens)
        if isinstance(entered, Occupancy):
            self.inside.append(entered)
            return None
        return entered

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        done = seconds * SPEED
        while self.inside and self.inside[0].tokens <= done:
            done -= self.inside[0].tokens
            self.room.leave(self.inside.pop(0))


def test_what_fits_is_let_in_and_the_next_is_told_when() -> None:
    """Ten calls of ten tokens fill the room; the next ones are told one and two seconds, as one call leaves in each."""
    room = Room()
    assert [None] * 10 == [room.enter(10) for _ in range(10)]
    assert [1.0, 2.0, 3.0] == [room.enter(10) for _ in range(3)]
    assert (10, 100, 30) == (room.room.calls, room.room.tokens, room.room.promised_tokens)


def test_whoever_obeys_is_let_in_and_later_comers_are_not() -> None:
    """A newcomer finds the room that just came free taken by the one who was promised it."""
    room = Room()
    for _ in range(10):
        room.enter(10)
    assert 1.0 == room.enter(10, call="early")
    room.passes(1.0)
    assert 1.0 == room.enter(10, call="late")
    assert None is room.enter(10, call="early")


def test_coming_too_early_costs_nothing() -> None:
    """It is told what is left of its time, and keeps its room."""
    room = Room()
    for _ in range(10):
        room.enter(10)
    assert 1.0 == room.enter(10, call="b")
    assert 2.0 == room.enter(10, call="c")
    room.clock.now += 0.5
    assert 1.5 == room.enter(10, call="c")
    assert 20 == room.room.promised_tokens


def test_room_that_is_not_taken_is_given_to_others() -> None:
    """Once the promise has run out; and at once where little is waiting, so that nothing stands idle for it."""
    room = Room()
    for _ in range(10):
        room.enter(10)
    for _ in range(8):
        room.enter(10)
    room.passes(3.0)
    assert None is not room.enter(10)  # 70 wait, 80 are promised
    room.passes(3.0)
    assert None is room.enter(10)  # 40 wait, so half of the room stands empty
    room.passes(30.0)
    assert 0 == room.room.tokens
    assert None is room.enter(10)
    assert 0 == room.room.promised_tokens


def test_a_call_larger_than_the_room_is_let_in_alone() -> None:
    """Else it never would be; behind others it waits until they are gone."""
    room = Room()
    assert None is room.enter(1000)
    assert 91.0 == room.enter(10, client="bob")
    assert 101.0 == room.enter(1000, call="large")
    room.passes(100.0)
    assert None is room.enter(1000, call="large")


def test_nobody_fills_the_room_for_all_others() -> None:
    """A second client gets half of a full room, a third a third; and the first must wait."""
    room = Room()
    for _ in range(10):
        assert None is room.enter(10, client="flood")
    assert [None] * 5 == [room.enter(10, client="bob") for _ in range(5)]
    assert None is not room.enter(10, client="bob")
    assert [None] * 3 == [room.enter(10, client="cyd") for _ in range(3)]
    assert None is not room.enter(10, client="cyd")
    assert None is not room.enter(10, client="flood")


def test_however_many_clients_there_are_the_room_is_bounded() -> None:
    """Shares go beyond the bound, to twice as much and no further."""
    room = Room()
    for number in range(200):
        room.enter(5, client=f"client {number}")
        room.enter(5, client=f"client {number}")
    assert 100 < room.room.tokens <= 200


def test_promises_are_bounded_too() -> None:
    """Who is told to come in more than an hour is promised nothing, and all promises end."""
    room = Room(most=10)
    room.enter(10)
    for _ in range(500):
        room.enter(100)
    assert room.room.promised_tokens <= 3600 * SPEED + 100
    room.clock.now += 2 * 3600.0
    room.enter(10)
    assert room.room.promised_tokens <= 10


@given(st.data())
def test_all_room_comes_back(data: st.DataObject) -> None:
    """Whatever comes and goes in whatever order, the sums are those of what is inside, and end at nothing."""
    room = Room()
    steps: list[Callable[[], object]] = [
        lambda: room.enter(
            data.draw(st.integers(1, 60)), data.draw(st.sampled_from("abc")), data.draw(st.sampled_from("xyz"))
        ),
        lambda: room.passes(data.draw(st.floats(0, 8))),
    ]
    for step in data.draw(st.lists(st.sampled_from(steps), max_size=40)):
        step()
        assert sum(place.tokens for place in room.inside) == room.room.tokens
        assert len(room.inside) == room.room.calls
        assert 0 <= room.room.promised_tokens
    while room.inside:
        room.passes(100.0)
    room.clock.now += 10_000.0
    room.enter(1)
    assert (1, 0) == (room.room.tokens, room.room.promised_tokens)
