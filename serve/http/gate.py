"""Checks every request before a route is chosen: its origin, its client's address, its caller."""

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
from serve.http.problems import answer_problem, path_in_app
from serve.protection.identity import NotAllowedError
from serve.protection.protection import Protection
from serve.protection.trusted_proxies import TrustedProxies

# With these headers a client could set Ray Serve's time limit for its request, or let it run after a disconnect.
# The proxy has acted on them already, but a request that is refused at once gains nothing.
_HEADERS_OF_RAY = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class CrossSiteError(NotAllowedError):
    """The request comes from another site's page; cors.allowed_origins has the sites that may send any."""

    code = "cross_site"


class RayHeaderError(InvalidRequestError):
    """The request has a header by which Ray Serve would be told what to do.

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
        allowed_origins: Of the sites whose pages may change anything.
    """

    def __init__(
        self, app: ASGIApp, protection: Protection, trusted_proxies: Sequence[str], allowed_origins: Collection[str]
    ) -> None:
        self.app = app
        self.protection = protection
        self.proxies = TrustedProxies(trusted_proxies)
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
        address = self._locate(scope, headers)
        _refuse_headers_of_ray(headers)
        _refuse_other_sites(scope["method"], headers, self.allowed_origins)
        if is_public(path):
            identity = self.protection.anybody(address)
        else:
            query = QueryParams(scope["query_string"])
            identity = await self.protection.identify(address, scope["method"], path, headers, query)
        scope.setdefault("state", {})["identity"] = identity

    def _locate(self, scope: Scope, headers: Headers) -> str:
        peer = scope["client"][0] if scope.get("client") else ""
        if not self.proxies.include(peer):
            return peer
        address = self.proxies.client_of(peer, ",".join(headers.getlist("x-forwarded-for")))
        scope["client"] = (address, 0)
        if (scheme := headers.get("x-forwarded-proto", "").strip().lower()) in ("http", "https"):
            scope["scheme"] = scheme
        return address


def _refuse_headers_of_ray(headers: Headers) -> None:
    for name in _HEADERS_OF_RAY:
        if name in headers:
            raise RayHeaderError(name)


def _refuse_other_sites(method: str, headers: Headers, allowed: Collection[str]) -> None:
    """Refuse requests of other sites' pages, which browsers mark: a page could use its reader's access."""
    if method in _SAFE_METHODS or headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return
    if "*" not in allowed and headers.get("origin") not in allowed:
        raise CrossSiteError


def _tell_rate(headers: MutableHeaders, window: RateWindow) -> None:
    """Add the rate limit's headers, in the form of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/06/."""
    headers["RateLimit-Limit"] = str(window.limit)
    headers["RateLimit-Remaining"] = str(window.remaining)
    headers["RateLimit-Reset"] = str(window.reset_seconds)
