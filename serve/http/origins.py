"""The name under which a request reaches the service, and the page that the request comes from.

Two attacks have a browser do what its reader may do. In DNS rebinding (https://en.wikipedia.org/wiki/DNS_rebinding) a
page's own name comes to mean the service's address: the browser takes both for one site, and only the name in ``Host``
differs. In cross-site request forgery another site's page sends a request along with the reader's access. Here the
browser's own headers give it away, by the rules of Go's ``net/http.CrossOriginProtection``
(https://pkg.go.dev/net/http#CrossOriginProtection) and, for ``Referer``, of OWASP
(https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from serve.protection.identity import NotAllowedError

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MOST_SHOWN = 100  # characters of a header in an error
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::(?P<port>[0-9]{0,5}))?"
)


class UnknownHostError(NotAllowedError):
    """The service was asked under a name that is not one of its own.

    Args:
        host: As the request has it.
    """

    code = "unknown_host"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"Host: {host[:_MOST_SHOWN]!r} is no name of this service; add it to allowed_hosts "
            "(CYBERIMAGE_ALLOWED_HOSTS), or use an IP address or localhost."
        )


class CrossSiteError(NotAllowedError):
    """The request comes from another site's page; cors.allowed_origins has the sites that may send any."""

    code = "cross_site"


@dataclass(frozen=True)
class Host:
    """Whom a request or a page is for.

    Attributes:
        name: In lower case, without the dot of the root; an IPv6 address in its shortest form.
        port: None where none is given.
        is_address: Whether the name is an IP address.
    """

    name: str
    port: int | None
    is_address: bool

    @classmethod
    def read(cls, text: str) -> Host | None:
        """Return what a ``Host`` header says; None for what is none, such as ``[::1]evil``."""
        found = _HOST.fullmatch(text.lower())
        if found is None:
            return None
        name, is_address = found["ipv6"] or found["name"], True
        try:
            address = ipaddress.ip_address(name)
            if (address.version == 6) is not bool(found["ipv6"]):
                return None
            name = str(address)
        except ValueError:
            if found["ipv6"]:
                return None
            is_address = False
        return cls(name, int(found["port"]) if found["port"] else None, is_address)


class HostRules:
    """Says which names are the service's own.

    Args:
        allowed: The names; ``*.example.com`` for those of a domain, ``*`` for every one.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._names = frozenset(allowed)
        self._domains = tuple(name.removeprefix("*") for name in allowed if name.startswith("*."))

    def refuse_others(self, hosts: Sequence[str]) -> None:
        """Refuse a request under another name.

        IP addresses and ``localhost`` always pass: nobody but this machine can have them as a page's name.

        Args:
            hosts: Those that :func:`hosts_of` finds; a request of no browser may have none.

        Raises:
            UnknownHostError: One of them is none of the service's.
        """
        if "*" in self._names:
            return
        for text in hosts:
            host = Host.read(text)
            if host is None or not (host.is_address or self._includes(host.name)):
                raise UnknownHostError(text)

    def _includes(self, name: str) -> bool:
        return name in self._names or name == "localhost" or name.endswith((".localhost", *self._domains))


def hosts_of(headers: Headers, *, behind_proxy: bool) -> list[str]:
    """Return the names under which a request was sent.

    A proxy that does not set X-Forwarded-Host lets through what a page has written there: it is read beside ``Host``,
    not in its place.

    Args:
        headers: Of the request.
        behind_proxy: Whether a trusted proxy has passed it on.
    """
    hosts = headers.getlist("host")
    if behind_proxy:
        forwarded = ",".join(headers.getlist("x-forwarded-host")).split(",")
        hosts += [host for part in forwarded if (host := part.strip())]
    return hosts


def refuse_other_sites(method: str, headers: Headers, hosts: Sequence[str], allowed: Collection[str]) -> None:
    """Refuse what another site's page would change.

    Browsers send ``Sec-Fetch-Site`` to addresses with TLS and to this machine, and ``Origin`` with whatever is not GET
    or HEAD. Scripts cannot set either. The scheme is not compared, as TLS may end at a proxy.

    Args:
        method: Of the request.
        headers: Of the request.
        hosts: Those that :func:`hosts_of` finds.
        allowed: Origins whose pages may change anything; ``*`` for every one.

    Raises:
        CrossSiteError: The request comes from the page of another origin, or of one that the browser conceals.
    """
    if method in _SAFE_METHODS or "*" in allowed:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("none", "same-origin") or origin in allowed:
        return
    if site is not None:
        raise CrossSiteError
    page = headers.get("referer") if origin is None else origin
    if page is None or _is_of(page, hosts):
        return
    if origin is None and _origin_of(page) in allowed:
        return
    shown = f"{page[:_MOST_SHOWN]!r} is not at {' or '.join(hosts)[:_MOST_SHOWN]!r}"
    raise CrossSiteError(
        f"The request comes from another site's page: {shown}; a proxy in front has to pass Host on, and "
        "cors.allowed_origins has the sites that may send any."
    )


def _is_of(url: str, hosts: Sequence[str]) -> bool:
    """Whether a page is one of the service's own: of one of its names, at the same port."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    page, standard = Host.read(parts.netloc), _DEFAULT_PORTS.get(parts.scheme)
    if page is None or standard is None:
        return False
    own = [host for host in map(Host.read, hosts) if host is not None]
    return any(page.name == host.name and (page.port or standard) == (host.port or standard) for host in own)


def _origin_of(url: str) -> str:
    """Return the origin of a page, as the settings write it."""
    return "/".join(url.split("/", 3)[:3])
