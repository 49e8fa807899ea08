"""Decides how many replicas each model gets, where there are fewer GPUs than the models want."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ROUNDING = 1e-6  # of sums of fractions of a GPU


@dataclass(frozen=True)
class Demand:
    """A model's replicas, jobs and limits.

    Attributes:
        requests: Jobs at work in its replicas, and those that wait for one.
        target: Replicas that it was given, those that still start included.
        running: Replicas that are ready.
        least: Fewest replicas; they are never taken away.
        most: Most replicas.
        gpus: GPUs of each replica, 0 for a model on the CPU.
        requests_per_replica: Jobs of a replica above which another one is wanted.
        upscale_delay_s: Seconds of more work before another replica is started; the first one comes at once.
        downscale_delay_s: Seconds of less work before a replica stops whose GPU no other model waits for.
        downscale_to_zero_delay_s: As downscale_delay_s, for the last replica.
    """

    requests: float
    target: int
    running: int
    least: int
    most: int
    gpus: float
    requests_per_replica: float
    upscale_delay_s: float
    downscale_delay_s: float
    downscale_to_zero_delay_s: float

    @property
    def has_work(self) -> bool:
        """Whether there are jobs."""
        return self.requests > 0

    @property
    def wanted(self) -> int:
        """Replicas that the jobs want; as long as none runs, one will do."""
        by_work = math.ceil(self.requests / self.requests_per_replica)
        return max(self.least, min(self.most, by_work if self.running else min(1, by_work)))


class GpuTurns:
    """Grants GPUs to models by demand, in turns where there are too few.

    A model with jobs keeps its GPU for its residency, from when it is ready: ``residency_s``, or as long as it took to
    get ready where that is more, so that no more time goes by with loading than with work. After it, the model that has
    waited longest is next. A replica without jobs is given up at once when another model waits for its GPU, and
    otherwise only after the model's own delays. The least replicas of each model are never taken away.

    No model is given a GPU that another one has waited for longer, so on one GPU each of n models has its turn after at
    most n - 1 residencies and n changes, each of them a last batch that ends and weights that are loaded.

    Args:
        residency_s: Seconds for which a model with jobs keeps its GPU.
        longest_residency_s: Where getting ready took longer than this, it counts as this. A model that is not ready
            after so many seconds no longer holds up others: it may be one that the cluster has no place for.
    """

    def __init__(self, residency_s: float, longest_residency_s: float) -> None:
        self._residency_s = residency_s
        self._longest_residency_s = longest_residency_s
        self._turns: dict[str, _Turn] = {}

    def replicas(self, demands: Mapping[str, Demand], gpus: float, now: float) -> dict[str, int]:
        """Return how many replicas each model is to have.

        To be called again and again, with the targets that came of the call before. A GPU is one that a replica can
        have for itself or share; which machine it is in does not count.

        Args:
            demands: Of each model, by its id.
            gpus: GPUs of the cluster.
            now: Seconds, of a clock that does not fall.
        """
        self._turns = {model_id: self._turns.get(model_id, _Turn()) for model_id in demands}
        for model_id, demand in demands.items():
            self._turns[model_id].note(demand, now)
        kept = {model_id: self._turns[model_id].kept(demand, now) for model_id, demand in demands.items()}
        shared = _in_need_of_turns(demands, gpus)
        granted = kept | dict.fromkeys(shared, 0)
        room = _Room(gpus)
        is_anyone_passed_over = False
        for claim in sorted(claim for key in shared for claim in self._claims(key, demands[key], kept[key], now)):
            if is_anyone_passed_over and not claim.is_held:
                continue
            if claim.is_overdue or room.take(demands[claim.model_id].gpus) or claim.rank == _LEAST:
                granted[claim.model_id] += 1
            elif claim.rank == _WAITING:
                is_anyone_passed_over = True
        return granted

    def _claims(self, model_id: str, demand: Demand, kept: int, now: float) -> Iterator[_Claim]:
        turn = self._turns[model_id]
        for index in range(kept):
            is_held = index < demand.target
            if index < demand.least:
                rank, order = _LEAST, 0.0
            elif index >= demand.wanted:
                rank, order = _IDLE, -turn.less_since
            elif index > 0:
                rank, order = _FURTHER, 0.0 if is_held else 1.0
            elif not is_held:
                rank, order = _WAITING, turn.waiting_since
            elif turn.residency_left(self._residency_s, self._longest_residency_s, now) > 0:
                rank, order = _RESIDENT, turn.given_at
            else:
                rank, order = _SETTLED, -turn.given_at
            is_overdue = is_held and turn.ready_at == _NEVER and now - turn.given_at > self._longest_residency_s
            yield _Claim(rank, order, index, model_id, is_held, is_overdue)


# The order in which replicas get their GPUs: those that are never taken, the first one of a model within its residency,
# of one that waits, and of one whose residency is over; then further ones, and those without jobs.
_LEAST, _RESIDENT, _WAITING, _SETTLED, _FURTHER, _IDLE = range(6)
_NEVER = math.inf


@dataclass(frozen=True, order=True)
class _Claim:
    """One replica of a model, wanted or there."""

    rank: int
    order: float
    index: int
    model_id: str
    is_held: bool
    is_overdue: bool


@dataclass
class _Turn:
    """Since when a model is in each state; never, where it is not."""

    waiting_since: float = _NEVER
    given_at: float = _NEVER
    ready_at: float = _NEVER
    less_since: float = _NEVER
    more_since: float = _NEVER

    def note(self, demand: Demand, now: float) -> None:
        has_none = demand.target == 0
        self.waiting_since = min(self.waiting_since, now) if has_none and demand.has_work else _NEVER
        self.given_at = _NEVER if has_none else min(self.given_at, now)
        self.ready_at = _NEVER if has_none else min(self.ready_at, now if demand.running else _NEVER)
        self.less_since = min(self.less_since, now) if demand.wanted < demand.target else _NEVER
        self.more_since = min(self.more_since, now) if demand.wanted > demand.target > 0 else _NEVER

    def kept(self, demand: Demand, now: float) -> int:
        """Return how many replicas the model's own delays leave it, were it alone."""
        wanted, target = demand.wanted, demand.target
        if wanted >= target:
            return wanted if target == 0 or now - self.more_since >= demand.upscale_delay_s else target
        spare_for = now - self.less_since
        if target > 1 and spare_for < demand.downscale_delay_s:
            return target
        return wanted if spare_for >= demand.downscale_to_zero_delay_s else max(1, wanted)

    def residency_left(self, residency_s: float, longest_residency_s: float, now: float) -> float:
        """Return for how many seconds the model keeps its first replica, as long as it has jobs."""
        if self.ready_at == _NEVER:
            return math.inf
        length = max(residency_s, min(longest_residency_s, self.ready_at - self.given_at))
        return self.ready_at + length - now


class _Room:
    """The free share of each GPU."""

    def __init__(self, gpus: float) -> None:
        self._free = [1.0] * int(gpus)

    def take(self, need: float) -> bool:
        """Take as many GPUs, or a fraction of the fullest one that has it; False where there is no room."""
        if need < 1:
            fitting = [index for index, free in enumerate(self._free) if free >= need - _ROUNDING]
            if not fitting:
                return False
            self._free[min(fitting, key=self._free.__getitem__)] -= need
            return True
        whole = [index for index, free in enumerate(self._free) if free >= 1 - _ROUNDING][: int(need)]
        if len(whole) < need:
            return False
        for index in whole:
            self._free[index] = 0.0
        return True


def _in_need_of_turns(demands: Mapping[str, Demand], gpus: float) -> list[str]:
    """Models that compete for GPUs: not those on the CPU, nor those that the cluster can never have room for.

    The latter are left to Ray, which reports to its operator, or its autoscaler, what is missing.
    """
    found = []
    for model_id, demand in demands.items():
        room = _Room(gpus)
        for other_id, other in demands.items():
            for _ in range(other.least if other.gpus and other_id != model_id else 0):
                room.take(other.gpus)
        if demand.gpus and room.take(demand.gpus):
            found.append(model_id)
    return found
