"""Text that would do harm as HTML, script, Markdown, TeX or terminal codes is shown as text, wherever notebooks go."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
from playwright.sync_api import Page

from tests.browser.complaining import complaints_of
from tests.browser.driving import Lab
from tests.browser.hostile import ACTORS, DRAWN_BY_OTHERS, FORMS, PAYLOAD, REFUSED

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ALIVE = (
    "script, iframe, img, svg, object, embed, form, a:not([href^='#']), mjx-container, .MathJax, [onload], [onerror]"
)
"""What is in no output, unless text came alive."""
DRAWN = ".jp-OutputArea-output:has(.agentq, .dataframe), .jp-OutputArea-output.jp-RenderedMarkdown"


def assert_only_shown(page: Page) -> None:
    """Every form is there, holds nothing but text, and nothing happened: not by itself, and not by a click."""
    shown = page.locator(".agentq")
    assert shown.count() == len(FORMS)
    for number in range(len(FORMS)):
        text = shown.nth(number).inner_text()
        assert text.strip()
        assert not UNSAFE.search(text)
    assert page.locator(DRAWN).count() == len(FORMS) + len(DRAWN_BY_OTHERS)
    assert page.locator(DRAWN).locator(ALIVE).evaluate_all("all => all.map(one => one.outerHTML.slice(0, 200))") == []
    texts = "\n".join(shown.all_inner_texts())
    assert texts.count("<script>window.harmed = true") > 10
    assert texts.count("[Markdown link](javascript:window.harmed = true)") > 10
    assert "[0m" not in texts
    address = page.url.partition("?")[0]  # JupyterLab itself drops what follows
    for words in ("HTML link", "[Markdown link](", "TeX link"):
        page.locator(".agentq", has_text=words).first.get_by_text(words).first.click()
    page.wait_for_timeout(500)
    assert page.url.partition("?")[0] == address
    assert [frame.evaluate("() => window.harmed") for frame in page.frames] == [None] * len(page.frames)
    scripts = page.locator("a[href]").evaluate_all(
        "all => all.map(a => a.href).filter(href => /^(java|vb)script:/i.test(href))"
    )
    assert scripts == []


def test_hostile_text_is_shown_as_text_in_jupyterlab_untrusted_and_on_a_page_of_nbconvert(
    lab: Lab, folder: Path
) -> None:
    notebook = folder / "hostile.ipynb"
    lab.open_cells(notebook, ["%load_ext agentq_nb", PAYLOAD, ACTORS, *FORMS.values(), *DRAWN_BY_OTHERS.values()])
    lab.run_all()
    for refused in REFUSED.values():
        assert lab.run(refused).failed or "UsageError" in lab.cells[-1].text
    lab.run("%agentq stop;")  # what was shown live is a picture from here on
    assert_only_shown(lab.page)
    for name, cell in zip(FORMS, lab.cells[3:], strict=False):
        assert not UNSAFE.search(cell.text), name
    lab.screenshots("hostile")
    lab.save()

    # A notebook that was changed by another program is not trusted.
    content = nbformat.read(notebook, as_version=4)
    content.metadata["changed"] = True
    untrusted = folder / "untrusted.ipynb"
    nbformat.write(content, untrusted)
    lab.open(untrusted, kernel=False)
    assert_only_shown(lab.page)
    lab.screenshot("hostile-untrusted")

    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", notebook], check=True, capture_output=True)
    page = lab.page.context.new_page()
    complaints = complaints_of(page)
    page.goto(notebook.with_suffix(".html").as_uri(), wait_until="load")
    assert_only_shown(page)
    # The page itself asks other machines for scripts, which are out of reach here.
    assert [told for told in complaints if not told.startswith(("request", "console"))] == []
