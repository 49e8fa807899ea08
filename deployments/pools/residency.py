"""Residency: which model of a pool comes to the device next, and which one leaves for it.

Models come in by the age of their oldest waiting job, so each has its turn; the least recently used leaves, and none
while one of its jobs is at work. All of it is bookkeeping: :mod:`deployments.pools.pool` does what is decided here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from deployments.errors import CyberImageError


class NoRoomError(CyberImageError):
    """There is not enough GPU memory for the model's weights."""


class Place(StrEnum):
    """Where the weights of a model are."""

    UNLOADED = "unloaded"
    PARKED = "parked"
    RESIDENT = "resident"
    FAILED = "failed"


class MoveKind(StrEnum):
    """What a move does with a model's weights."""

    LOAD = "load"
    BRING_IN = "bring_in"
    PARK = "park"
    DROP = "drop"


_PLACE_AFTER = {
    MoveKind.LOAD: Place.PARKED,
    MoveKind.BRING_IN: Place.RESIDENT,
    MoveKind.PARK: Place.PARKED,
    MoveKind.DROP: Place.UNLOADED,
}


@dataclass(frozen=True)
class Move:
    """The next move, and its model."""

    kind: MoveKind
    model_id: str


@dataclass(eq=False)
class Ticket:
    """A job that waits for its model, or uses it.

    Attributes:
        model_id: Its model.
        arrived: When it came.
    """

    model_id: str
    arrived: float


@dataclass
class Tenant:
    """A model of the pool.

    Attributes:
        place: Where its weights are.
        size: Of its weights, in bytes; 0 until it was loaded once.
        waiting: Jobs that wait for it, the oldest first.
        at_work: Jobs that use it.
        brought_in: When it was brought onto the device.
        last_used: When a job last used it.
    """

    place: Place = Place.UNLOADED
    size: int = 0
    waiting: deque[Ticket] = field(default_factory=deque)
    at_work: int = 0
    brought_in: float = 0.0
    last_used: float = 0.0

    @property
    def has_work(self) -> bool:
        """Whether any job waits for it or uses it."""
        return bool(self.waiting or self.at_work)


