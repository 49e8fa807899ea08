"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

POINTER = "Run `cyberimage doctor` where the service runs: it looks at the machine, and names what mends it."
"""What errors of a start, and of a model that could not be loaded, end with."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It may be meant so."""
    PROBLEM = "problem"
    """It is to be mended."""


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes:
        check: The check's name.
        level: How bad it is.
        sentence: What was found, in one sentence.
        remedy: What mends it: a command, or what to do where no command does; empty where nothing is to be mended, or
            the sentence says it.
    """

    check: str
    level: Level
    sentence: str
    remedy: str = ""


def gigabytes(count: int) -> str:
    """A number of bytes in words, in units of 10^9 as makers of disks and the hub count: ``33.7 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"
