"""Whether a result stays the same to the bit in any company, as long as the number of rows stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from deployments.engine.grouping import Call, Rows, run_together


def is_exact(call: Call, rows: int) -> bool:
    """Run a call first in a forward of its own copies, and last in one of strangers; compare the bits.

    Args:
        call: A waiting call, of at most ``rows`` rows.
        rows: Of either forward.
    """
    stranger = replace(call, columns=[_other_values(column) for column in call.columns])
    strangers = [stranger] * (rows // call.rows - 1)
    if not strangers:
        return True
    (first,) = run_together([call], rows)
    *_, last = run_together([*strangers, call], rows)
    return _same_bits(first, last)


def _other_values(column: Rows) -> Rows:
    if isinstance(column, torch.Tensor) and column.is_floating_point():
        return torch.randn(column.shape, generator=torch.Generator().manual_seed(0)).to(column)
    return column


def _same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return all(_same_bits(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple | list):
        return all(_same_bits(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    return True
