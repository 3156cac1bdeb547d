"""Users' SQL as text: what kind of statement it is, which names it has, and its parameters as PostgreSQL numbers them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from agentq_nb.errors import SqlRefused

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*(?:[^*]|\*(?!/))*\*/ )
    | (?P<text> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$ )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<named> \$[A-Za-z_]\w* )
    | (?P<escaped> \?\? )
    | (?P<mark> \?(?!&)(?!\|(?!\|)) )
    | (?P<word> [^\W\d]\w*(?:\$\w*)* )
    | (?P<number> \d\w* )
    | (?P<space> \s+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
"""``?|`` and ``?&`` are operators, but ``?||`` is a parameter that is joined with text."""

_READS = {"select", "with", "values", "table", "show", "explain"}
_NOT_EXPLAINED = {"create", "declare", "execute", "refresh"}

# They act on the server or beside it, which no read-only transaction prevents.
_REFUSED = re.compile(
    r"dblink\w*|lo_\w+|pg_(terminate_backend|cancel_backend|reload_conf|rotate_logfile|switch_wal|promote|"
    r"create_restore_point|logical_emit_message|backup_start|backup_stop|drop_replication_slot|create_\w+_slot|"
    r"replication_\w+|stat_reset\w*|wal_replay_\w+)"
)


class UserQuery(NamedTuple):
    """A query with ``$1``, ``$2``, …, the values of these, and the names that occur in it."""

    text: str
    values: Sequence[Any]
    names: frozenset[str]


def user_query(query: str, parameters: Sequence[Any] | Mapping[str, Any]) -> UserQuery:
    """Read a user's query, with ``?`` or ``$name`` for its parameters; ``??`` is PostgreSQL's operator ``?``.

    Raises SqlRefused for what is no read by its first word, and for missing and superfluous parameters.
    """
    tokens = [(found.lastgroup or "other", found[0]) for found in _TOKEN.finditer(query)]
    names = frozenset(_names(tokens))
    _check(tokens, names)
    named = parameters if isinstance(parameters, Mapping) else None
    texts: list[str] = []
    places: dict[str, int] = {}
    marks = 0
    for kind, text in tokens:
        if kind == "named" and named is not None:
            texts.append(f"${places.setdefault(text[1:], len(places) + 1)}")
        elif kind == "mark" and named is None and parameters:
            marks += 1
            texts.append(f"${marks}")
        else:
            texts.append("?" if kind == "escaped" else text)
    if named is not None:
        if missing := places.keys() - named.keys():
            raise SqlRefused(f"The query's parameter ${min(missing)} has no value.")
        values = [named[name] for name in places]
    else:
        values = list(parameters)
        if marks and marks != len(values):
            raise SqlRefused(f"The query has {marks} parameters, and {len(values)} values were given.")
    return UserQuery("".join(texts), values, names)


def _names(tokens: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the names in a query and its keywords, as PostgreSQL reads them."""
    for kind, text in tokens:
        if kind == "word":
            yield text.lower()
        elif kind == "quoted":
            yield text[1:-1].replace('""', '"')


def _check(tokens: Sequence[tuple[str, str]], names: frozenset[str]) -> None:
    said = [(kind, text) for kind, text in tokens if kind not in ("comment", "space") and text != "("]
    first = said[0][1] if said else "nothing"
    if first.lower() not in _READS:
        raise SqlRefused(
            "Only reads are accepted (SELECT, WITH, VALUES, TABLE, SHOW, EXPLAIN of these); this begins with "
            f"{first:.40}."
        )
    if first.lower() == "explain" and (made := names & _NOT_EXPLAINED):
        raise SqlRefused(f"Only reads can be explained here, not {min(made)}.")
    if refused := [name for name in names if _REFUSED.fullmatch(name)]:
        raise SqlRefused(f"The function {min(refused)}() is not available here.")
    # Names in this form may hide any other.
    if any(text.lower() == "u" and after == "&" for (_, text), (_, after) in pairwise(tokens)):
        raise SqlRefused('Names and texts in the form U&"..." are not accepted.')
