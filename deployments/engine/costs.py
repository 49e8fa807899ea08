"""The measured seconds of forwards on this device, by rows, and how many rows are worth joining."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from statistics import median_low

import torch

from deployments.engine.grouping import Call, Rows

logger = logging.getLogger(__name__)

_WORTHWHILE = 0.9  # of the best rows per second: narrower batches let short jobs through sooner
_GAIN = 1.05  # in rows per second, for a width to be worth looking at the next
_GAINLESS_WIDTHS = 2  # one may be a disturbance by another process
_RUNS = 2  # of each width at first: the very first finds its kernels
_ROUNDS = 2  # of all widths in turn afterwards, so that whatever disturbs them disturbs them alike
_SMOOTHING = 0.3


def name_of(call: Call) -> str:
    """A name for all calls of the same module with rows of the same shapes; the same in every process."""
    shapes = ", ".join(map(_form, call.columns))
    loras = " with LoRAs" if call.loras else ""
    return f"{call.owner}.{getattr(call.target, '__name__', 'call')}({shapes}){loras}"


def _form(column: Rows) -> str:
    if isinstance(column, list):
        return "list"
    return f"{str(column.dtype).removeprefix('torch.')}{list(column.shape[1:])}"


@dataclass
class ForwardCosts:
    """Seconds of forwards, by the call's name and its number of rows.

    Args:
        file: Where measured costs are kept between starts; None for nowhere.
        device: What they were measured on; those of another device are not used.
    """

    file: Path | None = None
    device: str = ""
    _measured: dict[str, dict[int, float]] = field(default_factory=dict)
    _recent: dict[tuple[str, int], float] = field(default_factory=dict)
    _memory_caps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.is_file():
            self._measured = _read(self.file, self.device)

    def is_measured(self, name: str) -> bool:
        """Whether a call's forwards were measured."""
        return name in self._measured

    def measure(self, name: str, most_rows: int, time_forward: Callable[[int], float]) -> None:
        """Time forwards of 1, 2, 4... rows until they gain nothing, and keep the result.

        Args:
            name: Of the call, see :func:`name_of`.
            most_rows: The widest forward that may be wanted.
            time_forward: Runs a forward of so many rows and returns its seconds.
        """
        runs: dict[int, list[float]] = {}
        gainless, best = 0, 0.0
        for rows in _widths(most_rows):
            try:
                runs[rows] = [time_forward(rows) for _ in range(_RUNS)]
            except torch.OutOfMemoryError:
                self.note_out_of_memory(name, rows)
                break
            rate = rows / min(runs[rows])
            gainless = gainless + 1 if rate < _GAIN * best else 0
            best = max(best, rate)
            if gainless == _GAINLESS_WIDTHS:
                break
        for _ in range(_ROUNDS):
            for rows, times in runs.items():
                times.append(time_forward(rows))
        # The fastest would flatter narrow forwards, which on a busy machine slip through between two disturbances.
        self._measured[name] = {rows: median_low(times) for rows, times in runs.items()}
        self._write()

    def cap(self, name: str, most_rows: int) -> int:
        """The most rows that one forward should have: the fewest that come near the best rows per second.

        Args:
            name: Of the call.
            most_rows: The answer where nothing has been measured, and an upper limit.
        """
        limit = min(most_rows, self._memory_caps.get(name, most_rows))
        seconds = {rows: cost for rows, cost in self._measured.get(name, {}).items() if rows <= limit}
        if not seconds:
            return limit
        best = max(rows / cost for rows, cost in seconds.items())
        return min(rows for rows, cost in seconds.items() if rows / cost >= _WORTHWHILE * best)

    def note(self, name: str, rows: int, seconds: float) -> None:
        """Record how long a forward took."""
        before = self._recent.get((name, rows), seconds)
        self._recent[name, rows] = before + _SMOOTHING * (seconds - before)

    def expected(self, name: str, rows: int) -> float:
        """Seconds that a forward will take; 0 if nothing is known of it."""
        return self._recent.get((name, rows)) or self._measured.get(name, {}).get(rows, 0.0)

    def note_out_of_memory(self, name: str, rows: int) -> None:
        """Limit later forwards to half as many rows."""
        self._memory_caps[name] = max(1, rows // 2)

    def note_unmeasurable(self, name: str) -> None:
        """Record that a call cannot be measured, as it cannot have any number of rows."""
        self._measured[name] = {}

    def _write(self) -> None:
        if self.file is None:
            return
        unfinished = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(
                json.dumps({"device": self.device, "seconds": self._measured}, indent=1), encoding="utf-8"
            )
            unfinished.replace(self.file)
        except OSError as error:
            logger.warning("Measured costs are not kept: %s", error)


def _widths(most_rows: int) -> list[int]:
    return [*takewhile(lambda rows: rows < most_rows, (2**power for power in count())), most_rows]


def _read(file: Path, device: str) -> dict[str, dict[int, float]]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        seconds = kept["seconds"].items() if kept["device"] == device else ()
        return {name: {int(rows): float(cost) for rows, cost in costs.items()} for name, costs in seconds}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("Costs in %s cannot be read and are measured anew: %s", file, error)
        return {}
