"""The dashboard as a person sees it: in JupyterLab, in Chromium, while a real kernel works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.driving import NARROW, WIDE, Lab
from tests.browser.test_looks import FAINT
from tests.unit.dashboard.test_pictures import HOSTILE

ACTORS = """
%load_ext agentq_nb
import asyncio
from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client

class Reviewer(Actor):
    review = Queue(str, reply=str, retry=Retry(attempts=1))

    async def run(self):
        async for message in self.queue.iter(completable=True):
            await asyncio.sleep(60 if "slow" in message.body else 0.1)
            if message.body.startswith("missing"):
                raise FileNotFoundError(message.body)
            await message.complete(f"{message.body} is fine")

async def writer(session, prompt):
    yield {"type": "tool_call", "text": "read auth.py"}
    for number in range(2000):
        yield f"word{number} "
        await asyncio.sleep(0.05)

async def cleaner(session, prompt):
    command = f"Run: make clean && {'cd build/and/so/on && ' * 20} rm -rf the_end"
    yield "It was cleaned." if await session.ask(command, kind="execute") else "It was left as it is."

async def coder(session, prompt):
    command = "; ".join(f"echo step {number} of the build" for number in range(200)) + "; rm -rf the_end"
    old = "".join(f"line {number}\\n" for number in range(60))
    new = old.replace("line 5\\n", "line five\\n").replace("line 50\\n", "") + "\\tprint('last line')\\n"
    places = [{"path": "/home/user/src/build.py", "line": 6}]
    calls = {
        "command": {"kind": "execute", "title": f"`{command}`", "rawInput": {"command": command, "timeout": 120}},
        "write": {"kind": "edit", "title": "Write new.py", "rawInput": {"file_path": "/home/user/new.py", "content": new},
                  "content": [{"type": "diff", "path": "/home/user/new.py", "oldText": None, "newText": new}]},
        "edit": {"kind": "edit", "title": "Edit build.py", "locations": places, "content": [
                  {"type": "diff", "path": "/home/user/src/build.py", "oldText": old, "newText": new}]},
        "short": {"kind": "execute", "title": "`ls`", "rawInput": {"command": "ls \\u202e\\u200b\\x1b[8m# nothing else"}},
        "title": {"kind": "other", "title": "Do something"},
    }
    call = calls[prompt]
    yield "allowed" if await session.ask(call["title"], kind=call["kind"], tool_call=call) else "refused"

