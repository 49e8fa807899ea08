"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It may be meant so."""
    ERROR = "error"
    """It is to be mended."""


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes:
        check: The check's name.
        level: How bad it is.
        sentence: What was found, in one sentence.
        remedy: The command that mends it; empty where nothing is to be mended, or no command does.
    """

    check: str
    level: Level
    sentence: str
    remedy: str = ""
