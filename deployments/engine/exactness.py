"""Which numbers of rows give an image the same bits, whatever other images share the forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from deployments.engine.device_notes import DeviceNotes
from deployments.engine.grouping import Call, Rows, run_together
from deployments.engine.trees import tensors_of

_ROWS_ON_CPU = 8
_SECTION = "exact widths"


def exact_rows_on(device: torch.device) -> int:
    """Rows of the forwards of deterministic images where the catalog leaves that open.

    On the CPU images gain by company. On an accelerator that is busy with one image, padding its forwards to 8 rows
    takes 4 to 8 times as long; alone, an image is exact without padding.
    """
    return _ROWS_ON_CPU if device.type == "cpu" else 1


class ExactWidths:
    """The numbers of rows that forwards of deterministic images may have.

    How many rows a forward has chooses its kernels, but not each number chooses others. Those that give the bits of a
    forward of ``rows`` rows may stand in for it: half as many rows where few images are in work, and more where
    many are. Which they are depends on the device, and is found out there, by :func:`has_same_bits`.

    Args:
        rows: The number of rows that decides about an image's bytes; with 1, no image may have company.
        most_rows: Rows of the widest forward.
        notes: Where what was found out is kept between starts: an image must have the same bytes after the next.

    Attributes:
        rows: As given.
    """

    def __init__(self, rows: int, most_rows: int, notes: DeviceNotes | None = None) -> None:
        self.rows = rows
        half = max(1, rows // 2)
        self._candidates = sorted({rows, *range(half, most_rows + 1, half)}) if rows > 1 else []
        self._notes = notes or DeviceNotes()

    def of(self, name: str) -> list[int]:
        """The widths that a call may have as far as is known, narrow ones first; none if the call must run alone.

        Args:
            name: Of the call, see :func:`~deployments.engine.costs.name_of`.
        """
        known = self._known(name)
        if known.get(str(self.rows)) is False:
            return []
        return [rows for rows in self._candidates if known.get(str(rows)) is not False]

    def is_known(self, name: str, rows: int) -> bool:
        """Whether it was noted if a call may be in forwards of so many rows."""
        return str(rows) in self._known(name)

    def note(self, name: str, rows: int, *, may_be: bool) -> None:
        """Record whether a call may be in forwards of so many rows."""
        section = self._notes.section(_SECTION)
        section[self._key(name)] = {**self._known(name), str(rows): may_be}
        self._notes.write()

    def refuse(self, name: str) -> None:
        """Run deterministic images alone in calls of this name."""
        self.note(name, self.rows, may_be=False)

    def _known(self, name: str) -> Mapping[str, bool]:
        """What was found out, by rows as JSON has them."""
        known = self._notes.section(_SECTION).get(self._key(name), {})
        return known if isinstance(known, Mapping) else {}

    def _key(self, name: str) -> str:
        return f"{name} as in {self.rows} rows"


def has_same_bits(call: Call, rows: int, like: int) -> bool:
    """Whether a call has the same result at all places of a forward, whoever is in the others, and of another width.

    Args:
        call: A waiting call, of at most ``rows`` rows.
        rows: Of the forwards that are tried: one of the call's copies, and one that begins with a stranger.
        like: Rows of the forward that they are compared with.
    """
    stranger = replace(call, columns=[_other_values(column[:1]) for column in call.columns], rows=1)
    (expected,) = run_together([call], like)
    copies = run_together([call] * (rows // call.rows), rows)
    _, *shifted = run_together([stranger] + [call] * ((rows - 1) // call.rows), rows)
    return all(_same_bits(expected, result) for result in [*copies, *shifted])


def _other_values(column: Rows) -> Rows:
    if isinstance(column, torch.Tensor) and column.is_floating_point():
        return torch.randn(column.shape, generator=torch.Generator().manual_seed(0)).to(column)
    return column


def _same_bits(one: Any, other: Any) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(tensors_of(one), tensors_of(other), strict=True))
