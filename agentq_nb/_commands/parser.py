"""Parse a command's words: one declaration serves the magic, the shell command, their help and completion.

A command is a frozen dataclass whose fields are made by :func:`word`, :func:`rest`, :func:`option` and :func:`flag`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agentq_nb._core.redaction import without_passwords
from agentq_nb._core.safe_text import LONGEST_TEXT, safe

Convert = Callable[[str], Any]
"""Converts text to a value; raises ValueError saying what is expected: "a number of seconds"."""

Parsed = TypeVar("Parsed")

_NAMED = re.compile(r"\{\{[^{}\n]*\}\}")

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class UsageError(Exception):
    """The typed text is no valid command; the message is one line that says what to type instead.

    The message quotes words that may come from a variable, so its contents are untrusted.
    """

    def __str__(self) -> str:
        return safe(without_passwords(super().__str__()), LONGEST_TEXT)


class HelpWanted(Exception):
    """``--help`` was typed among the words of a command."""


@dataclass(frozen=True)
class Declared:
    """One field of a command as its user sees it. ``kind`` is "word", "rest", "option" or "flag"."""

    kind: str
    label: str
    help: str
    convert: Convert = str
    optional: bool = False
    completes: str = ""
    """What completion offers here: "actor", "queue", "command", "agent", "label" (the label itself), or nothing."""


def word(label: str, help: str, *, convert: Convert = str, optional: bool = False, completes: str = "") -> Any:
    """Declare a word by position; None when it is optional and left out."""
    return _field(
        Declared("word", label, help, convert, optional, completes), None if optional else dataclasses.MISSING
    )


def rest(label: str, help: str, *, optional: bool = False, completes: str = "") -> Any:
    """Declare the text after all other words, unparsed; "" when optional and left out.

    In a cell magic it may be the text of the cell.
    """
    return _field(
        Declared("rest", label, help, optional=optional, completes=completes), "" if optional else dataclasses.MISSING
    )


def option(name: str, label: str, help: str, *, default: Any = None, convert: Convert = str) -> Any:
    """Declare ``name VALUE`` or ``name=VALUE`` anywhere before the rest."""
    return _field(Declared("option", f"{name} {label}", help, convert, optional=True), default)


def flag(name: str, help: str) -> Any:
    """Declare ``name`` anywhere before the rest: True when given."""
    return _field(Declared("flag", name, help, optional=True), False)


def seconds(text: str) -> float:
    """Parse a number of seconds: ``90``, ``1.5``."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError("a number of seconds, like 60 or 0.5")
    return value


def span(text: str) -> float:
    """Parse a duration to seconds: ``90s``, ``10m``, ``2h``, ``1.5d``."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)(s|m|min|h|d|w)", text, re.ASCII)
    if found is None:
        raise ValueError("a length of time, like 90s, 10m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


def whole(text: str) -> int:
    """A whole number, also a negative one."""
    if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) is None:
        raise ValueError("a whole number, like 5 or -1")
    return int(text)


def count(text: str) -> int:
    """Parse a whole number from 1 up."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("a whole number from 1 up")
    return int(text)


# --- reading what was typed -------------------------------------------------------------------------------------------


class Line:
    """A line of a magic. Words may be quoted as in a shell; the rest is unparsed, including quotes and braces.

    :param fill: applied to each word before it is parsed, to replace ``{{name}}`` with its value.
    :ivar arguments: what was read so far, as a shell would have given it.
    """

    begin = "%agentq"
    """The prefix of a command."""
    options_ended = False
    """Whether ``--`` was typed: what follows is not an option even if it looks like one."""

    def __init__(self, text: str, cell: str | None = None, fill: Callable[[str], str] = str) -> None:
        self._left: str = text.strip()
        self._cell = cell
        self._fill = fill
        self.arguments: list[str] = []

    def take(self) -> str | None:
        """Return the next word without its quotes; None at the end. Raises UsageError for an unclosed quote."""
        if not self._left:
            return None
        taken, self._left = _first_word(self._left)
        self.arguments.append(self._fill(taken))
        return self.arguments[-1]

    def peek(self) -> str:
        """Return the beginning of the next word, up to white space."""
        return self._left.split(maxsplit=1)[0] if self._left else ""

    def rest(self) -> str:
        """Return the rest of the line, or the text of the cell."""
        taken = self._take_rest()
        if taken:
            self.arguments += [taken] if self.options_ended else ["--", taken]
        return taken

    def _take_rest(self) -> str:
        if self._cell is not None:
            if self._left:
                raise UsageError(f"The text of the cell is the body, so the line must end before: {self._left}")
            taken, self._cell = self._cell.removesuffix("\n"), None
            return taken
        taken, self._left = self._left, ""
        return taken

    def leftover(self) -> str:
        """Return the text that was not parsed."""
        return self._left or (self._cell or "").strip()


