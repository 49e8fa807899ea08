"""What can go wrong in the engine."""

from __future__ import annotations


class EngineError(Exception):
    """The engine failed."""

    retryable = True

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class EngineStoppedError(EngineError):
    """The engine stopped before the image was finished."""


class GenerationCancelledError(EngineError):
    """The image was cancelled before it was finished."""

    retryable = False


class ModelLoadError(EngineError):
    """The model could not be loaded."""

    retryable = False


class UngroupableError(EngineError):
    """These calls cannot run as one forward."""
