"""A small coding agent that speaks ACP and asks Anthropic's Messages API. A program of its own, with the standard library only.

It writes files, and runs commands if it may.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TEXT = {"type": "string"}
TOOLS = [
    {"name": "write", "input_schema": {"type": "object", "properties": {"path": TEXT, "content": TEXT}}},
    {"name": "bash", "input_schema": {"type": "object", "properties": {"command": TEXT}}},
]


class Refused(Exception):
    """The model answered with an error."""


def send(**frame: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **frame}) + "\n")
    sys.stdout.flush()


def receive() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def update(**content: Any) -> None:
    send(method="session/update", params={"sessionId": "one", "update": content})


def ask_model(messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"model": "claude-sonnet-4-5", "max_tokens": 1000, "messages": messages, "tools": TOOLS}
    request = urllib.request.Request(
        f"{os.environ['ANTHROPIC_BASE_URL']}/v1/messages",
        json.dumps(body).encode(),
        {"content-type": "application/json", "x-api-key": os.environ["ANTHROPIC_API_KEY"]},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"API Error: {error.code} {error.read().decode()}") from None


def is_allowed(call: dict[str, Any]) -> bool:
    """Ask the user for permission to run a command."""
    options = [{"optionId": kind, "name": kind, "kind": kind} for kind in ("allow_once", "reject_once")]
    asked = {"toolCallId": call["id"], "title": call["input"]["command"], "kind": "execute"}
    parameters = {"sessionId": "one", "toolCall": asked, "options": options}
    send(id=99, method="session/request_permission", params=parameters)
    while "result" not in (answer := receive()):  # the news that the turn is cancelled may come first
        pass
    return answer["result"]["outcome"].get("optionId") == "allow_once"


def use_tool(call: dict[str, Any]) -> str:
    given = call["input"]
    update(sessionUpdate="tool_call", toolCallId=call["id"], title=call["name"], rawInput=given)
    if call["name"] == "write":
        Path(given["path"]).write_text(given["content"] + "\n")
        said = "written"
    elif is_allowed(call):
        said = subprocess.run(["/bin/sh", "-c", given["command"]], stdout=subprocess.PIPE, text=True).stdout
    else:
        said = "The user refused this."
    update(sessionUpdate="tool_call_update", toolCallId=call["id"], status="completed", rawOutput=said)
    return said


def work(prompt: str) -> None:
    """Ask the model and do what it says, until it wants nothing more."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    while True:
        answer = ask_model(messages)
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": use_tool(block)}
            for block in answer["content"]
            if block["type"] == "tool_use"
        ]
        if not results:
            text = "".join(block["text"] for block in answer["content"])
            update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})
            return
        messages += [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]


def main() -> None:
    while True:
        frame = receive()
        method, identity = frame.get("method"), frame.get("id")
        if method == "initialize":
            send(id=identity, result={"protocolVersion": 1, "agentCapabilities": {}})
        elif method == "session/new":
            os.chdir(frame["params"]["cwd"])
            send(id=identity, result={"sessionId": "one"})
        elif method == "session/prompt":
            try:
                work("\n".join(block["text"] for block in frame["params"]["prompt"]))
                send(id=identity, result={"stopReason": "end_turn"})
            except Refused as error:
                send(id=identity, error={"code": -32603, "message": "Internal error", "data": {"details": str(error)}})


if __name__ == "__main__":
    main()
