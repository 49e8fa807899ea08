"""Many large bodies at once: one client cannot fill the memory, and shuts out nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx

from tests.support.api_service import ApiService, api_service, sentence

MOST_BYTES = 1024


class Upload:
    """A body of which all but the end has come."""

    def __init__(self, service: ApiService, client: str) -> None:
        self.has_come, self.may_end = asyncio.Event(), asyncio.Event()
        headers = {"X-Forwarded-For": client, "Content-Type": "image/png"}
        self.answer = asyncio.create_task(service.http.post("/api/inputs", content=self._body(), headers=headers))

    async def end(self) -> httpx.Response:
        self.may_end.set()
        return await self.answer

    async def _body(self) -> AsyncIterator[bytes]:
        yield bytes(MOST_BYTES - 1)
        self.has_come.set()
        await self.may_end.wait()
        yield b"!"


async def test_they_are_refused_above_the_share_of_one_client_and_taken_again_afterwards(tmp_path):
    async with api_service(tmp_path, max_upload_bytes=MOST_BYTES, trusted_proxies=["10.1.2.3"]) as service:
        uploads = [Upload(service, "6.6.6.6") for _ in range(8)]
        await asyncio.gather(*(each.has_come.wait() for each in uploads))

        refused = await Upload(service, "6.6.6.6").answer
        honest = await Upload(service, "1.2.3.4").end()
        ended = [await each.end() for each in uploads]
        later = await Upload(service, "6.6.6.6").end()

    assert "under way" in sentence(refused, 429)
    assert refused.headers["Retry-After"] == "1"
    assert [each.status_code for each in (honest, *ended, later)] == [415] * 10
