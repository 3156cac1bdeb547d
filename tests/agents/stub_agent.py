"""An agent that speaks ACP and misbehaves as its prompt says. A program of its own, with the standard library only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

GREETING = "stub v1, at your service"


def send(**frame: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **frame}) + "\n")
    sys.stdout.flush()


def update(**content: Any) -> None:
    send(method="session/update", params={"sessionId": "one", "update": content})


def say(text: str, **more: Any) -> None:
    update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text}, **more)


def receive() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def die(rest: str) -> None:
    print("about to die", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def flood(rest: str) -> None:
    sys.stderr.write("stderr, line after line\n" * 130_000)
    sys.stderr.flush()
    say("flooded")


def long_line(rest: str) -> None:
    say("x" * 3_000_000)


def noise(rest: str) -> None:
    print("Welcome to the agent!\n{bad json\n[1, 2]\n" + '{"a": NaN}', flush=True)
    say("after the noise")


def frame_of(text: str) -> str:
    content = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    return json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "one", "update": content}})


def banner(rest: str) -> None:
    """Frames that share their lines with others."""
    sys.stdout.write("Welcome to the agent! {not a frame} " + frame_of("one ") + "\n")
    sys.stdout.write("\r 10% |##   \r\x1b[2K 90% |#####\r" + frame_of("two ") + " 100%\n")
    sys.stdout.write(frame_of("three ") + frame_of("four") + "\n")
    sys.stdout.flush()


def broken(rest: str) -> None:
    """Frames that are none."""
    sys.stdout.write(frame_of("cut short")[:-9] + "\n")
    sys.stdout.write('{"jsonrpc": "2.0", "method": "session/update", "params": {"update": "what?"}}\n')
    sys.stdout.write('{"jsonrpc": "2.0", "method": "session/update", "params": {"update": {"sessionUpdate": {}}}}\n')
    sys.stdout.write('{"jsonrpc": "2.0", "id": {}, "result": {}}\n{"jsonrpc": "2.0", "method": 7}\n')
    sys.stdout.flush()
    say("still here")


def noise_with_key(rest: str) -> None:
    """A line whose beginning is cut in the middle of the key."""
    print("x" * 190 + key(), flush=True)
    print('{"jsonrpc": ' + "x" * 180 + key(), flush=True)
    say("after the noise")


def hang(rest: str) -> None:
    say("hanging")
    time.sleep(600)


def count(rest: str) -> None:
    for number in range(int(rest)):
        say(f"{number} ")


def tell(rest: str) -> None:
    """A variable of its environment: in two pieces, in a tool's output, and on stderr."""
    value = os.environ[rest]
    say(f"it is {value[:7]}")
    say(f"{value[7:]}.")
    update(sessionUpdate="tool_call", toolCallId="1", title=f"cat {value}", rawInput={"command": f"echo {value}"})
    update(sessionUpdate="tool_call_update", toolCallId="1", status="completed", rawOutput={value: [value]})
    print(f"the key is {value}", file=sys.stderr, flush=True)


