"""Calls clients when their jobs have ended, from the outbox of the job store."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache

import httpx

from deployments.clock import iso_utc
from deployments.jobs.queue.outbox import Delivery
from deployments.jobs.queue.views import JobView
from deployments.jobs.store import JobStore
from deployments.settings.service import WebhookSettings
from deployments.tracker.webhook_urls import WebhookRefusedError, host_of, read_url, resolve

logger = logging.getLogger(__name__)

AT_ONCE = 64
LONGEST_PAUSE_SECONDS = 3600.0
POLL_SECONDS = 5.0
# Reading the job and recording the outcome take time beside the call itself.
_LEASE_MARGIN_SECONDS = 20.0


class FailedCallError(Exception):
    """A call failed."""


def sign(secret: str, body: bytes, moment: int) -> str:
    """Return a signature in the form that Stripe made common: https://docs.stripe.com/webhooks#verify-manually.

    Args:
        secret: Shared with the receiver.
        body: What is sent.
        moment: Seconds since 1970; signed as well, so that a receiver can refuse what is old.
    """
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def body_of(view: JobView) -> bytes:
    """Return the body of the call for a job that has ended: fields of its status, as JSON."""
    job = view.job
    fields = {
        "id": job.id,
        "status": job.state.value,
        "model_id": job.request.model_id,
        "message": job.message,
        "created_at": iso_utc(job.created_at),
        "completed_at": None if job.completed_at is None else iso_utc(job.completed_at),
        "images": [{"id": image.id, "file_path": f"/api/image/{image.id}"} for image in view.images],
    }
    return json.dumps(fields).encode()


class Courier:
    """Delivers calls that are due. Several, of several trackers, may share one store.

    Args:
        store: The job store.
        settings: How to call, and whom not.
        unix_time: Gives seconds since 1970, for signatures.
        transport: How to send; httpx's own where left out.
    """

    def __init__(
        self,
        store: JobStore,
        settings: WebhookSettings,
        *,
        unix_time: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._unix_time = unix_time
        # A proxy of the environment would look up hosts by itself, unchecked; and a connection that is kept would serve
        # other hosts of its address, under the first one's certificate.
        self._http = httpx.AsyncClient(
            transport=transport,
            verify=_certificates(),
            trust_env=False,
            follow_redirects=False,
            timeout=settings.timeout_seconds,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._lease = timedelta(seconds=settings.timeout_seconds + _LEASE_MARGIN_SECONDS)
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look for due calls now."""
        self._news.set()

    async def run_forever(self) -> None:
        """Deliver whatever is or becomes due, until cancelled."""
        try:
            while True:
                self._news.clear()
                pause = POLL_SECONDS
                try:
                    due = await self._store.outbox.seconds_to_next()
                    if due is not None and due <= 0:
                        await self.deliver_due()
                        continue
                    pause = POLL_SECONDS if due is None else min(due, POLL_SECONDS)
                except Exception:
                    logger.exception("Webhooks could not be looked after; it will be tried again")
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._news.wait()
        finally:
            await self._http.aclose()

    async def deliver_due(self) -> int:
        """Make the calls that are due, up to 64 of them at once, and return how many there were."""
        deliveries = await self._store.outbox.claim(AT_ONCE, self._lease)
        if deliveries:
            views = (await self._store.views.of([each.job_id for each in deliveries])).views
            await asyncio.gather(
                *(self._deliver(each, views[each.job_id]) for each in deliveries if each.job_id in views)
            )
        return len(deliveries)

    async def _deliver(self, delivery: Delivery, view: JobView) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                await self._call(delivery, view)
        except WebhookRefusedError as error:
            await self._store.outbox.failed(delivery, str(error), None)
        except (TimeoutError, httpx.TimeoutException):
            await self._failed(delivery, f"No answer came within {self._settings.timeout_seconds:g} seconds.")
        except FailedCallError as error:
            await self._failed(delivery, str(error))
        except (httpx.HTTPError, OSError) as error:
            await self._failed(delivery, f"The host cannot be called: {str(error) or type(error).__name__}")
        else:
            await self._store.outbox.delivered(delivery)

    async def _call(self, delivery: Delivery, view: JobView) -> None:
        url = read_url(delivery.url, self._settings)
        address = await resolve(url, self._settings)
        body = body_of(view)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "CyberImage",
            "Host": url.netloc.decode("ascii"),
            "X-CyberImage-Event": f"job.{view.job.state}",
            "X-CyberImage-Delivery": delivery.id,
        }
        if self._settings.secret:
            headers["X-CyberImage-Signature"] = sign(self._settings.secret, body, int(self._unix_time()))
        # To the address that was checked: another look-up might find another one. The certificate is the host's.
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers=headers,
            extensions={"sni_hostname": host_of(url)},
        )
        response = await self._http.send(request, stream=True)
        await response.aclose()  # its body is of no use, and may be long
        if not response.is_success:
            hint = "; redirects are not followed" if response.is_redirect else ""
            raise FailedCallError(f"The receiver answered {response.status_code}{hint}.")

    async def _failed(self, delivery: Delivery, reason: str) -> None:
        settings = self._settings
        last = delivery.attempt >= settings.max_attempts
        doubled = settings.first_pause_seconds * 2.0 ** min(delivery.attempt - 1, 32)
        # Half of it is left to chance, so that calls which failed together do not come back together.
        pause = min(doubled, LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311 # nosec B311
        await self._store.outbox.failed(delivery, reason, None if last else timedelta(seconds=pause))


@cache
def _certificates() -> ssl.SSLContext:
    """The authorities that receivers' certificates are checked with: read once in a process, as it takes a while."""
    return httpx.create_ssl_context(trust_env=False)
