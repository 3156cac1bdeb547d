"""Reading commands: words, quotes, options, bodies as they were typed, and one line for everything that is wrong."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NoReturn

import pytest

from agentq_nb._commands.catalog import COMMANDS, offered, read_arguments, read_line, read_magic
from agentq_nb._commands.help import Help, ShowVersion
from agentq_nb._commands.host import Start, Status
from agentq_nb._commands.messages import Ask, Send
from agentq_nb._commands.parser import UsageError, declared, span, summary, usage
from agentq_nb._commands.queries import Results
from agentq_nb._commands.queues import Pause, Purge, Resume, time_to_come
from agentq_nb._commands.sessions import Transcript
from agentq_nb._display.document import as_text
from agentq_nb.errors import NoHost


class Place:
    """Where nothing runs."""

    def __init__(self, in_kernel: bool) -> None:
        self.in_kernel = self.works = in_kernel
        self.folder = Path.cwd()
        self.commands = offered("kernel" if in_kernel else "shell")

    def host(self) -> NoReturn:
        raise NoHost

    def registry(self) -> None:
        return None

    def store(self) -> Path:
        return Path("agentq.duckdb")

    async def start(self, store: str | None, accept_loss: bool = False) -> NoReturn:
        raise NoHost


def test_no_words_show_the_status() -> None:
    assert isinstance(read_line(""), Status)
    assert isinstance(read_line("   "), Status)


def test_a_body_stays_as_it_was_typed() -> None:
    body = """{"prompt": "it's {x} $HOME --key 'a"}"""
    assert read_line(f"send runner/main tasks {body}") == Send(actor="runner/main", queue="tasks", body=body)


def test_options_stand_anywhere_before_the_body() -> None:
    expected = Ask(actor="runner/main", queue="tasks", timeout=2.5, key="a b", no_check=True, body="go --key")
    assert read_line("ask --timeout 2.5 runner/main --key 'a b' tasks --no-check go --key") == expected
    assert read_line("ask runner/main tasks --timeout=2.5 --key='a b' --no-check go --key") == expected


def test_a_send_can_have_a_priority_a_delay_and_a_ttl() -> None:
    expected = Send(actor="runner/main", queue="tasks", priority=-1, delay=600.0, ttl=7200.0, body="go")
    assert read_line("send runner/main tasks --priority -1 --delay 10m --ttl 2h go") == expected
    asked = Ask(actor="runner/main", queue="tasks", ttl=90.0, body="go")
    assert read_line("ask runner/main tasks --ttl 90s go") == asked


def test_two_dashes_end_the_options() -> None:
    assert read_line("send runner/main tasks -- --help me").body == "--help me"  # type: ignore[attr-defined]


def test_the_text_of_a_cell_is_the_body() -> None:
    command = read_line("send --key k runner/main tasks", "two\nlines {x}\n")
    assert command == Send(actor="runner/main", queue="tasks", key="k", body="two\nlines {x}")


def test_quoted_words_keep_their_spaces_and_keys_are_escaped_like_actor_ids() -> None:
    assert read_line("""send "runner/my key" tasks hi""").actor == "runner/my key"  # type: ignore[attr-defined]
    assert read_line("send runner/a/b%2Fc tasks hi").actor == "runner/a/b%2Fc"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("strat", "Did you mean start?"),
        ("fly", "There are: start, stop"),
        (
            "send",
            "ACTOR/KEY is missing. Type: %agentq send ACTOR/KEY QUEUE [--key KEY] [--priority NUMBER] [--delay TIME] [--ttl TIME] BODY",
        ),
        ("send runner/main", "QUEUE is missing"),
        ("send runner/main tasks", "BODY is missing"),
        ("send 'runner/main tasks hi", "A quote is not closed"),
        ("send run-ner/main tasks hi", "ACTOR/KEY is an actor's name and key, like task_runner/main"),
        ("send runner/ tasks hi", "ACTOR/KEY is an actor's name and key"),
        ("send --kye x runner/main tasks hi", "Did you mean --key?"),
        ("send --key", "--key needs a value"),
        ("send --priority high runner/main tasks hi", "--priority is a whole number, like 5 or -1, not high"),
        ("send --priority 1.5 runner/main tasks hi", "--priority is a whole number"),
        ("send --delay 10 runner/main tasks hi", "--delay is a length of time, like 90s, 10m, 2h or 1d, not 10"),
        ("send --delay -1m runner/main tasks hi", "--delay is a length of time"),
        ("ask --no-check=1 runner/main tasks hi", "--no-check takes no value"),
        ("ask --timeout soon runner/main tasks hi", "--timeout is a number of seconds, like 60 or 0.5, not soon"),
        ("ask --timeout nan runner/main tasks hi", "--timeout is a number of seconds"),
        ("status now", "Too many words: now. Type: %agentq status"),
        ("pause runner/main", "QUEUE is missing. Type: %agentq pause ACTOR/KEY QUEUE [--for TIME] [--until TIME]"),
        ("pause runner/main tasks --for 10", "--for is a length of time, like 90s, 10m, 2h or 1d, not 10"),
        ("pause runner/main tasks --for -1m", "--for is a length of time"),
        ("pause runner/main tasks --until 2001-01-01", "--until is a time to come, like 18:30 or 2026-11-01T12:00"),
        ("pause runner/main tasks --until 25:00", "--until is a time to come"),
        ("pause runner/main tasks --until 0001-01-01", "--until is a time to come"),
        ("pause runner/main tasks soon", "Too many words: soon"),
        ("resume runner/main tasks --for 1m", "There is no option --for here"),
        ("transcript", "SESSION is missing. Type: %agentq transcript SESSION [--last COUNT]"),
        ("start --store", "--store needs a value. Type: %agentq start [--store PATH]"),
    ],
)
def test_bad_words_give_one_line_that_says_what_to_type(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_line(line)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_help_is_given_to_those_who_ask_as_they_do_elsewhere(asked: str) -> None:
    assert read_line(asked) == read_arguments([asked]) == Help()
    assert read_line(f"results {asked}") == read_arguments(["results", asked]) == Help(command="results")
    assert read_line(f"{asked} results") == read_arguments([asked, "results"]) == Help(command="results")


def test_help_is_given_anywhere_among_the_words_of_a_command_but_not_for_a_text() -> None:
    assert read_line("results runner/main --help") == read_arguments(["results", "--last", "5", "--help"])
    assert read_arguments(["send", "runner/main", "--help"]) == Help(command="send")
    assert read_arguments(["--help", "--help"]) == Help(command="help")
    sent = read_arguments(["send", "runner/main", "tasks", "--", "--help"])
    assert sent == read_line("send runner/main tasks -- --help")
    assert sent != Help(command="send")


@pytest.mark.parametrize("asked", ["version", "--version", "-V"])
def test_the_version_is_given_to_those_who_ask_as_they_do_elsewhere(asked: str) -> None:
    assert read_line(asked) == read_arguments([asked]) == ShowVersion()


def test_a_cell_under_a_command_without_a_body_is_refused() -> None:
    with pytest.raises(UsageError, match="status takes no text of a cell"):
        read_line("status", "text\n")
    with pytest.raises(UsageError, match="The text of the cell is the body"):
        read_line("send runner/main tasks hi", "text\n")


def test_the_shell_has_its_own_commands_and_may_put_options_last() -> None:
    assert read_arguments([]) == read_arguments(["--help"]) == Help()
    assert read_arguments(["results", "runner/main", "--last", "5"]) == Results(actor="runner/main", last=5)
    assert read_arguments(["sql", "--", "select", "1", "--x"]).query == "select 1 --x"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="start works only in a notebook, as %agentq start"):
        read_arguments(["start"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    document = asyncio.run(Help(command=name).run(Place(in_kernel=name in offered("kernel"))))
    text = as_text(document)
    assert usage(COMMANDS[name]) in text
    assert all(field.label in text and field.help for field in declared(COMMANDS[name]).values())
    assert summary(COMMANDS[name])[:60] in text


def test_queues_are_paused_resumed_and_purged_by_the_same_words() -> None:
    assert read_line("pause runner/main tasks") == Pause(actor="runner/main", queue="tasks")
    assert read_line("pause --for=1.5h runner/main tasks") == Pause(actor="runner/main", queue="tasks", lasting=5400.0)
    assert read_line("resume 'runner/my key' tasks") == Resume(actor="runner/my key", queue="tasks")
    assert read_line("purge runner/main tasks --yes") == Purge(actor="runner/main", queue="tasks", yes=True)
    assert read_arguments(["purge", "runner/main", "tasks"]) == Purge(actor="runner/main", queue="tasks")
    assert read_line("transcript abc --last 5") == Transcript(session="abc", last=5)


def test_lengths_of_time_and_times_to_come() -> None:
    assert [span(text) for text in ("90s", "10m", "10min", "2h", "1.5d", "1w")] == [90, 600, 600, 7200, 129600, 604800]
    now = time.time()
    assert 0 < time_to_come("00:00") - now <= 25 * 3600, "the next midnight, in a day of daylight saving too"
    assert time_to_come("2199-01-01T00:00+00:00") == 7226582400.0


def test_a_pause_has_one_end() -> None:
    pause = read_line("pause runner/main tasks --for 1h --until 2199-01-01")
    with pytest.raises(UsageError, match="Give --for or --until, not both"):
        asyncio.run(pause.run(Place(in_kernel=True)))


def test_the_parser_needs_no_running_host() -> None:
    assert read_line("start --store a.duckdb") == Start(store="a.duckdb")


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("", None),
        ("status", None),
        ("results runner/main", None),
        ("retry --all 'runner/my key' --error 'a b'", None),
        ("sql select '--x', 1 + 1", None),
        ("sql -- --comment", None),
        ("sql", "select 1,\n  2\n"),
        ("pause runner/main tasks --for=10m", None),
        ("help send", None),
    ],
)
def test_a_line_of_a_magic_is_the_same_command_as_arguments_of_a_shell(line: str, cell: str | None) -> None:
    command, arguments = read_magic(line, cell)
    assert read_arguments(arguments) == command