vm = agent_os(agents=[agents.function(agent) for agent in (writer, cleaner, coder)], permissions="ask")
"""
CELLS = [
    ACTORS,
    "%agentq start",
    "%agentq dashboard",
    "reviewer = create_client().reviewer.get_or_create('main')\nbox = create_client().vm.get_or_create('box')",
]


# Whether an element has text outside its own box, or outside that of one around it.
CUT = """element => {
    for (let around = element; around.dataset.agentq !== 'dashboard'; around = around.parentElement)
        if (around.scrollWidth > around.clientWidth + 1 && getComputedStyle(around).display !== 'inline') return true;
    return element.scrollHeight > element.clientHeight + 1 && getComputedStyle(element).overflowY === 'hidden';
}"""


def dashboard(lab: Lab) -> Locator:
    """The latest dashboard, live."""
    shown = lab.notebook.locator("[data-agentq=dashboard]").last
    expect(shown).to_have_attribute("data-state", "live", timeout=30_000)
    return shown


def opened(lab: Lab, folder: Path, cells: list[str] = CELLS) -> Locator:
    lab.open_cells(folder / "work.ipynb", cells)
    lab.run_all()
    return dashboard(lab)


def button(shown: Locator, name: str) -> Locator:
    return shown.get_by_role("button", name=name, exact=False)


def test_it_moves_while_agents_work_in_every_theme_and_width(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run(
        "for number in range(30): await reviewer.send('review', f'module_{number}.py')\n"
        "await reviewer.send('review', 'missing.py')\n"
        "session = await box.create_session('writer', keep=True)\n"
        "prompt = asyncio.create_task(box.send_prompt(session.session_id, 'Fix the flaky test.'))"
    )
    shown.get_by_role("button", name="writer").click()
    log = shown.get_by_role("log")
    expect(log).to_contain_text("word3", timeout=30_000)
    expect(shown.locator("[data-tile=dead]")).to_contain_text("1", timeout=30_000)
    expect(shown.locator(".aq-messages")).to_contain_text("module_29.py is fine", timeout=30_000)
    expect(shown.locator(".aq-queues .aq-line").first).to_have_attribute("d", re.compile("M.*H"))
    for theme, width in (("light", WIDE), ("dark", WIDE), ("dark", NARROW), ("light", NARROW)):
        lab.set_theme(theme)  # type: ignore[arg-type]  # one of the two
        lab.set_width(width)
        lab.page.wait_for_timeout(300)
        assert lab.page.evaluate(FAINT) == []
        lab.screenshot(f"dashboard-{theme}-{width}")
        assert shown.evaluate("root => root.scrollWidth <= root.clientWidth + 1"), "it is wider than its place"
    lab.set_width(WIDE)
    expect(button(shown, "Cancel prompt")).to_have_attribute("title", re.compile("what writer does in vm/box now"))
    button(shown, "Cancel prompt").click()
    expect(log).to_contain_text("cancelled")
    assert shown.evaluate("root => root.querySelectorAll('*').length") < 2000


def test_it_counts_what_is_done_what_failed_and_all_and_cuts_nothing_off(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run(
        "for number in range(3): await reviewer.send('review', f'module_{number}.py')\n"
        "await reviewer.send('review', 'missing.py', wait=True)\n"
        "for _ in range(6): await reviewer.send('review', 'slow.py')"
    )
    expect(shown.locator("[data-tile=done]")).to_contain_text("4 of 10", timeout=30_000)
    expect(shown.locator("[data-tile=dead]")).to_contain_text("1")
    expect(shown.locator("[data-tile=left]")).to_contain_text(re.compile(r"\d"), timeout=30_000)
    expect(shown.locator(".aq-queues .aq-progress").last).to_have_text("4 of 10")
    for width in (WIDE, 1000, NARROW):
        lab.page.set_viewport_size({"width": width, "height": 1400})
        for long in ("23 h 59 min", "59 min 59 s"):
            cut = shown.evaluate(
                """(root, text) => [...root.querySelectorAll('td.aq-time, [data-tile] .aq-figure')]
                    .filter(e => e.offsetParent)
                    .filter(e => { e.textContent = text;
                        const written = document.createRange();
                        written.selectNodeContents(e);
                        const around = e.closest('td, [data-tile]').getBoundingClientRect();
                        const { left, right } = written.getBoundingClientRect();
                        return left < around.left || right > around.right; }).length""",
                long,
            )
            assert cut == 0, f"{long} is cut at {width} pixels"
        lab.screenshot(f"dashboard-figures-{width}")


def test_a_click_anywhere_on_a_message_unfolds_it_and_another_folds_it(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("await reviewer.send('review', 'one.py', wait=True)")
    row = shown.locator(".aq-messages tbody tr").first
    expect(row).to_contain_text("one.py is fine", timeout=30_000)
    toggle = row.get_by_role("button", name="show all about it")
    assert "▸" in toggle.evaluate("node => getComputedStyle(node, '::before').content")
    for cell in range(1, 5):
        row.locator("td").nth(cell).click()
        expect(toggle).to_have_attribute("aria-expanded", "true")
        expect(shown.locator(".aq-detail:visible")).to_contain_text("one.py is fine")
        lab.screenshot("dashboard-unfolded")
        row.locator("td").nth(cell).click()
        expect(toggle).to_have_attribute("aria-expanded", "false")
        expect(shown.locator(".aq-detail:visible")).to_have_count(0)
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "true")


def test_allow_lets_the_agent_go_on_and_refuse_does_not(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("session = await box.create_session('cleaner', keep=True)")
    for name, answer in (("Allow", "It was cleaned."), ("Refuse", "It was left as it is.")):
        lab.start("(await box.send_prompt(session.session_id, 'Clean up.')).text")
        asked = shown.locator(".aq-asked-all")
        expect(asked).to_contain_text("rm -rf the_end", timeout=30_000)
        for width in (WIDE, NARROW):
            lab.set_width(width)
            assert asked.evaluate(CUT) is False, "who allows it does not see all of it"
        lab.set_width(WIDE)
        button(shown, name).click()
        lab.wait_until_done()
        assert answer in lab.cells[-1].text
        expect(shown.locator(".aq-request")).to_have_count(0)


def asked_to(lab: Lab, shown: Locator, what: str) -> Locator:
    """What the agent asks, and waits to be answered."""
    lab.start(f"(await box.send_prompt(session.session_id, {what!r})).text")
    asked = shown.locator(".aq-request")
    expect(asked).to_have_count(1, timeout=30_000)
    return asked


def answered(lab: Lab, asked: Locator, name: str) -> None:
    button(asked, name).click()
    lab.wait_until_done()
    assert {"Allow": "allowed", "Refuse": "refused"}[name] in lab.cells[-1].text
    expect(asked).to_have_count(0)


END = "node => node.scrollTo(0, node.scrollHeight)"


def test_what_is_asked_is_shown_whole_and_can_be_allowed_once_its_end_was_seen(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("session = await box.create_session('coder', keep=True)")
    asked = asked_to(lab, shown, "command")
    whole = asked.locator(".aq-asked-all")
    expect(whole).to_contain_text("echo step 0 of the build")
    expect(whole).to_contain_text("rm -rf the_end")
    expect(whole).to_contain_text("timeout: 120")
    expect(button(asked, "Allow")).to_be_disabled()
    expect(asked.locator(".aq-hint")).to_have_text("Scroll to the end to allow it.")
    lab.screenshot("request-command")
    button(asked, "Allow").click(force=True)
    whole.evaluate("node => node.scrollTo(0, node.scrollHeight / 2 - node.clientHeight)")
    lab.page.wait_for_timeout(300)
    expect(button(asked, "Allow")).to_be_disabled()
    whole.evaluate(END)
    expect(button(asked, "Allow")).to_be_enabled()
    expect(asked.locator(".aq-hint")).to_have_text("")
    whole.evaluate("node => node.scrollTo(0, 0)")
    expect(button(asked, "Allow")).to_be_enabled()
    answered(lab, asked, "Allow")
    asked = asked_to(lab, shown, "command")
    expect(button(asked, "Allow")).to_be_disabled()  # another request was not seen yet
    asked.locator(".aq-asked-all").focus()
    lab.page.keyboard.press("End")
    expect(button(asked, "Allow")).to_be_enabled()
    answered(lab, asked, "Refuse")


def test_what_is_asked_shows_changes_of_files_line_by_line_in_every_theme_and_width(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("session = await box.create_session('coder', keep=True)")
    asked = asked_to(lab, shown, "write")
    expect(asked).to_contain_text("Write new.py")
    expect(asked).to_contain_text("new file /home/user/new.py")
    expect(asked.locator(".aq-added")).to_contain_text("+line five")
    expect(button(asked, "Allow")).to_be_disabled()
    lab.screenshot("request-new-file")
    answered(lab, asked, "Refuse")
    asked = asked_to(lab, shown, "edit")
    expect(asked.locator(".aq-removed").first).to_have_text("-line 5")
    expect(asked.locator(".aq-added").first).to_have_text("+line five")
    for theme, width in (("light", WIDE), ("dark", WIDE), ("dark", NARROW), ("light", NARROW)):
        lab.set_theme(theme)  # type: ignore[arg-type]  # one of the two
        lab.set_width(width)
        lab.page.wait_for_timeout(300)
        assert lab.page.evaluate(FAINT) == []
        assert asked.evaluate("node => node.scrollWidth <= node.clientWidth + 1")
        lab.screenshot(f"request-diff-{theme}-{width}")
    lab.set_width(WIDE)
    asked.locator(".aq-asked-all").evaluate(END)
    answered(lab, asked, "Allow")


def test_what_fits_can_be_allowed_at_once_and_unseen_characters_are_shown(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("session = await box.create_session('coder', keep=True)")
    asked = asked_to(lab, shown, "short")
    expect(asked).to_contain_text("ls \\u202e\\u200b\\x1b[8m# nothing else")
    expect(button(asked, "Allow")).to_be_enabled()
    lab.screenshot("request-short")
    answered(lab, asked, "Allow")
    asked = asked_to(lab, shown, "title")
    expect(asked).to_contain_text("The agent tells no more about it than this.")
    answered(lab, asked, "Refuse")


def test_pause_resume_purge_cancel_and_retry(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("failed = await reviewer.send('review', 'missing.py', wait=True)")
    button(shown, "Pause queue review").click()
    expect(button(shown, "Resume queue review")).to_be_visible()
    lab.run("receipts = [await reviewer.send('review', f'{number}.py') for number in range(3)]")
    shown.get_by_role("button", name="waiting", exact=True).click()
    expect(shown.locator(".aq-messages")).to_contain_text("2.py")
    button(shown, f"Cancel message {lab.value('receipts[0].id')[1:-1]} of review of reviewer/").click()
    lab.until(lambda: lab.run("await receipts[0].status()").text == "'cancelled'")
    button(shown, "Purge queue review").click()
    expect(shown.locator(".aq-question:visible")).to_have_text("Cancel 2 messages?")
    lab.page.keyboard.press("Enter")  # the way back has the focus
    expect(shown.locator(".aq-question:visible")).to_have_count(0)
    expect(button(shown, "Purge queue review")).to_be_focused()
    lab.page.keyboard.press("Enter")
    lab.page.keyboard.press("Escape")
    expect(shown.locator(".aq-question:visible")).to_have_count(0)
    expect(button(shown, "Purge queue review")).to_be_focused()
    button(shown, "Purge queue review").click()
    button(shown, "Cancel them").click()
    expect(shown.get_by_role("status")).to_have_text("Cancelled 2 messages of review.")
    shown.get_by_role("button", name="failed", exact=True).click()
    message = lab.value("failed.message_id")[1:-1]
    shown.get_by_role("button", name=f"failed, message {message}").click()
    expect(shown.locator(".aq-detail")).to_contain_text("FileNotFoundError")
    lab.run("Reviewer.run")
    button(shown, f"Retry message {message}").click()
    expect(shown.get_by_role("status")).to_have_text("Back in its queue.")
    button(shown, "Resume queue review").click()
    expect(button(shown, "Pause queue review")).to_be_visible()
    lab.run("slow = await reviewer.send('review', 'slow.py')")
    shown.get_by_role("button", name="running", exact=True).click()
    button(shown, "Cancel message").click()
    lab.until(lambda: lab.run("await slow.status()").text == "'cancelled'")
    lab.screenshot("dashboard-buttons")


def test_the_table_is_searched(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.run("for name in ('auth.py', 'missing.py', 'mail.py'): await reviewer.send('review', name, wait=True)")
    shown.get_by_label("Search messages").fill("mail")
    expect(shown.locator(".aq-messages tbody tr:not(.aq-detail)")).to_have_count(1)
    expect(shown.locator(".aq-messages")).to_contain_text("mail.py is fine")


def test_a_page_reloaded_in_mid_work_shows_the_live_state_again(lab: Lab, folder: Path) -> None:
    opened(lab, folder)
    lab.run("for number in range(200): await reviewer.send('review', f'{number}.py')")
    lab.save()
    lab.reload()
    shown = dashboard(lab)
    expect(shown.locator(".aq-messages")).to_contain_text("199.py is fine", timeout=60_000)


def read_without_kernel(lab: Lab, folder: Path, name: str) -> None:
    """Save the notebook, and open it as a reader does who has no kernel: every view is a picture."""
    lab.save()
    lab.server.shut_down_kernels()
    lab.open(folder / "work.ipynb", kernel=False)
    pictures = lab.notebook.locator("[data-agentq-picture=dashboard]")
    expect(pictures.filter(has_text="last.py is fine").first).to_be_visible(timeout=30_000)
    expect(lab.notebook.get_by_text("Error displaying widget")).to_have_count(0)
    lab.screenshot(name)


def test_a_page_that_was_reloaded_is_saved_with_pictures_once_the_host_has_stopped(lab: Lab, folder: Path) -> None:
    opened(lab, folder, [*CELLS, "await reviewer.send('review', 'last.py')"])
    lab.save()
    lab.reload()
    shown = dashboard(lab)
    expect(shown.locator(".aq-messages")).to_contain_text("last.py is fine", timeout=30_000)
    lab.run("%agentq stop")
    expect(lab.notebook.locator("[data-agentq-picture=dashboard]")).to_have_count(1, timeout=30_000)
    expect(lab.notebook.locator("[data-agentq]")).to_have_count(0)
    read_without_kernel(lab, folder, "dashboard-saved-after-reload")


WITHOUT_A_PAGE = """
from pathlib import Path
from agentq_nb._notebook.dashboard import open_views

