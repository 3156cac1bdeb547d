"""A transcript as text, Markdown and a DataFrame; what agents write in it is shown by every form, obeyed by none."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import markdown
import mistune
import pytest
from markdown_it import MarkdownIt

from agentq_nb import agent_os, agents
from agentq_nb._display import document_of
from agentq_nb._display.html import as_html
from agentq_nb.agent_os import SessionEvent, TranscriptView
from agentq_nb.agent_os.values import EventType
from agentq_nb.errors import SessionUnknown
from tests.unit.agent_os.machine import Machine

HOSTILE = [
    "<script>alert(1)</script>",
    "text\n\n<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>",
    "```\n<script>alert(1)</script>\n```\n<script>alert(2)</script>",
    "~~~~\n````\n<b>out</b>",
    "[click](javascript:alert(1)) <javascript:alert(1)> ![x](javascript:alert(1))",
    "[click][1]\n\n[1]: javascript:alert(1)",
    "a\r<script>alert(1)</script>\x0b<script>alert(2)</script>\x0c<script>\u2028<script>\x85<script>\x1c<script>",
    "\n\n\n<script>alert(1)</script>",
    "- list\n\n  <script>alert(1)</script>",
    "\t<script>alert(1)</script>",
    "</code></pre><script>alert(1)</script>",
    "&lt;script&gt; &#60;script&#62;",
    "\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x9b31m",
    "abc\u202egnp.exe",
    "$\\href{javascript:alert(1)}{x}$",
]

CONVERTERS: dict[str, Callable[[str], str]] = {
    "commonmark": lambda text: MarkdownIt("commonmark").render(text),
    "github": lambda text: MarkdownIt("gfm-like", {"linkify": False}).render(text),
    "python-markdown": markdown.markdown,
    "mistune, as nbconvert": lambda text: str(mistune.create_markdown(escape=False)(text)),
}


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def event(index: int, type: EventType, text: str | None = None, **data: Any) -> SessionEvent:
    return SessionEvent("s1", index, datetime(2026, 11, 5, 10, 0, index, tzinfo=UTC), type, text, data)


def view_of(*events: SessionEvent, agent: str = "pi") -> TranscriptView:
    return TranscriptView("s1", "vm/main", agent, "open", events)


def everywhere(text: str) -> TranscriptView:
    """The text in each place that an agent's text can have."""
    return view_of(
        event(1, "prompt", text),
        event(2, "text", text),
        event(3, "tool_call", text, tool=text, input={text: text}),
        event(4, "permission_request", text, request_id="r", kind=text, tool_call={"title": text}),
        event(5, "permission_answer", text, request_id="r", answer=text, by=text),
        event(6, "error", text, traceback=text),
        event(7, "result", None, stop_reason=text, usage={text: 1}),
        SessionEvent("s1", 8, datetime(2026, 11, 5, tzinfo=UTC), text, text, {}),  # type: ignore[arg-type]  # a type of a later version
        agent=text,
    )


