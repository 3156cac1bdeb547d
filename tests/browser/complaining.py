"""What a page did wrong: said on its console, raised, asked of the person, opened, or fetched from elsewhere."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Dialog, Page

_OF_JUPYTER = re.compile(
    r"Canceled future for \w+ message before replies were done"  # when a kernel ends or a page is left
    r"|reading 'kernel'\)[^$]*/@jupyter-widgets/jupyterlab-manager/"  # in a notebook opened without a kernel
    r"|reading 'schema'\)[^$]*/static/notebook/notebook_core"  # now and then, when Notebook 7 starts
)
"""What Jupyter's own pages complain of without any doing of ours."""

_LOCAL_SCHEMES = ("data", "blob", "about", "file")


def complaints_of(page: Page) -> list[str]:
    """A list that grows: console errors, uncaught errors, browser dialogs, other windows, requests to other machines."""
    complaints: list[str] = []

    def complain(kind: str, text: str) -> None:
        if not _OF_JUPYTER.search(text):
            complaints.append(f"{kind}: {text[:500]}")

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            complain("console", f"{message.text} ({message.location['url']})")

    def asked(dialog: Dialog) -> None:
        if dialog.type == "beforeunload":  # unsaved changes of a notebook that is left
            dialog.accept()
        else:
            complain("dialog", dialog.message)
            dialog.dismiss()

    def fetched(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _LOCAL_SCHEMES and parts.hostname != "127.0.0.1":
            complain("request", url)

    page.on("console", said)
    page.on("pageerror", lambda error: complain("uncaught", error.stack or str(error)))
    page.on("dialog", asked)
    page.on("popup", lambda other: complain("another window", other.url))
    page.on("request", lambda request: fetched(request.url))
    page.on("websocket", lambda socket: fetched(socket.url))
    return complaints
