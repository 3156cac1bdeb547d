"""Cells that make every form show text which would do harm if it were taken for anything but text."""

from __future__ import annotations

PAYLOAD = r"""
HARM = "window.harmed = true"
EVIL = "".join((
    f"$\\href{{javascript:{HARM}}}{{TeX link}}$ $$x^2$$ \\(\\href{{javascript:{HARM}}}{{x}}\\)",
    "</pre></td></table></details></div>",
    f"<script>{HARM}</script>",
    f"<img src=x onerror='{HARM}'>",
    f'"><svg onload="{HARM}">',
    f"<iframe srcdoc='<script>parent.{HARM}</script>'></iframe>",
    "<style>* { display: none !important }</style>",
    f"<a href='javascript:{HARM}'>HTML link</a>",
    f"[Markdown link](javascript:{HARM})",
    f"![image](x' onerror='{HARM})",
    "\x1b[31mred\x1b[0m\x1b]8;;javascript:alert(1)\x07terminal link\x1b]8;;\x07\x1b[2J",
    "\u202egnp.exe\u2066\u200f",
    "NUL \x00 bell \x07 backspace \x08 C1 \x9b",
))
LONG = "<b>" + "x" * 1_000_000
"""

ACTORS = r"""
from agentq_nb import Actor, Queue, agent_os, agents, create_client

async def say(session, prompt):
    if prompt == "long":
        return LONG
    if prompt == "surrogate":
        return "\ud800" + EVIL
    return EVIL + "\n" + prompt

vm = agent_os(agents=[agents.function(say, name="evil")], isolation="off")

class Echo(Actor):
    words = Queue(str, reply=str, max_message_bytes=4_000_000)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body == "fail":
                await message.fail(EVIL)
            elif message.body == "surrogate":
                await message.fail("\ud800" + EVIL)
            else:
                await message.complete(message.body)

class Raiser(Actor):
    words = Queue(str)

    async def run(self):
        async for message in self.queue.iter():
            raise RuntimeError(EVIL)
"""

# Each ends in an expression whose form is shown.
FORMS = {
    "the host": "%agentq start",
    "a receipt": "client = create_client()\necho = client.echo.get_or_create([EVIL, '<b>key</b>'])\nreceipt = await echo.send('words', EVIL)\nreceipt",
    "a result": "await receipt.result()",
    "a failure": "failed = await echo.send('words', 'fail', wait=True)\nfailed",
    "a failure with a lone surrogate": "await echo.send('words', 'surrogate', wait=True)",
    "a line of a megabyte": "long = await echo.send('words', LONG, wait=True)\nlong",
    "a dead letter": "raised = await client.raiser.get_or_create(EVIL).send('words', EVIL, idempotency_key=EVIL)\nimport asyncio\nawait asyncio.sleep(0.2)\nraised",
    "a handle": "echo",
    "its status": "await echo.status()",
    "the host's status": "%agentq status",
    "results": "%agentq results",
    "dead letters": "%agentq dead",
    "a message": "get_ipython().run_line_magic('agentq', f'show {receipt.id}')",
    "a failed message": "get_ipython().run_line_magic('agentq', f'show {failed.message_id}')",
    "a long message": "get_ipython().run_line_magic('agentq', f'show {long.message_id}')",
    "columns with bad names": "registry = __import__('agentq_nb').current_registry()\nawait registry.sql('select 1 as \"' + '<img src=x onerror=\\'window.harmed=true\\'>' + '\"')",
    "a session": "machine = client.vm.get_or_create([EVIL])\nsession = await machine.create_session('evil', keep=True)\nsession",
    "an agent's answer": "await machine.send_prompt(session.session_id, EVIL)",
    "an agent's long answer": "await machine.send_prompt(session.session_id, 'long')",
    "an agent's lone surrogate": "await machine.send_prompt(session.session_id, 'surrogate')",
    "a transcript": "get_ipython().run_line_magic('agentq', f'transcript {session.session_id}')",
    "an event": "(await machine.session_events(session.session_id))[-1]",
    "sessions": "%agentq sessions",
    "output of a command": "await machine.exec(['printf', '%s', EVIL.replace('\\0', '')])",
    "a file": "NAME = EVIL.replace('\\0', '').replace('/', '\\u2215')[:60] + '\\u202e<img src=x onerror=window.harmed=true>'\nawait machine.write_file(NAME, b'')\nawait machine.stat(NAME)",
    "a file with a name that is no Unicode": "await machine.exec(['sh', '-c', 'touch \"$(printf \"<b>\\\\377\")\"'])\n[file for file in await machine.list_dir('.') if file.name.startswith('<b>')][0]",
}

# What other libraries draw: Markdown that a transcript makes of itself, and DataFrames.
DRAWN_BY_OTHERS = {
    "Markdown": "from IPython.display import Markdown\ntranscript = await machine.transcript(session.session_id, 3)\nMarkdown(transcript.markdown())",
    "a query": "%agentq sql select * exclude (time, seq) from events order by seq",
    "TeX in a cell": "%agentq sql select '$' || chr(92) || 'href{javascript:harmed=1}{TeX link}$' as \"$x$\", '<svg onload=harmed=1>' as html",
    "a transcript": "transcript.frame()",
}

# Each ends with an error; what it says is shown.
REFUSED = {
    "a traceback": "raise ValueError(EVIL)",
    "an unwrapped failure": "failed.unwrap()",
    "an unknown queue": "await echo.send(EVIL, 'x')",
    "an unknown word": "get_ipython().run_line_magic('agentq', EVIL)",
    "an unknown message": "get_ipython().run_line_magic('agentq', 'show ' + EVIL.replace('\\n', ' '))",
    "a missing file": "await machine.read_file('<img src=x onerror=window.harmed=true>')",
    "a lone surrogate": "await echo.send('words', '\\ud800' + EVIL)",
    "a lone surrogate as key": "client.echo.get_or_create('\\ud800')",
}
