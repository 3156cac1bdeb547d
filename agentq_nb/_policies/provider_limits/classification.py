"""Judge an error by its fields, its headers and its message: which limit it reports, and until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from typing import Any

from agentq_nb._policies.provider_limits import time_zones
from agentq_nb._policies.provider_limits.error_fields import ErrorFields, read_error
from agentq_nb._policies.provider_limits.error_patterns import GOOGLE, Wording, meaning
from agentq_nb._policies.provider_limits.headers import HeaderFacts
from agentq_nb._policies.provider_limits.provider_limit import LimitKind, ProviderLimit, ahead
from agentq_nb._policies.provider_limits.reset_times import stated_moments

_LONGEST_MESSAGE = 20_000

_NEVER_CODES = re.compile(
    r"context(?:length|window)|contextoverflow|toolarge|modelnotfound|authentication|unauthori[sz]ed|invalidapikey|permission"
    r"|notfound|stringabovemax|contentpolicy|contentfilter|maxturns|maxbudget|budget"
)
_BILLING_CODES = re.compile(
    r"billing|insufficient(?:quota|balance|credit|fund|g1)|creditbalance|spendlimit|paymentrequired|creditsdepleted"
    r"|outofcredits|nocredits|creditsrequired|creditsexhausted|usagenotincluded"
)
_WINDOW_CODES = re.compile(r"usagelimit|quotaexhausted")
_OVERLOADED_CODES = re.compile(r"overload|capacityexhausted|capacityexceeded|slowdown|serverbusy|atcapacity")
_LIMIT_CODES = re.compile(r"ratelimit|toomanyrequests|throttl|resourceexhausted|requestlimit|toomanytokens|tokenquota")
_SPEND_CAP_CODES = re.compile(r"spendlimit")
_CLIENT_ERRORS = range(400, 500)
_NETWORK = re.compile(
    r"upstream connect|connection (?:refused|reset|error)|disconnect/reset|econn|socket", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Report:
    """Who reported it, when, and in which zone.

    :param now: aware.
    """

    agent: str
    now: datetime
    zone: tzinfo

    def latest_stated(self, text: str) -> datetime | None:
        """Return the last moment at which ``text`` says that one may try again."""
        return max(stated_moments(text, self.now, self.zone), default=None)


def judge(
    data: object,
    report: Report,
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
        if limit := judge_window(window, report):
            return limit
    if headers:
        fields.headers.insert(0, headers)
    fields.statuses |= {status} if status else {int(code) for code in re.findall(r"\b(429|529|503|402)\b", around)}
    text = "\n".join([*fields.messages, around])[:_LONGEST_MESSAGE]
    google = (
        report.agent in ("gemini", "google", "google-genai")
        or "resourceexhausted" in fields.codes
        or bool(GOOGLE.search(text))
    )
    codes = " ".join(sorted(fields.codes))
    limited = 429 in fields.statuses or bool(_LIMIT_CODES.search(codes) or _WINDOW_CODES.search(codes))
    said = meaning(text, google=google, limited=limited or any(facts.kind for facts in fields.headers))
    kind = _kind(fields, codes, said, text, google=google, limited=limited)
    if kind is None:
        return None
    if kind == "billing":
        return ProviderLimit(kind, _end_of_spend_limit(codes, text, report))
    return _with_time(kind, fields, text, report, google=google)


def _kind(
    fields: ErrorFields, codes: str, said: Wording | None, text: str, *, google: bool, limited: bool
) -> LimitKind | None:
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
    by_headers: LimitKind | None = next((facts.kind for facts in fields.headers if facts.kind), None)
    if _WINDOW_CODES.search(codes) or by_headers == "usage-window" or re.search("perday|daily|perweek", quotas):
        return "usage-window"
    if overloaded or 529 in fields.statuses:
        return "overloaded"
    if said == "usage-window" and not (quotas and google):
        return "usage-window"
    if said == "overloaded" and not (quotas and google):
        return "overloaded"
    if "token" in quotas or said == "tokens":
        return "tokens"
    if quotas:
        return "requests"
    if 503 in fields.statuses and not limited:
        return "overloaded"
    if by_headers is not None:
        return by_headers
    return "requests" if limited or said == "requests" else None


def _is_other_failure(fields: ErrorFields, said: Wording | None, text: str) -> bool:
    """Whether the status speaks of a failure that is no limit."""
    if 503 in fields.statuses:
        return bool(_NETWORK.search(text))
    if fields.statuses & {*_CLIENT_ERRORS} - {403}:
        return True
    return said is None


def _with_time(kind: LimitKind, fields: ErrorFields, text: str, report: Report, *, google: bool) -> ProviderLimit:
    now = report.now
    structured = fields.stamps or fields.lengths
    daily = (
        kind == "usage-window"
        and google
        and (re.search("perday|daily", " ".join(fields.quotas)) or re.search(r"per day|daily", text, re.IGNORECASE))
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
    if (
        kind == "usage-window"
        and _is_short(moment, now)
        and not fields.codes
        and re.search("exhausted your capacity", text)
    ):
        kind = "requests"
    return ProviderLimit(kind, ahead(moment, now))


def _is_short(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and (moment - now).total_seconds() <= 60


def _midnight_pacific(now: datetime) -> datetime:
    """Google's daily quotas begin again at midnight in California, whatever else the error says."""
    return time_zones.next_time_of_day(time(0), time_zones.named_zone("America/Los_Angeles"), now)


def _end_of_spend_limit(codes: str, text: str, report: Report) -> datetime | None:
    """Return when a limit of spending begins again, where the provider says so: at a date, or with the month."""
    if match := re.search(r"regain access on[^\n]*", text, re.IGNORECASE):
        return ahead(report.latest_stated(match[0]), report.now, longest=None)
    if _SPEND_CAP_CODES.search(codes):
        today = report.now.astimezone(UTC)
        year, month = divmod(today.year * 12 + today.month, 12)
        return datetime(year, month + 1, 1, tzinfo=UTC)
    return None


def judge_window(window: Mapping[str, Any], report: Report) -> ProviderLimit | None:
    """Read what Claude reports of its plan's windows: only a rejected one that nothing else pays for stops work."""
    if window.get("status") != "rejected" or window.get("isUsingOverage") is True:
        return None
    stamps = read_error({"resetsAt": window.get("resetsAt")}, report.now).stamps
    return ProviderLimit("usage-window", ahead(next(iter(stamps), None), report.now))
