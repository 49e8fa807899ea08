"""Everything that is particular to SQLite."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 30_000

PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",  # first: the next one already needs the lock
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # in WAL mode the default may lose the newest commits at a power cut
    "PRAGMA foreign_keys = ON",
)

_WRITES = "cyberimage_writes"  # execution option of a connection whose transactions will write


class SqliteBackend:
    """A file of this machine: durable, patient and strict; its writers take the lock when they begin."""

    def __init__(self, url: URL) -> None:
        self.readers = create_async_engine(url, hide_parameters=True)
        self.writers = self.readers.execution_options(**{_WRITES: True})
        # SQLite has one writer: waiting in line here is fair, while its own busy handler sleeps and tries again.
        self.writer_turn: AbstractAsyncContextManager[None] = asyncio.Lock()
        _set_up(self.readers)

    async def now(self, connection: AsyncConnection) -> datetime:
        """Return the time of this machine: whoever opens the file is on it."""
        return datetime.now(UTC)

    async def begin_upgrade(self, connection: AsyncConnection) -> None:
        """Do nothing: a transaction that writes excludes every other one."""

    def may_pass(self, error: Exception) -> bool:
        """Return False: the busy handler has already waited."""
        return False

    def reason(self, error: BaseException) -> str:
        """Return SQLite's own words."""
        return str(error) or type(error).__name__


def _set_up(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver opens no transaction of its own
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes cannot wait for the lock (SQLITE_BUSY_SNAPSHOT): writers
        # take it before they read.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