async def without_a_page():
    while not Path("no-page").exists(): await asyncio.sleep(0.02)
    cards = set(open_views._shown) - dashboards
    await reviewer.resume("review")
    while cards & set(open_views._shown): await asyncio.sleep(0.02)
    Path("settled").touch()

dashboards = set(open_views._shown)
await reviewer.pause("review")
unseen = asyncio.create_task(without_a_page())
"""


def test_a_card_that_was_settled_while_no_page_was_open_becomes_a_picture_when_one_opens(
    lab: Lab, folder: Path
) -> None:
    opened(lab, folder, [*CELLS, WITHOUT_A_PAGE, "await reviewer.send('review', 'last.py')"])
    card = lab.notebook.locator("[data-agentq=message]")
    expect(card).to_contain_text("queued", timeout=30_000)
    lab.save()
    lab.page.goto("about:blank")
    (folder / "no-page").touch()
    lab.until((folder / "settled").exists)
    lab.open(folder / "work.ipynb")
    expect(card).to_contain_text("last.py is fine", timeout=30_000)
    expect(lab.notebook.locator("[data-agentq-picture=message]")).to_contain_text("last.py is fine", timeout=30_000)
    expect(card).to_have_count(0)
    (output,) = lab.cells[-1].outputs
    assert set(output["data"]) == {"text/html", "text/plain"}


def test_after_a_restart_the_dashboard_becomes_a_picture_that_says_so(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder, [*CELLS, "await reviewer.send('review', 'last.py')"])
    expect(shown.locator(".aq-messages")).to_contain_text("last.py is fine", timeout=30_000)
    lab.page.wait_for_timeout(11_000)  # a picture may be ten seconds old
    lab.restart_kernel()
    picture = lab.notebook.locator("[data-agentq-picture=dashboard]")
    expect(picture).to_contain_text("Run the cell again for a live view.", timeout=30_000)
    read_without_kernel(lab, folder, "dashboard-saved-after-restart")


def test_a_cell_that_blocks_is_told_and_caught_up_with(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder)
    lab.start("await reviewer.send('review', 'before.py')\nimport time; time.sleep(8)")
    expect(shown).to_have_attribute("data-state", "busy", timeout=15_000)
    expect(shown.locator(".aq-heart")).to_contain_text("kernel busy for")
    lab.screenshot("dashboard-busy")
    button(shown, "Pause queue review").click(force=True)
    expect(shown).to_have_attribute("data-state", "live", timeout=30_000)
    expect(button(shown, "Resume queue review")).to_be_visible()  # the click was not lost


def test_after_a_restart_in_mid_work_the_old_one_says_so_and_a_new_one_shows_the_work_going_on(
    lab: Lab, folder: Path
) -> None:
    shown = opened(lab, folder)
    lab.run("for number in range(100): await reviewer.send('review', f'{number}.py')")
    lab.restart_kernel()
    picture = lab.notebook.locator("[data-agentq-picture=dashboard]")
    expect(picture).to_contain_text("Its kernel ended while this was shown.", timeout=30_000)
    for cell in CELLS:
        lab.run(cell)
    shown = dashboard(lab)
    expect(shown.locator(".aq-messages")).to_contain_text("99.py is fine", timeout=60_000)


def test_a_saved_notebook_opened_without_a_kernel_shows_the_last_state(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder, [*CELLS, "await reviewer.send('review', 'last.py')"])
    expect(shown.locator(".aq-messages")).to_contain_text("last.py is fine", timeout=30_000)
    lab.run("%agentq stop")
    lab.save()
    lab.server.shut_down_kernels()
    lab.open(folder / "work.ipynb", kernel=False)
    pictures = lab.notebook.locator("[data-agentq-picture=dashboard], .agentq")
    expect(pictures.filter(has_text="last.py is fine").first).to_be_visible(timeout=30_000)
    expect(lab.notebook.get_by_text("Error displaying widget")).to_have_count(0)
    lab.screenshot("dashboard-saved")


def test_hostile_text_is_shown_and_executed_nowhere(lab: Lab, folder: Path) -> None:
    evil = HOSTILE[:220]
    shown = opened(
        lab,
        folder,
        [
            *CELLS,
            f"evil = {evil!r}.encode('utf-8', 'replace').decode()\n"
            "async def hostile(session, prompt):\n"
            "    yield evil\n"
            "    yield 'long' * 250_000\n"
            "    await session.ask(evil, kind=evil)\n"
            "bad = agent_os(agents=[agents.function(hostile, name='<img src=x onerror=alert(4)>')], permissions='ask')",
            "await create_client().reviewer.get_or_create(evil[:60]).send('review', 'missing' + evil, wait=True)",
            "nest = create_client().bad.get_or_create('<script>alert(5)</script>')\n"
            "session = await nest.create_session('<img src=x onerror=alert(4)>', keep=True)\n"
            "prompt = asyncio.create_task(nest.send_prompt(session.session_id, evil))",
            "session",
        ],
    )
    expect(shown.locator(".aq-request")).to_contain_text("<script>", timeout=30_000)
    shown.locator(".aq-session").first.click()
    expect(shown.get_by_role("log")).to_contain_text("longlong")
    shown.locator(".aq-toggle").first.click()
    expect(shown.locator(".aq-detail pre").first).to_contain_text("<script>alert(1)</script>")
    lab.screenshot("dashboard-hostile")
    assert shown.evaluate("root => root.querySelectorAll('script, img, a, iframe').length") == 0
    assert shown.evaluate("root => root.scrollWidth <= root.clientWidth + 1")
    button(shown, "Refuse").click()
    lab.run("await prompt")
    lab.run("%agentq stop")
    expect(lab.notebook.locator("[data-agentq-picture=dashboard]")).to_contain_text("<script>")
    lab.page.wait_for_timeout(500)  # whatever would run has run; the window's end checks for dialogs


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_everything_can_be_reached_with_the_keyboard_and_has_a_name(lab: Lab, folder: Path, key: str) -> None:
    shown = opened(lab, folder)
    lab.run("await reviewer.pause('review')\nawait reviewer.send('review', 'a.py')")
    resume = button(shown, "Resume queue review")
    expect(resume).to_be_visible()
    resume.focus()
    lab.page.keyboard.press(key)
    expect(button(shown, "Pause queue review")).to_be_visible()
    expect(button(shown, "Pause queue review")).to_be_focused()  # the same button: it can be pressed again
    unnamed = shown.evaluate(
        "root => [...root.querySelectorAll('button, input')].filter(e => !(e.ariaLabel || e.textContent.trim())).length"
    )
    assert unnamed == 0
    expect(shown).to_have_attribute("role", "region")
    expect(shown.get_by_role("table", name="Queues")).to_be_visible()
