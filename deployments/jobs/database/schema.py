"""Brings a job database to the schema of this version."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.database import Database
from deployments.jobs.records.exceptions import StoreUnavailableError

MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(url: str, revision: str = "head") -> None:
    """Upgrade the database at ``url``; harmless when it is there already, or under way elsewhere.

    Args:
        url: An SQLAlchemy URL with an async driver.
        revision: The schema to upgrade to: ``head``, the newest one, or the number of an earlier one.

    Raises:
        StoreUnavailableError: The database is missing, read-only, damaged, or of a newer version of CyberImage.
    """
    database = Database(url)
    try:
        await upgrade(database, revision)
    finally:
        await database.close()


async def upgrade(database: Database, revision: str = "head") -> None:
    """As :func:`migrate`, for a database that stays open."""

    async def work(connection: AsyncConnection) -> None:
        if not await connection.run_sync(_is_current, database.name):
            await connection.run_sync(_upgrade, revision)

    # A second process waits, and finds the work done.
    await database.upgrade(work)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def _migrations() -> ScriptDirectory:
    """It compiles and runs every migration's file."""
    return ScriptDirectory.from_config(_config())


def _is_current(connection: Connection, name: str) -> bool:
    script = _migrations()
    found = MigrationContext.configure(connection).get_current_heads()
    for revision in found:
        try:
            script.get_revision(revision)
        except CommandError as error:
            reason = f"its schema ({revision}) is newer than this version of CyberImage"
            raise StoreUnavailableError.because(name, reason) from error
    return set(found) == set(script.get_heads())


def _upgrade(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
