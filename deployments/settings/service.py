"""The service's settings: the arguments of the application builder, filled up from ``CYBERIMAGE_...`` variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pydantic_settings
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deployments.catalog.entry import PROJECT_ROOT
from deployments.errors import CyberImageError
from deployments.settings.dialects import ClientSettings, EnrichSettings
from deployments.settings.group import SettingsGroup
from deployments.settings.protection import (
    AuthSettings,
    CorsSettings,
    HostNames,
    LimitSettings,
    ProxyNetworks,
    listens_elsewhere,
)
from deployments.settings.storage import StorageSettings
from deployments.settings.telemetry import LoggingSettings, TracingSettings
from deployments.settings.upkeep import QuotaSettings, UpkeepSettings

_PAGE_URL = r"^https?://[^\s]+$"


class SettingsError(CyberImageError):
    """The settings are not valid."""


class QueueSettings(SettingsGroup):
    """How jobs wait and are handed out."""

    limit: int = Field(default=1000, ge=1, description="Pending jobs above which new ones are refused with 503.")
    limit_per_model: int | None = Field(
        default=None, ge=1, description="As limit, for the jobs of each model; empty: no limit."
    )
    limit_per_client: int | None = Field(
        default=None, ge=1, description="Pending jobs of a client above which its new ones are refused with 429."
    )
    max_attempts: int = Field(default=3, ge=1, description="Times a job is tried before it fails.")
    retry_base_seconds: float = Field(
        default=1.0, ge=0, description="Longest pause after a job's first attempt; it doubles with every further one."
    )
    retry_cap_seconds: float = Field(default=60.0, ge=0, description="Longest pause between two attempts at a job.")
    expires_in: int | None = Field(
        default=None, ge=1, description="Seconds after which a job that still waits fails; empty: it waits for ever."
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, description="Seconds without a sign of life after which a running job is handed out again."
    )


class RetentionSettings(SettingsGroup):
    """What is kept of jobs that have ended; what is above a limit goes with its images, the oldest first."""

    max_age_seconds: float | None = Field(
        default=None, gt=0, description="Seconds after which a job that has ended is forgotten; empty: it is kept."
    )
    max_jobs: int | None = Field(
        default=None, ge=0, description="Jobs that have ended above which the oldest are forgotten; empty: no limit."
    )
    max_image_bytes: int | None = Field(
        default=None, ge=0, description="Bytes of images above which the oldest are deleted; empty: no limit."
    )
    interval_seconds: float = Field(default=60.0, gt=0, description="Seconds between two looks at what may go.")


class DispatchSettings(SettingsGroup):
    """How the ingress takes jobs from the queue to the models."""

    poll_seconds: float = Field(
        default=2.0, gt=0, description="Longest wait, in seconds, in one look at the queue; a new job ends it at once."
    )
    report_seconds: float = Field(
        default=0.2,
        gt=0,
        le=2,
        description="Seconds between two reports of a model's replica on where its jobs stand.",
    )


class TrackerPlacement(SettingsGroup):
    """On which node the job tracker runs."""

    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="Ray resources, by name, of which the job tracker's node must have so much; "
        "empty: the head with SQLite, any node with PostgreSQL.",
    )


class WebhookSettings(SettingsGroup):
    """How clients are called when their jobs have ended."""

    secret: str = Field(default="", repr=False, description="Signs each call, by HMAC-SHA256; empty: none is signed.")
    timeout_seconds: float = Field(default=10.0, gt=0, description="Longest time that one call may take.")
    max_attempts: int = Field(default=10, ge=1, description="Times a call is tried before it is given up.")
    first_pause_seconds: float = Field(
        default=5.0, gt=0, description="Pause after the first failure; each later one is twice as long, up to an hour."
    )
    allow_private: bool = Field(
        default=False, description="Whether addresses that are not public, such as 127.0.0.1, may be called."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Host names and addresses that may be called although they are not public."
    )


class LinkSettings(SettingsGroup):
    """What the page's queue links to, for whoever runs the service."""

    ray_dashboard: str | None = Field(
        default=None,
        pattern=_PAGE_URL,
        description="The Ray dashboard, as browsers reach it; empty: make run names its own, others none.",
    )
    grafana: str | None = Field(
        default=None, pattern=_PAGE_URL, description="Grafana or one of its dashboards, as browsers reach it; or empty."
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
        description="The model catalog; relative to the working folder, or to the project's where it is not there; "
        "where none is named, make run takes one that fits the GPU.",
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
    max_upload_bytes: int = Field(
        default=20 * 1024 * 1024, ge=1024, description="Largest file of a picture that a client sends, in bytes."
    )
    max_upload_pixels: int = Field(
        default=2**25, ge=64, description="Most pixels, width times height, of a picture that a client sends."
    )
    max_archive_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1024, description="Most bytes of the images that are downloaded in one ZIP file."
    )
    picture_workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes of each ingress replica that decode clients' pictures; one client has half of them.",
    )
    queue: QueueSettings = Field(default_factory=QueueSettings, description="The job queue.")
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="What is kept, and how long.")
    quota: QuotaSettings = Field(default_factory=QuotaSettings, description="What each owner may keep.")
    upkeep: UpkeepSettings = Field(default_factory=UpkeepSettings, description="Tidying up.")
    tracker: TrackerPlacement = Field(default_factory=TrackerPlacement, description="Where the job tracker runs.")
    dispatch: DispatchSettings = Field(default_factory=DispatchSettings, description="Handing jobs to the models.")
    storage: StorageSettings = Field(default_factory=StorageSettings, description="Where images are kept.")
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings, description="Calls when jobs have ended.")
    auth: AuthSettings = Field(default_factory=AuthSettings, description="API keys.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="Requests per minute.")
    cors: CorsSettings = Field(default_factory=CorsSettings, description="Pages of other sites.")
    clients: ClientSettings = Field(default_factory=ClientSettings, description="Clients made for other services.")
    enrich: EnrichSettings = Field(default_factory=EnrichSettings, description="A language model that writes prompts.")
    links: LinkSettings = Field(default_factory=LinkSettings, description="Pages of other programs.")
    logging: LoggingSettings = Field(default_factory=LoggingSettings, description="What is logged, and where.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="Traces of requests and jobs.")
    trusted_proxies: ProxyNetworks = Field(
        default=(),
        description="Addresses and networks of proxies in front, whose X-Forwarded-For, -Proto and -Host are believed.",
    )
    allowed_hosts: HostNames = Field(
        default=(),
        description="Names of the service where no API keys are asked for, beside IP addresses and localhost: "
        'images.example.com, *.example.com, or "*" for every one.',
    )
    body_seconds: float = Field(default=60.0, gt=0, description="Longest time in which a request's body must arrive.")
    answer_seconds: float = Field(
        default=900.0, gt=0, description="Longest time until an answer begins; then it is 504."
    )

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
    def logs_dir(self) -> Path:
        """Where log files are."""
        return self.logging.folder or self.data_dir / "logs"

    @property
    def resolved_database_url(self) -> str:
        """The job store's URL, the embedded one filled in."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir}/cyberimage.db"

    @property
    def database_file(self) -> Path | None:
        """The file of the job store; None where a server keeps it."""
        kind, _, path = self.resolved_database_url.partition(":///")
        return Path(path.partition("?")[0]) if kind.startswith("sqlite") else None

    def require_protection(self, host: str | None) -> None:
        """Refuse to be open to other machines by mistake.

        Args:
            host: The address that HTTP is listened for on; None for none.

        Raises:
            SettingsError: Other machines reach it, and no API keys are asked for; one line says what to set.
        """
        if self.auth.mode == "off" and not self.auth.allow_open and listens_elsewhere(host):
            raise SettingsError(
                f"auth.mode (CYBERIMAGE_AUTH__MODE): other machines can reach {host}, and no API keys are asked for; "
                "set it to keys, or set auth.allow_open to true where whoever reaches the port may do everything"
            )

    def prepare_data_dir(self) -> None:
        """Create the data folder, for its owner alone, and make sure that files can be kept in it.

        Raises:
            SettingsError: It is a file, cannot be created or cannot be written; the message is one line.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _try_to_write(self.data_dir)
        except (FileExistsError, NotADirectoryError):
            raise SettingsError(f"data_dir {self.data_dir}: a file is in the place of a folder") from None
        except OSError as error:
            raise SettingsError(f"data_dir {self.data_dir}: cannot be written: {error.strerror or error}") from None


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
            text = details["msg"].removeprefix("Input ").removeprefix("Value error, ")
            if details["type"] == "extra_forbidden":
                text = "unknown setting"
            lines.append(f"{'.'.join(keys)} (CYBERIMAGE_{'__'.join(keys).upper()}): {text}")
        raise SettingsError("\n".join(lines)) from None
    except pydantic_settings.SettingsError as error:
        raise SettingsError(str(error)) from None
