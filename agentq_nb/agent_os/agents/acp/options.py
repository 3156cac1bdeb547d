"""The modes and models that an agent offers for a session, and the ACP requests that choose them.

Agents report them in one of two ways: as ``configOptions``, which the protocol prefers, or in a list of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from agentq_nb.agent_os.values import ChoiceKind

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class _OwnList:
    """The ACP names for a kind of choice that has a list of its own."""

    holder: str
    available: str
    identity: str
    current: str
    method: str


_LISTS: Mapping[ChoiceKind, _OwnList] = {
    "mode": _OwnList("modes", "availableModes", "modeId", "currentModeId", "session/set_mode"),
    "model": _OwnList("models", "availableModels", "modelId", "currentModelId", "session/set_model"),
}


@dataclass(frozen=True)
class Offer:
    """The available values of one kind of choice, and the current one."""

    current: str | None = None
    available: tuple[str, ...] = ()
    option: str | None = None
    """The id of its configuration option; None where it has a list of its own."""


class Choices:
    """The choices of one session, as last reported by the agent."""

    def __init__(self, opened: Json) -> None:
        """``opened`` is the agent's answer to ``session/new`` or ``session/load``."""
        self._offers: dict[ChoiceKind, Offer] = {kind: _own_list(opened, kind) for kind in _LISTS}
        self._take_options(opened)

    def __getitem__(self, kind: ChoiceKind) -> Offer:
        return self._offers[kind]

    def request(self, kind: ChoiceKind, value: str) -> tuple[str, dict[str, Any]]:
        """Return the method that chooses ``value``, and its parameters besides the session's id."""
        option = self._offers[kind].option
        if option is not None:
            return "session/set_config_option", {"configId": option, "value": value}
        return _LISTS[kind].method, {_LISTS[kind].identity: value}

    def chosen(self, kind: ChoiceKind, value: str | None) -> None:
        """Make ``value`` the current one."""
        self._offers[kind] = replace(self._offers[kind], current=value)

    def update(self, reported: Json) -> None:
        """Apply a report by the agent: an update, or the answer to one choice, which may change the others."""
        if isinstance(mode := reported.get("currentModeId"), str):
            self.chosen("mode", mode)
        self._take_options(reported)

    def _take_options(self, reported: Json) -> None:
        for option in _mappings(reported.get("configOptions")):
            for kind in _LISTS:
                identity, current = option.get("id"), option.get("currentValue")
                if kind == (option.get("category") or identity) and option.get("type", "select") == "select":
                    values = tuple(_strings(_flat(option.get("options")), "value"))
                    self._offers[kind] = Offer(_text(current), values, _text(identity))


def _own_list(opened: Json, kind: ChoiceKind) -> Offer:
    at = _LISTS[kind]
    reported = _mapping(opened.get(at.holder))
    identity = "id" if kind == "mode" else at.identity
    return Offer(_text(reported.get(at.current)), tuple(_strings(_mappings(reported.get(at.available)), identity)))


def _flat(options: Any) -> Iterator[Json]:
    """Yield the options, including those in groups."""
    for option in _mappings(options):
        if "value" in option:
            yield option
        else:
            yield from _mappings(option.get("options"))


def _strings(mappings: Iterator[Json], name: str) -> Iterator[str]:
    return (value for mapping in mappings if isinstance(value := mapping.get(name), str))


def _mappings(value: Any) -> Iterator[Json]:
    items = cast(list[Any], value) if isinstance(value, list) else []
    return (cast(Json, item) for item in items if isinstance(item, Mapping))


def _mapping(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
