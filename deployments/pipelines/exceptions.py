"""Errors of pipelines and of the engine."""

from __future__ import annotations

from typing import ClassVar

from deployments.errors import CyberImageError


class EngineError(CyberImageError):
    """The engine failed."""

    retryable: ClassVar[bool] = True


class EngineStoppedError(EngineError):
    """The engine stopped before the image was finished."""


class EngineGoneError(EngineStoppedError):
    """The engine had stopped before the job came to it."""


class GenerationCancelledError(EngineError):
    """The image was cancelled before it was finished."""

    retryable = False


class NotNumbersError(EngineError):
    """The model produced values that are not numbers; another dtype may help."""

    retryable = False


class BlackPictureError(EngineError):
    """The picture is all black, as overflows draw it: set dtype: float32 or bfloat16, or black_pictures: allowed."""

    retryable = False


class ModelLoadError(EngineError):
    """The model could not be loaded."""

    retryable = False


class UnsuitableRequestError(EngineError):
    """The model cannot make such an image."""

    retryable = False
    status = 400


class UnknownTaskError(UnsuitableRequestError):
    """The model's family has no pipeline for this task."""


class MissingInputError(UnsuitableRequestError):
    """The task needs a further input."""


class UnknownInputError(UnsuitableRequestError):
    """The model's pipeline takes no such input."""


class IncompatibleSchedulerError(UnsuitableRequestError):
    """The model cannot use this scheduler."""


class UngroupableError(EngineError):
    """These calls cannot run as one forward."""


def one_line(error: object, longest: int = 300) -> str:
    """An error's text in one line of at most ``longest`` characters."""
    return " ".join(str(error).split())[:longest]
