"""A language model on loopback that does what the prompt's lines say, for real agents that must need no key and no net.

``@write PATH TEXT`` and ``@run COMMAND`` call the agent's own tools, one in each round, and ``@call NAME ARGUMENTS`` (JSON)
the one whose name ends like this; ``@say TEXT`` is the answer at the end, ``@slow SECONDS`` the pause between its words,
``@status CODE`` an HTTP error instead, once the tools have been called. ``{key}`` in an answer is the key
that the model was called with, which comes in pieces; its errors quote it too.
It speaks Anthropic's Messages, OpenAI's Responses and Chat Completions, and Gemini's generateContent.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_WRITERS = ("write", "Write", "write_file")
_SHELLS = ("bash", "Bash", "exec_command", "shell_command", "shell", "run_shell_command")
_NAMES = {"path": ("path", "file_path", "filePath"), "text": ("content",), "command": ("command", "cmd")}

REFUSALS = {401: "the key is not valid", 429: "too many requests", 500: "the model is out of order", 529: "Overloaded"}
"""What the model says beside an HTTP status."""


@dataclass
class Script:
    """What a prompt asks for."""

    calls: list[tuple[tuple[str, ...], dict[str, str]]] = field(default_factory=list)
    say: str = "done"
    slow: float = 0.0
    status: int = 0
    retry_after: str | None = None

    @staticmethod
    def of(prompt: str) -> Script:
        script = Script()
        asked = prompt.partition("This continues an earlier conversation")[0]  # what was asked there is done
        for verb, rest in re.findall(r"^\s*@(write|run|call|say|slow|status|retry_after) (.*)$", asked, re.MULTILINE):
            if verb == "write":
                path, _, text = rest.partition(" ")
                script.calls.append((_WRITERS, {"path": path, "text": text}))
            elif verb == "run":
                script.calls.append((_SHELLS, {"command": rest}))
            elif verb == "call":
                name, _, arguments = rest.partition(" ")
                script.calls.append(((f"*{name}",), json.loads(arguments)))
            elif verb == "say":
                script.say = rest
            elif verb == "slow":
                script.slow = float(rest)
            elif verb == "retry_after":
                script.retry_after = rest
            else:
                script.status = int(rest)
        return script


@dataclass
class Answer:
    """One round of the model."""

    text: str
    slow: float = 0.0
    status: int = 0
    retry_after: str | None = None
    call: tuple[str, dict[str, Any]] | None = None


@dataclass(frozen=True)
class Tokens:
    """What one answer took. ``input`` holds what was read from a cache, and written to one."""

    model: str
    input: int = 10
    output: int = 5
    cache_read: int = 0
    cache_write: int = 0


def decide(prompt: str, rounds: int, tools: dict[str, dict[str, Any]]) -> Answer:
    """The answer in the round after ``rounds`` tool results; ``tools`` are the agent's, with their schemas."""
    script = Script.of(prompt)
    if tools and rounds < len(script.calls):
        return Answer("I call a tool. ", call=_call(*script.calls[rounds], tools))
    return Answer(script.say, script.slow, script.status, script.retry_after)


