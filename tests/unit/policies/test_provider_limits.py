"""Recognise the limits that providers and agents report: their kind, and when they end."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentq_nb.agent_os.provider_limits import ProviderLimit, recognise

NOW = datetime(2026, 7, 14, 12, tzinfo=UTC)
SAMPLES = [
    json.loads(line)
    for line in Path(__file__).with_name("provider_limit_samples.jsonl").read_text(encoding="utf-8").splitlines()
]
KINDS = {"usage-window", "requests", "tokens", "overloaded", "billing"}


def of(sample: dict[str, Any], **changes: Any) -> ProviderLimit | None:
    """What is recognised in a sample of the file."""
    options: dict[str, Any] = {
        "where": sample["where"],
        "agent": sample["agent"],
        "now": datetime.fromisoformat(sample["now"]),
        "tz": sample.get("tz"),
        "turn": sample.get("turn"),
        "had_tool_calls": sample.get("had_tool_calls", False),
    }
    return recognise(sample["sample"], **options | changes)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_each_report_has_its_kind_and_its_end(sample: dict[str, Any]) -> None:
    limit = of(sample)

    assert (limit.kind if limit else "not-a-limit") == sample["kind"]
    if sample["resume_at"] is None:
        assert limit is None or limit.resume_at is None
    else:
        assert limit is not None
        assert limit.resume_at is not None
        assert abs(limit.resume_at - datetime.fromisoformat(sample["resume_at"])) <= timedelta(seconds=60)


@pytest.mark.parametrize("sample", [row for row in SAMPLES if row["where"] == "text"], ids=lambda row: row["id"])
def test_the_text_of_a_turn_that_used_tools_and_ended_is_an_answer(sample: dict[str, Any]) -> None:
    assert of(sample, turn="ended", had_tool_calls=True) is None


BANNERS = [row for row in SAMPLES if row["where"] == "text" and row["kind"] != "not-a-limit" and not row.get("turn")]


@pytest.mark.parametrize("sample", BANNERS, ids=lambda row: row["id"])
@pytest.mark.parametrize(
    "frame", ["I have seen this:\n{}", "{}\n\nThat is the banner which I shall parse.", "```\n{}\n```"]
)
def test_a_banner_that_an_answer_quotes_is_no_limit(sample: dict[str, Any], frame: str) -> None:
    quoted = sample | {"sample": frame.format(sample["sample"])}

    assert of(quoted) is None
    assert of(quoted, turn="ended") is None


@pytest.mark.parametrize("sample", BANNERS, ids=lambda row: row["id"])
def test_a_banner_counts_at_the_end_of_what_a_failed_turn_wrote(sample: dict[str, Any]) -> None:
    before = "Reading the project's files.\nAll of them are read; the next step is the migration.\n\n"

    limit = of(sample | {"sample": before + sample["sample"]}, turn="failed")

    assert limit is not None
    assert (limit.kind == "billing") == (sample["kind"] == "billing")


@pytest.mark.parametrize("sample", [row for row in SAMPLES if row["sample"].startswith("{")], ids=lambda row: row["id"])
def test_a_report_may_be_given_as_a_mapping(sample: dict[str, Any]) -> None:
    assert of(sample | {"sample": json.loads(sample["sample"])}) == of(sample)


def test_billing_does_not_pause() -> None:
    billing = recognise("Credit balance is too low", where="text", agent="claude", now=NOW)
    limit = recognise("Claude AI usage limit reached|1784044800", where="text", agent="claude", now=NOW)

    assert billing is not None
    assert not billing.pauses
    assert limit is not None
    assert limit.pauses


def test_the_end_of_a_spending_limit_is_known_though_it_does_not_pause() -> None:
    text = "You have reached your specified API usage limits. You will regain access on 2026-08-01 at 00:00 UTC."
    body = {
        "type": "error",
        "error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}},
    }

    for limit in (
        recognise({"error": {"message": text}}, where="http", agent="anthropic", now=NOW),
        recognise({"status": 429, "headers": {}, "body": body}, where="http", agent="anthropic", now=NOW),
    ):
        assert limit == ProviderLimit("billing", datetime(2026, 8, 1, tzinfo=UTC))


def test_a_time_of_day_without_a_zone_is_the_machines() -> None:
    text = "You've hit your limit · resets 10pm"

    for zone in ("Europe/Berlin", ZoneInfo("Europe/Berlin")):
        limit = recognise(text, where="text", agent="claude", now=NOW, tz=zone)
        assert limit == ProviderLimit("usage-window", datetime(2026, 7, 14, 20, tzinfo=UTC))
    local = NOW.astimezone(ZoneInfo("Asia/Tokyo"))
    assert recognise(text, where="text", agent="claude", now=local) == ProviderLimit(
        "usage-window", datetime(2026, 7, 14, 13, tzinfo=UTC)
    )


def test_a_time_in_a_zone_that_is_not_known_is_not_guessed() -> None:
    limit = recognise("You've hit your limit · resets 10pm (Mars/Olympus)", where="text", agent="claude", now=NOW)

    assert limit == ProviderLimit("usage-window", None)


def test_an_hour_that_clocks_skip_is_neither_an_error_nor_a_day_late() -> None:
    now = datetime(2026, 3, 8, 6, tzinfo=UTC)

    limit = recognise("You've hit your limit · resets 2:30am (America/New_York)", where="text", agent="claude", now=now)

    assert limit is not None
    assert limit.resume_at is not None
    assert datetime(2026, 3, 8, 7, tzinfo=UTC) <= limit.resume_at <= datetime(2026, 3, 8, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "ends"), [(-1, 1), (0, 60), (20, 40), (59, 1), (61, 86400 - 61)])
def test_a_time_of_day_that_has_just_passed_is_not_tomorrows(seconds: int, ends: int) -> None:
    now = NOW + timedelta(seconds=seconds)

    limit = recognise("You've hit your limit · resets 12pm (UTC)", where="text", agent="claude", now=now)

    assert limit == ProviderLimit("usage-window", now + timedelta(seconds=ends))


def test_what_is_long_past_or_absurdly_far_is_an_unknown_end() -> None:
    for stamp in (1_500_000_000, 9_999_999_999):
        limit = recognise(f"Claude AI usage limit reached|{stamp}", where="text", agent="claude", now=NOW)
        assert limit == ProviderLimit("usage-window", None)


def test_no_pause_is_empty() -> None:
    limit = recognise({"status": 429, "headers": {"retry-after": "0"}, "body": {}}, where="http", agent="x", now=NOW)

    assert limit == ProviderLimit("requests", NOW + timedelta(seconds=1))


def test_a_clock_that_differs_from_the_servers_does_not_change_the_pause() -> None:
    reset = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-07-14T09:01:00Z",
    }
    response = {"status": 429, "headers": {"date": "Tue, 14 Jul 2026 09:00:00 GMT", **reset}, "body": {}}

    limit = recognise(response, where="http", agent="anthropic", now=NOW)

    assert limit == ProviderLimit("requests", NOW + timedelta(minutes=1))


def test_a_structured_end_counts_before_a_header_and_a_header_before_text() -> None:
    message = "Rate limit reached. Please try again in 50s."
    response: dict[str, Any] = {
        "status": 429,
        "headers": {"retry-after": "20"},
        "body": {"error": {"message": message}},
    }

    def pause() -> float:
        limit = recognise(response, where="http", agent="openai", now=NOW)
        assert limit is not None
        assert limit.resume_at is not None
        return (limit.resume_at - NOW).total_seconds()

    assert pause() == 20
    response["body"]["error"]["resets_in_seconds"] = 90
    assert pause() == 90
    response["body"]["error"].pop("resets_in_seconds")
    response["headers"].clear()
    assert pause() == 50


def test_a_moment_without_a_zone_and_an_unknown_place_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        recognise("", where="text", agent="claude", now=datetime(2026, 7, 14))
    with pytest.raises(ValueError, match="'text', 'http' or 'acp'"):
        recognise("", where="log", agent="claude", now=NOW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no time zone 'Nowhere'"):
        recognise("", where="text", agent="claude", now=NOW, tz="Nowhere")


# --- whatever is reported ---------------------------------------------------------------------------------------------

PIECES = st.sampled_from(range(len(SAMPLES))).map(lambda index: SAMPLES[index]["sample"])
FRAGMENTS = st.builds(
    lambda text, start, length: text[start : start + length], PIECES, st.integers(0, 200), st.integers(0, 120)
)
TEXTS = st.lists(
    st.one_of(PIECES, FRAGMENTS, st.text(max_size=60), st.text(string.digits + ":-.TZ /()", max_size=20)), max_size=6
).map("".join)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
KEYS = st.one_of(
    st.sampled_from(
        [
            "error",
            "message",
            "type",
            "code",
            "status",
            "headers",
            "body",
            "data",
            "details",
            "retry-after",
            "date",
            "resets_at",
            "resetsAt",
            "retryDelay",
            "quotaId",
            "retry_after",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "_claude/rateLimit",
            "codexErrorInfo",
            "turn",
            "params",
            "update",
        ]
    ),
    st.text(max_size=10),
)
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
        max_leaves=12,
    ),
    max_size=5,
)
MOMENTS = st.datetimes(
    datetime(1970, 1, 2),
    datetime(9990, 1, 1),
    timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]),
)
WHERE = st.sampled_from(["text", "http", "acp"])
TURNS = st.sampled_from([None, "failed", "ended"])


@given(st.one_of(TEXTS, DATA), WHERE, st.sampled_from(["claude", "gemini", "openai"]), MOMENTS, TURNS, st.booleans())
@example("resets 9999-12-31 at 23:59 (Etc/GMT+12)", "text", "claude", NOW, "failed", False)
@example({"error": {"code": 429, "resets_at": 1e308, "retry_after": float("nan")}}, "http", "claude", NOW, None, False)
def test_nothing_raises_and_every_end_lies_ahead(
    sample: Any, where: Any, agent: str, now: datetime, turn: Any, had_tool_calls: bool
) -> None:
    limit = recognise(sample, where=where, agent=agent, now=now, turn=turn, had_tool_calls=had_tool_calls)

    if limit is not None:
        assert limit.kind in KINDS
        assert limit.resume_at is None or (limit.resume_at.tzinfo is UTC and limit.resume_at > now)
        assert recognise(sample, where=where, agent=agent, now=now, turn=turn, had_tool_calls=had_tool_calls) == limit


WORDS = [
    "the",
    "queue",
    "waits",
    "for",
    "a",
    "row",
    "of",
    "results",
    "and",
    "then",
    "goes",
    "on",
    "with",
    "what",
    "was",
    "left",
    "in",
    "the",
    "table",
    "of",
    "the",
    "report",
]
PROSE = st.lists(st.sampled_from(WORDS), min_size=3, max_size=20).map(" ".join)


@given(PROSE, st.sampled_from(BANNERS), PROSE)
def test_prose_around_a_banner_makes_it_an_answer(before: str, sample: dict[str, Any], after: str) -> None:
    text = f"{before} {sample['sample']} and {after}."

    assert of(sample | {"sample": f"I think {text}"}) is None


@given(st.sampled_from([row for row in SAMPLES if row["kind"] == "billing"]), MOMENTS, TURNS)
def test_billing_never_yields_a_pause(sample: dict[str, Any], now: datetime, turn: Any) -> None:
    limit = of(sample, now=now, turn=turn)

    assert limit is None or not limit.pauses


@given(st.integers(1, 399 * 86400), st.sampled_from(["s", "ms", "words", "go", "epoch", "iso"]))
def test_every_length_of_time_is_read_as_it_was_written(seconds: int, form: str) -> None:
    end = NOW + timedelta(seconds=seconds)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    said = {
        "s": f"try again in {seconds}s",
        "ms": f"try again in {seconds * 1000}ms",
        "words": f"try again in {days} days {hours} hours {minutes} minutes {seconds % 60} seconds",
        "go": f"resets in {days * 24 + hours}h{minutes}m{seconds % 60}s",
        "epoch": f"resets at {int(end.timestamp())}",
        "iso": f"resets at {end.isoformat()}",
    }[form]

    limit = recognise(f"You've hit your usage limit. It {said}.", where="text", agent="claude", now=NOW)

    assert limit == ProviderLimit("usage-window", end)


@example(2, 0, "Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC))
@example(2, 30, "Europe/Berlin", datetime(2027, 3, 27, 22, tzinfo=UTC))
@given(
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Etc/GMT+5", "UTC"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
)
def test_a_time_of_day_comes_within_a_day_and_is_what_clocks_there_show(
    hour: int, minute: int, zone: str, now: datetime
) -> None:
    clock = f"{hour % 12 or 12}:{minute:02}{'pm' if hour >= 12 else 'am'}"

    limit = recognise(f"You've hit your session limit · resets {clock} ({zone})", where="text", agent="claude", now=now)

    assert limit is not None
    assert limit.resume_at is not None
    assert timedelta(0) < limit.resume_at - now <= timedelta(hours=25)
    shown = limit.resume_at.astimezone(ZoneInfo(zone))
    meant = shown.replace(hour=hour, minute=minute, second=0, microsecond=0)
    real = meant.astimezone(UTC).astimezone(ZoneInfo(zone))
    skipped = (real.hour, real.minute) != (hour, minute)  # clocks are put forward over it
    just_passed = limit.resume_at - now <= timedelta(minutes=1)
    assert skipped or just_passed or (shown.hour, shown.minute) == (hour, minute)
