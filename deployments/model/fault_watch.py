"""Ends the process of a replica that can make no more images.

Ray Serve replaces a replica whose process has ended at once, and the jobs that it had go elsewhere. One that fails its
health checks is replaced after the third, some 30 seconds later, and would meanwhile fail every job that it is given.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from deployments.background import TaskSet
from deployments.errors import CyberImageError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_LONGEST_GOODBYE_SECONDS = 5.0
_EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h


async def end_after_fault(
    check_health: Callable[[], None],
    work: TaskSet,
    end: Callable[[int], object] = os._exit,
    *,
    look_seconds: float = _LOOK_SECONDS,
) -> None:
    """Wait until a health check fails, let the jobs record how they ended, and end the process.

    Its other threads are not waited for: with a failed device, they may hang.

    Args:
        check_health: Raises if the replica can make no more images.
        work: The jobs that run.
        end: Ends the process, given its exit status.
        look_seconds: Between two health checks.
    """
    while True:
        try:
            check_health()
        except CyberImageError as error:
            logger.critical("The replica's process ends, for Ray Serve to start another one: %s", error)
            await work.wait(_LONGEST_GOODBYE_SECONDS)
            end(_EXIT_STATUS)
            return
        await asyncio.sleep(look_seconds)
