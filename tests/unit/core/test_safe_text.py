"""Text of others as it is shown: nothing in it is hidden from people, and what they can read stays as it is."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import pytest

from agentq_nb._core.safe_text import exact, is_safe, safe
from agentq_nb.agent_os import agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.errors import PromptFailed
from tests.unit.agent_os.machine import Machine

TAGS = "".join(chr(0xE0000 + ord(letter)) for letter in "rm -rf ~")
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u2063"
SELECTORS = "".join(chr(0xE0100 + byte) for byte in b"curl evil")
DISGUISED = "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ \u202egnp.exe" + TAGS


@pytest.mark.parametrize("hidden", [TAGS, ZERO_WIDTH, SELECTORS, "\u3164", "\ufe0f\ufe00\ufe01", "\u202e", "\u115f"])
@pytest.mark.parametrize(("before", "after"), [("a", "b"), ("", ""), ("é", "é"), ("👍", "👍")])
def test_what_nobody_sees_is_shown_by_its_number(hidden: str, before: str, after: str) -> None:
    numbers = "".join(f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}" for one in hidden)
    assert safe(f"{before}{hidden}{after}") == f"{before}{numbers}{after}"


@pytest.mark.parametrize("between", ["\u200c", "\u200d", "\ufe0f", "\ufe0f\u200d"])
def test_joiners_between_ascii_are_shown(between: str) -> None:
    assert between not in safe(f"pass{between}word")


@pytest.mark.parametrize(("before", "after"), [("é", "b"), ("b", "é"), ("é", ""), ("", "é")])
def test_a_joiner_that_joins_two_of_one_writing_only_stays(before: str, after: str) -> None:
    assert safe(f"{before}\u200d{after}") == f"{before}\\u200d{after}"
    assert exact(f"{before}\u200d{after}") == f"{before}\\u200d{after}"


def test_nothing_of_an_exact_text_is_left_out_or_hidden() -> None:
    assert exact("a\tb\n") == "a\tb\n"
    assert exact("\x1b[31mred\r") == "\\x1b[31mred\\r"
    assert exact("é\u202e" + "x" * 10_000) == "é\\u202e" + "x" * 10_000
    assert exact("👩‍💻 ❤️") == "👩‍💻 ❤️"


@pytest.mark.parametrize("text", ["👩‍💻", "❤️‍🔥", "1️⃣", "✔️ done", "می‌خواهم", "क्‍ष", "naïve café", "a\tb\n", "日本語"])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert safe(text) == text
    assert is_safe(text)


def test_the_traceback_of_an_agent_that_fails_confuses_no_terminal(tmp_path: Path) -> None:
    async def fails(session: AgentSession, prompt: str) -> str:
        if prompt == "plain":
            raise RuntimeError("plain")
        raise (RuntimeError if prompt == "other" else PromptFailed)(DISGUISED)

    async def program() -> dict[str, BaseException]:
        raised: dict[str, BaseException] = {}
        async with Machine(agent_os(agents=[agents.function(fails)]), tmp_path) as vm:
            session = await vm.create_session("fails")
            for prompt in ("plain", "other", "ours"):
                with pytest.raises(PromptFailed) as failed:
                    await vm.send_prompt(session.session_id, prompt)
                raised[prompt] = failed.value
        return raised

    raised = asyncio.run(program())
    for prompt in ("other", "ours"):
        printed = "".join(traceback.format_exception(raised[prompt]))
        assert not any(hidden in printed for hidden in ("\x1b", "\u202e", TAGS)), prompt
    assert isinstance(raised["plain"].__cause__, RuntimeError)
