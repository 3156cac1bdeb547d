"""Batches, limits and providers' pauses on the dashboard, as a person sees them: in JupyterLab, while a real kernel works."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, expect

from tests.browser.driving import NARROW, WIDE, Lab
from tests.browser.test_dashboard import button, dashboard, opened
from tests.browser.test_looks import FAINT

WORK = """
%load_ext agentq_nb
import asyncio, time
import agentq_nb as aq
from agentq_nb import Actor, ConcurrencyLimit, Queue, RateLimit, RateLimited, create_client

REFUSED, BAD, HELD = set(), {3, 4, 7}, asyncio.Event()

async def classify(row):
    if row in REFUSED:
        raise RateLimited("You've hit your 5-hour limit", retry_after=1000, limit="anthropic")
    if row in BAD:
        raise ValueError(f"row {row} has no label")
    if row >= 12:
        await HELD.wait()
    return {"label": "good"}

class Reviewer(Actor):
    review = Queue(str, limits=[RateLimit(3, per=600, name="openai"), ConcurrencyLimit(2, name="gpu")])
    alone = Queue(str)

    @review.handler
    async def look(self, body):
        return f"{body} is fine"

    @alone.handler
    async def ask(self, body):
        raise RateLimited("Too many requests", retry_after=240)
"""
CELLS = [
    WORK,
    "%agentq start",
    "%agentq dashboard",
    "reviewer = create_client().reviewer.get_or_create('main')\n"
    "limits = [RateLimit(50, per=60, name='anthropic')]\n"
    "batch = await aq.map(classify, range(30), name='reviews-v1', concurrency=4, limits=limits, retry=aq.Retry(attempts=1))",
]


def shown_in_every_theme_and_width(lab: Lab, shown: Locator, name: str) -> None:
    """Nothing is faint or wider than its place; and pictures for people to look at."""
    for theme, width in (("light", WIDE), ("dark", WIDE), ("dark", NARROW), ("light", NARROW)):
        lab.set_theme(theme)  # type: ignore[arg-type]  # one of the two
        lab.set_width(width)
        shown.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(300)
        assert lab.page.evaluate(FAINT) == []
        assert shown.evaluate("root => root.scrollWidth <= root.clientWidth + 1"), "it is wider than its place"
        lab.screenshot(f"{name}-{theme}-{width}")
    lab.set_width(WIDE)


def batch_of(shown: Locator, name: str) -> Locator:
    return shown.locator(".aq-batch", has_text=name)


def test_a_batch_shows_how_far_it_is_what_failed_and_its_buttons_work(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder, CELLS)
    batch = batch_of(shown, "reviews-v1")
    expect(batch).to_contain_text("9 of 30 done · 3 failed · 4 running · 14 waiting", timeout=30_000)
    expect(batch.locator(".aq-failures")).to_contain_text("3 rows")
    expect(batch.locator(".aq-failures")).to_contain_text("ValueError: row 3 has no label")
    expect(batch.locator(".aq-failures")).to_contain_text("(3, 4, 7)")
    bar = batch.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "12")
    expect(bar).to_have_attribute("aria-valuetext", re.compile("9 of 30 done"))
    lab.run("BAD.clear()")
    button(batch, "Retry failed: put 3 rows of batch reviews-v1").click()
    expect(shown.get_by_role("status")).to_have_text("Put 3 rows of reviews-v1 back into the queue.")
    expect(batch.locator(".aq-failures")).to_be_hidden()
    cancel = button(batch, "Cancel batch reviews-v1")
    cancel.click()
    expect(batch.locator(".aq-question")).to_have_text(re.compile(r"Cancel \d+ rows\?"))
    lab.screenshot("dashboard-batch-cancel")
    lab.page.keyboard.press("Enter")  # the way back has the focus
    expect(batch.locator(".aq-question")).to_be_hidden()
    expect(cancel).to_be_focused()
    cancel.click()
    lab.page.keyboard.press("Escape")
    expect(cancel).to_be_focused()
    cancel.click()
    button(batch, "Cancel them").click()
    expect(shown.get_by_role("status")).to_have_text(re.compile(r"Cancelled \d+ rows of reviews-v1\."))
    expect(batch).to_contain_text("cancelled")
    expect(batch.locator(".aq-batch-figures")).not_to_contain_text("waiting", timeout=30_000)
    expect(cancel).to_be_hidden(timeout=30_000)


def test_a_batch_that_was_stopped_says_why_and_goes_on(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder, [*CELLS[:1], "BAD = set(range(100))", *CELLS[1:]])
    batch = batch_of(shown, "reviews-v1")
    expect(batch.locator(".aq-stopped")).to_contain_text("Stopped: ", timeout=30_000)
    expect(batch.locator(".aq-tag")).to_have_text("stopped")
    lab.screenshot("dashboard-batch-stopped")
    lab.run("BAD.clear(); HELD.set()")
    button(batch, "Retry failed").click()
    expect(batch).to_contain_text("30 of 30 done", timeout=30_000)
    expect(batch.locator(".aq-stopped")).to_be_hidden()


def test_limits_show_their_use_the_next_start_who_waits_and_what_was_changed(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder, CELLS)
    lab.run("for number in range(5): await reviewer.send('review', f'{number}.py')")
    row = shown.locator(".aq-limits tbody tr", has_text="openai")
    expect(row).to_contain_text("3 per 10 min", timeout=30_000)
    expect(row).to_contain_text("3 of 3")
    expect(row).to_contain_text(re.compile(r"in 9 min \d+ s"))
    expect(row.locator(".aq-waiting")).to_have_text("review of reviewer/main")
    first = row.locator("td").nth(2).inner_text()
    lab.until(lambda: row.locator("td").nth(2).inner_text() != first, otherwise="the countdown stood still")
    expect(shown.locator(".aq-queues tr", has_text="review reviewer")).to_contain_text("waits for limit openai")
    gpu = shown.locator(".aq-limits tbody tr", has_text="gpu")
    expect(gpu).to_contain_text("2 at a time")
    expect(gpu).to_contain_text("at once")
    lab.run("%agentq limits openai --count 20")
    expect(row).to_contain_text("20 (declared 3) per 10 min")
    expect(row).to_contain_text("5 of 20")
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuetext", "5 of 20")
    shown_in_every_theme_and_width(lab, shown, "dashboard-limits")


def test_a_providers_pause_is_shown_with_its_countdown_and_reason_and_its_button_ends_it(
    lab: Lab, folder: Path
) -> None:
    refused = "REFUSED.update(range(9, 30))"
    shown = opened(lab, folder, [*CELLS[:1], refused, *CELLS[1:], "await reviewer.send('alone', 'x')"])
    paused = shown.locator(".aq-pauses li", has_text="anthropic")
    expect(paused).to_contain_text(re.compile(r"paused for 16 min \d+ s"), timeout=30_000)
    expect(paused).to_contain_text("You've hit your 5-hour limit")
    alone = shown.locator(".aq-pauses li", has_text="alone of reviewer/main")
    expect(alone).to_contain_text(re.compile(r"paused for 3 min \d+ s"))
    expect(alone).to_contain_text("Too many requests")
    left = paused.locator(".aq-pause-left")
    before = left.inner_text()
    lab.until(lambda: left.inner_text() != before, otherwise="the countdown stood still")
    expect(shown.locator(".aq-limits tbody tr", has_text="anthropic")).to_contain_text("paused")
    expect(batch_of(shown, "reviews-v1").locator(".aq-tag")).to_contain_text(re.compile(r"paused, 16 min \d+ s left"))
    shown_in_every_theme_and_width(lab, shown, "dashboard-pauses")
    lab.run("REFUSED.clear(); HELD.set()")
    button(paused, "End pause of anthropic").click()
    expect(shown.get_by_role("status")).to_have_text("The pause of anthropic has ended.")
    expect(paused).to_have_count(0)
    expect(batch_of(shown, "reviews-v1")).to_contain_text("27 of 30 done · 3 failed", timeout=30_000)
    button(alone, "End pause of alone").click()
    expect(shown.get_by_role("status")).to_have_text("alone is resumed.")
    lab.run("%agentq stop")
    picture = lab.notebook.locator("[data-agentq-picture=dashboard]")
    expect(picture).to_contain_text("reviews-v1")
    expect(picture).to_contain_text("27 of 30")
    expect(picture).to_contain_text("anthropic")
    lab.screenshot("dashboard-flow-picture")


MANY = """
class Worker(Actor):
    jobs = Queue(str, limits=[RateLimit(1, per=600)])
    @jobs.handler
    async def work(self, body): return "done"

