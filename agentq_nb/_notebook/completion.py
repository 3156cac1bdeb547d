"""Tab completion of ``%agentq`` lines: commands, options, actors, queues and agents."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from agentq_nb._commands.catalog import COMMANDS
from agentq_nb._commands.parser import Declared, declared
from agentq_nb._core import ids
from agentq_nb.agent_os.agents.presets import PRESETS

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from agentq_nb._notebook.ipython_types import Shell
    from agentq_nb._notebook.kernel_context import KernelContext


class Completion:
    """A matcher for IPython's completer. It reads memory only, because it must answer between two keystrokes."""

    def __init__(self, shell: Shell, context: KernelContext) -> None:
        self._shell = shell
        self._context = context

    def install(self) -> None:
        """Add the matcher to the shell's completer."""
        from IPython.core.completer import SimpleCompletion

        def agentq_matcher(context: CompletionContext) -> SimpleMatcherResult:
            found = self.matches(context.line_with_cursor[: context.cursor_position])
            return {
                "completions": [SimpleCompletion(text=text, type="agentq") for text in found],
                "matched_fragment": _fragment(context.line_with_cursor[: context.cursor_position]),
                "suppress": bool(found),
            }

        agentq_matcher.matcher_api_version = 2  # type: ignore[attr-defined]  # what IPython's decorator would set
        self._matcher = agentq_matcher
        self._shell.Completer.custom_matchers.append(agentq_matcher)

    def remove(self) -> None:
        """Remove the matcher."""
        if self._matcher in self._shell.Completer.custom_matchers:
            self._shell.Completer.custom_matchers.remove(self._matcher)

    def matches(self, before: str) -> list[str]:
        """Return the completions of the last word of ``before``, the line up to the cursor."""
        _, magic, line = before.rpartition("%agentq")
        if not magic or not line.startswith((" ", "\t")):
            return []
        words = line.split()
        typed = "" if line[-1].isspace() else words.pop()
        return sorted(word for word in set(self._candidates(words, typed)) if word.startswith(typed))

    def _candidates(self, words: list[str], typed: str) -> Iterable[str]:
        if not words:
            return COMMANDS
        command = COMMANDS.get(words[0])
        if command is None:
            return ()
        fields = declared(command).values()
        if typed.startswith("--"):
            return [field.label.split()[0] for field in fields if field.kind in ("option", "flag")]
        options = {field.label.split()[0] for field in fields if field.kind == "option"}
        if words[-1] in options:
            return ()
        given = [word for before, word in pairwise(words) if not word.startswith("--") and before not in options]
        places = [field for field in fields if field.kind == "word"]
        places += [field for field in fields if field.kind == "rest"] * (len(given) + 1)
        return self._values(places[len(given)], given) if len(given) < len(places) else ()

    def _values(self, place: Declared, given: list[str]) -> Iterable[str]:
        registry, kind = self._context.registry(), place.completes
        if kind == "command":
            return COMMANDS
        if kind == "label":
            return [place.label]
        if kind == "agent":
            return PRESETS.keys() - given
        if registry is None or not registry.running:
            return ()
        if kind == "actor":
            return [f"{name}/main" for name in registry.classes]
        if kind == "queue" and given:
            actor = registry.classes.get(ids.actor_name(given[0]))
            return actor.declared.queues if actor is not None else ()
        return ()


def _fragment(before: str) -> str:
    return "" if before[-1:].isspace() else before.split()[-1] if before.split() else ""
