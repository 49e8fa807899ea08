"""Retries of writes to a storage that fails for a while."""

from __future__ import annotations

import logging
from typing import Any, cast

from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from deployments.storage.base import InvalidKeyError, Storage, StorageError

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def patient(storage: Storage, patience_seconds: float) -> Storage:
    """Wrap a storage so that it retries failed writes: waiting costs less than a second denoising of the image.

    Args:
        storage: The storage to write to.
        patience_seconds: Time after which a write raises its last failure; 0: it does not retry.
    """
    return cast(Storage, _PatientStorage(storage, patience_seconds))


class _PatientStorage:
    def __init__(self, storage: Storage, patience_seconds: float) -> None:
        self._storage = storage
        self._patience_seconds = patience_seconds

    async def write(self, key: str, content: bytes) -> None:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(StorageError) & retry_if_not_exception_type(InvalidKeyError),
            wait=wait_exponential_jitter(
                multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS, jitter=FIRST_PAUSE_SECONDS
            ),
            stop=stop_after_delay(self._patience_seconds),
            before_sleep=before_sleep_log(logger, logging.WARNING),
            reraise=True,
        )
        await attempts(self._storage.write, key, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)
