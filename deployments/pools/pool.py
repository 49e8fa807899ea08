"""A pool of models on one device: each job waits until its model is there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ByteSize

from deployments.errors import CyberImageError
from deployments.pools.residency import Move, MoveKind, NoRoomError, Residency, Ticket
from deployments.telemetry.logs import about, about_nobody

if TYPE_CHECKING:  # it imports torch
    from deployments.pools.parked_model import ParkedModel


logger = logging.getLogger(__name__)


class PoolMemoryError(CyberImageError):
    """The model is larger than the pool's memory."""


@dataclass(frozen=True)
class Moved(Move):
    """A move that was made, or could not be.

    Attributes:
        seconds: How long it took.
        failure: Why it could not be done; empty if it could.
    """

    seconds: float
    failure: str = ""


class ModelPool:
    """Moves models so that each job gets its own: one move at a time, and never a model that is in use.

    Args:
        name: The pool's name in the catalog.
        models: The models, by id.
        residency: Decides who is on the device; it belongs to the pool from now on.
        on_moved: Called after each move.
        around: A context manager that is entered while a move is made.
    """

    def __init__(
        self,
        name: str,
        models: Mapping[str, ParkedModel],
        residency: Residency,
        on_moved: Callable[[Moved], None] = lambda moved: None,
        around: Callable[[Move], AbstractAsyncContextManager[None]] = lambda move: nullcontext(),
    ) -> None:
        self._name = name
        self._models = models
        self._residency = residency
        self._on_moved = on_moved
        self._around = around
        self._admitted: dict[Ticket, asyncio.Event] = {}
        self._mover: asyncio.Task[None] | None = None

    async def enter(self, model_id: str) -> None:
        """Wait until a model is on the device, and keep it there until :meth:`leave`.

        A model that could not be loaded is not waited for.
        """
        ticket = self._residency.wait_for(model_id)
        admitted = self._admitted[ticket] = asyncio.Event()
        self._look()
        try:
            await admitted.wait()
        except asyncio.CancelledError:
            if self._admitted.pop(ticket, None) is None:
                self._residency.leave(model_id)
            else:
                self._residency.give_up(ticket)
            self._look()
            raise

    def leave(self, model_id: str) -> None:
        """Note that a job no longer uses its model."""
        self._residency.leave(model_id)
        self._look()

    def _look(self) -> None:
        """Admit the jobs whose models are there, and begin the next move."""
        for ticket in self._residency.admit():
            self._admitted.pop(ticket).set()
        move = self._residency.next_move()  # none while one is made
        if move is not None:
            self._mover = asyncio.create_task(self._make(move), context=about_nobody())

    async def _make(self, move: Move) -> None:
        began = time.monotonic()
        failure, size = "", None
        try:
            with about(model=move.model_id):
                async with self._around(move):
                    size = await asyncio.to_thread(self._carry_out, move)
        except Exception as error:
            if isinstance(error, NoRoomError) and self._residency.note_no_room(move):
                self._look()
                return
            failure = str(error)
            await self._give_up(move.model_id, failure)
            self._residency.note_failed(move)
        else:
            self._residency.note_done(move, size)
        self._on_moved(Moved(move.kind, move.model_id, time.monotonic() - began, failure))
        self._look()

    async def _give_up(self, model_id: str, reason: str) -> None:
        """Have a model be unavailable. After a fault of the device, freeing its memory fails too; the pool goes on."""
        try:
            await asyncio.to_thread(self._models[model_id].give_up, reason)
        except Exception:
            logger.exception("What model %s has of the device could not be freed", model_id)

    def _carry_out(self, move: Move) -> int | None:
        """Returns the weights' bytes, where they were loaded."""
        model = self._models[move.model_id]
        if move.kind is MoveKind.LOAD:
            size = model.load()
            self._require_room(size)
            return size
        {MoveKind.BRING_IN: model.bring_in, MoveKind.PARK: model.park, MoveKind.DROP: model.drop}[move.kind]()
        return None

    def _require_room(self, size: int) -> None:
        memory = self._residency.memory
        if memory is not None and size > memory:
            has, needs = ByteSize(memory).human_readable(), ByteSize(size).human_readable()
            raise PoolMemoryError(
                f"pools.{self._name}.memory: the weights take {needs}, and {has} is all that there is for them; "
                "give the pool more, or the model fewer bits (dtype, loading.quantization)."
            )