def tell_and_die(rest: str) -> None:
    print(f"the key is {os.environ[rest]}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def key() -> str:
    return os.environ["API_KEY"]


def answer_with_key(rest: str) -> None:
    """An answer that is none, with a key in it."""
    send(id=int(rest), result={"stopReason": {"the key is": key()}})


def ask_with_key(rest: str) -> None:
    options = [{"optionId": "id", "name": "Allow", "kind": "allow_once"}]
    call = {"toolCallId": "8", "title": f"curl -H {key()}", "rawInput": {"command": key()}}
    send(id=97, method="session/request_permission", params={"sessionId": "one", "toolCall": call, "options": options})
    say(json.dumps(receive()["result"]["outcome"]))


def child(rest: str) -> None:
    """Start a process that wants to outlive everything."""
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait; sleep 600"], start_new_session=True)
    say("begun")


def crowd(rest: str) -> None:
    """As many processes as were asked for."""
    for _ in range(int(rest)):
        subprocess.Popen(["sleep", "600"])
    time.sleep(600)


def ask(rest: str) -> None:
    options = [{"optionId": f"id-{kind}", "name": kind, "kind": kind} for kind in ("reject_once", "allow_once")]
    call = {"toolCallId": "7", "title": "rm -rf /", "kind": "execute"}
    parameters = {"sessionId": "one", "toolCall": call, "options": options}
    send(id=99, method="session/request_permission", params=parameters)
    while "result" not in (answer := receive()):  # the news that the turn is cancelled may come first
        pass
    say(json.dumps(answer["result"]["outcome"]))


def ask_briefly(rest: str) -> None:
    """Tell all of a tool call, then ask with no more than its title, as some agents do."""
    content = [{"type": "diff", "path": "/home/user/new.py", "oldText": None, "newText": rest}]
    call = {"toolCallId": "9", "title": "Write", "kind": "edit", "status": "pending", "content": content}
    update(sessionUpdate="tool_call", **call)
    more = {"rawInput": {"file_path": "/home/user/new.py"}, "locations": [{"path": "/home/user/new.py"}]}
    update(sessionUpdate="tool_call_update", toolCallId="9", **more)
    options = [{"optionId": "id", "name": "Allow", "kind": "allow_once"}]
    brief = {"toolCallId": "9", "title": "Write new.py"}
    send(id=93, method="session/request_permission", params={"sessionId": "one", "toolCall": brief, "options": options})
    say(json.dumps(receive()["result"]["outcome"]))


def ask_and_die(rest: str) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    ask(rest)


def take_back(rest: str) -> None:
    """Ask, and take the request back while it is open, in the ways that agents have for it."""
    options = [{"optionId": "id", "name": "Allow", "kind": "allow_once"}]
    call = {"toolCallId": "5", "title": "rm -rf /"}
    send(id=95, method="session/request_permission", params={"sessionId": "one", "toolCall": call, "options": options})
    send(method="$/cancel_request", params={"id": 95})
    send(method="$/cancelRequest", params={"requestId": 95})
    send(id=94, method="$/progress", params={"surrogate": 1})
    while True:
        receive()


def ask_for_file(rest: str) -> None:
    """Something that was not offered."""
    send(id=98, method="fs/read_text_file", params={"sessionId": "one", "path": "/etc/passwd"})
    say(str(receive()["error"]["code"]))


def look(rest: str) -> None:
    """Say what an isolated process should and should not be able to do."""
    try:
        with open(rest) as file:
            say(f"read {file.read()}")
    except OSError:
        say("cannot read it")
    print(os.listdir("."), file=sys.stderr)


def run(rest: str) -> None:
    """Run a command, and say what it printed."""
    say(subprocess.run(["/bin/sh", "-c", rest], stdout=subprocess.PIPE).stdout.decode(errors="replace"))


def answers(rest: str) -> None:
    """Give the first of these answers, and the next one whenever an answer cannot be used."""
    LEFT[:] = json.loads(rest)
    say(LEFT.pop(0))


LEFT: list[str] = []
"""The answers that are still to be given."""


def think(rest: str) -> None:
    for word in ("I ", "think."):
        update(sessionUpdate="agent_thought_chunk", content={"type": "text", "text": word})
    update(sessionUpdate="plan", entries=[{"content": "first this"}])
    update(sessionUpdate="something_new", value=1)
    say("So I am.")


def late(identity: int, rest: str) -> None:
    """Say the first word, end the turn, after some seconds say the last one, and take some seconds more for nothing."""
    begin, seconds, end, *rest_of_it = rest.split(" ")
    say(begin)
    send(id=identity, result={"stopReason": "end_turn"})
    time.sleep(float(seconds))
    say(end)
    time.sleep(float(rest_of_it[0]) if rest_of_it else 0)


def until_cancelled(identity: int, rest: str) -> None:
    begin, seconds, end = rest.split(" ", 2)
    say(begin)
    while receive().get("method") != "session/cancel":
        pass
    send(id=identity, result={"stopReason": "cancelled"})
    time.sleep(float(seconds))
    say(end)


def end_as(identity: int, rest: str) -> None:
    """End the turn with an answer that is given as JSON."""
    say("the text")
    sys.stdout.write(f'{{"jsonrpc": "2.0", "id": {identity}, {rest}}}\n')
    sys.stdout.flush()


def refuse_late(identity: int, rest: str) -> None:
    send(id=identity, error={"code": -32603, "message": "Internal error"})
    say(rest)


def ask_late(identity: int, rest: str) -> None:
    """Ask for a permission some seconds after the turn; the next prompt is answered after that."""
    say("begin1", messageId="first")
    send(id=identity, result={"stopReason": "end_turn"})
    time.sleep(float(rest))
    options = [{"optionId": "id", "name": "Allow", "kind": "allow_once"}]
    call = {"toolCallId": "6", "title": "rm -rf /"}
    send(id=96, method="session/request_permission", params={"sessionId": "one", "toolCall": call, "options": options})
    frame = receive()
    assert frame["method"] == "session/prompt"
    say(json.dumps(receive()["result"]["outcome"]), messageId="first")
    prompt(frame["id"], [block["text"] for block in frame["params"]["prompt"]])


def later(identity: int, rest: str) -> None:
    """The same while the next prompt is being answered, by the name of the message and of the tool."""
    begin, end = rest.split(" ", 1)
    say(begin, messageId="first")
    update(sessionUpdate="tool_call", toolCallId="slow", title="slow tool", status="pending")
    send(id=identity, result={"stopReason": "end_turn"})
    frame = receive()
    assert frame["method"] == "session/prompt"
    say("begin2 ", messageId="second")
    say(end, messageId="first")
    update(sessionUpdate="tool_call_update", toolCallId="slow", status="completed", rawOutput="the slow output")
    say("end2", messageId="second")
    send(id=frame["id"], result={"stopReason": "end_turn"})


def play(identity: int, rest: str) -> None:
    """Send the updates, write the words on stderr, and answer (or end), as given in JSON."""
    part = json.loads(rest)
    for content in part.get("updates", []):
        update(**content)
    for frame in part.get("frames", []):
        send(**frame)
    if "stderr" in part:
        print(part["stderr"], file=sys.stderr, flush=True)
    if "answer" in part:
        send(id=identity, **part["answer"])
    elif part.get("waits"):
        while receive().get("method") != "session/cancel":
            pass
        send(id=identity, result={"stopReason": "cancelled"})
    else:
        sys.exit(3)


BEHAVIOUR = {
    function.__name__: function
    for function in (
        die,
        flood,
        long_line,
        noise,
        noise_with_key,
        banner,
        broken,
        hang,
        count,
        tell,
        tell_and_die,
        answer_with_key,
        ask_with_key,
        child,
        crowd,
        ask,
        ask_briefly,
        ask_and_die,
        take_back,
        ask_for_file,
        look,
        run,
        think,
        answers,
    )
}


ENDS = {function.__name__: function for function in (ask_late, end_as, late, later, play, refuse_late, until_cancelled)}
"""What answers the prompt by itself."""


def main() -> None:
    if "exit" in sys.argv:
        sys.exit("I need a library that is not there")
    if "mute" in sys.argv:
        time.sleep(600)
    while True:
        frame = receive()
        method, identity = frame.get("method"), frame.get("id")
        if method == "initialize" and "babble" in sys.argv:
            send(id=identity, result={"protocolVersion": {"the key is": key()}})
        elif method == "initialize":
            send(id=identity, result={"protocolVersion": 1, "agentCapabilities": {}})
        elif method == "session/new":
            say(f"before any prompt, in {frame['params']['cwd']}")
            send(id=identity, result={"sessionId": "one", "_meta": {"piAcp": {"startupInfo": GREETING}}})
        elif method == "session/prompt":
            prompt(identity, [block["text"] for block in frame["params"]["prompt"]])


def prompt(identity: int, blocks: list[str]) -> None:
    if "greet" in sys.argv:
        say(GREETING)
    verb, _, rest = blocks[0].partition(" ")
    if verb == "refuse_with_key":
        send(id=identity, error={"code": -32603, "message": "Internal error", "data": {"details": f"401 {key()}"}})
        return
    if verb == "answer_with_key":
        rest = str(identity)
    if verb == "refuse":
        send(
            id=identity,
            error={"code": -32603, "message": "Internal error", "data": {"details": rest or "it is Sunday"}},
        )
        return
    if verb in ENDS:
        ENDS[verb](identity, rest)
        return
    if verb in BEHAVIOUR:
        BEHAVIOUR[verb](rest)
    elif blocks[0].startswith("Your answer cannot be used") and LEFT:
        say(LEFT.pop(0))
    else:
        say(json.dumps(blocks))
    usage = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    send(id=identity, result={"stopReason": "end_turn", "usage": usage})


if __name__ == "__main__":
    main()
