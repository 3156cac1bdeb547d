"""All that is live, in memory: what is in which queue, when it is due, which keys are taken, and who is to be told.

No I/O: what is written, and what may be known before it is, is the keeper's affair.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence

from agentq_nb._brokers.base import FinalStatus, MessageStatus, Offer, QueueStatus, StoredResult
from agentq_nb._brokers.local.crash_suspects import Suspects
from agentq_nb._brokers.local.event_rows import Memory
from agentq_nb._brokers.local.idempotency import Keys
from agentq_nb._brokers.local.queues import LARGEST_BODY, Box, Entry, Pausing, Shelf
from agentq_nb._brokers.local.ready_actors import Timetable, Wakeful
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb.errors import QueueFull


class Stock:
    """The live messages of every actor."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.boxes: dict[ActorId, Box] = {}
        self.entries: dict[MessageId, Entry] = {}
        self.keys = Keys()
        self.suspects = Suspects(clock)
        self.settled = 0
        """How many messages were settled since this memory began."""
        self.completed_before: dict[tuple[ActorId, str], int] | None = None
        """How many messages of each queue had completed before this memory began; None while nobody has asked."""
        self._order = 0
        self._timetable = Timetable[Entry](clock, self._fall_due)
        self._pauses = Timetable[Pausing](clock, self.end_pause)
        self._subscriptions: list[weakref.ref[Wakeful]] = []

    def fill(self, memory: Memory, order: int) -> None:
        """Begin with what the log held; nothing is ready before :meth:`arrive`. ``order`` is the last one given."""
        self._forget_times()
        self.boxes, self.entries, self._order = memory.boxes, memory.entries, order
        self.keys = Keys()
        self.completed_before = None
        for entry in memory.entries.values():
            entry.shelf = self.shelf(entry.actor, entry.queue)
            entry.shelf.pace.begin(self._clock.monotonic())
        for (actor, queue, key), message in memory.keys.items():
            self.keys.name((actor, queue, key), message)
        for actor, queue, until in memory.pauses:
            if until is None or until > self._clock.time():
                self.expect_end(self.pause(actor, queue, until))

    def box(self, actor: ActorId) -> Box:
        box = self.boxes.get(actor)
        if box is None:
            box = self.boxes[actor] = Box(actor, gate=self.suspects if self.suspects else None)
        return box

    def shelf(self, actor: ActorId, queue: str) -> Shelf:
        box = self.boxes.get(actor)
        shelf = None if box is None else box.shelves.get(queue)
        return self.box(actor).shelf(queue) if shelf is None else shelf

    def next_order(self) -> int:
        self._order += 1
        return self._order

    # --- in -----------------------------------------------------------------------------------------------------------

    def enter(self, offer: Offer) -> Entry:
        """Take an offer in; it is handed out only after :meth:`arrive`. Raises QueueFull."""
        message, actor, queue, body, priority, delay, key, max_size = offer
        shelf = self.shelf(actor, queue)
        if max_size is not None and shelf.live >= max_size:
            raise QueueFull(actor, queue, max_size)
        now = self._clock.time()
        due = now + delay if delay else 0.0
        self._order += 1
        entry = Entry(message, actor, queue, body, len(body), self._order, now, priority, due, False, key)
        self.hold(entry, shelf)
        if key is not None:
            self.keys.name((actor, queue, key), message)
        return entry

    def hold(self, entry: Entry, shelf: Shelf) -> None:
        """Count an entry as live."""
        self.entries[entry.id] = entry
        entry.shelf = shelf
        if not shelf.live:
            shelf.pace.begin(self._clock.monotonic())
        shelf.live += 1

    def withdraw(self, entries: Iterable[Entry]) -> None:
        """They were entered just now, and are not taken in after all."""
        for entry in entries:
            del self.entries[entry.id]
            entry.shelf.live -= 1
            if entry.key is not None:
                self.keys.free((entry.actor, entry.queue, entry.key), entry.id)

    def reclaim_key(self, entry: Entry) -> None:
        """A message that failed has lost its key; back in its queue it takes it again unless another may have it."""
        if entry.key is None:
            return
        name = (entry.actor, entry.queue, entry.key)
        if self.keys.find(name) is None and not self.keys.clues(name):
            self.keys.name(name, entry.id)
        else:
            entry.key = None

    def arrive(self, entries: Iterable[Entry]) -> None:
        """They are durable: place those that are still there."""
        for entry in entries:
            if not entry.gone:
                self.place(entry)

    def place(self, entry: Entry) -> None:
        """Onto its shelf: ready, or delayed until it is due. It is durable, so a large body need not be kept."""
        shelf = entry.shelf
        if entry.size > LARGEST_BODY:
            entry.body = b""
        if entry.due and entry.due > self._clock.time():
            shelf.delayed[entry.id] = entry
            if entry.in_order:
                shelf.blockers.add(entry)
            self._timetable.add(entry)
            return
        shelf.add(entry)
        self.announce(shelf)

    def _fall_due(self, entry: Entry) -> None:
        shelf = entry.shelf
        if shelf.delayed.pop(entry.id, None) is None:
            return
        shelf.blockers.discard(entry)
        shelf.add(entry)
        self.announce(shelf)

    # --- out ----------------------------------------------------------------------------------------------------------

    def take_back(self, entry: Entry) -> None:
        """Nobody handles it any more."""
        entry.shelf.running.pop(entry.id, None)
        entry.running = False
        if self.suspects:
            self.suspects.ended(entry)

    def untake(self, entry: Entry, until: float = 0.0) -> None:
        """It was taken and not handed out: back to its place. ``until``: nothing of its queue is ready before then."""
        shelf = entry.shelf
        shelf.running.pop(entry.id, None)
        entry.running = entry.reading = False
        if until:
            entry.due = until
            shelf.blockers.add(entry)
        self.place(entry)
        if self.suspects:
            self.suspects.untaken()

    def remove(self, entry: Entry, status: FinalStatus) -> None:
        """It is settled: out of memory. A message that did not complete frees its idempotency key."""
        entry.gone = True
        del self.entries[entry.id]
        self.settled += 1
        shelf = entry.shelf
        shelf.live -= 1
        if status in ("completed", "failed"):
            shelf.handled += 1
            shelf.completed += status == "completed"
            shelf.pace.note(self._clock.monotonic())
        if entry.running:
            del shelf.running[entry.id]
            entry.running = False
        elif shelf.delayed.pop(entry.id, None) is None:
            shelf.forget_one()
        else:
            self._timetable.forget_one()
            if entry in shelf.blockers:
                shelf.blockers.remove(entry)
                self.announce(shelf)
        if status == "failed":
            shelf.dead[entry.id] = self.settled
        if entry.key is not None:
            name = (entry.actor, entry.queue, entry.key)
            if status == "completed":
                self.keys.completed(name, entry.id, entry.first)
            else:
                self.keys.free(name, entry.id)
        if self.suspects:
            self.suspects.ended(entry)

    def running(self) -> list[Entry]:
        """What was handed out."""
        return [entry for entry in self.entries.values() if entry.running and not entry.reading]

    # --- pauses -------------------------------------------------------------------------------------------------------

    def pause(self, actor: ActorId, queue: str, until: float | None) -> Pausing:
        """From now on; it ends by itself only after :meth:`expect_end`."""
        shelf = self.shelf(actor, queue)
        if shelf.pause is not None:
            shelf.pause.gone = True
            self._pauses.forget_one()
        shelf.pause = Pausing(actor, queue, math.inf if until is None else until, self.next_order())
        return shelf.pause

    def paused(self, actor: ActorId, queue: str) -> Pausing | None:
        """The queue's present pause."""
        box = self.boxes.get(actor)
        shelf = None if box is None else box.shelves.get(queue)
        return None if shelf is None else shelf.pause

    def expect_end(self, pause: Pausing) -> None:
        """The pause is durable: end it when its time has come."""
        if not pause.gone and pause.due < math.inf:
            self._pauses.add(pause)

    def end_pause(self, pause: Pausing) -> None:
        """Go on with its queue, unless another pause has taken its place."""
        if pause.gone:
            return
        pause.gone = True
        shelf = self.shelf(pause.actor, pause.queue)
        shelf.pause = None
        self.announce(shelf)

    # --- who is told --------------------------------------------------------------------------------------------------

    def announce(self, shelf: Shelf) -> None:
        """Something of it may be due: tell whoever runs the actor, else those who look for work."""
        box = shelf.box
        if box.lease is not None:
            if box.waiters:
                box.wake(shelf.name)
            return
        for reference in self._subscriptions:
            if (subscription := reference()) is not None:
                subscription.look_at(shelf)

    def subscribe(self, wanted: Mapping[str, Collection[str] | None]) -> Wakeful:
        subscription = Wakeful(wanted)
        self._subscriptions = [reference for reference in self._subscriptions if reference() is not None]
        self._subscriptions.append(weakref.ref(subscription))
        for box in self.boxes.values():
            if box.lease is None:
                for shelf in box.shelves.values():
                    subscription.look_at(shelf)
        return subscription

    def lose_leases(self) -> None:
        """Nobody runs anything here any more, and nothing falls due."""
        self._forget_times()
        for box in self.boxes.values():
            if box.lease is not None:
                box.lease.lose()

    def _forget_times(self) -> None:
        self._timetable.clear()
        self._pauses.clear()
        self.suspects.clear()

    def close(self) -> None:
        self.lose_leases()
        for reference in self._subscriptions:
            if (subscription := reference()) is not None:
                subscription.close()

    # --- how things stand ---------------------------------------------------------------------------------------------

    def standing(self, entry: Entry) -> StoredResult:
        """What is known of a live message."""
        status: MessageStatus = "queued"
        if entry.running:
            status = "running"
        elif entry.due > self._clock.time():
            status = "delayed"
        attempts = entry.ended + (1 if entry.running else 0)
        due = entry.due if status == "delayed" else None
        return StoredResult(entry.id, entry.actor, entry.queue, status, attempts, due=due, problem=entry.problem)

    def exists(self, actor: ActorId) -> bool:
        box = self.boxes.get(actor)
        return box is not None and (box.state is not None or any(shelf.live for shelf in box.shelves.values()))

    def states(self, name: str) -> dict[ActorId, bytes]:
        """Of the actors of this name that were created."""
        boxes = [box for box in self.boxes.values() if actor_name(box.actor) == name]
        return {box.actor: box.state for box in boxes if box.state is not None}

    def status(self, actor: ActorId | None) -> Sequence[QueueStatus]:
        if actor is None:
            return [queue for box in self.boxes.values() for queue in self.status_of(box)]
        box = self.boxes.get(actor)
        return [] if box is None else self.status_of(box)

    def status_of(self, box: Box) -> list[QueueStatus]:
        """The queues of one actor."""
        return [self._shelf_status(box, shelf) for shelf in box.shelves.values()]

    def _shelf_status(self, box: Box, shelf: Shelf) -> QueueStatus:
        first, pause = shelf.first(), shelf.pause
        before = (self.completed_before or {}).get((box.actor, shelf.name), 0)
        return QueueStatus(
            actor=box.actor,
            queue=shelf.name,
            ready=shelf.count_ready(),
            delayed=len(shelf.delayed),
            running=len(shelf.running),
            dead=len(shelf.dead),
            oldest=None if first is None else max(0.0, self._clock.time() - first.created_at),
            running_ids=tuple(shelf.running),
            paused=pause is not None,
            paused_until=None if pause is None or pause.due == math.inf else pause.due,
            handled=shelf.handled,
            completed=before + shelf.completed,
            per_minute=round(shelf.pace.per_minute(self._clock.monotonic()), 1),
            held_back=pause is None and first is not None and self.suspects.hold_back(box.actor),
        )