class Residency:
    """Decides which models are on the device.

    A model that was brought in keeps its place for ``residency_seconds`` while it has work. As soon as another one then
    needs its place, it begins no job that is younger than the one that waits, and leaves when those at work are done.
    So the model whose job has waited longest waits no longer than that, the jobs at work and the moves take. While a
    model is loaded from the disk, no job is at work, as diffusers and transformers then change defaults of the process.

    Args:
        model_ids: The pool's models.
        memory: Most bytes of weights on the device; None for no limit.
        parked_memory: Most bytes of weights in main memory, those on the device included; None for no limit. Only what
            is parked makes room, so one model may always be loaded.
        residency_seconds: See above.
        clock: Gives the time in seconds; it never goes back.
    """

    def __init__(
        self,
        model_ids: Iterable[str],
        memory: int | None,
        parked_memory: int | None,
        residency_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.tenants = {model_id: Tenant() for model_id in model_ids}
        self.memory = memory
        self._room = math.inf if memory is None else memory
        self._parked_memory = parked_memory
        self._residency_seconds = residency_seconds
        self._clock = clock
        self._moving: Move | None = None

    def bytes_in(self, place: Place) -> int:
        """Weights in a place, in bytes."""
        return sum(tenant.size for tenant in self.tenants.values() if tenant.place is place)

    def wait_for(self, model_id: str) -> Ticket:
        """Queue a job for its model."""
        ticket = Ticket(model_id, self._clock())
        self.tenants[model_id].waiting.append(ticket)
        return ticket

    def give_up(self, ticket: Ticket) -> None:
        """Remove a job that still waits."""
        self.tenants[ticket.model_id].waiting.remove(ticket)

    def leave(self, model_id: str) -> None:
        """Note that a job of a model is done with it."""
        tenant = self.tenants[model_id]
        tenant.at_work -= 1
        tenant.last_used = self._clock()

    def admit(self) -> list[Ticket]:
        """Admit jobs to their models, and return them: those of models on the device that need not make way.

        Those of a model that failed are among them, as they need not wait for their error.
        """
        admitted: list[Ticket] = []
        barred = self._barred()
        for model_id, tenant in self.tenants.items():
            if tenant.place in (Place.RESIDENT, Place.FAILED):
                latest = math.inf if tenant.place is Place.FAILED else barred.get(model_id, math.inf)
                while tenant.waiting and tenant.waiting[0].arrived <= latest:
                    admitted.append(tenant.waiting.popleft())
                    tenant.at_work += 1
        return admitted

    def next_move(self) -> Move | None:
        """Choose the next move; None while one is under way, or where there is nothing to do.

        That changes when a job comes or goes or a move is done, and never by time alone.
        """
        if self._moving is not None:
            return None
        self._moving = self._choose()
        return self._moving

    def note_done(self, move: Move, size: int | None = None) -> None:
        """Note that a move was made.

        Args:
            move: From :meth:`next_move`.
            size: Of the weights in bytes, where they were loaded.
        """
        self._moving = None
        tenant = self.tenants[move.model_id]
        tenant.place = _PLACE_AFTER[move.kind]
        tenant.size = tenant.size if size is None else size
        if move.kind is MoveKind.BRING_IN:
            tenant.brought_in = tenant.last_used = self._clock()

    def note_no_room(self, move: Move) -> bool:
        """Note that a model could not be brought in beside those on the device: so much does not fit.

        Returns:
            Whether there are any that can make room for it.
        """
        resident = self.bytes_in(Place.RESIDENT)
        if not resident:
            return False
        self._moving = None
        self._room = resident + self.tenants[move.model_id].size - 1
        return True

    def note_failed(self, move: Move) -> None:
        """Note that a move could not be made: the model is not tried again."""
        self._moving = None
        self.tenants[move.model_id].place = Place.FAILED

    def _choose(self) -> Move | None:
        wanted = self._wanted()
        too_much = self._to_drop(wanted)
        if too_much is not None:
            return Move(MoveKind.DROP, too_much)
        if wanted is None:
            return None
        in_the_way = self._in_the_way(wanted)
        if any(self.tenants[each].at_work for each in in_the_way):
            return None
        if self.tenants[wanted].place is Place.UNLOADED:
            return Move(MoveKind.LOAD, wanted)
        return Move(MoveKind.PARK, in_the_way[0]) if in_the_way else Move(MoveKind.BRING_IN, wanted)

    def _wanted(self) -> str | None:
        """The model that comes in next: the one whose oldest job has waited longest."""
        outside = {
            model_id: tenant.waiting[0].arrived
            for model_id, tenant in self.tenants.items()
            if tenant.waiting and tenant.place in (Place.UNLOADED, Place.PARKED)
        }
        return min(outside, key=lambda model_id: outside[model_id], default=None)

    def _in_the_way(self, wanted: str) -> list[str]:
        """The models on the device that must rest while another is loaded, or leave so that it has room to come in."""
        on_device = [model_id for model_id, tenant in self.tenants.items() if tenant.place is Place.RESIDENT]
        if self.tenants[wanted].place is Place.UNLOADED:
            return on_device
        missing = self.tenants[wanted].size + self.bytes_in(Place.RESIDENT) - self._room
        leaving: list[str] = []
        for model_id in sorted(on_device, key=self._who_leaves_first):
            if missing > self._bytes_of(leaving):
                leaving.append(model_id)
        for model_id in list(leaving):  # one that leaves later may be large enough by itself
            if missing <= self._bytes_of(leaving) - self.tenants[model_id].size:
                leaving.remove(model_id)
        return leaving

    def _bytes_of(self, model_ids: Iterable[str]) -> int:
        return sum(self.tenants[model_id].size for model_id in model_ids)

    def _who_leaves_first(self, model_id: str) -> tuple[bool, float]:
        """Idle ones, the longest unused first; then those with work, the longest in their place first."""
        tenant = self.tenants[model_id]
        return (True, tenant.brought_in) if tenant.has_work else (False, tenant.last_used)

    def _residency_ends(self, model_ids: Iterable[str]) -> float:
        """When the last of these has had its time; those without work need none."""
        tenants = [self.tenants[model_id] for model_id in model_ids]
        return max(
            (tenant.brought_in + self._residency_seconds for tenant in tenants if tenant.has_work), default=-math.inf
        )

    def _barred(self) -> dict[str, float]:
        """The models that must make way, each with when a job must have come at the latest to have it before.

        Those that a move needs take no job at all; those in the way of another one, whose time is over, take the jobs
        that are older than its own.
        """
        if self._moving is not None and self._moving.kind is MoveKind.LOAD:
            return dict.fromkeys(self.tenants, -math.inf)
        barred: dict[str, float] = {}
        wanted = self._wanted()
        if wanted is not None:
            in_the_way = self._in_the_way(wanted)
            if self._residency_ends(in_the_way) <= self._clock():
                barred = dict.fromkeys(in_the_way, self.tenants[wanted].waiting[0].arrived)
        return barred if self._moving is None else {**barred, self._moving.model_id: -math.inf}

    def _to_drop(self, wanted: str | None) -> str | None:
        """A parked model that must go, as there is too much in main memory, or will be with the one that comes."""
        if self._parked_memory is None:
            return None
        coming = self.tenants[wanted].size if wanted and self.tenants[wanted].place is Place.UNLOADED else 0
        if self.bytes_in(Place.PARKED) + self.bytes_in(Place.RESIDENT) + coming <= self._parked_memory:
            return None
        parked = [
            model_id for model_id, tenant in self.tenants.items() if tenant.place is Place.PARKED and model_id != wanted
        ]
        return min(parked, key=self._who_leaves_first, default=None)
