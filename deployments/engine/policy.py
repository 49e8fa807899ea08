"""Who is served by the next forward: the order among images, and how many of them share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import ForwardCosts, name_of
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call
from deployments.engine.stages import Stage, stage_of

AGEING = 32
"""Denoising forwards of seniority that outweigh one remaining step."""
PRIORITY_HEAD_START = 100_000
"""Denoising forwards of seniority that a priority class is worth."""


@dataclass(frozen=True)
class Group:
    """Images whose waiting calls become one forward.

    Attributes:
        generations: At least one; their calls agree.
        padded_rows: The exact number of rows that the forward must have, or None if any will do.
    """

    generations: list[Generation]
    padded_rows: int | None = None

    @property
    def calls(self) -> list[Call]:
        """What they wait for."""
        return [generation.waiting_call for generation in self.generations if generation.waiting_call is not None]


class Policy:
    """Shortest remaining work first, tempered by age, and never blocked by an image that agrees with nobody.

    An image with ``r`` steps left that came at forward ``a`` has the rank ``32 r + a``; the lowest goes first. So a
    short job overtakes long ones, but nobody is overtaken by an image that came more than ``32 r`` forwards later:
    there is no starving. A class of priority counts as a head start. (Shortest remaining processing time: Schrage,
    1968, https://doi.org/10.1287/opre.16.3.687.)

    Encoding and decoding happen between denoising forwards, and may together take as long as one of those, so that an
    image that runs is never held up by more than a step.

    Args:
        costs: What forwards take.
        groups: Which calls may share a forward, as far as has been tried.
        max_batch: Images that share a forward at most. Those without guidance, which have half the rows where others
            have guidance, count half.
        exact_rows: Rows of every denoising forward that a deterministic image is in.

    Attributes:
        denoising_forwards: How many there have been.
        inexact: Names of calls whose results depend on their company even where the number of rows is fixed.
    """

    def __init__(self, costs: ForwardCosts, groups: CheckedGroups, max_batch: int, exact_rows: int) -> None:
        self._costs = costs
        self._max_batch = max_batch
        self._exact_rows = exact_rows
        self._widest_calls: dict[str, int] = {}
        self._step_seconds = 0.0
        self._aside_seconds = 0.0
        self.denoising_forwards = 0
        self._groups = groups
        self.inexact: set[str] = set()

    @property
    def most_rows(self) -> int:
        """Rows of the widest forward there may be; classifier-free guidance has two for each image."""
        return 2 * self._max_batch

    def choose(self, waiting: Sequence[Generation]) -> Group | None:
        """The next forward, or None if nobody waits.

        Args:
            waiting: Images with a waiting call.
        """
        ranked = sorted(waiting, key=_rank)
        denoising = [generation for generation in ranked if _stage(generation) is Stage.DENOISING]
        aside = self._choose_aside([generation for generation in ranked if generation not in denoising])
        if aside is not None and (not denoising or self._may_step_aside(aside)):
            return aside
        return self._group(denoising) if denoising else None

    def note(self, calls: Sequence[Call], padded_rows: int | None, seconds: float) -> None:
        """Take note of a forward that ran, and of what it cost."""
        self._costs.note(name_of(calls[0]), padded_rows or sum(call.rows for call in calls), seconds)
        if stage_of(calls[0].target) is Stage.DENOISING:
            self.denoising_forwards += 1
            self._step_seconds = seconds
            self._aside_seconds = 0.0
        else:
            self._aside_seconds += seconds

    def _choose_aside(self, waiting: list[Generation]) -> Group | None:
        """Encoding first: it is short, and lets an image join the next step."""
        encoding = [generation for generation in waiting if _stage(generation) is Stage.ENCODING]
        chosen = encoding or waiting
        return self._group(chosen) if chosen else None

    def _may_step_aside(self, group: Group) -> bool:
        rows = sum(call.rows for call in group.calls)
        expected = self._costs.expected(name_of(group.calls[0]), rows)
        return not self._aside_seconds or self._aside_seconds + expected <= self._step_seconds

    def _group(self, ranked: list[Generation]) -> Group:
        first = ranked[0]
        agreeing = [generation for generation in ranked if self._agree(first, generation)]
        if _stage(first) is not Stage.DENOISING:
            return self._group_freely(first, agreeing, self._most_rows_aside(first))
        name = _name(first)
        exact = [generation for generation in agreeing if generation.request.deterministic]
        if not exact or name in self.inexact or _rows(first) > self._exact_rows:
            return self._group_freely(first, agreeing, self._costs.cap(name, self._most_rows_of(agreeing)))
        return Group(_fill(agreeing, self._exact_rows), padded_rows=self._exact_rows)

    def _group_freely(self, first: Generation, agreeing: list[Generation], most_rows: int) -> Group:
        """A forward of any number of rows; for a deterministic image, only of its own."""
        if first.request.deterministic:
            return Group([first])
        return Group(_fill([other for other in agreeing if not other.request.deterministic], most_rows))

    def _agree(self, first: Generation, other: Generation) -> bool:
        mine, theirs = first.waiting_call, other.waiting_call
        return first is other or (mine is not None and theirs is not None and self._groups.may_join(mine, theirs))

    def _most_rows_aside(self, first: Generation) -> int:
        """As many rows as fit into the time of one step, as far as is known."""
        name, rows = _name(first), self._most_rows_of([first])
        while rows > 1 and self._costs.expected(name, rows) > self._step_seconds > 0:
            rows //= 2
        return self._costs.cap(name, rows)

    def _most_rows_of(self, agreeing: list[Generation]) -> int:
        """As many rows as a full batch of images has, each with as many as any has had so far."""
        name = _name(agreeing[0])
        widest = max(self._widest_calls.get(name, 1), *map(_rows, agreeing))
        self._widest_calls[name] = widest
        return self._max_batch * widest


def _fill(ranked: list[Generation], most_rows: int) -> list[Generation]:
    """The first in any case, and others in their order as long as they fit."""
    chosen, rows = [ranked[0]], _rows(ranked[0])
    for generation in ranked[1:]:
        if rows + _rows(generation) <= most_rows:
            chosen.append(generation)
            rows += _rows(generation)
    return chosen


def _rank(generation: Generation) -> tuple[int, int]:
    seniority = generation.arrival - PRIORITY_HEAD_START * generation.request.priority
    return AGEING * generation.steps_left + seniority, generation.turn


def _stage(generation: Generation) -> Stage | None:
    return None if generation.waiting_call is None else stage_of(generation.waiting_call.target)


def _rows(generation: Generation) -> int:
    return generation.waiting_call.rows if generation.waiting_call else 0


def _name(generation: Generation) -> str:
    return name_of(generation.waiting_call) if generation.waiting_call else ""