class Arguments:
    """The arguments of a shell command: the shell has removed the quotes. Options may follow the rest."""

    begin = "agentq"
    options_ended = False

    def __init__(self, arguments: Sequence[str]) -> None:
        self._left = list(arguments)

    def take(self) -> str | None:
        return self._left.pop(0) if self._left else None

    def peek(self) -> str:
        return self._left[0] if self._left else ""

    def rest(self) -> str:
        taken: list[str] = []
        while self._left and (self.options_ended or not self._left[0].startswith("--")):
            taken.append(self._left.pop(0))
        return " ".join(taken)

    def leftover(self) -> str:
        return " ".join(self._left)


def _first_word(text: str) -> tuple[str, str]:
    """Split off the first word, quoted as in a shell. A backslash is literal, and ``{{…}}`` is not split."""
    word, quote, position = "", "", 0
    while position < len(text):
        character = text[position]
        if quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif braces := _NAMED.match(text, position):
            word += braces[0]
            position = braces.end()
            continue
        elif character in "'\"":
            quote = character
        elif character.isspace():
            return word, text[position:].lstrip()
        else:
            word += character
        position += 1
    if quote:
        raise UsageError(f"A quote is not closed: {_short(text)}")
    return word, ""


def parse(command: type[Parsed], typed: Line | Arguments) -> Parsed:
    """Return an instance of ``command`` from the text after its name. Raises UsageError, HelpWanted."""
    fields = declared(command)
    options = {shown.label.split()[0]: name for name, shown in fields.items() if shown.kind in ("option", "flag")}
    values: dict[str, Any] = {}
    for name, shown in fields.items():
        if shown.kind in ("option", "flag"):
            continue
        _take_options(command, typed, options, fields, values)
        text = typed.rest() if shown.kind == "rest" else typed.take()
        if text:
            values[name] = _converted(command, typed, shown, shown.label, text)
        elif not shown.optional:
            raise UsageError(f"{shown.label} is missing. {_advice(command, typed)}")
    _take_options(command, typed, options, fields, values)
    if left := typed.leftover():
        raise UsageError(f"Too many words: {_short(left)}. {_advice(command, typed)}")
    return command(**values)


def _take_options(
    command: type[Any],
    typed: Line | Arguments,
    options: Mapping[str, str],
    fields: Mapping[str, Declared],
    values: dict[str, Any],
) -> None:
    while typed.peek().startswith("--") and not typed.options_ended:
        name, equals, text = (typed.take() or "").partition("=")
        if name == "--":
            typed.options_ended = True
            return
        if name == "--help":
            raise HelpWanted
        if name not in options:
            near = difflib.get_close_matches(name, options, 1)
            known = f"Did you mean {near[0]}?" if near else _advice(command, typed)
            raise UsageError(f"There is no option {name} here. {known}")
        shown = fields[options[name]]
        if shown.kind == "flag":
            if equals:
                raise UsageError(f"{name} takes no value. {_advice(command, typed)}")
            values[options[name]] = True
            continue
        value = text if equals else typed.take()
        if not value:
            raise UsageError(f"{name} needs a value. {_advice(command, typed)}")
        values[options[name]] = _converted(command, typed, shown, name, value)


def _converted(command: type[Any], typed: Line | Arguments, shown: Declared, name: str, text: str) -> Any:
    try:
        return shown.convert(text)
    except ValueError as error:
        raise UsageError(f"{name} is {error}, not {_short(text)}. {_advice(command, typed)}") from None


def _advice(command: type[Any], typed: Line | Arguments) -> str:
    return f"Type: {typed.begin} {usage(command)}"


def _short(text: str) -> str:
    line = without_passwords(" ".join(text.split()))
    return line if len(line) <= 80 else f"{line[:79]}…"


# --- telling what can be typed ----------------------------------------------------------------------------------------


def declared(command: type[Any]) -> dict[str, Declared]:
    """Return the fields of a command by name, in the order in which they are typed."""
    return {field.name: field.metadata["declared"] for field in dataclasses.fields(command)}


def usage(command: type[Any]) -> str:
    """Return one line: ``send ACTOR/KEY QUEUE [--key KEY] BODY``."""
    return _line(command, ("word", "option", "flag", "rest"))


def words(command: type[Any]) -> str:
    """Return the usage line without options: ``send ACTOR/KEY QUEUE BODY``."""
    return _line(command, ("word", "rest"))


def _line(command: type[Any], kinds: Sequence[str]) -> str:
    fields = [field for kind in kinds for field in declared(command).values() if field.kind == kind]
    return " ".join((command.name, *(f"[{field.label}]" if field.optional else field.label for field in fields)))


def summary(command: type[Any]) -> str:
    """Return the first paragraph of the command's docstring."""
    return paragraphs(command)[0]


def paragraphs(command: type[Any]) -> list[str]:
    """Return the paragraphs of the command's docstring, a line each."""
    return [" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").strip().split("\n\n")]


def _field(shown: Declared, default: Any) -> Any:
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"declared": shown})
    return dataclasses.field(default=default, metadata={"declared": shown})
