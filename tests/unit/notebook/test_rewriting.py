"""Which calls of the magic become awaited ones."""

from __future__ import annotations

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from agentq_nb._notebook.cell_await import rewritten


def transformed(cell: str) -> str:
    """As IPython hands it to an input transformer, then rewritten."""
    return rewritten(TransformerManager().transform_cell(cell))


AWAITED = "(await get_ipython().run_line_magic('_agentq_awaited', 'status'))"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%agentq status", AWAITED),
        ("x = %agentq status", f"x = {AWAITED}"),
        ("ä, y = %agentq status", f"ä, y = {AWAITED}"),
        ("for i in range(3):\n    %agentq status", f"for i in range(3):\n    {AWAITED}"),
        ("if a:\n    x = %agentq status\nelse:\n    %agentq status", f"if a:\n    x = {AWAITED}\nelse:\n    {AWAITED}"),
        (
            "with a:\n    try:\n        %agentq status\n    except E:\n        %agentq status\n    finally:\n        %agentq status",
            f"with a:\n    try:\n        {AWAITED}\n    except E:\n        {AWAITED}\n    finally:\n        {AWAITED}",
        ),
        ("match a:\n    case 1:\n        %agentq status", f"match a:\n    case 1:\n        {AWAITED}"),
        ("async def f():\n    x = %agentq status", f"async def f():\n    x = {AWAITED}"),
        ("%agentq status\nprint(1)\ny = %agentq status", f"{AWAITED}\nprint(1)\ny = {AWAITED}"),
        ("%agentq sql select 1;", "(await get_ipython().run_line_magic('_agentq_awaited', 'sql select 1;'))"),
        ("%agentq status;", "(await get_ipython().run_line_magic('_agentq_awaited', 'status;'));"),
    ],
)
def test_calls_are_awaited_where_await_can_stand(cell: str, expected: str) -> None:
    assert transformed(cell) == expected + "\n"


def test_a_cell_magic_is_awaited() -> None:
    made = transformed("%%agentq send a/b q\nhello {x}\n'''\n")
    assert made.startswith("(await get_ipython().run_cell_magic('_agentq_awaited', 'send a/b q', ")


@pytest.mark.parametrize(
    "cell",
    [
        "def f():\n    x = %agentq status",
        "class A:\n    x = %agentq status",
        "async def f():\n    def g():\n        x = %agentq status",
        "%%time\n%agentq status",
        "%%capture out\nx = %agentq status",
        "text = '''\nget_ipython().run_line_magic('agentq', 'status')\n'''",
        "f = lambda: get_ipython().run_line_magic('agentq', 'status')",
        "%agentqx status",
        "%time %agentq status",
        "broken (\n%agentq status",
    ],
)
def test_everything_else_stays_as_it_is(cell: str) -> None:
    before = TransformerManager().transform_cell(cell)
    assert rewritten(before) == before
