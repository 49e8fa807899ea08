"""Which numbers of rows give an image the same bits, whatever other images share the forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from deployments.engine.grouping import Call, Rows, run_together
from deployments.engine.trees import tensors_of


class ExactWidths:
    """The numbers of rows that forwards of deterministic images may have.

    How many rows a forward has chooses its kernels, but not each number chooses others. Those that give the bits of a
    forward of ``rows`` rows may stand in for it: half as many rows where few images are in work, and more where
    many are. Which they are depends on the device, and is found out there, by :func:`has_same_bits`.

    Args:
        rows: The number of rows that decides about an image's bytes.
        most_rows: Rows of the widest forward.

    Attributes:
        rows: As given.
    """

    def __init__(self, rows: int, most_rows: int) -> None:
        self.rows = rows
        half = max(1, rows // 2)
        self._candidates = sorted({rows, *range(half, most_rows + 1, half)})
        self._known: dict[tuple[str, int], bool] = {}

    def of(self, name: str) -> list[int]:
        """The widths that a call may have as far as is known, narrow ones first; none if the call must run alone.

        Args:
            name: Of the call, see :func:`~deployments.engine.costs.name_of`.
        """
        if not self._known.get((name, self.rows), True):
            return []
        return [rows for rows in self._candidates if self._known.get((name, rows), True)]

    def is_known(self, name: str, rows: int) -> bool:
        """Whether it was noted if a call may be in forwards of so many rows."""
        return (name, rows) in self._known

    def note(self, name: str, rows: int, *, may_be: bool) -> None:
        """Record whether a call may be in forwards of so many rows."""
        self._known[name, rows] = may_be

    def refuse(self, name: str) -> None:
        """Run deterministic images alone in calls of this name."""
        self._known[name, self.rows] = False


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
