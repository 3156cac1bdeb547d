"""Create the schema, and bring an older one up to date: by any host, and safely by several at once."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from agentq_nb._brokers.postgres.address import views_of
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb.errors import StoreTooNew

VERSION = 1
"""The version of the tables that this code reads and writes."""

# One lock for all schemas of a database: an arbitrary number that no other program is likely to use.
_LOCK = 0x61676E7471

_MIGRATIONS: dict[int, str] = {}
"""The SQL that leads from each earlier version to the next."""


async def migrate(database: Database) -> None:
    """Create or update the tables. Raises StoreTooNew if a newer version has written them; then nothing is changed."""
    await database.run(lambda tx: _migrate(tx, database.address.schema), repeatable=True)


async def _migrate(tx: Transaction, schema: str) -> None:
    await tx.ask(f"select pg_advisory_xact_lock({_LOCK})")
    found = await tx.row("select to_regclass(%(table)s)", table=f"{schema}.version")
    if found is None or found[0] is None:
        for name in (schema, views_of(schema)):
            if await tx.row("select 1 where to_regnamespace(%(name)s) is null", name=name):
                await tx.ask(f"create schema {name}")  # who may not, can have it created by someone else
        for file in ("schema.sql", "views.sql"):
            for statement in _statements(file):
                await tx.ask(statement)
        await tx.ask("insert into agentq.version values (%(version)s)", version=VERSION)
        return
    row = await tx.row("select version from agentq.version")
    version = VERSION if row is None else row[0]
    if version > VERSION:
        raise StoreTooNew(
            f"The queues in schema '{schema}' were written by a newer version of agentq_nb (tables {version}, here "
            f"{VERSION}). Nothing was changed. Update agentq_nb on this machine."
        )
    for older in range(version, VERSION):
        await tx.ask(_MIGRATIONS[older])
    if version < VERSION:
        await tx.ask("update agentq.version set version = %(version)s", version=VERSION)


def _statements(file: str) -> Iterator[str]:
    text = resources.files("agentq_nb._brokers.postgres").joinpath(file).read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    statement = ""
    for part in "\n".join(lines).split(";\n"):
        statement += f"{part};\n"
        if statement.count("$$") % 2 == 0 and part.strip():  # not within the body of a function
            yield statement
            statement = ""
