"""``map``: what it calls, what it does not do again, what it refuses, and when it stops."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import re
import statistics
import threading
from pathlib import Path
from typing import Any

import pandas
import pytest
from pydantic import BaseModel

import agentq_nb
from agentq_nb import Registry, Retry, agent_os, agents, current_registry, setup
from agentq_nb._display import document_of
from agentq_nb._display.document import Document, as_text
from agentq_nb._host.registry_batches import all_batches
from agentq_nb.errors import BatchElsewhere, BatchStopped, ValidationFailed

pytestmark = pytest.mark.anyio


class Review(BaseModel):
    text: str
    stars: int = 0


@pytest.mark.parametrize("kind", ["plain", "async", "lambda", "partial", "method", "built-in", "lambda that awaits"])
async def test_any_function_of_one_item_is_called_for_each(registry: Registry, kind: str) -> None:
    def plain(text: str) -> int:
        return len(text)

    async def awaited(text: str) -> int:
        await asyncio.sleep(0)
        return len(text)

    class Measures:
        def __call__(self, text: str) -> int:
            return len(text)

    functions: dict[str, Any] = {
        "plain": plain,
        "async": awaited,
        "lambda": lambda text: len(text),
        "partial": functools.partial(lambda add, text: add + len(text), 0),
        "method": Measures(),
        "built-in": len,
        "lambda that awaits": lambda text: awaited(text),
    }
    batch = await agentq_nb.map(functions[kind], ["a", "bb", "ccc"], name="lengths", concurrency=2)
    assert [result.unwrap() for result in await batch.results()] == [1, 2, 3]
    assert registry.running


async def test_plain_functions_run_in_threads_side_by_side(registry: Registry) -> None:
    together = threading.Barrier(3, timeout=10)

    def meets(number: int) -> int:
        if number:
            together.wait()
        return number

    batch = await agentq_nb.map(meets, range(4), name="meeting", concurrency=3)
    assert [result.unwrap() for result in await batch.results()] == [0, 1, 2, 3]


async def test_the_first_row_is_done_alone_and_then_as_many_as_were_asked_for(registry: Registry) -> None:
    at_work, most = 0, list[int]()

    async def work(number: int) -> None:
        nonlocal at_work
        at_work += 1
        most.append(at_work)
        await asyncio.sleep(0.05)
        while number and max(most) < 4:  # noqa: ASYNC110  # it is for the others to come
            await asyncio.sleep(0.001)
        at_work -= 1

    await (await agentq_nb.map(work, range(12), name="rows", concurrency=4))
    assert most[:2] == [1, 1]
    assert max(most) == 4


async def test_a_function_gets_dicts_unless_its_parameter_is_a_model(registry: Registry) -> None:
    frame = pandas.DataFrame({"text": ["good", "bad"], "stars": [5.0, None]})

    def as_dict(row: Any) -> Any:
        return row

    def as_model(review: Review) -> str:
        return f"{type(review).__name__} {review.text}"

    dicts = await agentq_nb.map(as_dict, frame, name="dicts")
    assert [r.unwrap() for r in await dicts.results()] == [
        {"text": "good", "stars": 5.0},
        {"text": "bad", "stars": None},
    ]
    models = await agentq_nb.map(as_model, frame[["text"]], name="models")
    assert [r.unwrap() for r in await models.results()] == ["Review good", "Review bad"]
    with pytest.raises(ValidationFailed, match="Body 1"):
        await agentq_nb.map(as_model, frame, name="bad models")


async def test_replies_have_the_type_that_was_given(registry: Registry) -> None:
    @dataclasses.dataclass
    class Verdict:
        good: bool

    batch = await agentq_nb.map(lambda text: {"good": text == "good"}, ["good", "bad"], name="verdicts", reply=Verdict)
    assert [result.unwrap() for result in await batch.results()] == [Verdict(True), Verdict(False)]


async def test_the_fields_of_replies_are_columns_though_every_row_failed(registry: Registry) -> None:
    @dataclasses.dataclass
    class Verdict:
        good: bool

    def judge(text: str) -> Verdict:
        raise ValueError(text)

    batch = await agentq_nb.map(judge, ["bad"], name="verdicts", reply=Verdict, retry=Retry(attempts=1))
    assert (await batch.frame())["good"].tolist() == [None]
    assert (await (await registry.batch("verdicts")).frame())["good"].tolist() == [None]


async def test_running_it_again_does_only_what_is_new(registry: Registry) -> None:
    done: list[Any] = []

    def work(item: Any) -> None:
        done.append(item)

    await (await agentq_nb.map(work, [1, 2, 2, 3], name="again"))
    await (await agentq_nb.map(work, [3, 2, 4, 2, 1, 2], name="again", concurrency=3))
    assert sorted(done) == [1, 2, 2, 2, 3, 4]
    batch = await agentq_nb.map(work, [4, 5], name="again")
    assert len(await batch.results()) == 2
    assert sorted(done) == [1, 2, 2, 2, 3, 4, 5]
    assert len(await registry.batch("again")) == 2


async def test_a_changed_function_is_said_once_and_redo_does_everything_again(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    async def results(add: int, **options: Any) -> list[Any]:
        def work(item: int) -> int:
            return item + add

        def other(item: int) -> int:
            # Comments do not count as changes.
            return item * 1 + add

        function = work if add < 10 else other
        function.__qualname__ = function.__name__ = "work"
        return [r.unwrap() for r in await (await agentq_nb.map(function, [1, 2], name="changed", **options)).results()]

    with caplog.at_level(logging.WARNING, "agentq"):
        assert await results(0) == [1, 2]
        assert await results(1) == [1, 2]
        assert caplog.messages == []
        assert await results(10) == [1, 2]
        assert await results(10) == [1, 2]
        assert len(caplog.messages) == 1
        assert "the code of work has changed. The rows that are done (2) stay" in caplog.messages[0]
        assert "redo=True" in caplog.messages[0]
        assert await results(10, redo=True) == [11, 12]
        assert len(caplog.messages) == 1


async def test_failed_rows_do_not_count_as_done_where_a_change_is_said(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    def work(item: int) -> int:
        return 1 // item

    async def changed(item: int) -> int:
        return item

    changed.__name__ = "work"
    await (await agentq_nb.map(work, [0, 1, 2, 0], name="changed", retry=Retry(attempts=1)))
    with caplog.at_level(logging.WARNING, "agentq"):
        await (await agentq_nb.map(changed, [0, 1, 2, 0], name="changed", retry=Retry(attempts=1)))
    said = next(message for message in caplog.messages if message.startswith("map "))
    assert "The rows that are done (2) and those that failed (2) stay as they are" in said
    assert "await batch.retry_failed()" in said


async def test_failed_rows_are_repeated_only_when_asked_for(registry: Registry) -> None:
    tries: list[int] = []

    def work(number: int) -> int:
        tries.append(number)
        if number == 2 and tries.count(2) == 1:
            raise ValueError("not yet")
        return number

    batch = await agentq_nb.map(work, [1, 2, 3], name="failing", retry=Retry(attempts=1))
    assert [result.status for result in await batch.results()] == ["completed", "failed", "completed"]
    again = await agentq_nb.map(work, [1, 2, 3], name="failing", retry=Retry(attempts=1))
    assert [result.status for result in await again.results()] == ["completed", "failed", "completed"]
    assert await again.retry_failed() == 1
    assert [result.unwrap() for result in await again.results()] == [1, 2, 3]
    assert tries == [1, 2, 3, 2]


async def test_ten_failures_of_one_kind_in_a_row_stop_it_and_a_corrected_function_goes_on(registry: Registry) -> None:
    calls: list[int] = []

    def broken(number: int) -> int:
        calls.append(number)
        if number < 3:
            return number
        raise KeyError("tex")

    batch = await agentq_nb.map(broken, range(100), name="hundred")
    with pytest.raises(BatchStopped, match=r"10 messages in a row failed with the same error: KeyError: 'tex'"):
        await batch
    with pytest.raises(BatchStopped):
        await batch.results()
    with pytest.raises(BatchStopped):
        async for _ in batch:
            pass
    assert len(set(calls)) == 13
    progress = batch.progress()
    assert (progress.done, progress.failed, progress.waiting) == (3, 0, 97)
    assert (await batch.frame(wait=False))["status"].value_counts()["completed"] == 3
    fixed = await agentq_nb.map(lambda number: number, range(100), name="hundred", concurrency=5)
    assert [result.unwrap() for result in await fixed.results()] == list(range(100))


async def test_the_reason_for_stopping_names_the_line_of_the_users_code(registry: Registry) -> None:
    def broken(_: int) -> float:
        return statistics.mean([])

    batch = await agentq_nb.map(broken, range(20), name="mean", stop_after=2)
    line = broken.__code__.co_firstlineno + 1
    with pytest.raises(
        BatchStopped,
        match=re.escape(f"StatisticsError: mean requires at least one data point, at {__file__}, line {line}. "),
    ):
        await batch
    table = as_text(document_of(await all_batches(registry.host)) or Document())
    assert f"{__file__}, line {line}" in table


async def test_the_reason_names_a_library_where_there_is_no_code_of_the_user(registry: Registry) -> None:
    batch = await agentq_nb.map(statistics.mean, [[], []], name="mean", stop_after=2)
    with pytest.raises(BatchStopped, match=rf"{re.escape(statistics.__file__)}, line \d+"):
        await batch


async def test_a_stopped_batch_is_stopped_after_a_restart_too(registry: Registry) -> None:
    def broken(number: int) -> int:
        raise KeyError(number % 1)

    batch = await agentq_nb.map(broken, range(20), name="twenty", stop_after=2)
    with pytest.raises(BatchStopped):
        await batch
    await registry.stop()
    await registry.start()
    found = await registry.batch("twenty")
    with pytest.raises(BatchStopped, match="2 messages in a row"):
        await found
    assert await found.resume()


async def test_an_error_that_every_row_would_repeat_stops_it_at_once(registry: Registry) -> None:
    class AuthenticationError(Exception):
        status_code = 401

    def refused(_: int) -> None:
        raise AuthenticationError("invalid x-api-key")

    batch = await agentq_nb.map(refused, range(50), name="refused")
    with pytest.raises(
        BatchStopped, match="a message was refused, as every other one would be: AuthenticationError: invalid"
    ):
        await batch
    assert sum(result.attempts for result in await batch.results(timeout=0) if result.attempts) <= 1


async def test_different_errors_stop_nothing_and_none_does_where_that_is_switched_off(registry: Registry) -> None:
    def failing(number: int) -> None:
        if number % 2:
            raise KeyError(number)
        raise ValueError(number)

    batch = await agentq_nb.map(failing, range(30), name="mixed", retry=Retry(attempts=1))
    assert {result.status for result in await batch.results()} == {"failed"}
    batch = await agentq_nb.map(lambda n: 1 / 0, range(30), name="same", retry=Retry(attempts=1), stop_after=None)
    assert {result.status for result in await batch.results()} == {"failed"}


@pytest.mark.parametrize(
    ("function", "items", "options", "says"),
    [
        (7, [1], {}, "map takes a function of one item"),
        (lambda: 1, [1], {}, "cannot be called so"),
        (lambda a, b: 1, [1], {}, "functools.partial"),
        (lambda a: (yield a), [1], {}, "yields"),
        (len, [], {}, "no items were given"),
        (len, "text", {}, "not a single str"),
        (len, [object()], {}, "Body 0"),
        (len, [1], {"concurrency": 0}, "concurrency is a whole number"),
        (len, [1], {"timeout": "5"}, "timeout is a number of seconds"),
        (len, [1], {"stop_after": 0}, "stop_after is a whole number"),
        (len, [1], {"name": ""}, "name of a batch"),
        (len, [1], {"vm": agent_os()}, "are for agents"),
        (agents.claude, ["a"], {"env": {}}, "nothing was sent"),
    ],
)
async def test_wrong_calls_are_refused_before_anything_is_stored(
    registry: Registry, function: Any, items: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationFailed, match=says):
        await agentq_nb.map(function, items, **{"name": "wrong", **options})
    assert not registry.running or len(await registry.batches()) == 0


async def test_a_name_of_other_work_is_refused(registry: Registry) -> None:
    class Worker(agentq_nb.Actor):
        tasks = agentq_nb.Queue(Any)

    await registry.start()
    await registry.deploy("worker", Worker)
    await agentq_nb.create_client().worker.get_or_create("w").send_many("tasks", [1], name="taken")
    with pytest.raises(BatchElsewhere, match="'taken' belongs to queue 'tasks'"):
        await agentq_nb.map(len, ["a"], name="taken")


async def test_prompts_are_sent_to_an_agent(registry: Registry) -> None:
    async def shout(session: agents.AgentSession, prompt: str) -> str:
        return prompt.upper()

    batch = await agentq_nb.map(agents.function(shout), ["hello", "world"], name="prompts", concurrency=2)
    assert [result.unwrap() for result in await batch.results()] == ["HELLO", "WORLD"]


async def test_an_agent_s_answers_are_of_the_type_that_is_asked_for(registry: Registry) -> None:
    async def review(session: agents.AgentSession, prompt: str) -> str:
        if prompt == "never" or session.history:
            return "no" if session.history[:1] != (("late", "no"),) else '{"text": "late", "stars": 2}'
        return "no" if prompt == "late" else f'I say: {{"text": "{prompt}"}}'

    agent = agents.function(review)
    batch = await agentq_nb.map(
        agent, ["good", "late", "never"], name="typed", reply=Review, retry=Retry(attempts=1), concurrency=2
    )
    good, late, never = await batch.results()
    assert (good.unwrap(), late.unwrap()) == (Review(text="good"), Review(text="late", stars=2))
    assert never.error is not None
    assert (never.status, never.error["code"], never.error["metadata"]["text"]) == ("failed", "reply_invalid", "no")
    table = await batch.frame()
    assert table["text"].tolist()[:2] == ["good", "late"]
    with pytest.raises(ValidationFailed, match="reply takes a type"):
        await agentq_nb.map(agent, ["good"], name="no type", reply={"type": "object"})


async def test_a_vm_that_asks_is_refused(registry: Registry) -> None:
    agent = agents.function(lambda session, prompt: prompt, name="echo")
    with pytest.raises(ValidationFailed, match="asks for permission, and there is no one to answer"):
        await agentq_nb.map(agent, ["a"], name="asks", vm=agent_os(agents=[agent], permissions="ask"))
    with pytest.raises(ValidationFailed, match="has no agent 'echo'"):
        await agentq_nb.map(agent, ["a"], name="none", vm=agent_os())


async def test_a_file_of_its_own_leaves_the_current_host_as_it_is(registry: Registry, tmp_path: Path) -> None:
    await registry.start()
    batch = await agentq_nb.map(len, ["abc"], name="elsewhere", store=tmp_path / "other.duckdb")
    assert [result.unwrap() for result in await batch.results()] == [3]
    assert current_registry() is registry
    await setup(store=tmp_path / "other.duckdb").stop()


async def test_a_limit_that_ends_stops_nothing_and_money_that_is_missing_stops_at_once(registry: Registry) -> None:
    class RateLimitError(Exception):
        status_code = 429

    class PaymentRequired(Exception):
        status_code = 402

    limits = [RateLimitError("slow down")] * 20

    def limited(number: int) -> int:
        if limits:
            raise limits.pop()
        return number

    batch = await agentq_nb.map(limited, range(3), name="limited", retry=Retry(attempts=30, backoff=0), stop_after=2)
    assert [result.unwrap() for result in await batch.results()] == [0, 1, 2]

    def poor(_: int) -> None:
        raise PaymentRequired("Your credit balance is too low")

    with pytest.raises(BatchStopped, match="a message was refused"):
        await (await agentq_nb.map(poor, range(20), name="poor"))


async def test_limits_hold_for_the_rows_of_a_map(registry: Registry) -> None:
    starts: list[float] = []

    async def work(number: int) -> int:
        starts.append(asyncio.get_running_loop().time())
        return number

    limits = [agentq_nb.RateLimit(2, per=0.3), agentq_nb.ConcurrencyLimit(1)]
    batch = await agentq_nb.map(work, range(6), name="limited rows", concurrency=3, limits=limits)
    assert [result.unwrap() for result in await batch.results()] == list(range(6))
    assert all(later - earlier > 0.29 for earlier, later in zip(starts, starts[2:], strict=False))
