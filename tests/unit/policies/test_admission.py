"""Room in queues and in the store, and the line of waiting senders, against plain models."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentq_nb._policies.admission import RESERVE, Limits, Load, SenderLine, refused, store_refuses

limits = st.none() | st.integers(1, 20)
counts = st.integers(0, 20)


@given(
    held=st.lists(counts, max_size=20), more=st.lists(counts, min_size=1, max_size=5), most=limits, most_bytes=limits
)
def test_a_queue_never_holds_more_than_its_limits(
    held: list[int], more: list[int], most: int | None, most_bytes: int | None
) -> None:
    together = [*held, *more]
    reason = refused(Load(len(held), sum(held)), Load(len(more), sum(more)), Limits(most, most_bytes))
    too_many = most is not None and len(together) > most
    too_large = most_bytes is not None and sum(together) > most_bytes
    assert reason == ("messages" if too_many else "bytes" if too_large else None)


@given(used=st.integers(0, 2**40), more=st.integers(0, 2**30), limit=st.integers(1, 2**40), free=st.integers(0, 2**40))
def test_the_store_refuses_beyond_its_limit_and_before_the_disk_is_full(
    used: int, more: int, limit: int, free: int
) -> None:
    reason = store_refuses(used, more, limit, free)
    assert reason == ("limit" if used + more >= limit else "disk" if free - more < RESERVE else None)


class LineMachine(RuleBasedStateMachine):
    """The line against a list: whoever is first is called once there is room, and nobody else."""

    limits = Limits(messages=5, bytes=12)

    def __init__(self) -> None:
        super().__init__()
        self.line: SenderLine[str] = SenderLine()
        self.model: list[tuple[str, Load]] = []
        self.held: list[Load] = []
        self.called: str | None = None
        self.came = 0
        self.served: list[int] = []

    def load(self) -> Load:
        return Load(sum(load.messages for load in self.held), sum(load.bytes for load in self.held))

    @rule(messages=st.integers(1, 3), size=st.integers(0, 12))
    def join(self, messages: int, size: int) -> None:
        self.came += 1
        sender, load = str(self.came), Load(messages, size)
        self.line.join(sender, load, self.limits)
        self.model.append((sender, load))

    @rule()
    def call(self) -> None:
        sender = self.line.call(self.load())
        if self.called is None and self.model and refused(self.load(), self.model[0][1], self.limits) is None:
            self.called = self.model[0][0]
            assert sender == self.called
        else:
            assert sender is None

    @precondition(lambda self: self.called is not None)
    @rule()
    def serve(self) -> None:
        sender, load = self.model.pop(0)
        assert sender == self.called
        self.held.append(load)
        self.served.append(int(sender))
        self.line.leave(sender)
        self.called = None

    @precondition(lambda self: self.called is not None)
    @rule()
    def find_no_room(self) -> None:
        self.line.wait_again(self.called or "")
        self.called = None

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.model) - 1))
        sender, _ = self.model.pop(place)
        self.line.leave(sender)
        if sender == self.called:
            self.called = None

    @precondition(lambda self: bool(self.held))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @invariant()
    def all_wait_in_order_and_within_limits(self) -> None:
        assert self.line.senders() == [sender for sender, _ in self.model]
        assert len(self.line) == len(self.model)
        assert self.line.served == self.called
        assert self.served == sorted(self.served)
        assert refused(self.load(), Load(0, 0), self.limits) is None


TestLineMachine = LineMachine.TestCase
