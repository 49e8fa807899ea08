"""Who may use the service, and how much: the settings, and what may not be set together."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from deployments.settings.group import SettingsGroup

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address and no network such as 10.0.0.0/8") from None
    return text


def _origin(text: str) -> str:
    scheme, separator, host = text.partition("://")
    if text != "*" and (scheme not in ("http", "https") or not separator or not host or "/" in host):
        raise ValueError(f"{text!r} is no origin such as https://example.com, and not *")
    return text


def _host(text: str) -> str:
    name = text.lower()
    if not _HOST.fullmatch(name):
        raise ValueError(f"{text!r} is no host name such as images.example.com or *.example.com, and not *")
    return name.removesuffix(".")


class AuthSettings(SettingsGroup):
    """Whether API keys are asked for."""

    mode: Literal["off", "keys"] = Field(
        default="off", description="off: whoever reaches the port may do everything; keys: an API key is needed."
    )
    allow_open: bool = Field(
        default=False, description="Whether to listen on other addresses than this machine's own with mode off."
    )
    cache_seconds: float = Field(
        default=10.0, ge=0, le=300, description="For how long a replica takes a key for good after it was revoked."
    )
    wrong_keys_per_minute: int = Field(
        default=20,
        ge=1,
        description="Wrong keys and links of an address, at each ingress replica, above which others are answered 429.",
    )
    link_seconds: int = Field(
        default=3600, ge=60, le=604800, description="How long a signed link to an image is valid, in seconds."
    )
    signing_secret: str = Field(
        default="", repr=False, description="Signs links; empty: a random one, kept in the job database."
    )


class LimitSettings(SettingsGroup):
    """How many requests there may be. A minute begins with its first request."""

    submits_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Requests that queue jobs, of each key or address; a key's own limit goes first. Empty: no limit.",
    )
    reads_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Other requests, of each key or address, at each ingress replica; empty: no limit.",
    )
    redis_url: str | None = Field(
        default=None,
        pattern=r"^rediss?://[^\s]+$",
        repr=False,  # it may hold a password
        description="Redis server that counts submits in place of the job tracker, as redis://host:6379/0.",
    )


class CorsSettings(SettingsGroup):
    """Which other sites' pages may use the service from a browser."""

    allowed_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(), description='Origins such as https://example.com, or "*" for every one; empty: none.'
    )


ProxyNetworks = tuple[Annotated[str, AfterValidator(_network)], ...]
HostNames = tuple[Annotated[str, AfterValidator(_host)], ...]


def listens_elsewhere(host: str | None) -> bool:
    """Whether a server that listens on this address can be reached from other machines.

    Args:
        host: An address or a name; None where it does not listen at all.
    """
    if host is None or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
