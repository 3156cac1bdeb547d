"""The diff of a session's VM on the dashboard, as a person sees it: in JupyterLab, from a real clone."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.driving import Lab
from tests.browser.test_dashboard import button, opened
from tests.browser.test_dashboard_flow import shown_in_every_theme_and_width
from tests.unit.agent_os.user_repository import UserRepository

CELLS = [
    """
%load_ext agentq_nb
from agentq_nb import Repository, agent_os, agents, create_client

async def worker(session, prompt):
    session.write("src/login.py", "def login():\\n    return 'home'\\n")
    session.write("notes.txt", "<img src=x onerror='document.title=1'> \\u202e\\n" + "a line of notes\\n" * 40)
    return "Fixed."

async def talker(session, prompt):
    return "Hello."

vm = agent_os(agents=[agents.function(worker)], workspace=Repository("shop"))
plain = agent_os(agents=[agents.function(talker)])
""",
    "%agentq start",
    "%agentq dashboard",
    """
box = create_client().vm.get_or_create("box")
session = await box.create_session("worker", keep=True)
await box.send_prompt(session.session_id, "Fix the redirect")
other = await create_client().plain.get_or_create("main").create_session("talker", keep=True)
""",
]


def test_the_diff_of_a_sessions_vm_unfolds_as_text_and_folds_again(lab: Lab, folder: Path) -> None:
    UserRepository(folder)
    shown = opened(lab, folder, CELLS)
    button(shown, "worker").click()
    toggle = button(shown, "Diff: all that vm/box has changed in its repository")
    expect(toggle).to_have_attribute("aria-expanded", "false", timeout=30_000)
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "true")
    diff = shown.get_by_role("region", name="Diff", exact=True)
    expect(shown).to_contain_text(re.compile(r"agentq/vm/box: 2 files, \+42 -1 since [0-9a-f]{12}"), timeout=30_000)
    expect(diff.locator(".aq-removed")).to_have_text("-    return 'redirect to /undefined'")
    expect(diff.locator(".aq-added").first).to_contain_text("<img src=x onerror='document.title=1'> \\u202e")
    expect(diff.locator(".aq-hunk").first).to_contain_text("+++ b/notes.txt")
    assert diff.locator("img").count() == 0
    shown_in_every_theme_and_width(lab, shown, "dashboard-diff")

    toggle.click()
    expect(diff).to_be_hidden()
    expect(toggle).to_be_focused()
    lab.run("await box.discard()")
    toggle.focus()
    lab.page.keyboard.press("Enter")
    expect(shown).to_contain_text(re.compile(r"agentq/vm/box: 0 files, \+0 -0 since"), timeout=30_000)
    expect(diff).to_be_hidden()

    button(shown, "talker").click()
    expect(shown.locator(".aq-transcript-head")).to_contain_text("talker in plain/main", timeout=30_000)
    expect(toggle).to_be_hidden()
    expect(shown.locator(".aq-session-diff")).to_be_hidden()
