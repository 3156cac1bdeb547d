"""An agent that speaks ACP, keeps its sessions in its HOME, and has modes and models. With the standard library only.

Words on its command line: ``loads`` offers to load sessions; ``refuses``, ``dies`` or ``mute`` break that; ``late`` tells what was
said only after it has answered; ``options`` offers modes and models as configuration options, ``bare`` not at all;
``fewer`` has not all of them; ``local`` takes MCP servers over stdio only, and ``stubborn`` changes nothing.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

WORDS = sys.argv[1:]
KEPT = Path.home() / "kept.json"
MODES = ["careful", "quick"] if "fewer" not in WORDS else ["careful"]
MODELS = ["small", "large"]


class Session:
    """The one session that is open."""

    def __init__(self) -> None:
        self.identity = ""
        self.said: list[list[str]] = []
        self.chosen = {"mode": "careful", "model": "small"}
        self.servers: list[dict[str, Any]] = []

    def choices(self) -> dict[str, Any]:
        if "bare" in WORDS:
            return {}
        if "options" in WORDS:
            groups = [{"group": "all", "name": "all", "options": [{"value": name, "name": name} for name in MODELS]}]
            plain = [{"value": name, "name": name} for name in MODES]
            options = [("permissions", "mode", plain), ("llm", "model", groups)]
            return {
                "configOptions": [
                    {"id": identity, "name": kind, "category": kind, "type": "select", "options": offered}
                    | {"currentValue": self.chosen[kind]}
                    for identity, kind, offered in options
                ]
            }
        return {
            "modes": {
                "currentModeId": self.chosen["mode"],
                "availableModes": [{"id": name, "name": name.title()} for name in MODES],
            },
            "models": {
                "currentModelId": self.chosen["model"],
                "availableModels": [{"modelId": name, "name": name.title()} for name in MODELS],
            },
        }


session = Session()


def send(**frame: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **frame}), flush=True)


def update(kind: str, **content: Any) -> None:
    send(method="session/update", params={"sessionId": session.identity, "update": {"sessionUpdate": kind, **content}})


def tell(kind: str, text: str) -> None:
    update(kind, content={"type": "text", "text": text})


def initialize(identity: int, parameters: dict[str, Any]) -> None:
    remote = "local" not in WORDS
    able = {"loadSession": "loads" in WORDS, "mcpCapabilities": {"http": remote, "sse": remote}}
    send(id=identity, result={"protocolVersion": 1, "agentCapabilities": able})


def new(identity: int, parameters: dict[str, Any]) -> None:
    session.identity, session.servers = uuid.uuid4().hex, parameters["mcpServers"]
    send(id=identity, result={"sessionId": session.identity, **session.choices()})


def load(identity: int, parameters: dict[str, Any]) -> None:
    if "dies" in WORDS:
        sys.exit("the session is too much for me")
    if "mute" in WORDS:
        time.sleep(600)
    if "refuses" in WORDS:
        send(id=identity, error={"code": -32002, "message": "Resource not found"})
        return
    session.identity, session.servers = parameters["sessionId"], parameters["mcpServers"]
    session.said = json.loads(KEPT.read_text())[session.identity]
    if "late" not in WORDS:
        replay()
    send(id=identity, result=session.choices())
    if "late" in WORDS:
        replay()


def replay() -> None:
    update("current_mode_update", currentModeId="quick")
    for heard, answered in session.said:
        tell("user_message_chunk", heard)
        time.sleep(0.05)
        tell("agent_message_chunk", answered)
    update("current_mode_update", currentModeId="careful")


def set_mode(identity: int, parameters: dict[str, Any]) -> None:
    choose(identity, "mode", parameters["modeId"])


def set_model(identity: int, parameters: dict[str, Any]) -> None:
    choose(identity, "model", parameters["modelId"])


def set_option(identity: int, parameters: dict[str, Any]) -> None:
    choose(identity, {"permissions": "mode", "llm": "model"}[parameters["configId"]], parameters["value"])


def choose(identity: int, kind: str, value: str) -> None:
    if "stubborn" in WORDS:
        send(id=identity, error={"code": -32603, "message": "I would rather not"})
        return
    session.chosen[kind] = value
    if kind == "mode":
        update("current_mode_update", currentModeId=value)
    send(id=identity, result=session.choices() if "options" in WORDS else {})


def prompt(identity: int, parameters: dict[str, Any]) -> None:
    blocks = [block["text"] for block in parameters["prompt"]]
    if blocks[0].startswith("switch "):
        session.chosen["mode"] = blocks[0].split()[1]
        update("current_mode_update", currentModeId=session.chosen["mode"])
    if blocks[0] == "die":
        sys.exit("as I was told")
    answer = json.dumps(
        {"blocks": blocks, "before": len(session.said), "servers": session.servers, **session.chosen}, sort_keys=True
    )
    tell("agent_message_chunk", answer)
    session.said.append([blocks[0], answer])
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    KEPT.write_text(json.dumps(kept | {session.identity: session.said}))
    send(id=identity, result={"stopReason": "end_turn"})


METHODS = {
    "initialize": initialize,
    "session/new": new,
    "session/load": load,
    "session/set_mode": set_mode,
    "session/set_model": set_model,
    "session/set_config_option": set_option,
    "session/prompt": prompt,
}

for line in sys.stdin:
    frame = json.loads(line)
    if frame.get("method") in METHODS:
        METHODS[frame["method"]](frame["id"], frame["params"])
