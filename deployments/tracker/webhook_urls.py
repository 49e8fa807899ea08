"""Which URLs may be called: a client's webhook must not reach what only this machine's network can reach."""

from __future__ import annotations

import asyncio
import re
import socket
from ipaddress import ip_address

import httpx

from deployments.settings.service import WebhookSettings
from deployments.tracker.special_networks import Address, is_public

LONGEST_URL = 2000

_LARGEST_PORT = 65_535
_LONGEST_NAME = 253
# RFC 1123, and the underscores that names within a network have.
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?", re.I)


class WebhookRefusedError(Exception):
    """The webhook's URL may not be called."""


def read_url(text: str, settings: WebhookSettings) -> httpx.URL:
    """Check a URL without looking up its host.

    Args:
        text: The URL.
        settings: Say which addresses may be called.

    Raises:
        WebhookRefusedError: It is none, it is neither http nor https, its host or its port cannot be one, or its
            address is not public; the message goes on after the field's name.
    """
    if len(text) > LONGEST_URL:
        raise WebhookRefusedError(f"{len(text)} characters are too many; a URL has at most {LONGEST_URL}.")
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, ValueError):  # the latter from a name that IDNA does not know how to read
        raise WebhookRefusedError("it is not a URL; https://example.com/hook would be one.") from None
    if url.scheme not in ("http", "https") or not host:
        raise WebhookRefusedError("it is not an http or https URL; https://example.com/hook would be one.")
    if url.port is not None and not 1 <= url.port <= _LARGEST_PORT:
        raise WebhookRefusedError(f"{url.port} is not a port; a port is 1 to {_LARGEST_PORT}.")
    literal = _address(host)
    if literal is None and not _can_be_name(host_of(url)):
        raise WebhookRefusedError(
            f"{host[:_LONGEST_NAME]} is not the name of a host; letters, digits, - and _ are possible in it, "
            f"with single dots between, 63 in a row and {_LONGEST_NAME} in all at most."
        )
    if literal is not None:
        _check(literal, host, settings)
    elif f".{host.rstrip('.')}".endswith(".localhost"):
        _check(ip_address("127.0.0.1"), host, settings)
    return url


async def resolve(url: httpx.URL, settings: WebhookSettings) -> str:
    """Look up a URL's host, and return the address to connect to; every one that the host has is checked.

    Raises:
        WebhookRefusedError: One of the addresses is not public.
        OSError: The host is not known.
    """
    host, port = host_of(url), url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise WebhookRefusedError(f"{host} is not the name of a host.") from None
    addresses = [str(address[0]) for *_, address in found]
    for address in addresses:
        _check(ip_address(address), host, settings)
    return addresses[0]


def host_of(url: httpx.URL) -> str:
    """The host of a URL as it is looked up and certified: in ASCII."""
    return url.raw_host.decode("ascii")


def _address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _can_be_name(host: str) -> bool:
    return len(host) <= _LONGEST_NAME and _NAME.fullmatch(host) is not None


def _check(address: Address, host: str, settings: WebhookSettings) -> None:
    if not (settings.allow_private or host in settings.allowed_hosts or is_public(address)):
        # Not the address itself: what names mean in this network is nothing for the client.
        raise WebhookRefusedError(f"{host} has an address that is not public, and may not be called.")
