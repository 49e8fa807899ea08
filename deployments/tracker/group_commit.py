"""Group commit: the work of many callers in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from deployments.telemetry.logs import about_nobody

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Item, Answer]):
    """Items that come while a round of work is under way go together in the next one: the "group commit" of databases.

    So a busy service does several times as much, and an idle one waits for nothing.

    Args:
        work: Does one round: returns an answer for each item, in their order, or raises the error that all of them get.
        most_together: Items of a round.
        apart: Errors that are a single item's: a round that raises one is done again, each item alone.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        most_together: int,
        apart: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._most_together = most_together
        self._apart = apart
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def do(self, item: Item) -> Answer:
        """Do an item, together with others, and return its answer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._work_while_any(), context=about_nobody())
        return await answer

    async def _work_while_any(self) -> None:
        try:
            while self._waiting:
                together = self._waiting[: self._most_together]
                del self._waiting[: len(together)]
                await self._round(together)
        finally:
            self._rounds = None

    async def _round(self, together: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        # A caller that was cancelled while it waited gets no answer.
        try:
            answers = await self._work([item for item, _ in together])
        except Exception as error:
            if isinstance(error, self._apart) and len(together) > 1:
                for alone in together:
                    await self._round([alone])
                return
            for _, future in together:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(together, answers, strict=True):
            if not future.done():
                future.set_result(answer)