class Limited(Actor):
    a = Queue(str, limits=[RateLimit(5 + n, per=60, name=f"limit {n}") for n in range(30)])

workers = [create_client().worker.get_or_create(f"w{number}") for number in range(300)]
for worker in workers: await worker.pause("jobs")
for worker in workers: await worker.send("jobs", "one")
for number in range(50): await workers[number].send_many("jobs", list("abc"), name=f"batch {number}")
await create_client().limited.get_or_create("one").send("a", "x")
"""


def test_with_300_queues_50_batches_and_30_limits_it_stays_short_and_answers(lab: Lab, folder: Path) -> None:
    shown = opened(lab, folder, [WORK, "%agentq start", MANY, "%agentq dashboard"])
    expect(shown.locator(".aq-queues tbody tr")).to_have_count(10, timeout=60_000)
    expect(shown.locator(".aq-batch")).to_have_count(5)
    expect(shown.locator(".aq-limits tbody tr")).to_have_count(8)
    assert shown.evaluate("root => root.querySelectorAll('*').length") < 2000
    button(shown, "More batches").click()
    expect(shown.locator(".aq-batch").first).to_contain_text("batch 44")
    button(shown, "More limits").click()
    lab.screenshot("dashboard-many")
    button(shown, "Resume queue jobs of worker/w0").click()
    expect(shown.get_by_role("status")).to_have_text("jobs is resumed.")
    shown_in_every_theme_and_width(lab, shown, "dashboard-many")


def test_hostile_names_of_batches_and_limits_are_text(lab: Lab, folder: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    hostile = f"""
NAME = {name!r}
class Evil(Actor):
    q = Queue(str, limits=[RateLimit(1, per=600, name=NAME)], retry=aq.Retry(attempts=1))
    other = Queue(str, limits=[ConcurrencyLimit(1, name="__proto__")], retry=aq.Retry(attempts=1))
    @q.handler
    async def fail(self, body): raise RateLimited(NAME, retry_after=600, limit=NAME)
    @other.handler
    async def fail_too(self, body): raise ValueError("<script>alert(2)</script>")

