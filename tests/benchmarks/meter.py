"""What the proxy before language models adds to a request: the same ones to a model on loopback, directly and through it.

The model and the client have processes of their own, as agents and providers have.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentq_nb import LLM, agent_os, agents, create_client, setup
from tests.agents.fake_llm import serving
from tests.benchmarks.figures import Table, median

_PROJECT = Path(__file__).resolve().parents[2]
_REQUESTS = 150
_WARMING = 10
_KEY = "sk-the-key-of-the-benchmark"
_BODY = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "@say hello you"}]}


def serve() -> None:
    """Be the model: print the URL, and answer until stdin is closed."""
    with serving() as model:
        print(model.url, flush=True)
        sys.stdin.read()


def call(streams: bool, *ways: tuple[str, str]) -> None:
    """Be the client: print the seconds until the first byte of each answer, by turns for each way: a URL and a key."""
    import httpx2

    took: list[list[float]] = [[] for _ in ways]
    with httpx2.Client() as client:
        for number in range(_REQUESTS + _WARMING):
            for seconds, (base, key) in zip(took, ways, strict=True):
                began = time.perf_counter()
                body = {**_BODY, "stream": streams}
                with client.stream("POST", f"{base}/v1/messages", json=body, headers={"x-api-key": key}) as answer:
                    pieces = answer.iter_raw()
                    next(pieces)
                    if number >= _WARMING:
                        seconds.append(time.perf_counter() - began)
                    for _ in pieces:
                        pass
    print(json.dumps(took))


def _program(call: str) -> list[str]:
    return [sys.executable, "-c", f"from tests.benchmarks import meter\nmeter.{call}"]


@contextmanager
def _model() -> Iterator[str]:
    with subprocess.Popen(
        _program("serve()"), cwd=_PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


async def _added(folder: Path, url: str, *, streams: bool) -> float:
    """Return the seconds that the proxy adds to the first byte of an answer, as the difference of medians."""

    async def caller(session: Any, prompt: str) -> str:
        ways = ((url, _KEY), (session.env["ANTHROPIC_BASE_URL"], session.env["ANTHROPIC_API_KEY"]))
        words = _program(f"call({streams}, *{ways!r})")
        process = await asyncio.create_subprocess_exec(*words, cwd=_PROJECT, stdout=subprocess.PIPE)
        printed, _ = await process.communicate()
        directly, through = json.loads(printed)
        return str(median(through) - median(directly))

    vm_class = agent_os(agents=[agents.function(caller)], llm=LLM("anthropic", _KEY, base_url=url), isolation="off")
    async with setup(use={"vm": vm_class}, store=folder / "meter.duckdb"):
        vm = create_client().vm.get_or_create("v")
        session = await vm.create_session("caller")
        return float((await vm.send_prompt(session.session_id, "go")).text)


def figures(table: Table, folder: Path) -> None:
    """Add the rows."""
    for streams in (False, True):
        added: list[float] = []
        for number in range(table.rounds):
            place = folder / f"meter-{streams}-{number}"
            place.mkdir()
            with _model() as url:
                added.append(asyncio.run(_added(place, url, streams=streams)))
        name = f"meter: added to the first byte of {'a stream' if streams else 'an answer'}, p50"
        milliseconds = median(added) * 1000
        table.aim(table.add(name, milliseconds, "ms"), milliseconds, "ms", at_most=5)
