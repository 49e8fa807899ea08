"""Export of all rows of a job database as lines of JSON, and import into a database of either kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import IO, Any

from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, Date, DateTime, MetaData, Table, delete, func, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.database import Database
from deployments.jobs.database.schema import upgrade
from deployments.jobs.database.tables import jobs, metadata
from deployments.jobs.records.exceptions import StoreUnavailableError

_ROWS_AT_ONCE = 500


async def write_rows(connection: AsyncConnection, file: IO[bytes]) -> str:
    """Write every row of every table as a line ``{"table": ..., "row": {...}}``, and return the schema's revision.

    Args:
        connection: In a transaction that sees one snapshot, with the newest schema.
        file: Where to.
    """
    revision = await connection.run_sync(_revision)
    for table in metadata.sorted_tables:
        async with connection.stream(select(table)) as rows:
            async for row in rows.mappings():
                line = {"table": table.name, "row": {name: _written(value) for name, value in row.items()}}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    return revision


async def read_rows(url: str, revision: str, lines: Iterable[bytes]) -> int:
    """Fill a database with what :func:`write_rows` wrote, upgrade it to the newest schema, and return the rows.

    What is in the database besides jobs, such as API keys, is replaced.

    Args:
        url: An SQLAlchemy URL with an async driver; there must be no job in the database.
        revision: What :func:`write_rows` returned.
        lines: What it wrote.

    Raises:
        StoreUnavailableError: The database cannot be used, has jobs, or has tables of another version than the rows.
    """
    await require_empty(url)
    database = Database(url)

    async def work(connection: AsyncConnection) -> int:
        if await connection.run_sync(_revision) != revision:
            raise StoreUnavailableError.because(
                database.name, "its tables are of another version than the backup's; restore into one without tables"
            )
        reflected = MetaData()
        await connection.run_sync(reflected.reflect)
        tables = {table.name: table for table in reflected.sorted_tables if table.name in metadata.tables}
        for table in reversed(tables.values()):
            await connection.execute(delete(table))
        count = 0
        for name, rows in _by_table(lines):
            await connection.execute(insert(tables[name]), [_read(tables[name], row) for row in rows])
            count += len(rows)
        if connection.dialect.name == "postgresql":
            await _advance_sequences(connection, tables.values())
        return count

    try:
        await _migrate(database, revision)
        count = await database.write(work)
        await upgrade(database)
    finally:
        await database.close()
    return count


async def require_empty(url: str) -> None:
    """Raise :class:`StoreUnavailableError` for a database that has jobs."""
    database = Database(url)

    async def work(connection: AsyncConnection) -> None:
        has_tables = await connection.run_sync(lambda sync: inspect(sync).has_table(jobs.name))
        if has_tables and await connection.scalar(select(jobs.c.id).limit(1)) is not None:
            raise StoreUnavailableError.because(database.name, "there are jobs in it; restore into an empty one")

    try:
        await database.read(work)
    finally:
        await database.close()


async def _migrate(database: Database, revision: str) -> None:
    try:
        await upgrade(database, revision)
    except CommandError as error:
        reason = f"the backup ({revision}) is of a newer version of CyberImage"
        raise StoreUnavailableError.because(database.name, reason) from error


def _revision(connection: Connection) -> str:
    return str(MigrationContext.configure(connection).get_current_revision())


def _by_table(lines: Iterable[bytes]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of one table at a time, some at a time."""
    name, rows = "", list[dict[str, Any]]()
    for line in lines:
        written = json.loads(line)
        if rows and (written["table"] != name or len(rows) == _ROWS_AT_ONCE):
            yield name, rows
            rows = []
        name = written["table"]
        rows.append(written["row"])
    if rows:
        yield name, rows


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _read(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(table, name, value) for name, value in row.items()}


def _value(table: Table, name: str, value: Any) -> Any:
    kind = table.c[name].type
    if value is None:
        return None
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value).astimezone(UTC)
    return date.fromisoformat(value) if isinstance(kind, Date) else value


async def _advance_sequences(connection: AsyncConnection, tables: Iterable[Table]) -> None:
    """The numbers were given: the server's own counters have to go on behind them."""
    for table in tables:
        column = table.autoincrement_column
        if column is None:
            continue
        sequence = await connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
        if sequence is not None:
            newest = select(func.coalesce(func.max(column), 0)).scalar_subquery()
            await connection.execute(select(func.setval(sequence, newest + 1, text("false"))))
