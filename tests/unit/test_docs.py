"""The documents are true: files, folders and commands that they name exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "agentq_nb"
DOCUMENTS = sorted([*(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "README.md"])

_PATH = re.compile(r"\.?[\w-][\w.-]*(?:/[\w.-]+)*(?:/|\.(?:css|html|ipynb|js|json|md|py|sql|toml|typed|yaml))")
"""A folder with its slash, or a file with an ending that files of the repository have."""

_OF_USERS = {"analysis.agentq/", "analysis.ipynb", ".pi/agent/settings.json", "opencode.json"}
"""Files in users' folders, as examples."""


def paths_in(text: str) -> set[str]:
    """Every path that stands in backticks."""
    return {word for word in re.findall(r"`([^`\n]+)`", text) if _PATH.fullmatch(word)} - _OF_USERS


def exists(path: str) -> bool:
    return (CHECKOUT / path).exists() or (PACKAGE / path).exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    assert {path for path in paths_in(document.read_text(encoding="utf-8")) if not exists(path)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    assert [name for name in linked if not (document.parent / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_module_that_a_document_runs_can_be_found(document: Path) -> None:
    run = set(re.findall(r"python3? -m ([\w.]+)", document.read_text(encoding="utf-8")))
    assert {name for name in run if find_spec(name) is None} == set()


def test_a_path_that_does_not_exist_is_noticed() -> None:
    named = paths_in("See `_client/handle.py`, `_client/handles.py`, `tests/nowhere/`, `handle.send` and `a / b`.")
    assert named == {"_client/handle.py", "_client/handles.py", "tests/nowhere/"}
    assert {path for path in named if exists(path)} == {"_client/handle.py"}


def test_the_architecture_names_every_layer_of_the_package() -> None:
    layers = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    named = {path.partition("/")[0] for path in paths_in((CHECKOUT / "docs" / "architecture.md").read_text())}
    assert layers - {"__init__.py"} - named == set()


def test_the_glossary_has_twenty_words_in_order() -> None:
    glossary = (CHECKOUT / "docs" / "architecture.md").read_text().partition("## Glossary")[2]
    words = re.findall(r"^\| ([\w ]+) \| [A-Z]", glossary, re.MULTILINE)
    assert len(words) == 20
    assert words == sorted(words, key=str.lower)


def test_the_readme_leads_to_every_page() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(CHECKOUT).as_posix() for path in DOCUMENTS if path.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in readme] == []
