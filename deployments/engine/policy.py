"""Chooses the images of the next forward: their order, and how many of them share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import ForwardCosts, name_of
from deployments.engine.exactness import ExactWidths
from deployments.engine.forward_clock import Launch
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call
from deployments.engine.head_starts import HeadStarts
from deployments.engine.offloading import ModuleTurns
from deployments.engine.stages import Stage, module_of, stage_of

MostImages = Callable[[int, int], int]
"""Most images that a forward may have, by their width and height in pixels."""

SMALL = 0.1
"""An image whose steps left take at most this share of another one's size may go before it at any time."""
MOST_LOST = 0.5
"""The largest share of its own size that an image loses to small ones."""
CLASS_HEAD_START_SECONDS = 3600.0
"""The head start of a class of priority over the class below it."""


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


@dataclass
class Standing:
    """What the policy notes of an image.

    Attributes:
        size: Seconds that all its steps take alone; 0 until that is known.
        lost: Seconds of steps that small images took when it was its turn.
        named: The call whose name was last asked for, which is asked for many times.
        name: That name.
    """

    size: float = 0.0
    lost: float = 0.0
    named: ref[Call] | None = None
    name: str = ""


class Policy:
    """First come, first served, with head starts for short images; an image that can share no forward blocks none.

    The steps left of an image decide its head start (:class:`HeadStarts`): nearly finished images finish, short ones
    overtake long ones that came shortly before, and an image that has waited long is no longer overtaken. So no image
    starves, and the tail of waiting times gets no longer. A class of priority is a head start as well. Besides, a small
    image may go before one of ten times its size, however long that one has waited: a crowd of long images would hold
    it up for many times its own duration. No image loses more than half of its own duration to small ones.

    Encoding and decoding happen between denoising forwards, and may together take as long as one of those, so that an
    image that runs is never held up by more than a step.

    Args:
        costs: What forwards take.
        groups: Which calls may share a forward, as far as has been tried.
        max_batch: Most images that share a forward. Those without guidance, which have half the rows where others
            have guidance, count half.
        exact_rows: Rows of the denoising forwards that decide about a deterministic image's bytes; ``max_batch`` if
            that is less. 1: it is denoised alone.
        turns: Of the modules on the device, if only one at a time is there.
        most_images: Most images of a size that the memory lets denoise together; None for no limit.
        most_decoded: The same of decoding.

    Attributes:
        head_starts: Of images, by what is left of them.
        exact_widths: How many rows the forwards of deterministic images may have.
    """

    def __init__(  # noqa: PLR0913 - the last three are for some devices only
        self,
        costs: ForwardCosts,
        groups: CheckedGroups,
        max_batch: int,
        exact_rows: int,
        *,
        turns: ModuleTurns | None = None,
        most_images: MostImages | None = None,
        most_decoded: MostImages | None = None,
    ) -> None:
        self._costs = costs
        self._max_batch = max_batch
        self._limits = {Stage.DENOISING: most_images, Stage.DECODING: most_decoded}
        self._turns = turns
        self._widest_calls: dict[str, int] = {}
        self._step_seconds = 0.0
        self._asides: list[Launch] = []
        self._groups = groups
        self._standings: WeakKeyDictionary[Generation, Standing] = WeakKeyDictionary()
        self.head_starts = HeadStarts()
        self.exact_widths = ExactWidths(min(exact_rows, max_batch), 2 * max_batch, costs.notes)

    def standing_of(self, generation: Generation) -> Standing:
        """What has been noted of an image."""
        return self._standings.setdefault(generation, Standing())

    def choose(self, waiting: Sequence[Generation]) -> Group | None:
        """Choose the next forward; None if no image waits.

        Args:
            waiting: Images with a waiting call.
        """
        if self._turns is not None:
            waiting = self._turns.staying(waiting)
        denoising = [generation for generation in waiting if _stage(generation) is Stage.DENOISING]
        aside = self._choose_aside([generation for generation in waiting if generation not in denoising])
        if aside is not None and (not denoising or self._may_step_aside(aside, denoising)):
            return aside
        return self._group(self._in_order(denoising)) if denoising else None

    def note_lost(self, group: Group, waiting: Sequence[Generation]) -> None:
        """Record what a denoising forward of small images cost the image whose turn it was.

        Args:
            group: The images of the forward.
            waiting: As given to :meth:`choose`.
        """
        if _stage(group.generations[0]) is not Stage.DENOISING:
            return
        first = min((each for each in waiting if _stage(each) is Stage.DENOISING), key=self._counted_arrival)
        if first not in group.generations:
            self.standing_of(first).lost += self._step_seconds_of(group.generations[0])

    def launch(self, calls: Sequence[Call], padded_rows: int | None = None) -> Launch:
        """Record that the device was given a forward of these calls."""
        call, rows = calls[0], padded_rows or sum(each.rows for each in calls)
        name, brings_module = name_of(call), self._turns is not None and not self._turns.is_present(call)
        if self._turns is not None and brings_module:
            self._turns.enter(call)
        expected = self._costs.expected(name, rows)
        launch = Launch(name, stage_of(call.target), id(module_of(call.target)), rows, expected, brings_module)
        self._asides = [] if launch.stage is Stage.DENOISING else [*self._asides, launch]
        return launch

    def note(self, launch: Launch, seconds: float) -> None:
        """Record that a forward is over, and its seconds."""
        launch.seconds = seconds if self._turns is None else self._turns.note(launch, seconds)
        if not (launch.brings_module or launch.has_check):
            self._costs.note(launch.name, launch.rows, seconds)
        if launch.stage is Stage.DENOISING and launch.seconds:
            self._step_seconds = launch.seconds

    def _choose_aside(self, waiting: list[Generation]) -> Group | None:
        """Encoding first: it is short, and lets an image join the next step."""
        encoding = [generation for generation in waiting if _stage(generation) is Stage.ENCODING]
        chosen = encoding or waiting
        return self._group(sorted(chosen, key=self._counted_arrival)) if chosen else None

    def _in_order(self, denoising: Sequence[Generation]) -> list[Generation]:
        """Small images first, if they may go before the one whose turn it is; then all by turn."""
        for generation in denoising:
            standing = self.standing_of(generation)
            if not standing.size:
                standing.size = generation.steps_left * self._step_seconds_of(generation)
                self.head_starts.note(standing.size)
        by_turn = sorted(denoising, key=self._counted_arrival)
        first, standing = by_turn[0], self.standing_of(by_turn[0])
        if standing.lost >= MOST_LOST * standing.size:
            return by_turn
        small = [
            each
            for each in by_turn
            if self._seconds_left(each) <= SMALL * standing.size and each.request.priority >= first.request.priority
        ]
        return [*sorted(small, key=self._seconds_left), *(each for each in by_turn if each not in small)]

    def _counted_arrival(self, generation: Generation) -> float:
        """Its arrival less its head start; the lowest goes first."""
        head_start = self.head_starts.of(self._seconds_left(generation))
        head_start += CLASS_HEAD_START_SECONDS * generation.request.priority
        return generation.arrival - head_start

    def _seconds_left(self, generation: Generation) -> float:
        return generation.steps_left * self._step_seconds_of(generation)

    def _step_seconds_of(self, generation: Generation) -> float:
        """Seconds of one of its steps alone, as far as is known."""
        if _stage(generation) is not Stage.DENOISING:
            return self._step_seconds
        return self._costs.expected(self._name_of(generation), _rows(generation)) or self._step_seconds or 1.0

    def _name_of(self, generation: Generation) -> str:
        call, standing = generation.waiting_call, self.standing_of(generation)
        if call is not None and (standing.named is None or standing.named() is not call):
            standing.named, standing.name = ref(call), name_of(call)
        return standing.name

    def _may_step_aside(self, group: Group, denoising: Sequence[Generation]) -> bool:
        if self._turns is not None and not any(self._turns.is_present(call) for call in Group([*denoising]).calls):
            return True
        rows = sum(call.rows for call in group.calls)
        expected = self._costs.expected(name_of(group.calls[0]), rows)
        spent = sum(launch.seconds for launch in self._asides)
        return not self._asides or spent + expected <= self._step_seconds

    def _group(self, ranked: list[Generation]) -> Group:
        first = ranked[0]
        agreeing = [generation for generation in ranked if self._agree(first, generation)]
        cap = self._costs.cap(self._name_of(first), self._most_rows_of(agreeing), sum(map(_rows, agreeing)))
        if _stage(first) is not Stage.DENOISING:
            return self._group_freely(first, agreeing, self._most_rows_aside(first, cap))
        has_exact = any(generation.request.settings.deterministic for generation in agreeing)
        widths = self._exact_widths_of(first) if has_exact else []
        if not widths:
            return self._group_freely(first, agreeing, cap)
        widest = max([rows for rows in widths if rows <= cap], default=widths[0])
        chosen = _fill(agreeing, widest)
        return Group(chosen, padded_rows=min(rows for rows in widths if rows >= sum(map(_rows, chosen))))

    def _exact_widths_of(self, first: Generation) -> list[int]:
        """The widths that its forward may have in company of deterministic images; none if those go alone."""
        # What decides about an image's bytes must be the same at any time, as the memory for images of its size is.
        if not _rows(first) <= self.exact_widths.rows <= self._most_images_of(first):
            return []
        return [rows for rows in self.exact_widths.of(self._name_of(first)) if rows >= _rows(first)]

    def _group_freely(self, first: Generation, agreeing: list[Generation], most_rows: int) -> Group:
        """A forward of any number of rows; for a deterministic image, only of its own."""
        if first.request.settings.deterministic:
            return Group([first])
        return Group(_fill([other for other in agreeing if not other.request.settings.deterministic], most_rows))

    def _agree(self, first: Generation, other: Generation) -> bool:
        mine, theirs = first.waiting_call, other.waiting_call
        return first is other or (mine is not None and theirs is not None and self._groups.may_join(mine, theirs))

    def _most_rows_aside(self, first: Generation, rows: int) -> int:
        """As many rows as fit into the time of one step, as far as is known."""
        while rows > 1 and self._costs.expected(self._name_of(first), rows) > self._step_seconds > 0:
            rows //= 2
        return rows

    def _most_rows_of(self, agreeing: list[Generation]) -> int:
        """As many rows as a full batch of images has, each with as many as any has had so far."""
        name = self._name_of(agreeing[0])
        widest = max(self._widest_calls.get(name, 1), *map(_rows, agreeing))
        self._widest_calls[name] = widest
        return self._most_images_of(agreeing[0]) * widest

    def _most_images_of(self, generation: Generation) -> int:
        """Most images that share a forward with this one, by the catalog and by the memory."""
        stage, settings = _stage(generation), generation.request.settings
        most = None if stage is None else self._limits.get(stage)
        if most is None:
            return self._max_batch
        return max(1, min(self._max_batch, most(settings.width, settings.height)))


def _fill(ranked: list[Generation], most_rows: int) -> list[Generation]:
    """The first image in any case, and others in their order as long as they fit."""
    chosen, rows = [ranked[0]], _rows(ranked[0])
    for generation in ranked[1:]:
        if rows + _rows(generation) <= most_rows:
            chosen.append(generation)
            rows += _rows(generation)
    return chosen


def _stage(generation: Generation) -> Stage | None:
    return None if generation.waiting_call is None else stage_of(generation.waiting_call.target)


def _rows(generation: Generation) -> int:
    return generation.waiting_call.rows if generation.waiting_call else 0
