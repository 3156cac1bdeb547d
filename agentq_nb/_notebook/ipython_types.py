"""Types for the parts of IPython's shell that this package uses; IPython itself leaves most of them untyped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Events(Protocol):
    """The shell's events: ``pre_run_cell``, ``post_run_cell`` and more."""

    def register(self, event: str, function: Callable[..., Any]) -> None: ...
    def unregister(self, event: str, function: Callable[..., Any]) -> None: ...


class MagicsManager(Protocol):
    """All magics, by "line" or "cell" and name."""

    magics: dict[str, dict[str, Any]]

    def register_function(self, func: Callable[..., Any], magic_kind: str, magic_name: str) -> None: ...


class Completer(Protocol):
    """The shell's completer."""

    custom_matchers: list[Callable[..., Any]]


class Formatter(Protocol):
    """Formats objects as one MIME type."""

    def for_type(self, typ: type[Any], func: Callable[..., Any]) -> Any: ...
    def pop(self, typ: type[Any], default: Any) -> Any: ...


class DisplayFormatter(Protocol):
    """The formatters by MIME type."""

    formatters: dict[str, Formatter]
    ipython_display_formatter: Formatter
    """Shows objects that display themselves instead of being formatted."""


class CellInfo(Protocol):
    """How a cell is run."""

    @property
    def store_history(self) -> bool:
        """False if a front end runs code for itself rather than for the user."""
        ...


class CellResult(Protocol):
    """How a cell ended."""

    @property
    def success(self) -> bool: ...


class Shell(Protocol):
    """IPython's ``InteractiveShell``."""

    user_ns: dict[str, Any]
    autoawait: bool
    colors: str
    loop_runner: Callable[..., Any]
    input_transformers_post: list[Callable[[list[str]], list[str]]]
    events: Events
    magics_manager: MagicsManager
    Completer: Completer
    display_formatter: DisplayFormatter
    custom_exceptions: tuple[type[BaseException], ...]
    """Errors of cells that the handler of :meth:`set_custom_exc` shows instead of ``showtraceback``."""

    def set_custom_exc(
        self, exc_tuple: tuple[type[BaseException], ...], handler: Callable[..., object] | None
    ) -> None: ...
    def showtraceback(self, exc_tuple: Any, *, tb_offset: int | None, running_compiled_code: bool) -> None: ...


def kernel_of(shell: Shell) -> Any:
    """Return the Jupyter kernel of a shell; None in a terminal, whose shell has no such attribute."""
    return getattr(shell, "kernel", None)


def has_reader(shell: Shell) -> bool:
    """Whether a user reads the output: nbconvert, papermill and Voila run cells that cannot ask for input."""
    kernel = kernel_of(shell)
    return kernel is None or bool(getattr(kernel, "_allow_stdin", True))
