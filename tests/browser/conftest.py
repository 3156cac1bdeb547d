"""One server of JupyterLab, one of Notebook 7 and one Chromium for all tests here; a fresh window and folder for each."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.driving import HEIGHT, WIDE, Lab
from tests.browser.serving import JupyterServer
from tests.requirements import missing

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, since containers have none; no sound of Chromium's own on the network, and no other machine to be found.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if program is None:
        missing("There is no Chromium here to show notebooks in. Install it: apt install chromium fonts-dejavu")
    home = tmp_path_factory.mktemp("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS, env={"HOME": str(home)})
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """JupyterLab."""
    with JupyterServer(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def folder(server: JupyterServer, request: pytest.FixtureRequest) -> Path:
    """An empty folder of this test alone, below the server's root."""
    made = server.root / re.sub(r"\W+", "-", request.node.name).strip("-")
    made.mkdir()
    return made


@pytest.fixture
def lab(chromium: Browser, server: JupyterServer) -> Iterator[Lab]:
    """A window of JupyterLab. At its end there must have been no complaint."""
    with window(chromium, server) as opened:
        yield opened


@pytest.fixture(scope="package")
def server7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """Notebook 7."""
    made = tmp_path_factory.mktemp("notebooks7"), tmp_path_factory.mktemp("home7")
    with JupyterServer(*made, "notebook") as running:
        yield running


@pytest.fixture
def notebook7(chromium: Browser, server7: JupyterServer) -> Iterator[Lab]:
    """A window of Notebook 7."""
    with window(chromium, server7) as opened:
        yield opened


@contextmanager
def window(chromium: Browser, server: JupyterServer) -> Iterator[Lab]:
    """A window onto ``server``, whose kernels end with it. It checks that the page did not complain."""
    server.reset_settings()
    context = chromium.new_context(viewport={"width": WIDE, "height": HEIGHT}, reduced_motion="reduce")
    try:
        opened = Lab(context.new_page(), server)
        yield opened
        assert opened.complaints == []
    finally:
        context.close()
        server.shut_down_kernels()
