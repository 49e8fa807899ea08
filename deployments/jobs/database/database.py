"""The connection to the job database: transactions, and errors in one line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import TypeVar

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from deployments.jobs.database.backend import Backend, UnfitDatabaseError
from deployments.jobs.database.postgresql import PostgresqlBackend
from deployments.jobs.database.sqlite import SqliteBackend
from deployments.jobs.records.exceptions import StoreUnavailableError

Result = TypeVar("Result")
Work = Callable[[AsyncConnection], Awaitable[Result]]

# A defect of ours, not a state of the database.
REFUSED_ROWS = (IntegrityError, DataError)

# Some three seconds in all: as long as a server takes to restart.
ATTEMPTS = 9
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0

_BACKENDS: dict[str, Callable[[URL], Backend]] = {"sqlite": SqliteBackend, "postgresql": PostgresqlBackend}


class Database:
    """A database whose transactions either commit as a whole or raise.

    A transaction that another one was in the way of, or whose connection was lost, is repeated. So are attempts to
    reach a server that has answered before.

    Args:
        url: An SQLAlchemy URL: ``sqlite+aiosqlite:////var/lib/cyberimage/jobs.db`` or
            ``postgresql+asyncpg://user:password@host/database``.

    Raises:
        StoreUnavailableError: The URL cannot be read, or it is of another kind of database or driver.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            # What was wrong is part of the URL, and may be part of its password.
            raise StoreUnavailableError("The URL of the job database cannot be read.") from None
        self.name = parsed.set(query={}).render_as_string(hide_password=True)
        kind = _BACKENDS.get(parsed.get_backend_name())
        if kind is None:
            raise StoreUnavailableError.because(self.name, "it is neither SQLite nor PostgreSQL")
        try:
            self._backend = kind(parsed)
        except (SQLAlchemyError, ImportError, UnfitDatabaseError) as error:
            raise StoreUnavailableError.because(self.name, error) from error
        self._has_answered = False

    async def read(self, work: Work[Result]) -> Result:
        """Do what only reads, in a transaction that sees one snapshot."""
        return await self._repeat(self._backend.readers, nullcontext(), work)

    async def write(self, work: Work[Result]) -> Result:
        """Do what may write, in a transaction; it may be done several times, of which only the last one counts."""
        return await self._repeat(self._backend.writers, self._backend.writer_turn, work)

    async def upgrade(self, work: Work[Result]) -> Result:
        """Do what changes the schema: as :meth:`write`, and one at a time among all who use the database."""

        async def alone(connection: AsyncConnection) -> Result:
            await self._backend.begin_upgrade(connection)
            return await work(connection)

        return await self.write(alone)

    async def now(self, connection: AsyncConnection) -> datetime:
        """Return the time, aware, by a clock that all who use this database share."""
        return await self._backend.now(connection)

    async def close(self) -> None:
        """Close every connection; a later transaction would open new ones."""
        await self._backend.readers.dispose()

    async def _repeat(self, engine: AsyncEngine, turn: AbstractAsyncContextManager[None], work: Work[Result]) -> Result:
        attempts = AsyncRetrying(
            retry=retry_if_exception(self._may_pass),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(
                multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS, jitter=FIRST_PAUSE_SECONDS
            ),
            reraise=True,
        )
        try:
            return await attempts(self._once, engine, turn, work)
        except REFUSED_ROWS:
            raise
        except DBAPIError as error:
            reason = self._backend.reason(error.orig or error)
            raise StoreUnavailableError.because(self.name, reason) from error
        except OSError as error:
            raise StoreUnavailableError.because(self.name, self._backend.reason(error)) from error
        except (PoolTimeoutError, UnfitDatabaseError) as error:
            raise StoreUnavailableError.because(self.name, error) from error

    async def _once(self, engine: AsyncEngine, turn: AbstractAsyncContextManager[None], work: Work[Result]) -> Result:
        async with turn, engine.begin() as connection:
            self._has_answered = True
            return await work(connection)

    def _may_pass(self, error: BaseException) -> bool:
        return self._has_answered and isinstance(error, Exception) and self._backend.may_pass(error)
