"""API keys: what is known of one, and how its secret is made, read and compared."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated

from pydantic import Field, field_validator

from deployments.jobs.records.jobs import PriorityClass, Record

PREFIX = "ci"
"""What every key begins with, so that one that got into a log or a repository can be searched for."""
_FORM = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_[0-9a-f]{{64}}", re.ASCII)

ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    """Look at models, queues, and the key owner's jobs and images."""
    GENERATE = "generate"
    """Queue jobs, cancel them, delete images."""
    ADMIN = "admin"
    """Everything, of every owner."""


class KeyLimits(Record):
    """What a key may be used for at most; None for no limit."""

    requests_per_minute: Annotated[Count | None, Field(description="Requests per minute that queue jobs.")] = None
    concurrent_jobs: Annotated[Count | None, Field(description="Jobs that wait or run at once.")] = None
    queued_jobs: Annotated[Count | None, Field(description="Jobs that wait at once.")] = None
    images_per_day: Annotated[
        Count | None, Field(description="Images asked for on one day, in UTC, whatever becomes of them.")
    ] = None
    priority: Annotated[PriorityClass, Field(description="The highest class of its jobs.")] = PriorityClass.HIGH
    models: Annotated[
        tuple[ModelId, ...], Field(max_length=1000, description="The only models that it may use; empty: all.")
    ] = ()


NO_LIMITS = KeyLimits()


class KeyTerms(Record):
    """Whose a key is, and what it may be used for."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$",
            description="Its owner: keys with the same name share jobs, images and turns in the queue.",
        ),
    ]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, description="What it may be used for.")] = (
        Scope.READ,
        Scope.GENERATE,
    )
    limits: Annotated[KeyLimits, Field(description="How much it may be used.")] = NO_LIMITS


class NewKey(KeyTerms):
    """A key that is to be made. Its name is no address: what was submitted without keys belongs to addresses."""

    @field_validator("name")
    @classmethod
    def _no_address(cls, name: str) -> str:
        if is_address(name):
            raise ValueError(
                f"{name} is an address, and jobs that were submitted without keys belong to addresses; a key needs "
                "another name, such as gallery"
            )
        return name


class ApiKey(KeyTerms):
    """A key that there is; its secret is not kept."""

    id: Annotated[str, Field(description="The public part of the key.")]
    created_at: datetime
    last_used_at: Annotated[datetime | None, Field(description="To some minutes; None before the first use.")] = None
    revoked_at: datetime | None = None

    @property
    def owner(self) -> str:
        """To whom what is done with the key belongs: its name.

        An earlier version made keys whose name is an address. What was submitted from there is not theirs.
        """
        return f"key:{self.name}" if is_address(self.name) else self.name


def is_address(name: str) -> bool:
    """Whether a name is an IP address, as clients without a key have it."""
    try:
        ip_address(name.strip())
    except ValueError:
        return False
    return True


def make_key() -> tuple[str, str]:
    """Make a key out of 256 random bits.

    Returns:
        Its id, and the whole key, which is to be shown once and kept nowhere.
    """
    key_id = secrets.token_hex(6)
    return key_id, f"{PREFIX}_{key_id}_{secrets.token_hex(32)}"


def key_id_of(key: str) -> str | None:
    """Return the id within a key; None where it has not the form of one."""
    found = _FORM.fullmatch(key)
    return None if found is None else found[1]


def hash_of(key: str) -> str:
    """Return what is kept of a key. Its 256 random bits cannot be guessed, so the hash need not be slow or salted."""
    return hashlib.sha256(key.encode()).hexdigest()
