"""The service's log lines: where they go, what is in each, and which request or job they are about.

Ray's own logs are Ray's; what the packages of this project log goes to stderr, where Ray shows it too, and to files
that all processes of a machine write together.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from types import MappingProxyType
from typing import Any

from concurrent_log_handler import ConcurrentRotatingFileHandler

from deployments.settings.live import LiveSettings, read_live_settings
from deployments.settings.telemetry import LoggingSettings, LogLevel

OWN_LOGGERS = ("serve", "deployments")
APP_FILE, ERROR_FILE, MODEL_FILE = "app.log", "errors.log", "models.log"

logger = logging.getLogger(__name__)

_listener: QueueListener | None = None
_NOBODY: Mapping[str, str] = MappingProxyType({})
_subject: ContextVar[Mapping[str, str]] = ContextVar("log_subject", default=_NOBODY)


@contextmanager
def about(**subject: str) -> Iterator[None]:
    """Say in every line that is logged inside of the block what it is about: request_id, job_id, model."""
    token = _subject.set({**_subject.get(), **subject})
    try:
        yield
    finally:
        _subject.reset(token)


def about_nobody() -> Context:
    """A context for a task that works for many, so that it is not taken for the request or job that started it."""
    context = copy_context()
    context.run(_subject.set, _NOBODY)
    return context


def configure_logs(settings: LoggingSettings, process: str, folder: Path, *, draws: bool = False) -> None:
    """Send what this process logs to stderr and to the files; may be repeated.

    Where no files can be written, that is said, and stderr has to do.

    Args:
        settings: What is logged, and how.
        process: Which one this is; its number is added.
        folder: Of the files, where the settings name none.
        draws: Whether the process serves a model; then its lines are in the file of the models too.
    """
    close_logs()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    problem = ""
    try:
        if settings.files:
            handlers.append(_writing_to(_files(settings, settings.folder or folder, draws=draws)))
    except OSError as error:
        problem = f"Logs are not kept in files, as {error.filename or folder} cannot be written: {error.strerror}"
    formatter = (JsonLines if settings.format == "json" else TextLines)(f"{process}-{os.getpid()}")
    for handler in handlers:
        handler.setFormatter(formatter)
    for own in map(logging.getLogger, OWN_LOGGERS):
        own.handlers = list(handlers)
        own.propagate = False  # a handler of Ray's at the root would show each line twice
    set_log_level(settings.level)
    if problem:
        logger.warning("%s", problem)


@atexit.register
def close_logs() -> None:
    """Write what is left to the files; from then on nothing goes there."""
    global _listener  # noqa: PLW0603 - there is one for the process
    if _listener is None:
        return
    _listener.stop()
    for handler in _listener.handlers:
        handler.close()
    _listener = None


def set_log_level(level: LogLevel) -> None:
    """Log from this level on."""
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)


class LogLines(logging.Formatter):
    """Makes a line of a record; see :meth:`fields`.

    Args:
        process: Which one this is.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """What a line says: time (ISO 8601, UTC), level, logger, message, process, subject, an error's traceback."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
            **_subject.get(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return fields


class JsonLines(LogLines):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(self.fields(record))


class TextLines(LogLines):
    """For people: ``time level logger: message [name=value ...]``; a traceback takes lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = self.fields(record)
        time, level, name, message = (fields.pop(key) for key in ("time", "level", "logger", "message"))
        error = fields.pop("error", None)
        subject = " ".join(f"{key}={value}" for key, value in fields.items())
        # What somebody sent must not look like a line of its own.
        message = message.replace("\r", "\\r").replace("\n", "\\n")
        line = f"{time} {level:<7} {name}: {message} [{subject}]"
        return line if error is None else f"{line}\n{error}"


def use_live_log_level(settings: LoggingSettings, user_config: Any) -> None:
    """Log from the level on that a ``user_config`` has, or, where it has none, the settings.

    Args:
        settings: Those that the replica was started with.
        user_config: As it comes from YAML.
    """
    live = read_live_settings(LiveSettings, user_config)
    if live is not None:
        set_log_level(live.log_level or settings.level)


def _writing_to(files: list[logging.Handler]) -> logging.Handler:
    """Lines are made where they are logged and written on a thread: files wait for disks and for other processes."""
    global _listener  # noqa: PLW0603
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    _listener = QueueListener(lines, *files, respect_handler_level=True)
    _listener.start()
    return QueueHandler(lines)


def _files(settings: LoggingSettings, folder: Path, *, draws: bool) -> list[logging.Handler]:
    folder.mkdir(parents=True, exist_ok=True)
    levels = {APP_FILE: logging.NOTSET, ERROR_FILE: logging.ERROR}
    if draws:
        levels[MODEL_FILE] = logging.NOTSET
    return [_file(settings, folder / name, level) for name, level in levels.items()]


def _file(settings: LoggingSettings, path: Path, level: int) -> logging.Handler:
    arguments: dict[str, Any] = {"maxBytes": settings.max_bytes, "backupCount": settings.kept_files}
    handler = ConcurrentRotatingFileHandler(path, encoding="utf-8", **arguments)
    handler.setLevel(level)
    return handler
