"""Work that runs beside the requests: tasks that nobody awaits, and what is done at intervals for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class TaskSet:
    """Holds running tasks until they end: the event loop itself holds only weak references to them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run a coroutine as a task of the running event loop."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, seconds: float) -> None:
        """Wait until the tasks that run now have ended, for at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        """Cancel all tasks, and wait for their ends."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def repeat_forever(  # noqa: PLR0913 - how it is logged belongs to it
    work: Callable[[], Awaitable[object]],
    pause_seconds: float,
    logger: logging.Logger,
    failure: str,
    *,
    level: int = logging.ERROR,
    pause_after_failure: float | None = None,
) -> None:
    """Do something, pause, and do it again, until cancelled; a failure is logged with its traceback.

    Args:
        work: What to do.
        pause_seconds: Between an end and the next beginning.
        logger: Where to log failures.
        failure: What a failure means, for the log: "Metrics could not be gathered".
        level: Of the log record.
        pause_after_failure: The pause after a failure, in seconds; None: the usual one.
    """
    while True:
        pause = pause_seconds
        try:
            await work()
        except Exception:
            logger.log(level, "%s; it will be tried again", failure, exc_info=True)
            pause = pause_seconds if pause_after_failure is None else pause_after_failure
        await asyncio.sleep(pause)
