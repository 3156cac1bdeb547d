"""What a request asks for: from its method and path to the operation, and from the result to the response."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

from agentq_nb._core.origin import under
from agentq_nb._gateway.access import Access, preflight, sub_protocols
from agentq_nb._gateway.connection import Connection, Outgoing
from agentq_nb._gateway.encodings import encoding_of
from agentq_nb._gateway.error_response import error_response
from agentq_nb._gateway.load import Load
from agentq_nb._gateway.operations import Operations
from agentq_nb._gateway.request import Request, Response, Route, decoded, json_response
from agentq_nb._gateway.target import Target, of_description, of_wire_id, target_of
from agentq_nb.errors import BadRequest, Refused

_MOST_IDS = 100

_log = logging.getLogger("agentq.gateway")


class Router:
    """Answers requests, whatever listener they come from. Errors become responses: nothing is raised.

    :param access: decides before the body of a request is read.
    :param routes: routes besides those of RivetKit's protocol.
    :param answered: counts the requests that were answered, by HTTP status.
    :ivar load: what the server has taken on. Listeners and routes take places in it.
    """

    def __init__(
        self,
        operations: Operations,
        access: Access,
        routes: tuple[Route, ...] = (),
        load: Load | None = None,
        answered: Counter[int] | None = None,
    ) -> None:
        self.load = load or Load()
        self._operations = operations
        self._access = access
        self._answered: Counter[int] = Counter() if answered is None else answered
        every_route = (
            Route("GET", ("health",), self._health),
            Route("GET", ("metadata",), self._metadata),
            Route("GET", ("actors",), self._find_actors),
            Route("PUT", ("actors",), self._ensure_actor),
            Route("POST", ("actors",), self._create_actor),
            Route("POST", ("gateway", "*", "queue", "*"), self._send),
            Route("POST", ("gateway", "*", "action", "*"), self._call),
            *routes,
        )
        self._by_shape: dict[tuple[str, int], list[Route]] = {}
        """Routes by the first segment of their paths, which is no ``*``, and the number of segments."""
        for route in every_route:
            self._by_shape.setdefault((route.path[0], len(route.path)), []).append(route)

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is refused, so that its body need not be read; else None."""
        try:
            self._access.check(request)
            if request.method != "OPTIONS" and (admit := self._find(request).admit) is not None:
                admit(request)
        except Exception as error:
            return self.failed(request, error)
        return None

    def refusal_of_connection(self, request: Request) -> Response | None:
        """Return the answer to a WebSocket that is refused. Other errors are sent to the client once it is open."""
        try:
            self._access.check(request)
        except Exception as error:
            return self.failed(request, error)
        return None

    async def answer(self, request: Request) -> Response:
        """Answer a request that :meth:`refusal` let pass."""
        try:
            with under(request.work_origin):
                if request.method == "OPTIONS":
                    answered = preflight(request)
                else:
                    answered = await self._find(request).answer(request)
        except Exception as error:
            answered = error_response(error, request)
        return self._final(request, answered)

    def failed(self, request: Request, error: Exception) -> Response:
        """Return the response to a request that is not let in, or that the listener cannot take because of its size."""
        refused = error_response(error, request)
        # Neither path nor headers: they hold the token, or what was taken for it.
        _log.info(
            "A request over %s was refused: %d %s", request.origin, refused.status, refused.headers["x-rivet-error"]
        )
        return self._final(request, refused)

    def connect(self, request: Request, outgoing: Outgoing) -> Connection:
        """Return the connection that a WebSocket asks for, once access was granted. Raises BadRequest and Refused."""
        segments = request.segments
        if len(segments) != 3 or (segments[0], segments[2]) != ("gateway", "connect"):
            raise Refused(404, "no_route", "There is no WebSocket here. Connect to /gateway/{actor}/connect.")
        protocols = sub_protocols(request)
        named = [each.removeprefix("rivet_encoding.") for each in protocols if each.startswith("rivet_encoding.")]
        encoding = encoding_of(named[0] if named else None)
        return Connection(
            self._operations, _target(request), encoding, request.origin, outgoing, request.work_origin, self.load
        )

    def _final(self, request: Request, response: Response) -> Response:
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **response.headers}
        headers |= self._access.response_headers(request)
        self._answered[response.status] += 1
        return replace(response, headers=headers)

    def _find(self, request: Request) -> Route:
        """Return the route of a request. Raises Refused."""
        segments = request.segments
        allowed: list[str] = []
        for route in self._by_shape.get((segments[0], len(segments)), ()):
            if _matches(route.path, segments):
                if route.method == request.method:
                    return route
                allowed.append(route.method)
        if allowed:
            raise Refused(405, "wrong_method", f"This path takes {', '.join(allowed)}.")
        raise Refused(404, "no_route", "There is nothing at this path.")

    # --- about the server ---------------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def _metadata(self, request: Request) -> Response:
        return json_response({"runtime": "agentq_nb", "version": "1"})

    # --- actors -------------------------------------------------------------------------------------------------------

    async def _find_actors(self, request: Request) -> Response:
        query = request.query
        if "actor_ids" in query:
            ids = query["actor_ids"].split(",")
            if len(ids) > _MOST_IDS:
                raise BadRequest(f"Ask for at most {_MOST_IDS} actors at once.")
            targets = [of_wire_id(each) for each in ids if each]
        elif "name" in query and "key" in query:
            targets = [of_description(query, "get")]
        else:
            raise BadRequest("Ask for actors by actor_ids, or by name and key.")
        return json_response({"actors": [_described(each) for each in targets if await self._operations.exists(each)]})

    async def _ensure_actor(self, request: Request) -> Response:
        target = of_description(_object(request.body), "getOrCreate")
        created = await self._operations.ensure(target)
        return json_response({"actor": _described(target), "created": created})

    async def _create_actor(self, request: Request) -> Response:
        target = of_description(_object(request.body), "getOrCreate")
        await self._operations.create(target)
        return json_response({"actor": _described(target)})

    # --- one actor ----------------------------------------------------------------------------------------------------

    async def _send(self, request: Request) -> Response:
        encoding = encoding_of(request.header("x-rivet-encoding"))
        message = encoding.read_send(request.body)
        with self.load.enter("waits") if message.wait else nullcontext():
            status, reply = await self._operations.send(
                _target(request), request.segments[3], message, request.idempotency_key
            )
        return Response(200, encoding.sent(status, reply), encoding.content_type)

    async def _call(self, request: Request) -> Response:
        encoding = encoding_of(request.header("x-rivet-encoding"))
        args = encoding.read_action(request.body)
        output = await self._operations.call(_target(request), request.segments[3], args)
        return Response(200, encoding.action_result(output), encoding.content_type)


def _matches(path: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return all(expected in ("*", segment) for expected, segment in zip(path, segments, strict=True))


def _target(request: Request) -> Target:
    """Return the actor in a path of ``/gateway``. What follows an ``@`` that is not encoded is the token."""
    return target_of(decoded(request.path.split("/")[2].partition("@")[0]), request.query)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The body is no JSON.") from None
    if not isinstance(found, dict):
        raise BadRequest("The body is a JSON object.")
    return cast("dict[str, Any]", found)


def _described(target: Target) -> dict[str, Any]:
    return {"actor_id": target.wire_id, "name": target.spelling, "key": target.wire_key}
