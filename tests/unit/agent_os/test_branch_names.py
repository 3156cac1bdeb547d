"""Any key gives a branch that git accepts, and different keys give different ones."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq_nb.agent_os.repositories.repository import branch_of, safe_part, why_not_a_branch

KEYS = [
    ("main",),
    ("a", "b"),
    ("a-b",),
    ("..",),
    ("-rf",),
    ("x.lock",),
    ("a..b",),
    ("@{",),
    ("",),
    (),
    ("ü" * 300,),
    ("a/b",),
]
KEYS += [
    ("HEAD",),
    ("@",),
    (".hidden",),
    ("end.",),
    ("a b",),
    ("a\nb",),
    ("A" * 300,),
    ("\ud800",),
    ("x" * 59 + ".lock",),
]


def accepted(branch: str) -> bool:
    done = subprocess.run(["git", "check-ref-format", "--branch", branch], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("key", KEYS)
def test_git_accepts_the_branch_of_every_key(key: tuple[str, ...]) -> None:
    branch = branch_of("agentq/{name}/{key}", "vm", key)
    assert accepted(branch), branch
    assert accepted(branch_of("{key}", "vm", key))
    assert len(branch) < 100


def test_different_keys_have_different_branches_that_can_stand_beside_each_other() -> None:
    branches = [branch_of("agentq/{name}/{key}", "vm", key) for key in KEYS]
    assert len(set(branches)) == len(KEYS)
    assert {branch.count("/") for branch in branches} == {2}
    assert safe_part(["main"]) == "main"


@settings(max_examples=300)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=3))
def test_no_key_gives_a_name_that_we_would_refuse(key: list[str]) -> None:
    assert why_not_a_branch(branch_of("agentq/{name}/{key}", "vm", key)) is None


@pytest.mark.parametrize(
    "name",
    [
        "a..b",
        "-a",
        "a/-b",
        "x.lock",
        "a//b",
        "/a",
        "a/",
        "a~1",
        "a^",
        "a:b",
        "a?b",
        "a*",
        "a[b",
        "a\\b",
        "@",
        "a@{b",
        "a b",
        ".a",
        "a.",
    ],
)
def test_what_git_refuses_we_refuse(name: str) -> None:
    assert not accepted(name) or name in ("a/-b", "@")  # the first is a trap for users, the second a name of HEAD
    assert why_not_a_branch(name) is not None
