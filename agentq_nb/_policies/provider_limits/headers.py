"""What the headers of an HTTP response say about limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from agentq_nb._policies.provider_limits.provider_limit import LimitKind
from agentq_nb._policies.provider_limits.reset_times import after, moment_of, number

_MEASURES = ("remaining", "reset", "limit", "used")


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What the headers say; each field is None where they say nothing.

    :param retry_at: when to ask again, in the server's own words (``retry-after``).
    :param reset_at: when the bucket or window that is used up is full again.
    :param kind: which limit it is.
    """

    retry_at: datetime | None = None
    reset_at: datetime | None = None
    kind: LimitKind | None = None


@dataclass(slots=True)
class _Bucket:
    name: str
    remaining: float | None = None
    reset: datetime | None = None

    @property
    def kind(self) -> LimitKind:
        if any(word in self.name for word in ("day", "daily", "week", "month")):
            return "usage-window"
        return "tokens" if "token" in self.name else "requests"


def read_headers(headers: Mapping[str, Any], now: datetime) -> HeaderFacts:
    """Read the headers, counting their moments from the server's own clock where they give it."""
    values = dict(_texts(headers))
    server_now = moment_of(values.get("date"), now) if values.get("date") else None
    skew = now - server_now if server_now else timedelta(0)
    retry_at = _retry_at(values, now, skew)
    window = _codex_window(values, now, skew) or _unified_window(values, now, skew)
    if window:
        return HeaderFacts(retry_at, window[0], "usage-window")
    spent, kind = _spent_bucket(_buckets(values, now, skew))
    return HeaderFacts(retry_at, spent, kind)


def _texts(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        one: object = next(iter(cast("list[object]", value)), None) if isinstance(value, list) else value
        if isinstance(one, (str, int, float)) and not isinstance(one, bool):
            yield str(name).lower().replace("_", "-"), str(one).strip()


def _retry_at(values: Mapping[str, str], now: datetime, skew: timedelta) -> datetime | None:
    milliseconds = number(values.get("retry-after-ms") or values.get("x-ms-retry-after-ms"))
    if milliseconds is not None:
        return after(milliseconds / 1000, now)
    for name in ("retry-after", "x-retry-after"):
        if value := values.get(name):
            return _moment(value, now, skew)
    return None


def _moment(value: str, now: datetime, skew: timedelta) -> datetime | None:
    """Return the moment of a header: a timestamp, a date, seconds or a duration."""
    if (moment := moment_of(value, now)) is not None:
        return _shifted(moment, skew)
    return after(value, now)


def _shifted(moment: datetime, skew: timedelta) -> datetime | None:
    try:
        return moment.astimezone(UTC) + skew
    except OverflowError:
        return None


def _codex_window(values: Mapping[str, str], now: datetime, skew: timedelta) -> tuple[datetime | None] | None:
    """Return when the spent window of a ChatGPT plan ends, in a tuple; None without such a window."""
    ends: list[datetime | None] = []
    for name, value in values.items():
        used = number(value)
        if name.startswith("x-codex-") and name.endswith("-used-percent") and used is not None and used >= 100:
            window = name.removesuffix("-used-percent")
            stamp = values.get(f"{window}-reset-at") or None
            ends.append(_moment(stamp, now, skew) if stamp else after(values.get(f"{window}-reset-after-seconds"), now))
    return (_latest(ends),) if ends else None


def _unified_window(values: Mapping[str, str], now: datetime, skew: timedelta) -> tuple[datetime | None] | None:
    """The same for the windows of a Claude plan."""
    prefix = "anthropic-ratelimit-unified-"
    if values.get(f"{prefix}status") != "rejected":
        return None
    rejected = [
        values.get(name.removesuffix("-status") + "-reset")
        for name, value in values.items()
        if name.startswith(prefix) and name.endswith("-status") and value == "rejected" and name != f"{prefix}status"
    ]
    stamps = [stamp for stamp in rejected if stamp] or [values.get(f"{prefix}reset")]
    return (_latest([_moment(stamp, now, skew) for stamp in stamps if stamp]),)


def _buckets(values: Mapping[str, str], now: datetime, skew: timedelta) -> list[_Bucket]:
    """Group ``x-ratelimit-remaining-tokens``, ``anthropic-ratelimit-tokens-reset`` and their like by what they count."""
    buckets: dict[str, _Bucket] = {}
    for name, value in values.items():
        parts = name.replace("rate-limit", "ratelimit").split("-")
        if "ratelimit" not in parts or "unified" in parts:
            continue
        rest = parts[parts.index("ratelimit") + 1 :]
        measure = next((part for part in rest if part in _MEASURES), None)
        if measure is None:
            continue
        bucket_name = "-".join(part for part in rest if part not in (*_MEASURES, "after"))
        bucket = buckets.setdefault(bucket_name, _Bucket(bucket_name))
        if measure == "remaining":
            bucket.remaining = number(value)
        elif measure == "reset" and value not in ("", "0"):
            bucket.reset = _moment(value, now, skew)
    return list(buckets.values())


def _spent_bucket(buckets: list[_Bucket]) -> tuple[datetime | None, LimitKind | None]:
    spent = [bucket for bucket in buckets if bucket.remaining == 0]
    if spent:
        last = max(spent, key=lambda bucket: bucket.reset or datetime.min.replace(tzinfo=UTC))
        return last.reset, last.kind
    kinds: set[LimitKind] = {bucket.kind for bucket in buckets}
    return None, kinds.pop() if len(kinds) == 1 else None


def _latest(moments: list[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment), default=None)
