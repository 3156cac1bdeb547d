"""Recognise a provider's limit in what it, or the agent that uses it, reported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, cast

from agentq_nb._policies.provider_limits import banners, time_zones
from agentq_nb._policies.provider_limits.classification import Report, judge, judge_window
from agentq_nb._policies.provider_limits.error_fields import is_error, literals, read_error
from agentq_nb._policies.provider_limits.headers import read_headers
from agentq_nb._policies.provider_limits.plain_text import plain
from agentq_nb._policies.provider_limits.provider_limit import ProviderLimit

_LONGEST = 100_000  # characters of a report that are read, from its end


def recognise(
    sample: str | Mapping[str, Any],
    *,
    where: Literal["text", "http", "acp"],
    agent: str,
    now: datetime,
    tz: tzinfo | str | None = None,
    turn: Literal["failed", "ended"] | None = None,
    had_tool_calls: bool = False,
) -> ProviderLimit | None:
    """Return the limit that ``sample`` reports, or None if it reports none.

    Structured fields count before headers, and headers before text. Text counts only if the turn failed, or if it is
    nothing but the banner of a limit.

    :param sample: what was reported: text, or JSON as a dict or as text.
    :param where: ``"text"``: written by an agent or raised as an error; ``"http"``: a response, as its body or as
        ``{"status", "headers", "body"}``; ``"acp"``: a message of the Agent Client Protocol.
    :param agent: who reported it: an agent's name, or a provider's or library's.
    :param now: when it was reported; aware.
    :param tz: the zone of the machine that it was reported on, for times without one; by default that of ``now``.
    :param turn: how the agent's turn ended: ``"failed"`` by an error, ``"ended"`` by its own account; None: unknown.
    :param had_tool_calls: the turn used tools. A turn that used tools and ended by its own account is an answer.

    Raises ``ValueError`` for a ``now`` without a zone, and for an unknown ``where``.
    """
    if now.tzinfo is None:
        raise ValueError(f"now must be an aware datetime, not {now!r}.")
    if where not in ("text", "http", "acp"):
        raise ValueError(f"where must be 'text', 'http' or 'acp', not {where!r}.")
    report = Report(agent, now, _zone(tz, now))
    data = sample if isinstance(sample, Mapping) else _parsed(sample) if where != "text" else None
    if where == "text" and isinstance(sample, str):
        return _of_text(sample, report, turn, had_tool_calls)
    if not isinstance(data, (Mapping, list)):
        return _of_text(str(sample), report, "failed" if where == "http" else turn, had_tool_calls)
    if where == "http":
        return _of_http(cast("Any", data), report)
    return _of_acp(cast("Any", data), report, turn, had_tool_calls)


def _zone(tz: tzinfo | str | None, now: datetime) -> tzinfo:
    if isinstance(tz, str):
        try:
            return time_zones.named_zone(tz)
        except time_zones.UnknownZone:
            raise ValueError(f"There is no time zone {tz!r}.") from None
    return tz or now.tzinfo or UTC


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# --- text -------------------------------------------------------------------------------------------------------------


def _of_text(text: str, report: Report, turn: str | None, had_tool_calls: bool) -> ProviderLimit | None:
    if turn == "ended" and had_tool_calls:
        return None
    text = plain(text[-_LONGEST:])
    found = list(literals(text))
    if turn != "failed":
        return _of_whole_text(text, found, report)
    for start, end, value in reversed(found):
        if is_error(value) and not banners.is_prose(_line_before(text, start)):
            around = f"{_line_before(text, start)} {text[end : end + 300]}"
            if limit := judge(value, report, around=around):
                return limit
    blanked = _without(text, found)
    for banner in banners.banners_within(blanked):
        if limit := judge({"message": banner.text}, report, status=banner.status):
            return limit
    return None


def _of_whole_text(text: str, found: list[tuple[int, int, Any]], report: Report) -> ProviderLimit | None:
    errors = [value for _, _, value in found if is_error(value)]
    banner = banners.whole_banner(_without(text, found), reported=bool(errors))
    if banner is None:
        return None
    if not errors:
        return judge({"message": text}, report, status=banner.status)
    around = _without(text, found).replace("§", " ")
    return judge(errors, report, around=around, status=banner.status)


def _without(text: str, found: Iterable[tuple[int, int, Any]]) -> str:
    """Return the text with ``§`` in the place of each object that was found."""
    pieces: list[str] = []
    position = 0
    for start, end, _ in found:
        pieces += text[position:start], "§"
        position = end
    return "".join([*pieces, text[position:]])


def _line_before(text: str, start: int) -> str:
    return text[max(0, start - 200) : start].rsplit("\n", 1)[-1]


# --- HTTP and ACP -----------------------------------------------------------------------------------------------------


def _of_http(data: Mapping[str, Any] | list[Any], report: Report) -> ProviderLimit | None:
    if not isinstance(data, Mapping) or not _is_response(data):
        return judge(data, report)
    status = next(
        (data[key] for key in ("status", "status_code", "statusCode") if isinstance(data.get(key), int)), None
    )
    headers = data.get("headers")
    facts = read_headers(cast("Mapping[str, Any]", headers), report.now) if isinstance(headers, Mapping) else None
    body = data.get("body")
    if isinstance(body, str):
        body = _parsed(body) or {"message": body}
    if status is not None and status < 400 and not (is_error(body) and not _is_answer(body)):
        return None
    return judge(body or {}, report, status=status, headers=facts)


def _is_response(data: Mapping[str, Any]) -> bool:
    return any(key in data for key in ("headers", "body")) and any(
        key in data for key in ("status", "status_code", "statusCode")
    )


def _is_answer(body: object) -> bool:
    return (
        isinstance(body, Mapping)
        and cast("Mapping[str, Any]", body).get("error") is None
        and (cast("Mapping[str, Any]", body).get("type") != "error")
    )


def _of_acp(
    data: Mapping[str, Any] | list[Any], report: Report, turn: str | None, had_tool_calls: bool
) -> ProviderLimit | None:
    whole = read_error(data, report.now)
    for window in whole.windows:
        if limit := judge_window(window, report):
            return limit
    if not isinstance(data, Mapping):
        return None
    error = data.get("error")
    turn_of_codex: object = data.get("turn") or _at(data, "params", "turn")
    if error is None and isinstance(turn_of_codex, Mapping):
        error = cast("Mapping[str, Any]", turn_of_codex).get("error")
    if error is None and _at(data, "params", "error") is not None:
        error = _at(data, "params", "error")
    if error is not None:
        return judge({"error": error}, report)
    update = _at(data, "params", "update") or data.get("update") or data
    if isinstance(update, Mapping) and cast("Mapping[str, Any]", update).get("sessionUpdate") == "agent_message_chunk":
        text = _at(cast("Mapping[str, Any]", update), "content", "text")
        if isinstance(text, str):
            return _of_text(text, report, turn, had_tool_calls)
    return None


def _at(data: Mapping[str, Any], *keys: str) -> Any:
    value: Any = data
    for key in keys:
        value = cast("Mapping[str, Any]", value).get(key) if isinstance(value, Mapping) else None
    return value
