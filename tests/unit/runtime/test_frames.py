"""Messages, results and transcripts as DataFrames, from a real file."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas
import pytest

from agentq_nb import Actor, Queue, Registry, Retry, agent_os, agents, create_client, setup
from agentq_nb.errors import ValidationFailed

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(dict[str, Any], reply=dict[str, Any], retry=Retry(attempts=1))
    other = Queue(int)

    async def run(self) -> None:
        async for message in self.queue.iter(["tasks"], completable=True):
            if "bad" in message.body:
                raise ValueError("a bad one")
            await message.complete({"length": len(message.body["text"]), "words": message.body["text"].split()})


async def speak(session: Any, prompt: str) -> Any:
    yield "Well, "
    yield "then."
    yield {"type": "tool_call", "text": "look", "file": "a.txt"}
    yield "Done"
    yield "!"
    yield {"type": "result", "usage": {"input_tokens": 3}}


@pytest.fixture
async def registry(tmp_path: Path) -> Any:
    use = {"worker": Worker, "vm": agent_os(agents=[agents.function(speak, name="speaker")])}
    async with setup(use=use, store=tmp_path / "q.duckdb") as registry:
        for key in ("a", "b"):
            handle = create_client().worker.get_or_create(key)
            await handle.send("tasks", {"text": f"it's {key}"}, wait=True)
            await handle.send("tasks", {"bad": True}, wait=True)
            await handle.send("other", 1)
        yield registry


async def test_messages_have_typed_columns_and_python_objects(registry: Registry) -> None:
    frame = await registry.messages()
    assert len(frame) == 6
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"
    assert abs(frame["created_at"].iloc[0] - datetime.now(UTC)) < timedelta(minutes=5)
    assert str(frame["attempts"].dtype) == "int64"
    assert str(frame["handled_seconds"].dtype) == "float64"
    assert frame["finished_at"].isna().sum() == 2
    assert list(frame["created_at"]) == sorted(frame["created_at"])
    first = frame.iloc[0]
    assert first["body"] == {"text": "it's a"}
    assert first["reply"] == {"length": 6, "words": ["it's", "a"]}
    assert frame.iloc[1]["error"]["message"] == "a bad one"


async def test_messages_are_narrowed_down_by_actor_queue_status_and_time(registry: Registry) -> None:
    async def count(**narrowed: Any) -> int:
        return len(await registry.messages(**narrowed))

    assert await count(actor="worker") == 6
    assert await count(actor="worker/a") == 3
    assert await count(actor="work") == 0
    assert await count(actor="worker/b", queue="tasks") == 2
    assert await count(status="failed") == 2
    assert await count(status=["failed", "queued"]) == 4
    assert await count(since=timedelta(hours=1)) == 6
    assert await count(since=datetime.now() - timedelta(hours=1)) == 6
    assert await count(since=datetime.now(UTC) + timedelta(hours=1)) == 0
    assert await count(since=datetime.now().timestamp() + 60) == 0
    second = (await registry.messages())["created_at"].iloc[1]
    assert await count(since=second) == 5
    assert await count(queue="' or true --") == 0


async def test_a_naive_datetime_is_local_time_everywhere(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        now = datetime.now()
        assert len(await registry.messages(since=now - timedelta(minutes=1))) == 6
        assert len(await registry.messages(since=now + timedelta(minutes=1))) == 0
        assert await registry.prune(now - timedelta(minutes=1)) == 0
        assert await registry.prune(datetime.now(UTC) - timedelta(minutes=1)) == 0
        assert await registry.prune(now + timedelta(minutes=1)) > 0
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_what_was_settled_long_enough_ago_is_dropped(registry: Registry) -> None:
    assert await registry.prune(timedelta(hours=1)) == 0
    assert await registry.prune(timedelta(0)) > 0


async def test_what_cannot_be_asked_is_told(registry: Registry) -> None:
    with pytest.raises(ValidationFailed, match="No message has status 'done'"):
        await registry.messages(status="done")
    for since in ("yesterday", float("nan"), 1e30):
        with pytest.raises(ValidationFailed, match="since is a datetime"):
            await registry.messages(since=since)  # pyright: ignore[reportArgumentType]  # that is the test
        with pytest.raises(ValidationFailed, match="before is a datetime"):
            await registry.prune(since)  # pyright: ignore[reportArgumentType]  # that is the test


async def test_results_are_the_settled_messages_in_the_order_of_their_ending(registry: Registry) -> None:
    frame = await registry.results()
    assert list(frame["status"]) == ["completed", "failed"] * 2
    assert list(frame["finished_at"]) == sorted(frame["finished_at"])
    assert len(await registry.results(status="failed", actor="worker/a")) == 1


async def test_transcripts_have_whole_answers_and_the_agents_names(registry: Registry) -> None:
    vm = create_client().vm.get_or_create("x")
    session = (await vm.create_session("speaker", keep=True)).session_id
    for _ in range(2):
        await vm.send_prompt(session, "Speak")
    frame = await registry.transcripts()
    turn = [("prompt", "Speak"), ("text", "Well, then."), ("tool_call", "look"), ("text", "Done!"), ("result", None)]
    said = [
        (kind, None if pandas.isna(text) else text) for kind, text in zip(frame["type"], frame["text"], strict=True)
    ]
    assert said == turn * 2
    assert set(frame["agent"]) == {"speaker"}
    assert set(frame["actor_id"]) == {"vm/x"}
    assert frame["data"].iloc[2] == {"file": "a.txt"}
    assert frame["data"].iloc[4]["usage"] == {"input_tokens": 3}
    assert len(await registry.transcripts(session=session)) == len(await registry.transcripts(actor="vm/x")) == 10
    assert len(await registry.transcripts(session="none")) == 0
    assert len(await registry.transcripts(since=timedelta(hours=1))) == 10


async def test_an_answer_without_rows_has_its_columns_and_their_types(registry: Registry) -> None:
    frame = await registry.messages(actor="nobody")
    assert "body" in frame.columns
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"
