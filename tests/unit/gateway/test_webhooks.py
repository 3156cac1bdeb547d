"""Webhooks: signed deliveries over real sockets become durable messages; all others are refused, and say why."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue, Registry, Retry, action, create_client, setup
from agentq_nb.errors import ActionNotFound, QueueUnknown, ValidationFailed
from tests.unit.gateway.deliveries import (
    SECRET,
    STANDARD_SECRET,
    deliver,
    deliver_standard,
    github_signature,
    standard_signature,
)
from tests.unit.gateway.raw_client import TOKEN, ask, exchange

pytestmark = pytest.mark.anyio


class Issue(BaseModel):
    title: str


class IssueWorker(Actor):
    issues = Queue(Issue, reply=str, retry=Retry(attempts=1))
    anything = Queue(Any)
    small = Queue(Any, max_size=1)
    short = Queue(Any, max_message_bytes=64)

    @issues.handler
    async def work(self, issue: Issue) -> str:
        if issue.title == "bad":
            raise ValueError("bad issue")
        return issue.title.upper()

    @action
    async def ingest_issue(self, title: str, body: str) -> None:
        await self.queue.push("anything", {"title": title, "body": body})


def issue_of(payload: Any) -> Any:
    return {"title": payload["issue"]["title"]} if payload["action"] == "opened" else None


def opened(title: str = "Login broken", **more: Any) -> Any:
    return {"action": "opened", "issue": {"title": title}, "repository": {"full_name": "me/shop"}, **more}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with setup(use={"issue_worker": IssueWorker}, store=tmp_path / "q.duckdb") as registry:
        registry.webhook("github", to=IssueWorker, queue="issues", secret=SECRET, map=issue_of)
        yield registry


@pytest.fixture
async def url(registry: Registry) -> str:
    return (await registry.serve(port=0, token=TOKEN)).url


async def bodies(registry: Registry, queue: str | None = None) -> list[Any]:
    return (await registry.messages(queue=queue))["body"].tolist()


# --- what becomes a message ---


async def test_a_signed_delivery_is_stored_and_handled_and_its_result_found_by_the_id(
    url: str, registry: Registry
) -> None:
    reply = await deliver(url, opened())
    assert reply.status == 202
    assert reply.json["repeated"] is False
    result = await create_client().receipt(reply.json["message_id"]).result(timeout=30)
    assert result.unwrap() == "LOGIN BROKEN"
    assert await bodies(registry) == [{"title": "Login broken"}]


async def test_a_delivery_that_is_sent_again_is_stored_once_also_after_a_restart(url: str, registry: Registry) -> None:
    first = await deliver(url, opened())
    await create_client().receipt(first.json["message_id"]).result(timeout=30)
    again = await deliver(url, opened())
    assert (again.status, again.json) == (202, {"message_id": first.json["message_id"], "repeated": True})
    await registry.stop()
    await registry.start()
    server = await registry.serve(port=0, token=TOKEN)
    restarted = await deliver(server.url, opened())
    assert restarted.json == again.json
    assert await bodies(registry) == [{"title": "Login broken"}]


async def test_the_same_id_with_another_body_is_the_same_delivery(url: str, registry: Registry) -> None:
    """``map`` may look at the time, and what it made first counts."""
    first = await deliver(url, opened("one"))
    again = await deliver(url, opened("two"))
    assert again.json == {"message_id": first.json["message_id"], "repeated": True}
    assert await bodies(registry) == [{"title": "one"}]


async def test_a_delivery_whose_message_has_failed_can_be_sent_again(url: str, registry: Registry) -> None:
    first = await deliver(url, opened("bad"))
    await create_client().receipt(first.json["message_id"]).result(timeout=30)
    again = await deliver(url, opened("bad"))
    assert again.json["repeated"] is False
    assert len(await bodies(registry)) == 2


async def test_the_same_id_at_two_webhooks_is_two_deliveries(url: str, registry: Registry) -> None:
    registry.webhook("other", to=IssueWorker, queue="issues", secret=SECRET, map=issue_of)
    assert (await deliver(url, opened())).json["repeated"] is False
    assert (await deliver(url, opened(), hook="other")).json["repeated"] is False
    assert len(await bodies(registry)) == 2


async def test_deliveries_without_an_id_are_all_stored(url: str, registry: Registry) -> None:
    for _ in range(2):
        assert (await deliver(url, opened(), delivery=None)).json["repeated"] is False
    assert len(await bodies(registry)) == 2


async def test_a_github_form_is_read_like_json(url: str, registry: Registry) -> None:
    form = urlencode({"payload": '{"action": "opened", "issue": {"title": "Formed"}}'}).encode()
    assert (await deliver(url, form, content_type="application/x-www-form-urlencoded")).status == 202
    assert await bodies(registry) == [{"title": "Formed"}]


async def test_json_that_curl_calls_a_form_is_read_as_json(url: str, registry: Registry) -> None:
    assert (await deliver(url, opened(), content_type="application/x-www-form-urlencoded")).status == 202
    assert await bodies(registry) == [{"title": "Login broken"}]


async def test_a_ping_is_answered_and_makes_no_message(url: str, registry: Registry) -> None:
    reply = await deliver(url, {"zen": "Keep it logically awesome."}, event="ping")
    assert (reply.status, reply.json) == (200, {"status": "pong"})
    assert (await deliver(url, {"zen": ""}, event="ping", secret="wrong")).status == 401
    assert await bodies(registry) == []


async def test_what_map_returns_none_for_is_ignored(url: str, registry: Registry) -> None:
    reply = await deliver(url, opened() | {"action": "closed"})
    assert (reply.status, reply.body) == (204, b"")
    assert await bodies(registry) == []


async def test_map_and_key_see_the_delivery_without_its_secrets(url: str, registry: Registry) -> None:
    seen: list[Any] = []

    async def made(payload: Any, delivery: Any) -> Any:
        seen.append(delivery)
        return {"title": f"{delivery.event} {delivery.id}"}

    registry.webhook(
        "github",
        to="issue_worker",
        key=lambda payload: payload["repository"]["full_name"].split("/"),
        queue=IssueWorker.issues,
        secret=SECRET,
        map=made,
    )
    assert (await deliver(url, opened(), cookie="a=b", x_custom="yes")).status == 202
    assert await bodies(registry) == [{"title": "issues d-1"}]
    assert (await registry.messages())["actor_id"].tolist() == ["issue_worker/me/shop"]
    assert seen[0].headers["x-custom"] == "yes"
    assert not {"cookie", "authorization", "x-hub-signature-256"} & set(seen[0].headers)


async def test_an_action_is_called_durably_with_the_parts_of_a_tuple(url: str, registry: Registry) -> None:
    registry.webhook(
        "github",
        to=IssueWorker,
        key="main",
        action=IssueWorker.ingest_issue,
        secret=SECRET,
        map=lambda payload: (payload["issue"]["title"], "text"),
    )
    reply = await deliver(url, opened())
    assert reply.status == 202
    assert (await create_client().receipt(reply.json["message_id"]).result(timeout=30)).status == "completed"
    assert await bodies(registry, "anything") == [{"title": "Login broken", "body": "text"}]
    assert (await deliver(url, opened())).json == {"message_id": reply.json["message_id"], "repeated": True}
    registry.webhook("github", to=IssueWorker, action="ingest_issue", secret=SECRET)
    refused = await deliver(url, opened(), delivery="d-2")
    assert (refused.status, refused.code) == (422, "actor.validation_error")
    assert "missing a required argument: 'body'" in refused.json["message"]


async def test_the_origin_of_a_message_is_stored_with_it(url: str, registry: Registry) -> None:
    await deliver(url, opened())
    stored = await registry.sql("select data->>'$.options.origin' as origin from events where kind = 'message.queued'")
    assert stored.rows == [("webhook:github",)]


async def test_what_the_message_leads_to_inherits_its_origin(url: str, registry: Registry) -> None:
    registry.webhook(
        "github",
        to=IssueWorker,
        action="ingest_issue",
        secret=SECRET,
        map=lambda payload: (payload["issue"]["title"], "text"),
    )
    reply = await deliver(url, opened())
    await create_client().receipt(reply.json["message_id"]).result(timeout=30)
    assert (await registry.messages(queue="anything"))["origin"].tolist() == ["webhook:github"]


async def test_a_webhook_that_is_declared_again_is_replaced(url: str, registry: Registry) -> None:
    registry.webhook("github", to=IssueWorker, queue="issues", secret=["new secret", SECRET + "2"], map=issue_of)
    assert (await deliver(url, opened())).code == "webhook.bad_signature"
    assert (await deliver(url, opened(), secret="new secret")).status == 202
    assert (await deliver(url, opened(), secret=SECRET + "2", delivery="d-2")).status == 202


# --- what is refused ---


@pytest.mark.parametrize(
    "signature",
    [
        "sha256=" + "0" * 64,
        "sha1=0123456789",
        github_signature(b"other"),
        github_signature(b"{}").upper(),
        "sha256=",
        "",
        "sha256=\xff",
    ],
)
async def test_a_signature_that_does_not_fit_is_refused(url: str, registry: Registry, signature: str) -> None:
    reply = await ask(url, "POST", "/webhook/github", b"{}", token=None, x_hub_signature_256=signature)
    assert (reply.status, reply.code) == (401, "webhook.bad_signature")
    assert await bodies(registry) == []


async def test_a_changed_body_and_the_servers_token_in_place_of_a_signature_are_refused(
    url: str, registry: Registry
) -> None:
    signature = github_signature(b'{"a": 1}')
    assert (await deliver(url, b'{"a": 2}', signature=signature)).code == "webhook.bad_signature"
    reply = await ask(url, "POST", "/webhook/github", b"{}", token=TOKEN)
    assert (reply.status, reply.code) == (401, "webhook.no_signature")
    assert await bodies(registry) == []


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/webhook/none", "POST", 404, "webhook.unknown"),
        ("/webhook/github", "GET", 405, "gateway.wrong_method"),
        ("/webhook/github/", "POST", 404, "gateway.no_route"),
        ("/webhook/", "POST", 404, "webhook.unknown"),
        ("/webhook/%ff", "POST", 400, "gateway.bad_request"),
        ("/webhook/..%2fgithub", "POST", 404, "webhook.unknown"),
        ("/webhook/../gateway/issue_worker.main/action/ingest_issue", "POST", 404, "gateway.no_route"),
    ],
)
async def test_paths_that_are_no_webhook_are_refused_and_open_nothing_else(
    url: str, path: str, method: str, status: int, code: str
) -> None:
    reply = await ask(url, method, path, b"{}", token=None)
    assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "application/json"),
        (b"payload=%7B", "application/x-www-form-urlencoded"),
        (b"other=1", "application/x-www-form-urlencoded"),
        (b"\xff=1", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(url: str, body: bytes, content_type: str) -> None:
    reply = await deliver(url, body, content_type=content_type)
    assert (reply.status, reply.code) == (400, "webhook.bad_body")


async def test_ids_that_are_none_are_refused_before_the_body_is_read(url: str) -> None:
    assert (await deliver(url, opened(), delivery="x" * 201)).code == "webhook.bad_id"
    assert (await deliver(url, opened(), delivery="")).code == "webhook.bad_id"


async def test_a_body_that_does_not_fit_its_queue_says_so_by_the_status(url: str, registry: Registry) -> None:
    assert (await deliver(url, {"action": "opened", "issue": {"title": 3}})).status == 422
    registry.webhook("short", to=IssueWorker, queue="short", secret=SECRET)
    large = await deliver(url, {"text": "x" * 100}, hook="short")
    assert (large.status, large.code) == (413, "queue.message_too_large")
    head = f"POST /webhook/github HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: a\r\ncontent-length: {1 << 30}\r\n\r\n"
    assert (await exchange(url, head.encode())).status == 413


async def test_a_full_queue_is_429_with_retry_after_and_what_it_took_stays(url: str, registry: Registry) -> None:
    registry.webhook("small", to=IssueWorker, queue="small", secret=SECRET)
    assert (await deliver(url, {"n": 1}, hook="small")).status == 202
    full = await deliver(url, {"n": 2}, hook="small", delivery="d-2")
    assert (full.status, full.code) == (429, "queue.full")
    assert int(full.headers["retry-after"]) > 0
    assert await bodies(registry) == [{"n": 1}]
    assert (await deliver(url, {"n": 1}, hook="small")).json["repeated"] is True


async def test_a_class_that_is_not_there_yet_is_503(url: str, registry: Registry) -> None:
    registry.webhook("later", to="not_yet", queue="issues", secret=SECRET)
    reply = await deliver(url, opened(), hook="later")
    assert (reply.status, reply.code) == (503, "actor.unknown")
    assert "retry-after" in reply.headers


async def test_a_function_of_the_webhook_that_fails_is_500_without_its_text(
    url: str, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await deliver(url, {"action": "opened", "password": "hunter2"})
    assert (reply.status, reply.code) == (500, "webhook.function_failed")
    assert b"KeyError" not in reply.body
    assert "map= of webhook 'github' failed" in caplog.text
    assert await bodies(registry) == []


async def test_what_is_refused_is_logged_once_a_minute_and_without_secrets(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(3):
        await deliver(url, opened("words of the body"), secret="the wrong one")
    said = [record.getMessage() for record in caplog.records if "refused a delivery" in record.getMessage()]
    assert len(said) == 1
    for secret in (SECRET, "the wrong one", github_signature(b"x")[:20], "words of the body"):
        assert secret not in caplog.text


async def test_the_public_name_of_the_server_is_no_reason_to_refuse_a_delivery(url: str) -> None:
    body = b'{"action": "opened", "issue": {"title": "a"}}'
    head = (
        f"POST /webhook/github HTTP/1.1\r\nhost: hooks.example.org\r\nx-hub-signature-256: {github_signature(body)}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    assert (await exchange(url, head.encode() + body)).status == 202


# --- Standard Webhooks ---


@pytest.fixture
def standard(registry: Registry) -> None:
    registry.webhook(
        "standard", to=IssueWorker, queue="anything", secret=STANDARD_SECRET, signature="standard-webhooks"
    )


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    body = b'{"test": 2432232314}'
    signature = standard_signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.usefixtures("standard")
async def test_a_standard_webhook_is_stored_once_by_its_id(url: str, registry: Registry) -> None:
    reply = await deliver_standard(url, {"type": "invoice.paid"})
    assert reply.status == 202
    assert (await deliver_standard(url, {"type": "invoice.paid"})).json["repeated"] is True
    assert await bodies(registry) == [{"type": "invoice.paid"}]


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("off", [-310, 310, 10**9])
async def test_a_standard_webhook_of_another_time_is_refused(url: str, registry: Registry, off: int) -> None:
    reply = await deliver_standard(url, {}, at=time.time() + off)
    assert (reply.status, reply.code) == (401, "webhook.bad_time")
    assert await bodies(registry) == []


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("off", [-280, 280])
async def test_a_standard_webhook_within_five_minutes_is_taken(url: str, off: int) -> None:
    assert (await deliver_standard(url, {}, at=time.time() + off)).status == 202


@pytest.mark.usefixtures("standard")
async def test_one_right_signature_of_several_is_enough_and_none_is_not(url: str) -> None:
    now = int(time.time())
    right = standard_signature("msg_1", now, b"{}")
    wrong = standard_signature("msg_1", now, b"{}", "whsec_" + "AAAA" * 8)
    assert (await deliver_standard(url, {}, at=now, signature=f"v1a,xx {wrong} {right}")).status == 202
    for signature in (wrong, right.replace("v1,", "v2,"), right.removeprefix("v1,"), "v1,", right[:-4]):
        reply = await deliver_standard(url, {}, at=now, signature=signature)
        assert reply.code == "webhook.bad_signature", signature
    moved = await deliver_standard(url, {}, at=now, identity="msg_2", signature=right)
    assert moved.code == "webhook.bad_signature"


# --- bearer ---


async def test_a_bearer_secret_is_compared_before_the_body_is_read(url: str, registry: Registry) -> None:
    registry.webhook("plain", to=IssueWorker, queue="anything", secret=["one", "two"], signature="bearer")

    async def send(authorization: str, **headers: Any) -> Any:
        fields: dict[str, Any] = {"authorization": authorization, **headers}
        return await ask(url, "POST", "/webhook/plain", {"a": 1}, token=None, **fields)

    assert (await send("Bearer one")).status == 202
    assert (await send("bearer two", idempotency_key="k")).json["repeated"] is False
    assert (await send("Bearer two", idempotency_key="k")).json["repeated"] is True
    for wrong in ("Bearer three", "Bearer ", "Basic one", "one", "Bearer one two", f"Bearer {TOKEN}"):
        assert (await send(wrong)).code == "webhook.bad_signature", wrong
    assert len(await bodies(registry)) == 2


# --- declarations ---


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": "a/b"}, ValidationFailed, "part of its URL"),
        ({"name": ""}, ValidationFailed, "part of its URL"),
        ({"secret": ""}, ValidationFailed, "needs the secret"),
        ({"secret": None}, ValidationFailed, "needs the secret"),
        ({"secret": []}, ValidationFailed, "needs the secret"),
        ({"secret": [SECRET, ""]}, ValidationFailed, "needs the secret"),
        ({"secret": "no base64!", "signature": "standard-webhooks"}, ValidationFailed, "no base64"),
        ({"signature": "gitlab"}, ValidationFailed, "signature is one of github"),
        ({"queue": None}, ValidationFailed, "a queue or an action"),
        ({"action": "ingest_issue"}, ValidationFailed, "a queue or an action"),
        ({"queue": "isues"}, QueueUnknown, "Did you mean 'issues'"),
        ({"queue": None, "action": "ingest"}, ActionNotFound, "ingest_issue"),
        ({"to": int}, ValidationFailed, "an actor class"),
        ({"map": 3}, ValidationFailed, "map is a function"),
        ({"key": 3}, ValidationFailed, "key"),
    ],
)
def test_a_declaration_that_cannot_work_says_what_to_write(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    registry = setup(use={"issue_worker": IssueWorker}, store=tmp_path / "q.duckdb")
    given: dict[str, Any] = {"name": "github", "to": IssueWorker, "queue": "issues", "secret": SECRET, **options}
    with pytest.raises(error, match=words) as caught:
        registry.webhook(given.pop("name"), **given)
    assert SECRET not in str(caught.value)
    assert registry.webhooks == {}


def test_a_webhook_does_not_show_its_secret(tmp_path: Path) -> None:
    registry = setup(use={"issue_worker": IssueWorker}, store=tmp_path / "q.duckdb")
    webhook = registry.webhook("github", to=IssueWorker, queue="issues", secret=SECRET)
    assert webhook.path == "/webhook/github"
    assert SECRET not in repr(webhook)


async def test_deliveries_side_by_side_of_one_id_make_one_message(url: str, registry: Registry) -> None:
    replies = await asyncio.gather(*(deliver(url, opened()) for _ in range(10)))
    assert {reply.status for reply in replies} == {202}
    assert len({reply.json["message_id"] for reply in replies}) == 1
    assert [reply.json["repeated"] for reply in replies].count(False) == 1
    assert len(await bodies(registry)) == 1
