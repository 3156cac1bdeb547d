"""What objects look like in a real notebook: HTML with a plain-text twin, and hostile text that is only shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentq_nb.agent_os.agents.presets import PRESETS
from tests.kernel.conftest import IN_BOTH_PLACES, NAMES_OF_PLACES, PLACES
from tests.kernel.driving import CellResult, Kernel

CELL = """
from agentq_nb import Actor, Queue, create_client, current_registry

EVIL = "<script>alert(1)</script>" + "\\x1b[31mred\\x1b[0m" + chr(0x202e) + "gnp.exe" + chr(0x9b)

class Echo(Actor):
    words = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body == "fail":
                await message.fail(EVIL)
            else:
                await message.complete(EVIL)
"""

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module", params=PLACES, ids=NAMES_OF_PLACES)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder: Path = tmp_path_factory.mktemp("forms")
    with Kernel(folder, background=request.param) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(CELL).check()
        kernel.run("%agentq start").check()
        kernel.run("receipt = %agentq send echo/main words hello").check()
        kernel.run("result = %agentq ask echo/main words hello").check()
        kernel.run("failed = %agentq ask --no-check echo/main words fail").check()
        kernel.run("echo = create_client().echo.get_or_create('main')").check()
        yield kernel


def both_forms(cell: CellResult) -> tuple[str, str]:
    cell.check()
    assert cell.text
    assert cell.html
    return cell.text, cell.html


@pytest.mark.parametrize(
    ("cell", "holds"),
    [
        ("receipt", "%agentq show"),
        ("result", "completed"),
        ("failed", "failed"),
        ("echo", "echo/main"),
        ("create_client()", "echo"),
        ("Echo.words", "words"),
        ("%agentq start", "agentq.duckdb"),
        ("%agentq status", "echo/main"),
        ("%agentq actors", "echo"),
        ("%agentq results", "completed"),
        ("%agentq results echo/main words --last 1", "failed"),
        ("%agentq dead", "words"),
        ("%agentq show {failed}", "failed"),
        ("%agentq sql select 42 as answer, 'a' as letter", "answer"),
        ("%%agentq sql\nselect queue, count(*) as messages\nfrom messages -- a {comment}\ngroup by queue", "messages"),
        ("%agentq doctor", "ipykernel"),
        ("%agentq agents", "codex"),
        ("%agentq help", "%agentq send"),
        ("%agentq help send", "idempotency"),
    ],
)
def test_every_object_has_both_forms_and_agents_text_is_only_shown(echo: Kernel, cell: str, holds: str) -> None:
    if "{failed}" in cell:
        cell = cell.replace("{failed}", echo.value("failed.message_id"))
    for form in both_forms(echo.run(cell)):
        assert holds in form
        assert not UNSAFE.search(form)
    assert "<script" not in echo.run(cell).html


def test_a_message_as_a_handler_sees_it_has_both_forms(echo: Kernel) -> None:
    echo.run(
        "seen = []\n"
        "class Seer(Actor):\n"
        "    words = Queue(str)\n"
        "    async def run(self):\n"
        "        async for message in self.queue.iter():\n"
        "            seen.append(message)\n"
    ).check()
    echo.run("%agentq ask seer/main words <b>bold</b>").check()
    text, html = both_forms(echo.run("seen[0]"))
    assert "<b>bold</b>" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in html


def test_very_long_lines_are_cut_in_both_forms(echo: Kernel) -> None:
    echo.run("%%agentq send --key long echo/main words\n" + "x" * 60_000).check()
    echo.run("sent = %agentq send --key long echo/main words " + "x" * 60_000).check()
    for cell in (
        "get_ipython().run_line_magic('agentq', 'show ' + sent.id)",
        "%agentq results",
        "%agentq sql from messages",
    ):
        for form in both_forms(echo.run(cell)):
            assert len(form) < 100_000
    assert "(60,000 characters)" in echo.run("get_ipython().run_line_magic('agentq', 'show ' + sent.id)").text


def test_inside_a_list_objects_stay_short(echo: Kernel) -> None:
    assert "\n" not in echo.run("[receipt]").check().text


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("echo.send('words', 'x')", "nothing was sent to actor 'echo/main'. Write: await echo.send(...)"),
        ("echo.greet()", "so it has done nothing. Write: await echo.greet()"),
        ("receipt.result()", "so it has done nothing. Write: await receipt.result()"),
        ("[echo.send('words', 'x')]", "[<coroutine object"),
        ("async def mine(): pass\nmine()", "<coroutine object mine"),
    ],
)
def test_a_call_whose_await_was_forgotten_says_that_it_did_nothing(echo: Kernel, cell: str, says: str) -> None:
    assert says in echo.run(cell).check().text


ASKING = """
import asyncio
from agentq_nb import agent_os, agents

