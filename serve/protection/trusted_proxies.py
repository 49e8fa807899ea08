"""Finds the address of a client behind proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# One household or one server has all addresses of such a network, and could use a new one each time.
_IPV6_PREFIX = 64


class TrustedProxies:
    """Reads the headers that proxies add to requests, and trusts those of configured proxies only.

    Args:
        networks: Of the proxies that are believed.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(each) for each in networks]

    def include(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Return the address that a request comes from.

        Args:
            peer: Who is at the other end of the connection.
            forwarded_for: The X-Forwarded-For header: each proxy has added, at its end, who was at its connection.
        """
        address = peer
        for hop in reversed(forwarded_for.split(",")):
            parsed = parse_address(hop.strip())
            if parsed is None or not self.include(address):
                break
            address = str(parsed)
        return address


def parse_address(text: str) -> Address | None:
    """Return an IP address, an IPv4 one also where it is written as IPv6; None for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: str) -> str:
    """Return what the rate limits count an address by: itself, or for IPv6 its network."""
    parsed = parse_address(address)
    if parsed is None or parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
