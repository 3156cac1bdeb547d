"""The fourth notebook with its switch turned: the same cells, by the real agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentq_nb import agents
from agentq_nb.agent_os.agents import AcpAgent
from tests.agents.fake_llm import serving
from tests.agents.real_agents import KEY, need_agent
from tests.kernel.driving import Kernel
from tests.kernel.notebook_cells import code_of
from tests.kernel.test_notebooks import FOURTH, messages

SWITCH = 'AGENT = "offline"'
SCRIPTS = {
    "Review this code": "@write review.txt Two things to mend.\n@say I wrote it down.",
    "Mend it there": "@run sed -i 's/tried=\\[\\]/tried=()/' src/auth.py\n@say It is a tuple now.",
    "Name the exception": "@run sed -i 's/except:/except KeyError:/' auth.py",
    "Refuse negative discounts": "@run sed -i '2i\\    if discount < 0: raise ValueError' price.py",
    "Write a README.md": "@write README.md Two modules.",
    "Use your tool incidents_of": '@call incidents_of {"file": "auth.py"}\n@say There were two.',
}
MACHINES = {
    "client = ": ("vm", "reviewer"),
    "fixer = ": ("careful", "fixer"),
    "historian = ": ("informed", "historian"),
}
"""How the cells begin that first speak of a VM, and its name and key: its agent must find the model by then."""

CONFIGURE = """
import types
from tests.agents.real_agents import configure
await configure(create_client().{name}.get_or_create([{key!r}]), types.SimpleNamespace(url={url!r}))
"""


BRANCHING = """
class branching(branching):
    async def on_wake(self):
        await configure(self, types.SimpleNamespace(url={url!r}))
"""
"""Has the agents of ``map`` find it too: each is in a VM of its own, which is made for its row."""


@pytest.mark.parametrize("agent", [agents.pi, agents.claude], ids=lambda agent: agent.name)
def test_the_fourth_notebook_with_its_switch_turned(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)
    cells = code_of(FOURTH)
    assert sum(SWITCH in code for code in cells) == 1
    shown = ""
    with serving() as model, Kernel(tmp_path, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}) as kernel:
        model.scripts = SCRIPTS
        for code in cells:
            for begins, (name, key) in MACHINES.items():
                if code.startswith(begins):
                    kernel.run(CONFIGURE.format(name=name, key=key, url=model.url)).check()
            cell = kernel.run(code.replace(SWITCH, f'AGENT = "{agent.name}"'), timeout=180).check()
            if "branching = " in code:
                kernel.run(BRANCHING.format(url=model.url)).check()
            shown += cell.stdout + "".join(str(result["text/plain"]) for result in cell.results)
        assert messages(kernel) == {"messages": 6, "attempts": 6, "statuses": ["completed"]}
        assert any(KEY in key for key in model.keys)
    assert "Review: Two things to mend." in shown
    assert ("It asks: " in shown) == (agent is agents.claude)
    assert "It is a tuple now." in shown
    assert "def login(user, password, tried=()):" in shown
    assert "2024-09: the list of names grew for ever" in shown
    assert "There were two." in shown
    assert "+    if discount < 0" in shown
    assert "Nothing has changed in the work tree." in shown
    assert KEY not in shown
