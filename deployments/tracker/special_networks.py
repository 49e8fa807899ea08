"""The networks that no server of a client is in, however they are written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

# The whole of https://www.iana.org/assignments/iana-ipv4-special-registry, blocks for anycast services included, and
# the multicast addresses of https://www.iana.org/assignments/ipv4-address-space.
SPECIAL_IPV4 = {
    "0.0.0.0/8": "this network, RFC 791",
    "10.0.0.0/8": "private use, RFC 1918",
    "100.64.0.0/10": "shared address space of carriers, RFC 6598",
    "127.0.0.0/8": "loopback, RFC 1122",
    "169.254.0.0/16": "link local, RFC 3927; clouds answer here with credentials",
    "172.16.0.0/12": "private use, RFC 1918",
    "192.0.0.0/24": "IETF protocol assignments, RFC 6890",
    "192.0.2.0/24": "documentation, RFC 5737",
    "192.31.196.0/24": "AS112, RFC 7535",
    "192.52.193.0/24": "AMT, RFC 7450",
    "192.88.99.0/24": "relays of 6to4, RFC 7526",
    "192.168.0.0/16": "private use, RFC 1918",
    "192.175.48.0/24": "AS112, RFC 7534",
    "198.18.0.0/15": "benchmarks, RFC 2544",
    "198.51.100.0/24": "documentation, RFC 5737",
    "203.0.113.0/24": "documentation, RFC 5737",
    "224.0.0.0/4": "multicast, RFC 5771",
    "240.0.0.0/4": "reserved, RFC 1112, with the broadcast address",
}
# The whole of https://www.iana.org/assignments/iana-ipv6-special-registry, and what
# https://www.iana.org/assignments/ipv6-address-space has outside of global unicast. Some stand for an address of IPv4.
SPECIAL_IPV6 = {
    "::/128": "unspecified, RFC 4291",
    "::1/128": "loopback, RFC 4291",
    "::/96": "an address of IPv4, compatible form, RFC 4291",
    "::ffff:0:0/96": "an address of IPv4, mapped, RFC 4291",
    "::ffff:0:0:0/96": "an address of IPv4, translated, RFC 2765",
    "64:ff9b::/96": "an address of IPv4 behind NAT64, RFC 6052",
    "64:ff9b:1::/48": "an address of IPv4 behind a local NAT64, RFC 8215",
    "100::/64": "discarded, RFC 6666",
    "100:0:0:1::/64": "dummy prefix, RFC 9780",
    "2001::/23": "IETF protocol assignments, RFC 2928",
    "2001::/32": "Teredo, with an address of IPv4, RFC 4380",
    "2001:1::1/128": "port control protocol, RFC 7723",
    "2001:1::2/128": "TURN, RFC 8155",
    "2001:1::3/128": "DNS-SD service registration, RFC 9665",
    "2001:2::/48": "benchmarks, RFC 5180",
    "2001:3::/32": "AMT, RFC 7450",
    "2001:4:112::/48": "AS112, RFC 7535",
    "2001:10::/28": "ORCHID, RFC 4843",
    "2001:20::/28": "ORCHIDv2, RFC 7343",
    "2001:30::/28": "drone remote identification, RFC 9374",
    "2001:db8::/32": "documentation, RFC 3849",
    "2002::/16": "6to4, with an address of IPv4, RFC 3056",
    "2620:4f:8000::/48": "AS112, RFC 7534",
    "3fff::/20": "documentation, RFC 9637",
    "5f00::/16": "segment routing, RFC 9602",
    "fc00::/7": "unique local, RFC 4193",
    "fe80::/10": "link local, RFC 4291",
    "fec0::/10": "site local, RFC 3879",
    "ff00::/8": "multicast, RFC 4291",
}
_IPV4 = tuple(map(IPv4Network, SPECIAL_IPV4))
_IPV6 = tuple(map(IPv6Network, SPECIAL_IPV6))
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def is_public(address: Address) -> bool:
    """Whether an address may be a server of anybody's on the internet.

    ``ipaddress.is_global`` knows the registries of its Python's time, and takes for global what is not assigned.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _IPV4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _IPV6)