@pytest.mark.parametrize("converter", CONVERTERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_made_into_html_runs_nothing(text: str, converter: str) -> None:
    tags = Tags(CONVERTERS[converter](everywhere(text).markdown()))
    assert tags.found <= {"h1", "h2", "p", "pre", "code"}
    assert tags.attributes == []
    assert " ".join(text.split()[:1])[:5] in tags.text


@pytest.mark.parametrize("text", HOSTILE)
def test_text_and_html_are_showable(text: str) -> None:
    view = everywhere(text)
    document = document_of(view)
    assert document is not None
    for made in (str(view), as_html(document)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", made)
    tags = Tags(as_html(document))
    assert tags.found <= {"div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre"}
    assert set(tags.attributes) <= {"class", "style", "open"}


def test_each_kind_of_event_has_words_of_its_own() -> None:
    view = view_of(
        event(1, "prompt", "Do it"),
        event(2, "note", "Hm", thought=True),
        event(3, "tool_call", "rm -rf /", id="1", tool="rm -rf /", kind="execute"),
        event(4, "permission_request", "rm -rf /", request_id="r", kind="execute", tool_call={}),
        event(5, "permission_answer", "permission for rm -rf /: deny", request_id="r", answer="deny", by="timeout"),
        event(6, "permission_answer", "permission for rm -rf /: allow", request_id="q", answer="allow", by="user"),
        event(7, "text", "Done."),
        event(8, "error", "ValueError: no", traceback="Traceback …\nValueError: no"),
        event(9, "result", None, stop_reason="end_turn", usage={"output_tokens": 3}),
        event(10, "result", None, stop_reason="cancelled", usage=None),
    )
    parts = [(part.heading, part.text.splitlines()[0]) for part in view.parts()]
    assert parts == [
        ("Prompt", "Do it"),
        ("Thought", "Hm"),
        ("Tool call", "rm -rf /"),
        ("Permission asked", "rm -rf /"),
        ("Refused since nobody answered", "permission for rm -rf /: deny"),
        ("Allowed by the user", "permission for rm -rf /: allow"),
        ("Answer", "Done."),
        ("Error", "Traceback …"),
        ("End of turn", "end_turn"),
        ("End of turn", "cancelled"),
    ]
    assert view.parts()[8].text == "end_turn\noutput_tokens: 3"
    assert view.parts()[9].text == "cancelled"
    assert str(view).startswith("Session s1 with pi\n\nvm/main, open\n\nPrompt, 2026-11-05 10:00:01 UTC\n  Do it\n\n")
    assert view.markdown().startswith(
        "# Session s1 with pi\n\nvm/main, open\n\n## Prompt\n\n2026-11-05 10:00:01 UTC\n\n    Do it\n\n## Thought"
    )


def test_long_texts_are_cut_for_the_eye_only() -> None:
    view = view_of(event(1, "text", "x" * 1_000_000))
    assert len(str(view)) < 30_000
    assert "(1,000,000 characters)" in str(view)
    assert len(view.markdown()) > 1_000_000
    assert len(view.frame()["text"].iloc[0]) == 1_000_000


def test_an_empty_transcript_says_so() -> None:
    assert "Nothing was said yet." in str(view_of())
    assert "Nothing was said yet." in view_of().markdown()
    assert list(view_of().frame().columns) == ["index", "time", "type", "text", "data"]


async def chatty(session: Any, prompt: str) -> Any:
    for piece in ("Let ", "me ", "look."):
        yield piece
    yield {"type": "tool_call", "text": "read", "file": "a.txt"}
    yield "It is "
    yield "empty."


@pytest.mark.anyio
async def test_a_vm_gives_the_transcript_of_open_and_closed_sessions(tmp_path: Path) -> None:
    async with Machine(agent_os(agents=[agents.function(chatty)]), tmp_path) as vm:
        session = (await vm.create_session("chatty", keep=True)).session_id
        await vm.send_prompt(session, "Look")
        view = await vm.transcript(session)
        said = [(event.type, event.text) for event in view.events]
        assert said == [
            ("prompt", "Look"),
            ("text", "Let me look."),
            ("tool_call", "read"),
            ("text", "It is empty."),
            ("result", None),
        ]
        assert (view.agent, view.actor_id, view.status, view.left_out) == ("chatty", "vm/a", "open", 0)
        frame = view.frame()
        assert list(frame["type"]) == [kind for kind, _ in said]
        assert str(frame["time"].dtype) == "datetime64[us, UTC]"
        assert frame["data"].iloc[2] == {"file": "a.txt"}
        await vm.close_session(session)
        last = await vm.transcript(session, last=2)
        assert [event.text for event in last.events] == ["It is empty.", None]
        assert (last.status, last.left_out) == ("closed", 3)
        assert "3 earlier events are left out." in str(last)
        with pytest.raises(SessionUnknown):
            await vm.transcript("none")
