"""What several tests of the job store need."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.jobs.store import JobStore
from deployments.telemetry.logs import OWN_LOGGERS, close_logs
from tests.support.job_databases import JobDatabases, PostgresqlDatabases, SqliteFiles
from tests.support.job_samples import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock that only moves when it is told to."""
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobDatabases]:
    """New databases, of each kind in turn."""
    if request.param == "sqlite":
        made: JobDatabases = SqliteFiles(tmp_path)
    else:
        made = PostgresqlDatabases(request.getfixturevalue("postgresql"))
    yield made
    made.remove()


@pytest.fixture
def database_url(databases: JobDatabases) -> str:
    """The URL of a job database without jobs, of each kind in turn."""
    return databases.create()


@pytest.fixture
async def store(database_url, clock):
    """An empty store, on each kind of database in turn."""
    store = await JobStore.open(database_url, clock)
    yield store
    await store.close()


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Whatever a test configures of the logs is taken back."""
    loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
    before = [(list(each.handlers), each.level, each.propagate) for each in loggers]
    yield
    close_logs()
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)
