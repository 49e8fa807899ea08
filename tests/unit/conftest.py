"""What several tests of the job store need."""

from __future__ import annotations

import pytest

from deployments.jobs.store import JobStore
from tests.unit.job_samples import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock that only moves when it is told to."""
    return Clock()


@pytest.fixture
async def store(tmp_path, clock):
    """An empty store."""
    store = await JobStore.open(f"sqlite+aiosqlite:///{tmp_path}/jobs.db", clock)
    yield store
    await store.close()
