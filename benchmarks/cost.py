"""What a piece of work costs this process; on Linux."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Cost:
    """Of work that is done.

    Attributes:
        seconds: CPU time, of all threads.
        megabytes: The peak of resident memory, above what the process held before.
    """

    seconds: float = 0.0
    megabytes: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure a block; the cost is there once it has ended, by an exception too."""
    cost = Cost()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): VmHWM begins again at what is held now
    held, used = _resident("VmRSS"), time.process_time()
    try:
        yield cost
    finally:
        cost.seconds, cost.megabytes = time.process_time() - used, _resident("VmHWM") - held


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
