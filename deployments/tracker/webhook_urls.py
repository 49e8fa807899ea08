"""Which URLs may be called: a client's webhook must not reach what only this machine's network can reach."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from deployments.settings.service import WebhookSettings

LONGEST_URL = 2000

_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class WebhookRefusedError(Exception):
    """The webhook's URL may not be called."""


def read_url(text: str, settings: WebhookSettings) -> httpx.URL:
    """Check a URL without looking up its host.

    Args:
        text: The URL.
        settings: Say which addresses may be called.

    Raises:
        WebhookRefusedError: It is none, it is neither http nor https, or its address is not public; the message goes on
            after the field's name.
    """
    if len(text) > LONGEST_URL:
        raise WebhookRefusedError(f"{len(text)} characters are too many; a URL has at most {LONGEST_URL}.")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise WebhookRefusedError("it is not a URL; https://example.com/hook would be one.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise WebhookRefusedError("it is not an http or https URL; https://example.com/hook would be one.")
    literal = _address(url.host)
    if literal is not None:
        _check(literal, url.host, settings)
    elif url.host == "localhost" or url.host.endswith(".localhost"):
        _check(ip_address("127.0.0.1"), url.host, settings)
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


def _check(address: Address, host: str, settings: WebhookSettings) -> None:
    if not (settings.allow_private or host in settings.allowed_hosts or _is_public(address)):
        # Not the address itself: what names mean in this network is nothing for the client.
        raise WebhookRefusedError(f"{host} has an address that is not public, and may not be called.")


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (
        # Addresses that stand for one of IPv4, which may be any.
        address.ipv4_mapped is not None or address.sixtofour is not None or address.teredo or address in _NAT64
    ):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_link_local)