def _call(
    programs: tuple[str, ...], words: dict[str, str], tools: dict[str, dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    if programs[0].startswith("*"):
        return next((name for name in tools if name.endswith(programs[0][1:])), programs[0][1:]), dict(words)
    name = next((program for program in programs if program in tools), None)
    if name is None:  # an agent that writes files with its shell
        return _call(_SHELLS, {"command": f"printf %s {shlex.quote(words['text'])} > {words['path']}"}, tools)
    properties = tools[name].get("properties", {})
    # Some tools insist on a word about what they are called for.
    arguments: dict[str, Any] = {"description": "as the test says"} if "description" in properties else {}
    for word, value in words.items():
        key = next(candidate for candidate in _NAMES[word] if candidate in properties)
        arguments[key] = ["bash", "-c", value] if properties[key].get("type") == "array" else value
    return name, arguments


class FakeModel(ThreadingHTTPServer):
    """The server; ``with serving() as model``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.prompts: list[str] = []
        """The prompt of each round, as it arrived."""
        self.results: list[str] = []
        """What tools gave since the conversation began, as the agent told it last."""
        self.models: list[str] = []
        """The model that was asked in each round."""
        self.bodies: list[str] = []
        """What was asked in each round, as JSON."""
        self.scripts: dict[str, str] = {}
        """For prompts that hold no script: a phrase in them, and the script that it stands for."""
        self.home = "/home/user"
        """What an agent was told that this means."""
        self.keys: set[str] = set()
        """The keys that were sent."""
        self.counted: list[Tokens] = []
        """What each answer took, in the order in which they began."""
        self.varies = False
        """Whether each answer takes another number of tokens, some of them cached."""
        self.paths: list[str] = []
        """Where it was asked."""
        self.headers: dict[str, str] = {}
        """Headers of answers besides their own."""

    def count(self, model: str) -> Tokens:
        """What the next answer takes."""
        number = len(self.counted) + 1
        taken = Tokens(model, 1000 + 10 * number, 5 + number, 300, 20) if self.varies else Tokens(model)
        self.counted.append(taken)
        return taken

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(model: FakeModel | None = None) -> Iterator[FakeModel]:
    """A running model on a free port."""
    model = model or FakeModel()
    thread = threading.Thread(target=model.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.shutdown()
        model.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeModel  # pyright: ignore[reportIncompatibleVariableOverride]  # nothing else makes handlers

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._json({"data": [], "models": []})

    def do_HEAD(self) -> None:
        self._json({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.server.keys.add(self._key())
        self.server.bodies.append(json.dumps(body))
        self.server.paths.append(self.path)
        path = self.path.partition("?")[0]
        try:
            if path.endswith("/messages"):
                self._messages(body)
            elif path.endswith("/responses"):
                self._responses(body)
            elif path.endswith("/chat/completions"):
                self._chat(body)
            elif path.endswith(("generateContent", "GenerateContent")):
                self._generate_content(body, stream=":stream" in path)
            else:
                self._json({"input_tokens": 1})
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever cancels hangs up

    # --- Anthropic ---

    def _messages(self, body: dict[str, Any]) -> None:
        prompt, rounds = "", 0
        results: list[str] = []
        for message in body["messages"]:
            blocks = message["content"]
            blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
            if message["role"] != "user":
                continue
            given = [block for block in blocks if block["type"] == "tool_result"]
            rounds += len(given)
            results += [_flat(block.get("content")) for block in given]
            # The result of a cancelled call comes in one message with the next prompt.
            text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
            if script := self._script(text):
                prompt, rounds = script, 0
        tools = {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools", [])}
        self.server.results = results or self.server.results
        answer = self._decide(prompt, rounds, tools)
        self.server.prompts.append(prompt)
        self.server.models.append(body["model"])
        if answer.status:
            self._json(
                {"type": "error", "error": {"type": "api_error", "message": self._refusal(answer.status)}},
                answer.status,
                answer.retry_after,
            )
            return
        taken = self.server.count(body["model"])
        cached = {"cache_read_input_tokens": taken.cache_read, "cache_creation_input_tokens": taken.cache_write}
        usage = {"input_tokens": taken.input - taken.cache_read - taken.cache_write, "output_tokens": taken.output}
        usage |= cached if self.server.varies else {}
        stop = "tool_use" if answer.call else "end_turn"
        content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}]
        if answer.call:
            content.append({"type": "tool_use", "id": f"toolu_{rounds}_{time.time_ns()}", "name": answer.call[0]})
            content[1]["input"] = answer.call[1]
        # Claude Code takes answers of one id for parts of one answer.
        whole = {
            "id": f"msg_{time.time_ns()}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "usage": usage,
        }
        whole |= {"content": content, "stop_reason": stop, "stop_sequence": None}
        if not body.get("stream"):
            self._json(whole)
            return
        self._begin_stream()
        self._event(
            {
                "type": "message_start",
                "message": {**whole, "content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}},
            }
        )
        for index, block in enumerate(content):
            empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
            self._event({"type": "content_block_start", "index": index, "content_block": empty})
            for delta in self._deltas(block, answer.slow):
                self._event({"type": "content_block_delta", "index": index, "delta": delta})
            self._event({"type": "content_block_stop", "index": index})
        ended = {"stop_reason": stop, "stop_sequence": None}
        self._event({"type": "message_delta", "delta": ended, "usage": usage})
        self._event({"type": "message_stop"})

    def _deltas(self, block: dict[str, Any], slow: float) -> Iterator[dict[str, Any]]:
        if block["type"] == "tool_use":
            yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            return
        for word in _words(block["text"], slow):
            yield {"type": "text_delta", "text": word}

    # --- OpenAI ---

    def _responses(self, body: dict[str, Any]) -> None:
        prompt, rounds = "", 0
        results: list[str] = []
        for item in body["input"]:
            if item.get("role") == "user":
                text = _flat(item["content"])
                if script := self._script(text):
                    prompt, rounds = script, 0
            if str(item.get("type")).endswith("call_output"):
                rounds += 1
                results.append(_flat(item.get("output")))
        tools = {
            tool["name"]: tool["parameters"] for tool in body.get("tools", []) if {"name", "parameters"} <= tool.keys()
        }
        spaces = {
            f"{space['name']}__{tool['name']}": {"name": tool["name"], "namespace": space["name"]}
            for space in body.get("tools", [])
            for tool in space.get("tools", [])
        }
        tools |= {name: {} for name in spaces}
        self.server.results = results or self.server.results
        answer = self._decide(prompt, rounds, tools)
        self.server.prompts.append(prompt)
        self.server.models.append(body["model"])
        if answer.status:
            self._json({"error": {"message": self._refusal(answer.status)}}, answer.status, answer.retry_after)
            return
        said = {"type": "output_text", "text": answer.text, "annotations": []}
        output: list[dict[str, Any]] = [
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]}
        ]
        if answer.call:
            call = {"type": "function_call", "id": "fc_1", "call_id": f"call_{rounds}_{time.time_ns()}"}
            named = spaces.get(answer.call[0], {"name": answer.call[0]})
            output.append(call | named | {"arguments": json.dumps(answer.call[1])})
        taken = self.server.count(body["model"])
        usage: dict[str, Any] = {"input_tokens": taken.input, "output_tokens": taken.output}
        usage |= {
            "total_tokens": taken.input + taken.output,
            "input_tokens_details": {"cached_tokens": taken.cache_read},
        }
        usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
        whole = {"id": "resp_1", "object": "response", "created_at": 0, "model": body["model"], "output": []}
        if not body.get("stream"):
            self._json({**whole, "status": "completed", "output": output, "usage": usage})
            return
        self._begin_stream()
        self._event({"type": "response.created", "response": {**whole, "status": "in_progress"}})
        for index, item in enumerate(output):
            place = {"output_index": index, "item_id": item["id"]}
            begun = {**item, "content": []} if item["type"] == "message" else {**item, "arguments": ""}
            self._event({"type": "response.output_item.added", "output_index": index, "item": begun})
            if item["type"] == "message":
                for word in _words(answer.text, answer.slow):
                    self._event({"type": "response.output_text.delta", **place, "content_index": 0, "delta": word})
            self._event({"type": "response.output_item.done", "output_index": index, "item": item})
        done = {**whole, "status": "completed", "output": output, "usage": usage}
        self._event({"type": "response.completed", "response": done})

    def _chat(self, body: dict[str, Any]) -> None:
        prompt = "\n".join(_flat(message["content"]) for message in body["messages"] if message["role"] == "user")
        answer = self._decide(prompt, 0, {})
        self.server.prompts.append(prompt)
        self.server.models.append(body["model"])
        if answer.status:
            self._json({"error": {"message": self._refusal(answer.status)}}, answer.status, answer.retry_after)
            return
        taken = self.server.count(body["model"])
        usage: dict[str, Any] = {"prompt_tokens": taken.input, "completion_tokens": taken.output}
        usage |= {"prompt_tokens_details": {"cached_tokens": taken.cache_read}}
        whole = {"id": "chat_1", "object": "chat.completion", "created": 0, "model": body["model"]}
        if not body.get("stream"):
            said = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": "stop"}
            self._json({**whole, "choices": [said], "usage": usage})
            return
        self._begin_stream()
        asked = (body.get("stream_options") or {}).get("include_usage")
        for word in _words(answer.text, answer.slow):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            self._data({**whole, "choices": [choice]} | ({"usage": None} if asked else {}))
        if asked:
            self._data({**whole, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    # --- Gemini ---

    def _generate_content(self, body: dict[str, Any], stream: bool) -> None:
        prompt, rounds = "", 0
        results: list[str] = []
        for content in body["contents"]:
            if content.get("role") != "user":
                continue
            text = "\n".join(part.get("text", "") for part in content["parts"])
            if script := self._script(text):
                prompt, rounds = script, 0
            given = [part["functionResponse"]["response"] for part in content["parts"] if "functionResponse" in part]
            rounds += len(given)
            results += [str(response.get("output") or response) for response in given]
        declared = [function for tool in body.get("tools", []) for function in tool.get("functionDeclarations", [])]
        tools = {tool["name"]: tool.get("parametersJsonSchema", {}) for tool in declared}
        self.server.results = results or self.server.results
        answer = self._decide(prompt, rounds, tools)
        self.server.prompts.append(prompt)
        model = self.path.partition("/models/")[2].partition(":")[0]
        self.server.models.append(model)
        if answer.status:
            self._json(
                {"error": {"code": answer.status, "message": self._refusal(answer.status)}},
                answer.status,
                answer.retry_after,
            )
            return
        taken = self.server.count(model)
        call = [{"functionCall": {"name": answer.call[0], "args": answer.call[1]}}] if answer.call else []
        if not stream:
            self._json(_gemini(taken, [{"text": answer.text}, *call], "STOP"))
            return
        self._begin_stream()
        for word in _words(answer.text, answer.slow):
            self._data(_gemini(replace(taken, output=1), [{"text": word}]))
        self._data(_gemini(taken, call or [{"text": ""}], "STOP"))

    # --- all of them ---

    def _key(self) -> str:
        key = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key")
        return key or self.headers.get("authorization", "").removeprefix("Bearer ")

    def _script(self, text: str) -> str | None:
        """What a message of the user's tells the model to do, if it does."""
        if told := re.search(r"/home/user, it means the folder (\S+),", text):
            self.server.home = told[1]
        found = [script for phrase, script in self.server.scripts.items() if phrase in text]
        return found[0] if found else text if re.search(r"^\s*@\w+ ", text, re.MULTILINE) else None

    def _refusal(self, status: int) -> str:
        return f"{REFUSALS[status]} (it was called with {self._key()})"

    def _decide(self, prompt: str, rounds: int, tools: dict[str, dict[str, Any]]) -> Answer:
        answer = decide(prompt.replace("/home/user", self.server.home), rounds, tools)
        return replace(answer, text=answer.text.replace("{key}", self._key()))

    def _json(self, value: dict[str, Any], status: int = 200, retry_after: str | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("retry-after", retry_after)
        for name, header in self.server.headers.items():
            self.send_header(name, header)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"event: {event['type']}\n".encode())
        self._data(event)

    def _data(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()


def _gemini(taken: Tokens, parts: list[dict[str, Any]], reason: str | None = None) -> dict[str, Any]:
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}} | (
        {"finishReason": reason} if reason else {}
    )
    usage = {"promptTokenCount": taken.input, "candidatesTokenCount": taken.output}
    usage |= {"cachedContentTokenCount": taken.cache_read} if taken.cache_read else {}
    usage["totalTokenCount"] = taken.input + taken.output
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": taken.model}


def _flat(content: Any) -> str:
    """The text of a tool's result."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content or [])


def _words(text: str, slow: float) -> Iterator[str]:
    for word in re.findall(r"\S{1,12}\s*", text):
        yield word
        time.sleep(slow)