evil = create_client().evil.get_or_create("main")
await evil.send_many("q", ["a", "b"], name=NAME)
await evil.send_many("other", ["a", "b"], name="__proto__")
await evil.send_many("other", ["c"], name="constructor " + "long" * 30)
"""
    shown = opened(lab, folder, [WORK, "%agentq start", hostile, "%agentq dashboard"])
    shown = dashboard(lab)
    expect(shown.locator(".aq-batch", has_text="__proto__")).to_contain_text(
        "<script>alert(2)</script>", timeout=30_000
    )
    expect(shown.locator(".aq-batch", has_text=name)).to_have_count(1)
    expect(shown.locator(".aq-limits tbody")).to_contain_text("__proto__")
    expect(shown.locator(".aq-limits tbody")).to_contain_text(name)
    expect(shown.locator(".aq-pauses")).to_contain_text(name)
    assert shown.evaluate("root => root.querySelectorAll('script, img, a, iframe').length") == 0
    shown_in_every_theme_and_width(lab, shown, "dashboard-hostile-flow")
    lab.run("%agentq stop")
    expect(lab.notebook.locator("[data-agentq-picture=dashboard]")).to_contain_text("<script>")
    lab.page.wait_for_timeout(500)  # whatever would run has run; the window's end checks for dialogs
