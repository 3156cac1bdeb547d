"""What people read of an error, and what programs get of it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import AgentqError, RateLimited, Result, UserError
from agentq_nb._actor.action import Action, Marked
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import actor_id
from agentq_nb.errors import (
    BodyTooLarge,
    HostBlocked,
    LimitConflict,
    LimitUnknown,
    PortInUse,
    QueueFull,
    Refused,
    StateConflict,
    StoreDamaged,
    StoreFull,
    ValidationFailed,
    WaitWouldDeadlock,
)
from tests.errors import Recorded, page, unseen
from tests.recording_errors.sitecustomize import RECORD

PROJECT = Path(__file__).resolve().parents[2]

HOSTILE = "red \x1b[31malert\x1b[0m, a title \x1b]0;owned\x07, a bell \x07, NUL \0, turned \u202egnp.exe"


def failed(message: str) -> AgentqError:
    with pytest.raises(AgentqError) as caught:
        Result("failed", "m1", error={"message": message}).unwrap()
    return caught.value


def test_text_that_an_agent_chose_cannot_drive_the_terminal_that_shows_the_error() -> None:
    shown = str(failed(HOSTILE))

    assert not set("\x1b\x07\0\u202e") & set(shown)
    assert "red alert" in shown
    assert "gnp.exe" in shown
    assert shown.endswith("[queue.failed]")


def test_programs_get_the_text_as_it_was() -> None:
    error = failed(HOSTILE)

    assert error.message == f"Message m1 failed: {HOSTILE}. To try it again: %agentq retry m1"
    assert error.args == (error.message,)
    assert error.metadata["error"] == {"message": HOSTILE}


def test_lines_and_letters_of_any_language_are_shown_as_they_are() -> None:
    told = "línea una\n\tzażółć gęślą jaźń\n日本語 🙂 שלום"

    assert str(UserError(told)) == f"{told} [user.user_error]"


def test_a_text_without_end_is_cut_where_it_is_shown_and_says_so() -> None:
    error = UserError("x" * 1_000_000)

    assert len(str(error)) < 25_000
    assert "1,000,000 characters" in str(error)
    assert str(error).endswith("[user.user_error]")
    assert len(error.message) == 1_000_000


def test_the_code_and_group_of_an_error_are_shown_safely_too() -> None:
    assert "\x1b" not in str(UserError("no", code="bad\x1b[2J"))


@pytest.mark.parametrize(
    "error",
    [UserError(HOSTILE, code=HOSTILE, metadata={"said": HOSTILE}), StoreDamaged(HOSTILE, expected=3, found=2)],
    ids=["user error", "error with a constructor of its own"],
)
def test_a_copied_and_an_unpickled_error_keep_the_exact_text(error: AgentqError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert other.message == HOSTILE
        assert other.full_code == error.full_code
        assert other.metadata == error.metadata
        assert str(other) == str(error)


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        ("failed", "queue.failed", "%agentq retry m1"),
        ("cancelled", "queue.cancelled", "%agentq retry m1"),
        ("expired", "queue.expired", "%agentq retry m1"),
        ("timed_out", "queue.timed_out", "Ask its receipt again"),
    ],
)
def test_work_without_a_reply_says_which_message_and_what_to_do(status: Any, code: str, advice: str) -> None:
    with pytest.raises(AgentqError) as caught:
        Result(status, "m1").unwrap()
    assert caught.value.full_code == code
    assert "Message m1" in caught.value.message
    assert advice in caught.value.message


def test_every_error_that_is_made_is_recorded_with_its_place_and_its_test(tmp_path: Path) -> None:
    recorded = tmp_path / "errors"
    program = "from agentq_nb import create_client\ntry: create_client()\nexcept Exception: pass\n"
    paths = [str(PROJECT / "tests" / "recording_errors"), str(PROJECT)]
    environment = {**os.environ, RECORD: str(recorded), "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    rows: list[Recorded] = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert [(row["code"], row["place"]) for row in rows] == [("host.none", "agentq_nb._host.setup:create_client")]
    assert "test_every_error_that_is_made" in rows[0]["test"]
    assert "No host runs in this kernel" in page(rows)
    assert "host.none" not in unseen(rows)
    assert "queue.full" in unseen(rows)


class Counter(BaseModel):
    done: int = 0


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_what_json_cannot_carry_is_named_in_words_of_our_own() -> None:
    wrong = Counter()
    wrong.done = "many"  # type: ignore[assignment]
    told = {
        "it holds a value of type object. Convert it to": lambda: Schema(Any).dump(object(), "Body of x"),
        "it holds a lone surrogate": lambda: Schema(Any).dump("\ud800", "Body of x"),
        "Replace it: text.encode('utf-8', 'replace').decode()": lambda: Schema(Any).dump("\ud800", "Body of x"),
        "it is nested too deeply": lambda: Schema(Any).dump(nested(400), "Body of x"),
        "field 'done' should be int, not 'many'": lambda: Schema(Counter).encode(wrong, "Body of x"),
    }
    for text, dump in told.items():
        with pytest.raises(ValidationFailed, match="Body of x cannot be written as JSON: ") as caught:
            dump()
        assert text in caught.value.message
        assert "ydantic" not in caught.value.message


def test_a_key_that_is_too_long_names_its_actor_and_what_to_do() -> None:
    with pytest.raises(ValidationFailed, match=r"actor 'shop' takes 2,005 bytes .* 1,024: use a shorter key"):
        actor_id("shop", "x" * 2000)


def test_fields_that_an_action_changed_too_are_named() -> None:
    message = StateConflict("counter/x", ["done", "handled"]).message
    assert "actor 'counter/x'" in message
    assert "changed 'done' and 'handled' meanwhile" in message


def test_a_wrong_call_of_an_action_names_its_actor_and_how_it_is_called() -> None:
    def add(self: Any, a: int, b: int = 1) -> int:
        return a + b

    actor = SimpleNamespace(actor_id="acting/x")
    declared = Action("add", add, Marked(thread=False, while_ending=False))
    with pytest.raises(ValidationFailed, match=r"`add` of actor 'acting/x' cannot .* 'a'. Write add\(a: "):
        declared.bind(actor, (), {})
    with pytest.raises(ValidationFailed, match=r"`add` of actor 'acting/x': argument a: "):
        declared.bind(actor, ("many",), {})


def test_a_full_queue_says_which_limit_to_raise_and_how_long_the_send_waited() -> None:
    full = QueueFull("worker/main", "tasks", 1)
    assert full.message == (
        "Queue is full. Limit is 1 message. Nothing was sent to queue 'tasks' of actor 'worker/main'. Send again once "
        "some are handled, or raise max_size in its Queue(...)."
    )
    waited = QueueFull("worker/main", "tasks", 100, "bytes").after(2.5)
    assert "Limit is 100 bytes" in waited.message
    assert "'worker/main' within 2.5 s. Send again" in waited.message
    assert "raise max_bytes in" in waited.message


def test_a_wait_for_room_that_would_never_end_says_that_nothing_was_sent() -> None:
    error = WaitWouldDeadlock("m1", ["'a/b'", "waits for queue 'tasks' of 'a/b'"], room=True)
    assert error.message.startswith(
        "Nothing was sent: waiting for room in the full queue, to send message m1, would never"
    )
    assert (
        'raise max_size or max_bytes in its Queue(...), or let it raise queue.full with on_full="raise".'
        in error.message
    )


def test_a_prompt_that_could_never_start_says_that_nothing_was_sent() -> None:
    error = WaitWouldDeadlock("", ["'a/b'", "waits for queue '$prompts' of 'vm/a'"])
    assert error.message.startswith(
        "Nothing was sent to the agent: waiting for a place, to start this prompt, would never"
    )
    assert error.message.endswith("for its queue and in agent_os(limits=[...]).")


def test_a_full_store_says_what_it_takes_and_how_to_make_room() -> None:
    error = StoreFull("/work.duckdb", 900, 1000)
    assert error.full_code == "store.full"
    assert error.message == (
        "Sends are refused: /work.duckdb takes 900 of max_store_bytes=1000 bytes. Queued messages are still handled, and "
        "their results kept. To make room: %agentq prune, or await registry.prune(...). To raise the limit: "
        "setup(max_store_bytes=...)."
    )
    assert "the disk of /work.duckdb has 5 bytes left" in StoreFull("/work.duckdb", 900, 1000, 5).message


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ({}, None),
        ({"retry_after": 20}, 1020.0),
        ({"retry_after": "20"}, 1020.0),
        ({"retry_after": -5}, 1000.0),
        ({"retry_after": timedelta(minutes=2)}, 1120.0),
        ({"retry_after": "Thu, 01 Jan 1970 00:20:00 GMT"}, 1200.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": float("nan")}, None),
        ({"until": 1500}, 1500.0),
        ({"until": datetime(1970, 1, 1, 0, 30, tzinfo=UTC)}, 1800.0),
    ],
)
def test_a_provider_limit_ends_when_it_says_in_whatever_form(given: dict[str, Any], ends: float | None) -> None:
    error = RateLimited("slow down", limit="api", **given)
    for one in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert one.ends_at(1000.0) == ends
        assert (one.limit, one.message, one.full_code) == ("api", "slow down", "queue.rate_limited")


def test_a_provider_limit_without_words_says_what_it_is() -> None:
    assert RateLimited().message == "A provider's limit is reached."
    assert (RateLimited().limit, RateLimited().metadata) == (None, {})


@pytest.mark.parametrize(
    "given", [{"retry_after": 1, "until": 2}, {"retry_after": [1]}, {"until": "noon"}, {"limit": 5}]
)
def test_what_is_no_time_or_name_is_refused_where_it_is_raised(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        RateLimited("slow down", **given)


def test_limits_that_differ_are_named_with_their_queues_and_the_way_out() -> None:
    told = LimitConflict("api", {"a.tasks": "5 per 60 s", "b.tasks": "2 at once"}).message
    for part in ("'api'", "5 per 60 s by a.tasks", "2 at once by b.tasks", "declare it once"):
        assert part in told


def test_an_unknown_limit_is_told_with_those_that_there_are() -> None:
    assert "Did you mean 'anthropic'?" in LimitUnknown("antropic", ["anthropic", "openai"]).message
    assert "No queue declares limits" in LimitUnknown("api", []).message


def test_a_request_to_a_blocked_host_names_the_line_and_what_helps_there() -> None:
    by_a_cell = HostBlocked(5.0, "cell 3, line 1: time.sleep(9)", background=False).message
    for part in ("Nothing was done", "within 5 s", "blocked by cell 3, line 1: time.sleep(9)", "start --background"):
        assert part in by_a_cell
    by_an_actor = HostBlocked(5.0, None, background=True).message
    assert "in_thread" in by_an_actor
    assert "blocked by" not in by_an_actor


def test_what_the_server_does_not_take_says_why_and_what_to_do() -> None:
    assert "33,554,432 bytes" in BodyTooLarge(32 * 1024 * 1024).message
    told = PortInUse("127.0.0.1", 6420, "Address already in use").message
    for part in ("127.0.0.1, port 6420", "Address already in use", "serve(port=0)"):
        assert part in told
    refused = pickle.loads(pickle.dumps(Refused(401, "no_token", "It needs one.")))
    assert (refused.status, refused.full_code, refused.message) == (401, "gateway.no_token", "It needs one.")
