"""Messages that are not delivered for now, because a thread that cannot be stopped still works on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agentq_nb._brokers.local.queues import LiveMessage
from agentq_nb._core.ids import MessageId


class Withheld:
    """The withheld messages of one broker. While they wait, they are among their queues' ``delayed`` ones.

    :param entries: finds the live messages.
    :param place: makes a message ready, or delayed.
    """

    def __init__(
        self, entries: Callable[[], Mapping[MessageId, LiveMessage]], place: Callable[[LiveMessage], None]
    ) -> None:
        self._entries = entries
        self._place = place
        self._messages: set[MessageId] = set()

    def __bool__(self) -> bool:
        return bool(self._messages)

    def __contains__(self, message: MessageId) -> bool:
        return message in self._messages

    def add(self, message: MessageId) -> Callable[[], None]:
        """Withhold a message, running or not. Call what is returned to end that."""
        self._messages.add(message)
        entry = self._entries().get(message)
        if entry is not None and not entry.running and message not in entry.queue_state.delayed:
            entry.queue_state.discard(entry)
            entry.queue_state.delayed[message] = entry
        return lambda: self._remove(message)

    def _remove(self, message: MessageId) -> None:
        self._messages.discard(message)
        entry = self._entries().get(message)
        if entry is not None and entry.queue_state.delayed.pop(message, None) is not None:
            self._place(entry)
