"""Everything that is particular to SQLite."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

WRITES = "cyberimage_writes"
"""Execution option of a connection whose transactions will write."""

BUSY_TIMEOUT_MS = 30_000

PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",  # first: the next one already needs the lock
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # in WAL mode the default may lose the newest commits at a power cut
    "PRAGMA foreign_keys = ON",
)


def configure(engine: AsyncEngine) -> None:
    """Make an engine of SQLite durable, patient and strict, and its writers take the lock when they begin."""

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver opens no transaction of its own
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes cannot wait for the lock (SQLITE_BUSY_SNAPSHOT): writers
        # take it before they read.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
