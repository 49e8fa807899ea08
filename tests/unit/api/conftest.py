"""What several tests of the API need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api_service import WIDE_CATALOG, ApiService, api_service
from tests.support.protected_service import Protected


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ApiService]:
    """A service with the built-in model."""
    async with api_service(tmp_path) as service:
        yield service


@pytest.fixture
async def wide_service(tmp_path: Path) -> AsyncIterator[ApiService]:
    """A service with a model of many settings, and one of few."""
    async with api_service(tmp_path, WIDE_CATALOG) as service:
        yield service


@pytest.fixture
async def protected(tmp_path: Path) -> AsyncIterator[Protected]:
    """A service that asks for API keys, and asks the tracker about them each time."""
    async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
        yield Protected(service)
