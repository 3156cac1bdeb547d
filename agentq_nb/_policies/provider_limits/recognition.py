"""Recognise a provider's limit in what it, or the agent that uses it, reported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, tzinfo
from typing import Any, Literal, cast

from agentq_nb._policies.provider_limits import banners, time_zones
from agentq_nb._policies.provider_limits.error_fields import ErrorFields, is_error, literals, read_error
from agentq_nb._policies.provider_limits.headers import HeaderFacts, read_headers
from agentq_nb._policies.provider_limits.reset_times import stated_moments
from agentq_nb._policies.provider_limits.values import LimitKind, ProviderLimit, ahead
from agentq_nb._policies.provider_limits.wording import GOOGLE, meaning

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 100_000  # characters of a report that are read, from its end

_NEVER_CODES = re.compile(
    r"context(?:length|window)|contextoverflow|toolarge|modelnotfound|authentication|unauthori[sz]ed|invalidapikey|permission"
    r"|notfound|stringabovemax|contentpolicy|contentfilter|maxturns|maxbudget|budget"
)
_BILLING_CODES = re.compile(
    r"billing|insufficient(?:quota|balance|credit|fund|g1)|creditbalance|spendlimit|paymentrequired|creditsdepleted"
    r"|outofcredits|nocredits|creditsrequired|creditsexhausted|usagenotincluded"
)
_WINDOW_CODES = re.compile(r"usagelimit|quotaexhausted")
_OVERLOADED_CODES = re.compile(
    r"overload|capacityexhausted|capacityexceeded|slowdown|serverbusy|atcapacity"
)
_LIMIT_CODES = re.compile(r"ratelimit|toomanyrequests|throttl|resourceexhausted|requestlimit|toomanytokens|tokenquota")
_SPEND_CAP_CODES = re.compile(r"spendlimit")
_CLIENT_ERRORS = range(400, 500)
_NETWORK = re.compile(r"upstream connect|connection (?:refused|reset|error)|disconnect/reset|econn|socket", re.IGNORECASE)


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
    report = _Report(agent, now, _zone(tz, now))
    data = sample if isinstance(sample, Mapping) else _parsed(sample) if where != "text" else None
    if where == "text" and isinstance(sample, str):
        return _of_text(sample, report, turn, had_tool_calls)
    if not isinstance(data, (Mapping, list)):
        return _of_text(str(sample), report, "failed" if where == "http" else turn, had_tool_calls)
    if where == "http":
        return _of_http(cast("Any", data), report)
    return _of_acp(cast("Any", data), report, turn, had_tool_calls)


class _Report:
    """Who reported it, when and where."""

    def __init__(self, agent: str, now: datetime, zone: tzinfo) -> None:
        self.agent = agent
        self.now = now
        self.zone = zone

    def latest_stated(self, text: str) -> datetime | None:
        return max(stated_moments(text, self.now, self.zone), default=None)


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


def _of_text(text: str, report: _Report, turn: str | None, had_tool_calls: bool) -> ProviderLimit | None:
    if turn == "ended" and had_tool_calls:
        return None
    text = _ANSI.sub("", text[-_LONGEST:]).replace("\xa0", " ")
    found = list(literals(text))
    if turn != "failed":
        return _of_whole_text(text, found, report)
    for start, end, value in reversed(found):
        if is_error(value) and not banners.is_prose(_line_before(text, start)):
            around = f"{_line_before(text, start)} {text[end : end + 300]}"
            if limit := _of_error(value, report, around=around):
                return limit
    blanked = _without(text, found)
    whole = banners.message_of_error(blanked)
    if whole and (limit := _of_error({"message": whole.text}, report, status=whole.status)):
        return limit
    for banner in banners.banners_within(blanked[-20_000:]):
        if limit := _of_error({"message": banner.text}, report, status=banner.status):
            return limit
    return None


def _of_whole_text(text: str, found: list[tuple[int, int, Any]], report: _Report) -> ProviderLimit | None:
    errors = [value for _, _, value in found if is_error(value)]
    banner = banners.whole_banner(_without(text, found), reported=bool(errors))
    if banner is None:
        return None
    if not errors:
        return _of_error({"message": text}, report, status=banner.status)
    around = _without(text, found).replace("§", " ")
    return _of_error(errors, report, around=around, status=banner.status)


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


def _of_http(data: Mapping[str, Any] | list[Any], report: _Report) -> ProviderLimit | None:
    if not isinstance(data, Mapping) or not _is_response(data):
        return _of_error(data, report)
    status = next((data[key] for key in ("status", "status_code", "statusCode") if isinstance(data.get(key), int)), None)
    headers = data.get("headers")
    facts = read_headers(cast("Mapping[str, Any]", headers), report.now) if isinstance(headers, Mapping) else None
    body = data.get("body")
    if isinstance(body, str):
        body = _parsed(body) or {"message": body}
    if status is not None and status < 400 and not (is_error(body) and not _is_answer(body)):
        return None
    return _of_error(body or {}, report, status=status, headers=facts)


def _is_response(data: Mapping[str, Any]) -> bool:
    return any(key in data for key in ("headers", "body")) and any(key in data for key in ("status", "status_code", "statusCode"))


def _is_answer(body: object) -> bool:
    return isinstance(body, Mapping) and cast("Mapping[str, Any]", body).get("error") is None and (
        cast("Mapping[str, Any]", body).get("type") != "error"
    )


def _of_acp(data: Mapping[str, Any] | list[Any], report: _Report, turn: str | None, had_tool_calls: bool) -> ProviderLimit | None:
    whole = read_error(data, report.now)
    for window in whole.windows:
        if limit := _of_window(window, report):
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
        return _of_error({"error": error}, report)
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


def _of_window(window: Mapping[str, Any], report: _Report) -> ProviderLimit | None:
    """Read what Claude reports of its plan's windows: only a rejected one that nothing else pays for stops work."""
    if window.get("status") != "rejected" or window.get("isUsingOverage") is True:
        return None
    stamps = read_error({"resetsAt": window.get("resetsAt")}, report.now).stamps
    return ProviderLimit("usage-window", ahead(next(iter(stamps), None), report.now))


