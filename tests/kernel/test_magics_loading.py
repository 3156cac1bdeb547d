"""Loading the extension in a real kernel: silent, once, and taken out again."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.kernel.driving import PROJECT, Kernel

HOOKS = """[
    len(get_ipython().input_transformers_post),
    len(get_ipython().events.callbacks["pre_run_cell"]),
    len(get_ipython().events.callbacks["post_run_cell"]),
    len(get_ipython().Completer.custom_matchers),
    "agentq" in get_ipython().magics_manager.magics["line"],
]"""


def test_loading_prints_nothing_and_starts_nothing(kernel: Kernel) -> None:
    before = kernel.value("[len(__import__('asyncio').all_tasks()), __import__('threading').active_count()]")
    assert kernel.run("%load_ext agentq_nb").check().silent
    assert kernel.value("[len(__import__('asyncio').all_tasks()), __import__('threading').active_count()]") == before
    assert kernel.value("__import__('asyncio').__dict__.get('_nest_patched', False)") is False
    assert [path.name for path in kernel.cwd.iterdir() if not path.name.startswith(".")] == []
    assert "No host runs in this kernel. Start one: %agentq start" in kernel.run("%agentq").check().text


def test_loading_again_stacks_no_hooks_and_unloading_takes_them_out(kernel: Kernel) -> None:
    plain = kernel.value(HOOKS)
    kernel.run("%load_ext agentq_nb").check()
    loaded = kernel.value(HOOKS)
    assert loaded == [*(number + more for number, more in zip(plain, (1, 4, 5, 1), strict=False)), True]
    for again in ("%load_ext agentq_nb", "%reload_ext agentq_nb", "%reload_ext agentq_nb"):
        kernel.run(again).check()
        assert kernel.value(HOOKS) == loaded
    kernel.run("%unload_ext agentq_nb").check()
    assert kernel.value(HOOKS) == plain


def test_the_package_itself_imports_no_ipython(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import agentq_nb, sys; print([name for name in ('IPython', 'ipykernel', 'traitlets') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_on_windows_loading_says_that_it_is_not_supported(kernel: Kernel) -> None:
    cell = kernel.run("import sys\nhere, sys.platform = sys.platform, 'win32'\n%load_ext agentq_nb")
    assert cell.error_name == "ImportError"
    assert "does not support Windows" in (cell.error_value or "")
    assert "UsageError" in kernel.run("sys.platform = here\n%agentq").stderr


def test_bad_words_give_one_line_and_no_traceback(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    for line, says in (
        ("%agentq strat", "Did you mean start?"),
        ("%agentq send", "ACTOR/KEY is missing. Type: %agentq send"),
        ("x = %agentq help nothing", "There is no command 'nothing'"),
        ("%%agentq status\ntext", "takes no text of a cell"),
        ("def f():\n    %agentq strat\nf()", "Did you mean start?"),
    ):
        cell = kernel.run(line)
        assert cell.status == "error"
        assert says in cell.stderr
        assert len(cell.stderr.strip().splitlines()) == 1
        assert cell.traceback == ""


def test_commands_without_a_host_say_how_to_start_one(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    for line in (
        "send a/b q x",
        "ask a/b q x",
        "results",
        "dead",
        "show 0",
        "sql select 1",
        "cancel 0",
        "stop",
        "actors",
    ):
        cell = kernel.run(f"%agentq {line}")
        assert (line, cell.error_name) == (line, "NoHost")
        assert "%agentq start" in (cell.error_value or "")
        assert len(cell.traceback.splitlines()) == 1


OLD_DUCKDB = "import duckdb\nduckdb.__version__, here = '1.4.1', duckdb.__version__"


def test_beside_an_older_package_that_is_loaded_loading_says_so_and_no_host_is_started(kernel: Kernel) -> None:
    kernel.run(OLD_DUCKDB).check()
    loading = kernel.run("%load_ext agentq_nb").check()
    assert "duckdb 1.4.1 is loaded, " in loading.stderr
    assert "Restart the kernel" in loading.stderr
    for code in ("%agentq start", "from agentq_nb import setup\nawait setup().start()"):
        assert kernel.run(code).error_name == "RestartNeeded"
    assert list(kernel.cwd.glob("*.duckdb*")) == []
    kernel.run("duckdb.__version__ = here\n%agentq start").check()


def test_loading_that_fails_half_way_leaves_nothing_behind_and_can_be_repeated(kernel: Kernel) -> None:
    plain = kernel.value(HOOKS)
    kernel.run(
        "import IPython.core.completer as module\nkept = module.SimpleCompletion\ndel module.SimpleCompletion"
    ).check()
    assert kernel.run("%load_ext agentq_nb").error_name == "ImportError"
    assert kernel.value(HOOKS) == plain
    kernel.run("module.SimpleCompletion = kept\n%load_ext agentq_nb").check()
    assert kernel.value(HOOKS)[-1] is True
