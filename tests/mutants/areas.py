"""Which modules are mutated, and which tests guard them. Paths are text, each in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Area:
    """A part of the package that makes promises, and the tests that are to hold them."""

    name: str
    share: int
    """How many of every hundred mutants are taken from it."""
    modules: tuple[str, ...]
    """Files, or folders: all their files that no other area names."""
    tests: tuple[str, ...]

    def owns(self, path: str) -> bool:
        """Whether a file belongs to it, going by its modules alone."""
        return self.precision(path) > 0

    def precision(self, path: str) -> int:
        """How closely it names the file; 0 when it does not."""
        return max(
            (len(module) for module in self.modules if path == module or path.startswith(module + "/")), default=0
        )


_ACP_TESTS = (
    "tests/agents/test_acp_agents.py",
    "tests/agents/test_acp_choosing.py",
    "tests/agents/test_acp_failed_attempts.py",
    "tests/agents/test_acp_faults.py",
    "tests/agents/test_acp_logging.py",
    "tests/agents/test_acp_noise.py",
    "tests/agents/test_acp_resuming.py",
    "tests/agents/test_acp_turns.py",
    "tests/agents/test_permissions_over_acp.py",
    "tests/unit/agent_os/test_acp_wire.py",
    "tests/unit/agent_os/test_error_sentences.py",
    "tests/unit/agent_os/test_tool_call_text.py",
)

IN_KERNELS: Mapping[str, tuple[str, ...]] = {
    "agentq_nb/_notebook/alerts.py": ("tests/kernel/test_alerts.py",),
    "agentq_nb/_notebook/batch_view.py": ("tests/kernel/test_batches.py",),
    "agentq_nb/_notebook/cell_await.py": ("tests/kernel/test_magics_waiting.py", "tests/kernel/test_tracebacks.py"),
    "agentq_nb/_notebook/completion.py": ("tests/kernel/test_magics_forms.py",),
    "agentq_nb/_notebook/dashboard": ("tests/kernel/test_dashboard.py",),
    "agentq_nb/_notebook/deploy_classes.py": ("tests/kernel/test_magics_deploying.py",),
    "agentq_nb/_notebook/extension.py": ("tests/kernel/test_magics_loading.py",),
    "agentq_nb/_notebook/forgotten_awaits.py": ("tests/kernel/test_forgotten_awaits.py",),
    "agentq_nb/_notebook/formatters.py": ("tests/kernel/test_magics_forms.py",),
    "agentq_nb/_notebook/kernel_context.py": ("tests/kernel/test_magics_forms.py", "tests/kernel/test_magics_files.py"),
    "agentq_nb/_notebook/magics.py": ("tests/kernel/test_magics_forms.py", "tests/kernel/test_magics_loading.py"),
    "agentq_nb/_notebook/output_routing.py": ("tests/kernel/test_cells_with_widgets.py",),
    "agentq_nb/_notebook/tracebacks.py": ("tests/kernel/test_tracebacks.py",),
}
"""Files of tests that run a module, or a folder's modules, in kernels only, where no lines are recorded."""

_KERNEL_TESTS = tuple(sorted({tests for files in IN_KERNELS.values() for tests in files}))

AREAS = (
    Area(
        "brokers",
        17,
        ("agentq_nb/_brokers",),
        ("tests/unit/brokers", "tests/unit/batches", "tests/unit/runtime", "tests/unit/properties"),
    ),
    Area("store", 16, ("agentq_nb/_store",), ("tests/unit/store", "tests/unit/brokers", "tests/unit/runtime")),
    Area(
        "actors",
        20,
        ("agentq_nb/_actor", "agentq_nb/_host", "agentq_nb/_policies", "agentq_nb/_runtime"),
        ("tests/unit/runtime", "tests/unit/properties", "tests/unit"),
    ),
    Area("agent_os", 16, ("agentq_nb/agent_os",), ("tests/unit/agent_os", "tests/agents")),
    Area("acp", 7, ("agentq_nb/agent_os/agents/acp",), _ACP_TESTS),
    Area(
        "tools",
        6,
        ("agentq_nb/agent_os/tools",),
        (
            "tests/agents/test_host_tools.py",
            "tests/agents/test_host_tools_described.py",
            "tests/unit/agent_os/test_tool_server.py",
        ),
    ),
    Area(
        "redaction",
        5,
        ("agentq_nb/_core/redaction.py", "agentq_nb/_core/secret_search.py", "agentq_nb/_core/safe_text.py"),
        ("tests/unit/core/test_redaction.py", "tests/unit/core/test_safe_text.py"),
    ),
    Area("notebook", 7, ("agentq_nb/_notebook",), ("tests/unit/notebook", "tests/unit", *_KERNEL_TESTS)),
    Area("dashboard", 6, ("agentq_nb/_notebook/dashboard",), ("tests/unit/dashboard",)),
)


def files_of(area: Area) -> list[str]:
    """The files of an area, by name."""
    paths = [path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "agentq_nb").rglob("*.py")]
    return sorted(path for path in paths if area_of(path) is area)


def area_of(path: str) -> Area | None:
    """The area that names a file most closely."""
    area = max(AREAS, key=lambda area: area.precision(path))
    return area if area.owns(path) else None


def in_kernels(path: str) -> tuple[str, ...]:
    """The files of tests that run a module in kernels."""
    return tuple(
        tests
        for module, files in IN_KERNELS.items()
        if path == module or path.startswith(module + "/")
        for tests in files
    )
