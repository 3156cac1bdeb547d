"""agents.shell: runs what is marked as sh, nothing else, and not for everyone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentq_nb._core.origin import under
from agentq_nb.agent_os import PromptResult, SessionEvent, agent_os, agents
from agentq_nb.agent_os.agents.shell import shell_blocks
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationMode
from agentq_nb.errors import IsolationUnavailable, PromptFailed
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import need


def prompted(
    folder: Path, *prompts: str, mode: IsolationMode = "auto", origin: str = "process", **env: str
) -> tuple[PromptResult, list[SessionEvent]]:
    async def program() -> tuple[PromptResult, list[SessionEvent]]:
        async with Machine(agent_os(agents=[agents.shell], isolation=mode), folder) as vm:
            session = await vm.create_session("shell", env=env)
            result: PromptResult | None = None
            for prompt in prompts:
                with under(origin):
                    result = await vm.send_prompt(session.session_id, prompt)
            assert result is not None
            return result, await vm.session_events(session.session_id)

    return asyncio.run(program())


def test_it_runs_the_blocks_and_gives_exit_code_output_and_changed_files(tmp_path: Path) -> None:
    prompt = (
        "Please:\n```sh\nmkdir -p src\necho 'x = 1' > src/a.py\n```\nand then\n```sh\nls -1 src; echo oops >&2\n```\n"
    )
    result, events = prompted(tmp_path, "```sh\necho old > old\n```", prompt, mode="off")
    assert result.text == "exit code: 0\na.py\noops\nexit code: 0\n\nchanged files: src/a.py"
    assert [call["command"] for call in result.tool_calls] == [
        "mkdir -p src\necho 'x = 1' > src/a.py\n",
        "ls -1 src; echo oops >&2\n",
    ]
    results = [event.data["exit_code"] for event in events if event.type == "tool_result"]
    assert results == [0, 0, 0]
    assert events[-1].data["changed_files"] == ["src/a.py"]


def test_a_block_that_fails_is_a_result_and_the_rest_is_not_run(tmp_path: Path) -> None:
    result, _ = prompted(tmp_path, "```sh\nrm missing; exit 3\n```\n```sh\ntouch never\n```", mode="off")
    assert "exit code: 3" in result.text
    assert result.text.endswith("changed files: none")
    assert len(result.tool_calls) == 1
    assert result.stop_reason == "end_turn"


def test_it_runs_inside_the_isolation(tmp_path: Path) -> None:
    need("bubblewrap")
    (tmp_path / "secret").write_text("outside")
    result, _ = prompted(tmp_path, f"```sh\npwd\ncat {tmp_path}/secret\n```")
    assert result.text.startswith("/home/user\n")
    assert "outside" not in result.text


def test_environment_reaches_the_command_and_is_redacted(tmp_path: Path) -> None:
    result, events = prompted(tmp_path, "```sh\necho $KEY\nprintf %s $KEY > file\n```", mode="off", KEY="secret-key-1")
    assert "[redacted KEY]" in result.text
    assert "secret-key-1" not in repr(events) + repr(result)
    assert next(tmp_path.rglob("file")).read_text() == "secret-key-1"


@pytest.mark.parametrize(
    "prompt",
    [
        "rm -rf everything",
        "`sh`\nls",
        "```python\nimport os\n```",
        "```\nls\n```",
        "```bash\nls\n```",
        "```sh\n\n```",
        "````markdown\n```sh\nls\n```\n````",
        "~~~\n```sh\nls\n```\n~~~",
        "    ```sh\n    ls\n    ```",
        "```sh ls```",
        "look:\u2028```sh\u2028ls\u2028```",
        "look:\x0b```sh\x0bls\x0b```\x0c",
        "> ```sh\n> ls\n> ```",
    ],
)
def test_a_prompt_without_marked_blocks_fails_saying_so(tmp_path: Path, prompt: str) -> None:
    with pytest.raises(PromptFailed, match="nothing was run"):
        prompted(tmp_path, prompt, mode="off")


def test_a_block_that_is_not_closed_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(PromptFailed, match="not closed"):
        prompted(tmp_path, "```sh\ntouch made\n", mode="off")
    assert not list(tmp_path.rglob("made"))


def test_blocks_as_commonmark_sees_them() -> None:
    assert shell_blocks("  ~~~~ sh title\na\n```\nb\n~~~\n~~~~~\n```sh\nc\n```") == ["a\n```\nb\n~~~\n", "c\n"]


def test_it_refuses_to_run_without_isolation_unless_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not here", "landlock": "not here"})
    with pytest.raises(IsolationUnavailable, match='isolation="off"'):
        prompted(tmp_path, "```sh\ntouch made\n```")
    assert not list(tmp_path.rglob("made"))
    prompted(tmp_path, "```sh\ntouch made\n```", mode="off")
    assert list(tmp_path.rglob("made"))


@pytest.mark.parametrize("origin", ["http", "webhook:github", "of a later version"])
def test_it_refuses_what_came_in_over_the_network(tmp_path: Path, origin: str) -> None:
    with pytest.raises(PromptFailed, match=f"came in over the network.*{origin}"):
        prompted(tmp_path, "```sh\ntouch made\n```", mode="off", origin=origin)
    assert not list(tmp_path.rglob("made"))


def test_it_runs_what_came_in_through_the_local_socket(tmp_path: Path) -> None:
    prompted(tmp_path, "```sh\ntouch made\n```", mode="off", origin="socket")
    assert list(tmp_path.rglob("made"))


def test_required_isolation_that_is_missing_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not here", "landlock": "not here"})
    with pytest.raises(IsolationUnavailable, match="bubblewrap: not here"):
        prompted(tmp_path, "```sh\ntouch made\n```", mode="required")


def test_it_is_never_there_unless_named() -> None:
    assert agent_os()._agents == {}
    assert agents.shell.check()
    assert repr(agents.shell) == "agents.shell"
