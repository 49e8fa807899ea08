"""Checks every request before a route is chosen: its host, its origin, its client's address, its caller."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.jobs.records.exceptions import JobError
from deployments.telemetry.measuring import note_rejection
from deployments.tracker.rate_windows import RateWindow
from serve.errors import ApiError, InvalidRequestError
from serve.http.access import is_public
from serve.http.errors import problem_of
from serve.http.front import HEADERS_OF_RAY
from serve.http.origins import HostRules, hosts_of, refuse_other_sites
from serve.http.problems import answer_problem, path_in_app
from serve.protection.protection import Protection
from serve.protection.trusted_proxies import TrustedProxies


class RayHeaderError(InvalidRequestError):
    """The request has a header that Ray Serve would obey.

    Args:
        name: Of the header.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: this header is not for clients; leave it out.")


class Gate:
    """Authenticates requests and puts the caller into the state of their scope, as ``identity``.

    Without a valid API key, where one is required, only public paths are open; an unknown path gets the same answer as
    a protected one. Trusted proxies tell the client's address.

    Args:
        app: The application behind this middleware.
        protection: Authenticates the caller.
        trusted_proxies: Networks of the proxies that are believed.
        allowed_hosts: Names of the service, which are checked where no API keys are asked for.
        allowed_origins: Of the sites whose pages may change anything.
    """

    def __init__(
        self,
        app: ASGIApp,
        protection: Protection,
        trusted_proxies: Sequence[str],
        allowed_hosts: Collection[str],
        allowed_origins: Collection[str],
    ) -> None:
        self.app = app
        self.protection = protection
        self.proxies = TrustedProxies(trusted_proxies)
        self.hosts = HostRules(allowed_hosts)
        self.allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._admit(scope)
        except (ApiError, JobError) as error:
            note_rejection(error)
            await answer_problem(scope, problem_of(error))(scope, receive, send)
            return

        async def send_with_rate(message: Message) -> None:
            window = scope["state"].get("rate_window")
            if message["type"] == "http.response.start" and window is not None:
                _tell_rate(MutableHeaders(scope=message), window)
            await send(message)

        await self.app(scope, receive, send_with_rate)

    async def _admit(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), path_in_app(scope)
        peer = scope["client"][0] if scope.get("client") else ""
        behind_proxy = self.proxies.include(peer)
        address = self._locate(scope, peer, headers) if behind_proxy else peer
        hosts = hosts_of(headers, behind_proxy=behind_proxy)
        if not self.protection.asks_for_keys:
            self.hosts.refuse_others(hosts)
        _refuse_headers_of_ray(headers)
        refuse_other_sites(scope["method"], headers, hosts, self.allowed_origins)
        if is_public(path):
            identity = self.protection.anybody(address)
        else:
            query = QueryParams(scope["query_string"])
            identity = await self.protection.identify(address, scope["method"], path, headers, query)
        scope.setdefault("state", {})["identity"] = identity

    def _locate(self, scope: Scope, peer: str, headers: Headers) -> str:
        address = self.proxies.client_of(peer, ",".join(headers.getlist("x-forwarded-for")))
        scope["client"] = (address, 0)
        if (scheme := headers.get("x-forwarded-proto", "").strip().lower()) in ("http", "https"):
            scope["scheme"] = scheme
        return address


def _refuse_headers_of_ray(headers: Headers) -> None:
    for name in HEADERS_OF_RAY:
        if name in headers:
            raise RayHeaderError(name)


def _tell_rate(headers: MutableHeaders, window: RateWindow) -> None:
    """Add the rate limit's headers, in the form of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/06/."""
    headers["RateLimit-Limit"] = str(window.limit)
    headers["RateLimit-Remaining"] = str(window.remaining)
    headers["RateLimit-Reset"] = str(window.reset_seconds)
