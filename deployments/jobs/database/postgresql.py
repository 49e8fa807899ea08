"""Everything that is particular to PostgreSQL."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime

from sqlalchemy import URL, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deployments.jobs.database.backend import UnfitDatabaseError

DRIVER = "postgresql+asyncpg"
MINIMUM_VERSION = 14
POOL_SIZE = 10
MAX_OVERFLOW = 10
CONNECT_TIMEOUT_SECONDS = 10.0

_UPGRADE_LOCK = 0x43594245  # any number that no other program takes for an advisory lock of this database

# Another transaction was in the way (two would have waited for each other, or both added the same row), or the
# server was stopped or is starting: the next attempt finds a new state of things.
_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED, _UNIQUE_VIOLATION = "40001", "40P01", "23505"
_IN_THE_WAY = {_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED, _UNIQUE_VIOLATION}
_CONNECTION_LOST = ("08", "57P")
_PLAN_IS_OUTDATED = "InvalidCachedStatementError"  # another process has upgraded the schema


class PostgresqlBackend:
    """A server, which several processes on several machines may use at once."""

    def __init__(self, url: URL) -> None:
        if url.drivername != DRIVER:
            raise UnfitDatabaseError(f"a URL of PostgreSQL begins with {DRIVER}://")
        self._address = f"{url.host or 'localhost'}:{url.port or 5432}"
        self.writers = create_async_engine(
            url,
            hide_parameters=True,
            pool_size=POOL_SIZE,
            max_overflow=MAX_OVERFLOW,
            pool_pre_ping=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                # Each statement is a matter of milliseconds: compiling it would take longer.
                "server_settings": {"application_name": "cyberimage", "jit": "off"},
            },
        )
        self.readers = self.writers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.writer_turn: AbstractAsyncContextManager[None] = nullcontext()

    async def now(self, connection: AsyncConnection) -> datetime:
        """Return the server's time: hosts' clocks differ, and leases are compared with each other."""
        time: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        return time

    async def begin_upgrade(self, connection: AsyncConnection) -> None:
        """Take the lock of upgrades, on a server that is new enough."""
        found = (await connection.execute(select(func.current_setting("server_version")))).scalar_one()
        if int(found.split(".")[0]) < MINIMUM_VERSION:
            raise UnfitDatabaseError(f"its server is PostgreSQL {found}; version {MINIMUM_VERSION} or later is needed")
        await connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))

    def may_pass(self, error: Exception) -> bool:
        """Whether another transaction was in the way, or the connection was lost."""
        if not isinstance(error, DBAPIError):
            return isinstance(error, OSError)
        state = getattr(error.orig, "sqlstate", None) or ""
        return (
            error.connection_invalidated
            or state in _IN_THE_WAY
            or state.startswith(_CONNECTION_LOST)
            or type(error.orig).__name__ == _PLAN_IS_OUTDATED
        )

    def reason(self, error: BaseException) -> str:
        """Return the server's words, or say that it does not answer."""
        if isinstance(error, TimeoutError):
            return f"{self._address} does not answer"
        if isinstance(error, OSError):
            return f"{self._address} cannot be reached: {error}"
        # The dialect puts its own class names before the driver's message.
        return str(error.__cause__ or error) or type(error).__name__
