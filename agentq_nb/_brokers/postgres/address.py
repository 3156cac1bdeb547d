"""The address of a server: how to connect to it, and the schema that has the queues."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import conninfo

from agentq_nb._core.redaction import without_passwords
from agentq_nb.errors import ValidationFailed

_DEFAULT_SCHEMA = "agentq"
_SQL_TIMEOUT = 60.0
"""Seconds for a query of a user."""
_OURS = ("schema", "sql_timeout")
"""Options of an address that libpq does not know."""
_ESCAPES = (
    "It is like postgresql://user:password@host:5432/database. In the user's name and the password, write @ as %40, "
    ": as %3A, / as %2F, ? as %3F, # as %23 and % as %25."
)
CONNECT_TIMEOUT = 5
"""Seconds for a new connection."""
_NETWORK: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT,
    # A network that lets nothing through is noticed in about 15 seconds, not in hours.
    "keepalives_idle": 6,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")


def views_of(schema: str) -> str:
    """Return the schema of the views over the tables of a schema."""
    return f"{schema}_views"


class Address(NamedTuple):
    """Where the queues are.

    :ivar conninfo: how to connect, as libpq reads it.
    :ivar schema: the schema that holds the tables.
    :ivar sql_timeout: seconds after which a user's query is ended.
    """

    conninfo: str
    schema: str
    sql_timeout: float = _SQL_TIMEOUT

    def __repr__(self) -> str:
        return f"<Address {self.shown}, schema {self.schema}>"  # without the password

    @property
    def slow_conninfo(self) -> str:
        """How to connect for transactions that wait long for this program: no host takes them for stalled ones."""
        return conninfo.make_conninfo(self.conninfo, application_name="agentq-slow")

    @property
    def shown(self) -> str:
        """The address for people, without the password."""
        parts = conninfo.conninfo_to_dict(self.conninfo)
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"

    def hide(self, text: str) -> str:
        """Return a text without the password."""
        password = str(conninfo.conninfo_to_dict(self.conninfo).get("password") or "")
        return without_passwords(text.replace(password, "***") if len(password) > 2 else text)

    def statement(self, text: str) -> bytes:
        """Return the SQL with the names of the schemas in place of ``agentq.`` and ``agentq_views``."""
        return _statement(text, self.schema)


def parse_address(url: str) -> Address:
    """Read ``postgresql://…``, as libpq does, with ``schema=`` and ``sql_timeout=`` besides.

    Raises ``actor.validation_error``, with no part of what may be the password.
    """
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
        rest = urlencode([(name, value) for name, value in options if name not in _OURS], quote_via=quote)
        given = conninfo.conninfo_to_dict(urlunsplit(parts._replace(query=rest)))
    except (ValueError, psycopg.ProgrammingError) as error:
        # What libpq quotes may be a part of the password.
        why = "" if "@" in url or "password" in url.lower() else f": {error}".rstrip()
        raise ValidationFailed(f"This is not an address of a PostgreSQL server{why}. {_ESCAPES}") from None
    ports = str(given.get("port") or "")
    if "@" in f"{given.get('host')}{given.get('dbname')}" or (not ports.replace(",", "0").isdigit() and ports):
        raise ValidationFailed(f"The host, port or database in the address of the server cannot be read. {_ESCAPES}")
    schema = next((value for name, value in options if name == "schema"), _DEFAULT_SCHEMA)
    if not _SCHEMA_NAME.fullmatch(schema):
        raise ValidationFailed(
            f"schema= takes up to 48 lower-case letters, digits and _, the first no digit, not {schema!r:.100}."
        )
    # With several hosts, only the one that accepts writes is of use.
    defaults = {"target_session_attrs": "read-write", **_NETWORK}
    connect = conninfo.make_conninfo("", **{**defaults, **given, "application_name": "agentq"})
    return Address(connect, schema, _sql_timeout(options))


def _sql_timeout(options: Sequence[tuple[str, str]]) -> float:
    text = next((value for name, value in options if name == "sql_timeout"), str(_SQL_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 1e6:
        raise ValidationFailed(f"sql_timeout= is a number of seconds above 0, not {text!r:.40}.")
    return seconds


@lru_cache(maxsize=1000)
def _statement(text: str, schema: str) -> bytes:
    return text.replace("agentq.", f"{schema}.").replace("agentq_views", views_of(schema)).encode()
