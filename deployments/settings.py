"""The service's settings: the arguments of the application builder, filled up from ``CYBERIMAGE_...`` variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pydantic_settings
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class SettingsError(Exception):
    """The settings are not valid."""

    status = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class QueueSettings(_Group):
    """How jobs wait and are handed out."""

    limit: int = Field(default=1000, ge=1, description="Pending jobs above which new ones are refused with 503.")
    max_attempts: int = Field(default=3, ge=1, description="Times a job is tried before it fails.")
    lease_seconds: float = Field(
        default=30.0, gt=0, description="Seconds without a sign of life after which a running job is handed out again."
    )


class DispatchSettings(_Group):
    """How the ingress takes jobs from the queue to the models."""

    poll_seconds: float = Field(
        default=2.0, gt=0, description="Longest wait, in seconds, in one look at the queue; a new job ends it at once."
    )


class Settings(BaseSettings):
    """Every setting of the service.

    Arguments win over environment variables, field by field in the groups too. A variable's name is CYBERIMAGE_ and the
    field's in capitals, a group and its field joined by two underscores: CYBERIMAGE_QUEUE__LIMIT.
    """

    model_config = SettingsConfigDict(
        env_prefix="CYBERIMAGE_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # the database's URL may hold a password
    )

    catalog: Path = Field(
        default=Path("configs/cpu.yaml"),
        description="The model catalog; relative to the working folder, or to the project's where it is not there.",
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="Folder of images and the embedded database; relative to the working one.",
    )
    database_url: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]+(\+[a-z0-9]+)?://",
        repr=False,  # it may hold a password
        description="URL of the job database, SQLite or PostgreSQL; empty: cyberimage.db, an SQLite file, in data_dir.",
    )
    ingress_replicas: int = Field(default=1, ge=1, description="Copies of the HTTP ingress.")
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024, description="Largest request body, in bytes.")
    queue: QueueSettings = Field(default_factory=QueueSettings, description="The job queue.")
    dispatch: DispatchSettings = Field(default_factory=DispatchSettings, description="Handing jobs to the models.")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # Made absolute once: the processes that are given these settings have other working folders.
        return value.expanduser().absolute()

    @property
    def catalog_path(self) -> Path:
        """The catalog's absolute path."""
        here = self.catalog.expanduser().absolute()
        beside_project = PROJECT_ROOT / self.catalog
        return beside_project if beside_project.exists() and not here.exists() else here

    @property
    def images_dir(self) -> Path:
        """Where image files are."""
        return self.data_dir / "images"

    @property
    def resolved_database_url(self) -> str:
        """The job store's URL, the embedded one filled in."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir}/cyberimage.db"

    def prepare_data_dir(self) -> None:
        """Create the folders of data and images, and make sure that files can be kept in them.

        Raises:
            SettingsError: One of them is a file, cannot be created or cannot be written; the message is one line.
        """
        folders = {"data_dir": self.data_dir, "the images folder": self.images_dir}
        for name, folder in folders.items():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _try_to_write(folder)
            except (FileExistsError, NotADirectoryError):
                raise SettingsError(f"{name} {folder}: a file is in the place of a folder") from None
            except OSError as error:
                raise SettingsError(f"{name} {folder}: cannot be written: {error.strerror or error}") from None


def _try_to_write(folder: Path) -> None:
    """Write a small file down to the disk, as permissions and free space alone do not tell whether that works."""
    probe = folder / f".write-check-{uuid4()}"
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, b"0" * 4096)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def load_settings(args: Mapping[str, Any] | None = None) -> Settings:
    """Build the settings from arguments and the environment.

    Args:
        args: As they come from YAML.

    Raises:
        SettingsError: One line for each thing that is wrong, with its key and its variable; values are not repeated.
    """
    try:
        return Settings.model_validate(dict(args or {}))
    except ValidationError as error:
        lines = []
        for details in error.errors(include_url=False, include_input=False):
            keys = [str(part) for part in details["loc"]]
            text = "unknown setting" if details["type"] == "extra_forbidden" else details["msg"].removeprefix("Input ")
            lines.append(f"{'.'.join(keys)} (CYBERIMAGE_{'__'.join(keys).upper()}): {text}")
        raise SettingsError("\n".join(lines)) from None
    except pydantic_settings.SettingsError as error:
        raise SettingsError(str(error)) from None
