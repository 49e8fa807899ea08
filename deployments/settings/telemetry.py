"""Settings of what the service tells of itself: log lines and traces."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from deployments.settings.group import SettingsGroup

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_EXPORTER = "opentelemetry.exporter.otlp.proto.http"


class LoggingSettings(SettingsGroup):
    """What is logged, and where."""

    level: LogLevel = Field(default="INFO", description="The least that is logged: DEBUG, INFO, WARNING or ERROR.")
    format: Literal["text", "json"] = Field(default="text", description="Of each line: text, or json.")
    files: bool = Field(default=True, description="Whether lines go to files too; to stderr they always go.")
    folder: Path | None = Field(
        default=None, description="Folder of the files, on a disk of the machine; empty: logs in data_dir."
    )
    max_bytes: int = Field(
        default=10 * 1024 * 1024, ge=1024, description="Size from which on a file is put aside and a new one begun."
    )
    kept_files: int = Field(default=5, ge=1, description="Files of each kind that are kept once they are put aside.")

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()


class TracingSettings(SettingsGroup):
    """Where traces of requests and jobs go."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        repr=False,  # it may hold a password
        description="An OpenTelemetry collector's OTLP address, as http://host:4318/v1/traces; empty: no traces.",
    )
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of requests and of jobs that are traced.")

    @field_validator("endpoint")
    @classmethod
    def _can_be_sent_to(cls, value: str | None) -> str | None:
        if value is not None and not _is_installed(_EXPORTER):
            raise ValueError("the packages for it are not installed: pip install 'cyberimage[tracing]'")
        return value


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it is in
        return False
