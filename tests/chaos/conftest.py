"""One cluster for the tests that need no other: it stands a storm and starts again after all of it was killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.served import SETTINGS, ServedCluster


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedCluster]:
    """A service on an SQLite database and a local disk; a test may redeploy it with other settings."""
    cluster = ServedCluster(tmp_path_factory.mktemp("served"), SETTINGS)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