# --- errors -----------------------------------------------------------------------------------------------------------


def _of_error(
    data: object,
    report: _Report,
    *,
    around: str = "",
    status: int | None = None,
    headers: HeaderFacts | None = None,
) -> ProviderLimit | None:
    """Judge an error by its fields, its headers and its message, in this order.

    :param around: text that stood around the error's JSON.
    """
    fields = read_error(data, report.now)
    for window in fields.windows:
        if limit := _of_window(window, report):
            return limit
    if headers:
        fields.headers.insert(0, headers)
    fields.statuses |= {status} if status else {int(code) for code in re.findall(r"\b(429|529|503|402)\b", around)}
    text = "\n".join([*fields.messages, around])
    google = report.agent in ("gemini", "google", "google-genai") or "resourceexhausted" in fields.codes or bool(GOOGLE.search(text))
    codes = " ".join(sorted(fields.codes))
    limited = 429 in fields.statuses or bool(_LIMIT_CODES.search(codes) or _WINDOW_CODES.search(codes))
    said = meaning(text, google=google, limited=limited or any(facts.kind for facts in fields.headers))
    kind = _kind(fields, codes, said, text, google=google, limited=limited)
    if kind is None:
        return None
    if kind == "billing":
        return ProviderLimit(kind, _end_of_spend_limit(codes, text, report))
    return _with_time(kind, fields, said, text, report, google=google)


def _kind(fields: ErrorFields, codes: str, said: str | None, text: str, *, google: bool, limited: bool) -> LimitKind | None:
    if fields.quota_is_zero or _BILLING_CODES.search(codes) or said == "billing":
        return "billing"
    if said == "never" or _NEVER_CODES.search(codes):
        return None
    if 402 in fields.statuses:
        return "billing"
    overloaded = bool(_OVERLOADED_CODES.search(codes))
    if not limited and not overloaded and _is_other_failure(fields, said, text):
        return None
    quotas = " ".join(sorted(fields.quotas))
    by_headers = next((facts.kind for facts in fields.headers if facts.kind), None)
    if _WINDOW_CODES.search(codes) or by_headers == "usage-window" or re.search("perday|daily|perweek", quotas):
        return "usage-window"
    if overloaded or 529 in fields.statuses:
        return "overloaded"
    if said in ("usage-window", "overloaded") and not (quotas and google):
        return cast("LimitKind", said)
    if "token" in quotas or said == "tokens":
        return "tokens"
    if quotas:
        return "requests"
    if 503 in fields.statuses and not limited:
        return "overloaded"
    if by_headers:
        return by_headers
    return "requests" if limited or said == "requests" else cast("LimitKind | None", said)


def _is_other_failure(fields: ErrorFields, said: str | None, text: str) -> bool:
    """Whether the status speaks of a failure that is no limit."""
    if 503 in fields.statuses:
        return bool(_NETWORK.search(text))
    if fields.statuses & {*_CLIENT_ERRORS} - {403}:
        return True
    return said is None


def _with_time(
    kind: LimitKind, fields: ErrorFields, said: str | None, text: str, report: _Report, *, google: bool
) -> ProviderLimit:
    now = report.now
    structured = fields.stamps or fields.lengths
    daily = kind == "usage-window" and google and (
        re.search("perday|daily", " ".join(fields.quotas)) or re.search(r"per day|daily", text, re.IGNORECASE)
    )
    stated = report.latest_stated(text)
    candidates: list[datetime | None] = [
        *structured[:1],
        _midnight_pacific(now) if daily else None,
        *(facts.retry_at for facts in fields.headers),
        *(facts.reset_at for facts in fields.headers),
        *fields.retries[:1],
        stated,
    ]
    moment = next((candidate for candidate in candidates if candidate), None)
    if kind == "usage-window" and _is_short(moment, now) and not fields.codes and re.search("exhausted your capacity", text):
        kind = "requests"
    return ProviderLimit(kind, ahead(moment, now))


def _is_short(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and (moment - now).total_seconds() <= 60


def _midnight_pacific(now: datetime) -> datetime:
    """Google's daily quotas begin again at midnight in California, whatever else the error says."""
    return time_zones.next_time_of_day(time(0), time_zones.named_zone("America/Los_Angeles"), now)


def _end_of_spend_limit(codes: str, text: str, report: _Report) -> datetime | None:
    """Return when a limit of spending begins again, where the provider says so: at a date, or with the month."""
    if match := re.search(r"regain access on[^\n]*", text, re.IGNORECASE):
        return ahead(report.latest_stated(match[0]), report.now, longest=None)
    if _SPEND_CAP_CODES.search(codes):
        today = report.now.astimezone(UTC)
        year, month = divmod(today.year * 12 + today.month, 12)
        return datetime(year, month + 1, 1, tzinfo=UTC)
    return None
