"""Carry out the calls of other hosts, and of clients without one, to actors that this host may run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.exchange import Exchange, Request
from agentq_nb._brokers.messages import Answer
from agentq_nb._client.class_descriptions import encoded_description
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.clock import Clock
from agentq_nb._core.error_fields import error_json
from agentq_nb._core.ids import ActorId
from agentq_nb._core.origin import under
from agentq_nb._core.tagged_values import dumped, loaded
from agentq_nb._host.awake_actors import AwakeElsewhere
from agentq_nb._host.outgoing_calls import write_status
from agentq_nb._runtime import actions
from agentq_nb._runtime.actions import presentable
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb._runtime.call_task import CallTask
from agentq_nb.errors import Aborted, AgentqError, LeaseLost, Unavailable, ValidationFailed

_AGAIN = 1.0
"""Seconds until an answer is written again that the server did not take."""


class CalledHost(Protocol):
    """The host, as far as carrying out calls needs it."""

    clock: Clock

    @property
    def classes(self) -> Mapping[str, type[Actor]]: ...
    @property
    def running(self) -> bool: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...
    async def create_here(self, actor: ActorId, input: Any, *, must_be_new: bool) -> None: ...
    async def status_here(self, actor: ActorId) -> ActorStatus: ...
    async def awake_for(self, actor: ActorId, action: str, input: Any) -> AwakeActor: ...


@dataclass
class _Begun:
    """A request that this host has taken: its action, once that runs, and whether its caller has withdrawn it."""

    call_task: CallTask | None = None
    withdrawn: bool = False


class IncomingCalls:
    """Takes requests and answers them.

    What an action returns or raises is written in the commit of what it changed, so its caller learns of both or of
    neither. An answer without a commit is written only where the request has none.
    """

    def __init__(self, host: CalledHost, exchange: Exchange) -> None:
        self._host = host
        self._exchange = exchange
        self._begun: dict[str, _Begun] = {}
        exchange.on_withdrawn = self._withdrawn

    async def work(self) -> None:
        """Carry out requests until cancelled. Raises Unavailable."""
        await self.describe(self._host.classes)
        async for request in self._exchange.requests(lambda: list(self._host.classes), self._begun.keys()):
            self._begun[request.id] = _Begun()
            self._host.spawn(self._carry_out, request)

    async def describe(self, classes: Mapping[str, type[Actor]]) -> None:
        """Tell clients without a host what these classes declare. Raises Unavailable."""
        await self._exchange.describe({name: encoded_description(cls) for name, cls in classes.items()})

    def _withdrawn(self, request: str) -> None:
        begun = self._begun.get(request)
        if begun is not None and not begun.withdrawn:
            begun.withdrawn = True
            if begun.call_task is not None:
                begun.call_task.stop()

    async def _carry_out(self, request: Request) -> None:
        try:
            with under(request.origin):
                await self._until_written(await self._outcome(request))
        finally:
            del self._begun[request.id]

    async def _outcome(self, request: Request) -> Callable[[], Coroutine[Any, Any, None]]:
        """Carry out a request; return what tells its end to the caller, as far as the commit of an action has not."""
        answer = Answer(request.id, b"null")
        try:
            if request.verb == "call":
                await self._call(request)
            elif request.verb == "status":
                answer = Answer(request.id, write_status(await self._host.status_here(request.actor)))
            else:
                await self._create(request)
        except AwakeElsewhere:
            return partial(self._exchange.give_back, request.id)
        except (LeaseLost, Unavailable):
            answer = Answer(request.id, error=error_json(_lost(request)))
        except Exception as error:
            answer = Answer(request.id, error=error_json(_presented(error, request)))
        return partial(self._exchange.answer, answer)

    async def _call(self, request: Request) -> None:
        action, args, kwargs, given = loaded(request.asked)
        activation = await self._host.awake_for(request.actor, action, given)
        begun = self._begun[request.id]
        if begun.withdrawn:
            raise Aborted(request.actor, "no longer waited for", action=action)
        call, begun.call_task = actions.begin(activation, action, args, kwargs, origin=request.origin)
        await actions.settle(activation, call, begun.call_task, partial(_answered, request, action))

    async def _create(self, request: Request) -> None:
        (given,) = loaded(request.asked)
        await self._host.create_here(request.actor, given, must_be_new=request.verb == "create")

    async def _until_written(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Write an answer, again while the server cannot be reached."""
        while True:
            try:
                return await write()
            except Unavailable:
                if not self._host.running:
                    return None  # the end of the session is the answer
                await self._host.clock.sleep(_AGAIN)


def _answered(request: Request, action: str, result: Any, error: BaseException | None) -> Answer:
    """Return the answer to write with what an action has changed."""
    if error is None:
        try:
            text = dumped(result, f"The result of action `{action}`")
            return Answer(request.id, text.encode("utf-8", "surrogatepass"))
        except ValidationFailed as unfit:
            error = unfit
    return Answer(request.id, error=error_json(_presented(error, request)))


def _presented(error: BaseException, request: Request) -> AgentqError:
    presented = presentable(error, f"{request.verb}", request.actor)
    assert isinstance(presented, AgentqError)  # it makes one of anything else
    return presented


def _lost(request: Request) -> Unavailable:
    return Unavailable(
        f"The host that ran actor '{request.actor}' lost it, or could not reach the server, so how far the call got is not "
        "known. It is not repeated automatically: check what it did, then call again if needed."
    )
