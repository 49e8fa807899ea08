"""Upserts: rows that are updated where they exist, and inserted where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Insert = postgresql.Insert | sqlite.Insert


def upsert(connection: AsyncConnection, table: Table) -> Insert:
    """Return an INSERT to which an ON CONFLICT clause can be added, in the database's dialect."""
    return _insert(connection.dialect.name, table)


async def add_counts(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Add numbers to those of the rows with the same primary keys; a row that does not exist begins with them.

    Args:
        connection: Of the transaction.
        table: All of its columns are keys or numbers.
        rows: A value for each column; in an order that all who call this share, so that nobody waits in a ring.
    """
    if rows:
        await connection.execute(_addition(connection.dialect.name, table), rows)


def _insert(dialect: str, table: Table) -> Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def _addition(dialect: str, table: Table) -> Insert:
    # A statement for one row, executed for each: one with all rows would have to be compiled for every number of them.
    added = _insert(dialect, table)
    keys = list(table.primary_key)
    numbers = [column for column in table.columns if column not in keys]
    return added.on_conflict_do_update(
        index_elements=keys, set_={column.name: column + added.excluded[column.name] for column in numbers}
    )
