"""Forms can be read: in the light and the dark theme, in a wide and a narrow window."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.browser.driving import NARROW, WIDE, Lab

WORK = """
%load_ext agentq_nb
from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client

async def count(session, prompt):
    return f"{len(prompt.split())} words"

vm = agent_os(agents=[agents.function(count, name="counter")])

class Worker(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=1))
    later = Queue(str)

    async def run(self):
        vm = self.actors.vm.get_or_create("desk")
        async for message in self.queue.iter(["tasks"], completable=True):
            session = await vm.create_session("counter")
            answer = await vm.send_prompt(session.session_id, message.body)
            if "fail" in message.body:
                raise RuntimeError("a sentence long enough to be wrapped, about a file that is not there: " + "long/" * 20)
            await message.complete(answer.text)
"""

CELLS = [
    WORK,
    "%agentq start",
    "worker = create_client().worker.get_or_create(['a rather long key of an actor', 'of two parts'])\n"
    "done = await worker.send('tasks', 'count these words', wait=True)\ndone",
    "failed = await worker.send('tasks', 'fail', wait=True)\nfailed",
    "for word in ('one', 'two', 'three'):\n    await worker.send('later', word)\nawait worker.pause('later')",
    "%agentq status",
    "await worker.status()",
    "%agentq results",
    "%agentq dead",
    "get_ipython().run_line_magic('agentq', 'show ' + failed.message_id)",
    "%agentq sessions",
    "sessions = %agentq sql select session_id from sessions\n"
    "get_ipython().run_line_magic('agentq', 'transcript ' + sessions['session_id'][0])",
    "await create_client().vm.get_or_create('desk').isolation()",
    "%agentq doctor",
    "%agentq agents",
    "%agentq help",
]

# The contrast of each piece of text with what is behind it, as WCAG 2 defines it; 4.5 is its level AA.
FAINT = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const parse = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], [x, y, z]) => [a * r + (1 - a) * x, a * g + (1 - a) * y, a * b + (1 - a) * z, 1];
    const behind = element => {
        if (!element) return [255, 255, 255, 1];
        const colour = parse(getComputedStyle(element).backgroundColor);
        return colour[3] === 1 ? colour : over(colour, behind(element.parentElement));
    };
    const luminance = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    for (const element of document.querySelectorAll('.agentq *, .aq *')) {
        if (element.closest(':disabled, [hidden]')) continue;
        const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('').trim();
        if (!text) continue;
        const back = behind(element);
        const [high, low] = [luminance(back), luminance(over(parse(getComputedStyle(element).color), back))]
            .sort((a, b) => b - a);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${text.slice(0, 40)}`);
    }
    return [...new Set(faint)];
}"""

# Forms wider than their place, and wrapped texts squeezed into a narrow column.
CRAMPED = """() => [
    ...[...document.querySelectorAll('.agentq')].filter(form => form.scrollWidth > form.clientWidth + 1),
    ...[...document.querySelectorAll('.agentq td')].filter(
        cell => cell.textContent.length > 60 && cell.clientWidth < 120),
].map(element => element.textContent.slice(0, 80))"""


def test_forms_can_be_read_in_both_themes_and_widths(lab: Lab, folder: Path) -> None:
    lab.open_cells(folder / "looks.ipynb", CELLS)
    lab.run_all()
    assert lab.notebook.locator(".agentq").count() == len(CELLS) - 2
    themes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for theme in themes:
        lab.set_theme(theme)
        assert lab.page.evaluate(FAINT) == []
        for width, pixels in (("wide", WIDE), ("narrow", NARROW)):
            lab.set_width(pixels)
            assert lab.page.evaluate(CRAMPED) == []
            lab.screenshots(f"looks-{theme}-{width}")
