"""What an engine has learned of a model on a device, kept in a file between starts."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class DeviceNotes:
    """Named sections of notes. Those that were taken on another device, or with other versions, are not used.

    Args:
        file: Where they are kept; None for nowhere.
        device: The device, and the versions of what runs on it, in words.
    """

    def __init__(self, file: Path | None = None, device: str = "") -> None:
        self._file = file
        self._device = device
        self._sections = _read(file, device) if file is not None and file.is_file() else {}

    def section(self, name: str) -> dict[str, Any]:
        """A section, to be read and changed; what is put there must be JSON's."""
        return self._sections.setdefault(name, {})

    def drop(self, name: str, error: Exception) -> None:
        """Empty a section that cannot be understood, and say so in the log."""
        logger.warning("The %s in %s cannot be read and are learned again: %s", name, self._file, error)
        self._sections[name] = {}

    def write(self) -> None:
        """Write all sections to the file; where that fails, the log says so."""
        if self._file is None:
            return
        unfinished = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps({"device": self._device, **self._sections}, indent=1), encoding="utf-8")
            unfinished.replace(self._file)
        except OSError as error:
            logger.warning("What was learned of the device is not kept: %s", error)


def _read(file: Path, device: str) -> dict[str, dict[str, Any]]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        sections = kept if kept.pop("device") == device else {}
        return {name: dict(section) for name, section in sections.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read and is learned again: %s", file, error)
        return {}
