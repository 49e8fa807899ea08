"""A service that asks for API keys, and every route there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi.routing import APIRoute

from deployments.jobs.records.api_keys import KeyLimits, NewKey, Scope, hash_of, make_key
from deployments.settings.service import Settings
from serve.application import build_api
from serve.services.services import Services
from tests.support.api_service import CPU_CATALOG, PROJECT, PROMPT, ApiService

NOBODY = "00000000-0000-4000-8000-000000000000"
BODY = {"model_id": "shapes", "prompt": PROMPT}


@dataclass
class Protected:
    """A service that asks for API keys."""

    service: ApiService

    async def key(self, name: str, *scopes: Scope, **limits: Any) -> dict[str, str]:
        """Make a key; gives the header to send."""
        key_id, key = make_key()
        new = NewKey(name=name, scopes=scopes or (Scope.READ, Scope.GENERATE), limits=KeyLimits(**limits))
        await self.service.tracker.keys.add(key_id, hash_of(key), new, "root")
        return {"Authorization": f"Bearer {key}"}

    async def finished_job(self, headers: dict[str, str]) -> tuple[str, str]:
        """Bring a job of this key to its end; gives its id and its image's."""
        answer = await self.service.http.post("/api/generate", headers=headers, json=BODY)
        assert answer.status_code == 200, answer.text
        (image,) = await self.service.finish(await self.service.start())
        return answer.json()["job_id"], image.id


def routes_of(routes: list[Any]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (context := getattr(route, "include_context", None)) is not None:
            yield from routes_of(context.included_router.routes)


def every_route() -> list[APIRoute]:
    """The routes of the whole application."""
    services = Services(Settings(data_dir=PROJECT / "data"), CPU_CATALOG, None, None)
    return list(routes_of(build_api(services).routes))