async def asker(session, prompt):
    yield "done" if await session.ask(prompt) else "left"

machine = agent_os(agents=[agents.function(asker)], permissions="ask")
vm = create_client().machine.get_or_create("main")
session = await vm.create_session("asker")
prompt = asyncio.create_task(vm.send_prompt(session.session_id, "Delete <b>old.txt</b>"))
while not (asked := await vm.list_permission_requests()):
    await asyncio.sleep(0.01)
"""
ANSWERING = """
await vm.respond_permission(session.session_id, asked[0].request_id, "allow")
(await prompt).text
"""


def test_status_says_what_an_agent_waits_for(echo: Kernel) -> None:
    echo.run(ASKING).check()
    text, html = both_forms(echo.run("%agentq status"))
    assert "asker in machine/main asks: Delete <b>old.txt</b>. It waits" in text
    assert "Delete &lt;b&gt;old.txt" in html
    assert echo.run(ANSWERING).check().text == "'done'"
    assert "asks" not in echo.run("%agentq status").check().text


def test_a_result_says_what_its_parts_are(echo: Kernel) -> None:
    assert echo.value("[result.status, result.response == EVIL, result.error is None]") == ["completed", True, True]
    assert echo.value("failed.status") == "failed"


def test_the_magic_gives_objects(echo: Kernel) -> None:
    echo.run("table = %agentq sql select message_id, status from messages order by created_at").check()
    assert echo.value("type(table).__name__") == "DataFrame"
    assert echo.value("list(table.columns)") == ["message_id", "status"]
    assert echo.value("len(table) >= 3") is True
    echo.run("results = %agentq results").check()
    assert echo.value("[len(results.rows) >= 3, type(results.frame()).__name__]") == [True, "DataFrame"]
    assert echo.value("list((await current_registry().messages(status='failed'))['actor_id'])") == ["echo/main"]
    echo.run("shown = %agentq show " + echo.value("result.message_id")).check()
    assert echo.value("[shown.status, shown.body, len(shown.attempts)]") == ["completed", "hello", 1]


def test_a_last_semicolon_shows_nothing(echo: Kernel) -> None:
    assert echo.run("%agentq status;").check().silent


def body_of(echo: Kernel, receipt: str) -> object:
    echo.run("details = %agentq show " + echo.value(f"{receipt}.id")).check()
    return echo.value("details.body")


def test_bodies_stay_as_they_are(echo: Kernel) -> None:
    echo.run("x = 'expanded'; HOME = 'expanded'").check()
    echo.run("r = %agentq send echo/main words {x} $HOME $x {{{{x}} 'quoted' \"text\"").check()
    shown = "(await create_client().receipt(r.id).result(10)).status"
    assert echo.value(shown) == "completed"
    assert body_of(echo, "r") == "{x} $HOME $x {{x}} 'quoted' \"text\""
    echo.run("%%agentq send echo/main words --key cell\nfirst {x}\n  second $HOME").check()
    echo.run("c = %agentq sql select body->>'$' as body from messages where idempotency_key = 'cell'").check()
    assert echo.value("list(c['body'])") == ["first {x}\n  second $HOME"]


def test_variables_are_put_into_bodies_and_keys(echo: Kernel) -> None:
    echo.run("path = 'a {b}'; files = [path, 'c']").check()
    echo.run("r = %agentq send echo/main words Review {{path}} and {{files[1]}}").check()
    assert body_of(echo, "r") == "Review a {b} and c"
    echo.run("for path in files:\n    %agentq ask --key file-{{path}} echo/main words {{path}}").check()
    found = echo.value(
        "[list(row) for row in (await current_registry().sql(\"select idempotency_key, body->>'$' from messages "
        "where starts_with(idempotency_key, 'file-') order by created_at\")).rows]"
    )
    assert found == [["file-a {b}", "a {b}"], ["file-c", "c"]]
    echo.run("%%agentq send --key cell-variable echo/main words\nfirst {{path}}\nsecond {path}").check()
    echo.run("c = %agentq sql select body->>'$' as body from messages where idempotency_key = 'cell-variable'").check()
    assert echo.value("list(c['body'])") == ["first c\nsecond {path}"]


def test_a_function_puts_its_own_variables_into_bodies(echo: Kernel) -> None:
    echo.run(
        "path = 'of the notebook'\n"
        "def send(path):\n"
        "    receipt = %agentq send echo/main words {{path}}\n"
        "    return receipt\n"
        "r = send('of the function')"
    ).check()
    assert body_of(echo, "r") == "of the function"


def test_an_unknown_variable_is_one_line_and_nothing_is_sent(echo: Kernel) -> None:
    count = "(await current_registry().sql('select count(*) from messages')).rows[0][0]"
    before = echo.value(count)
    for line in ("send echo/main words {{pth}}", "ask echo/main words {{pth}}", "send --key {{pth}} echo/main words x"):
        cell = echo.run(f"%agentq {line}")
        assert cell.status == "error"
        assert "There is no variable 'pth' here" in cell.stderr
        assert len(cell.stderr.strip().splitlines()) == 1
    assert echo.value(count) == before


def test_a_key_makes_a_cell_that_can_be_run_again(echo: Kernel) -> None:
    cell = "k = %agentq send --key once echo/main words hello\nk.id"
    assert echo.run(cell).check().text == echo.run(cell).check().text
    other = echo.run("%agentq send --key once echo/main words another")
    assert other.error_name == "IdempotencyConflict"


def test_a_dead_letter_can_be_retried(echo: Kernel) -> None:
    dead = echo.value("failed.message_id")
    echo.run(f"%agentq retry {dead}").check()
    echo.run(f"await create_client().receipt('{dead}').result(10)").check()
    echo.run(f"shown = %agentq show {dead}").check()
    assert echo.value("[shown.status, len(shown.attempts)]") == ["failed", 2]


def test_settled_messages_can_be_neither_cancelled_nor_retried(echo: Kernel) -> None:
    done = echo.value("result.message_id")
    assert f"Message {done} is completed already" in echo.run(f"%agentq cancel {done}").stderr
    assert f"Message {done} is completed: only those" in echo.run(f"%agentq retry {done}").stderr


def test_bodies_that_do_not_fit_are_told_in_one_line(echo: Kernel) -> None:
    for line, says in (
        ("send echo/main wrods hello", "has no queue 'wrods'"),
        ("send nobody/main words hello", "nobody"),
        ("sql delete from events", "sql_refused"),
        ("show nothing", "No message 'nothing' is known here"),
    ):
        cell = echo.run(f"%agentq {line}")
        assert cell.status == "error"
        assert says in (cell.error_value or "") + cell.stderr
        assert len((cell.traceback or cell.stderr).strip().splitlines()) == 1


def test_export_and_prune_and_stop(echo: Kernel) -> None:
    echo.run("path = %agentq export copy.duckdb").check()
    assert (echo.cwd / "copy.duckdb").stat().st_size > 0
    assert "Dropped" in echo.run("%agentq prune 0s").check().text
    echo.run("%agentq stop").check()
    assert "not running; start it: %agentq start" in echo.run("%agentq status").check().text
    echo.run("%agentq start").check()
    assert echo.run("x = %agentq ask echo/main words again\nx.status").check().text == "'completed'"


def test_completion_offers_the_agents_that_can_be_installed(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    assert kernel.complete("%agentq agents ") == ["install"]
    assert kernel.complete("%agentq agents install ") == sorted(PRESETS)
    assert kernel.complete("%agentq agents install pi c") == ["claude", "codex"]
    assert kernel.complete("%agentq agents install claude c") == ["codex"]


@IN_BOTH_PLACES
def test_completion_offers_commands_options_actors_and_queues(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    assert "%agentq" in kernel.complete("%agen")
    kernel.run(CELL).check()
    kernel.run("%agentq start").check()
    assert kernel.complete("%agentq st") == ["start", "status", "stop"]
    assert kernel.complete("x = %agentq ask --") == ["--key", "--no-check", "--timeout", "--ttl"]
    assert kernel.complete("%agentq send e") == ["echo/main"]
    assert kernel.complete("%agentq send echo/main w") == ["words"]
    assert kernel.complete("%agentq help re") == ["repos", "results", "resume", "retry"]


@pytest.mark.parametrize(
    "cell", ["failed.unwrap()", "%agentq ask echo/main words fail", "%agentq results --last {{EVIL}}"]
)
def test_a_cell_that_fails_shows_no_text_that_drives_the_terminal_or_turns_the_line(echo: Kernel, cell: str) -> None:
    ended = echo.run(cell)
    assert ended.status == "error"
    for shown in (ended.error_value or "", ended.traceback, ended.stderr):
        assert not UNSAFE.search(shown)
    assert "gnp.exe" in ended.traceback + ended.stderr
