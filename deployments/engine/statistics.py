"""Counters of what an engine has done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.engine.grouping import Call
from deployments.engine.stages import Stage, stage_of


@dataclass
class EngineStatistics:
    """Counters that only rise, except for ``images``.

    Attributes:
        forwards: How many forwards ran, by module class and by the number of images that shared one.
        forward_seconds: That the device took for forwards.
        busy_seconds: Time with at least one image in work.
        step_seconds: That the device took for denoising forwards.
        steps: Denoising forwards.
        rows: Rows of all denoising forwards, padding not counted.
        padded_rows: Rows that were computed only to fill up a forward to an exact width.
        asked_rows: Rows of the calls of all forwards, of whatever stage.
        checking_rows: Rows that were computed only to check if calls may share a forward, and of which width.
        cached_encodings: Encoder calls that were answered from the cache.
        images: Images in work right now.
    """

    forwards: Counter[tuple[str, int]] = field(default_factory=Counter)
    forward_seconds: float = 0.0
    busy_seconds: float = 0.0
    step_seconds: float = 0.0
    steps: int = 0
    rows: int = 0
    padded_rows: int = 0
    asked_rows: int = 0
    checking_rows: int = 0
    cached_encodings: int = 0
    images: int = 0

    def note_calls(self, calls: Sequence[Call], padded_rows: int | None) -> None:
        """Count a forward that is launched."""
        rows = sum(call.rows for call in calls)
        self.forwards[calls[0].owner, len(calls)] += 1
        self.asked_rows += rows
        if stage_of(calls[0].target) is Stage.DENOISING:
            self.steps += 1
            self.rows += rows
            self.padded_rows += (padded_rows or rows) - rows

    def note_seconds(self, stage: Stage, seconds: float) -> None:
        """Count the time of a forward that is over."""
        self.forward_seconds += seconds
        if stage is Stage.DENOISING:
            self.step_seconds += seconds

    @property
    def rows_computed_per_row_asked(self) -> float:
        """Rows that were computed, padding aside, over those that images asked for: 1 where none was computed twice."""
        return 1 + self.checking_rows / self.asked_rows if self.asked_rows else 1.0

    @property
    def widest_batch(self) -> int:
        """The most images that ever shared a forward."""
        return max((width for _, width in self.forwards), default=0)

    @property
    def grouped_share(self) -> float:
        """The share of module calls that shared a forward, in 0..1."""
        calls = sum(width * count for (_, width), count in self.forwards.items())
        alone = sum(count for (_, width), count in self.forwards.items() if width == 1)
        return 1 - alone / calls if calls else 0.0

    @property
    def forward_share(self) -> float:
        """The share of the busy time that was spent inside forwards, in 0..1."""
        return self.forward_seconds / self.busy_seconds if self.busy_seconds else 0.0
