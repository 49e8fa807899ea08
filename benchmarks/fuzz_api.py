"""Sends requests that the OpenAPI document allows, and requests that it forbids, to every route: ``make fuzz``.

schemathesis makes them, and looks at the answers with all of its checks: for a status of 500 or above, a status or a
form that is not documented, a bad request that is taken, a good one that is not, a route that minds no wrong key. What
is left out, and why, is in ``fuzz_api.toml``.

The application runs as in a unit test, with a real tracker, database and storage. In place of a replica, each job gets
images of one colour at once; in place of a language model, every prompt is written out in the same words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx
import uvicorn

from deployments.catalog.catalog import load_catalog
from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from deployments.jobs.store import JobStore
from deployments.settings.service import QueueSettings, Settings
from deployments.settings.tracker import TrackerSettings
from deployments.storage.local import LocalStorage
from deployments.tracker.job_tracker import JobTracker
from serve.application import build_api
from serve.services.enrichment import Enricher
from serve.services.services import Services
from tests.support.api_service import ApiService

PROJECT = Path(__file__).parents[1]
CONFIG = Path(__file__).with_suffix(".toml")
JOBS = 60
LANGUAGE_MODEL = {"base_url": "http://language-model/v1", "model": "any"}


def main() -> int:
    """Fuzz, and return 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Other options are passed on to schemathesis.")
    parser.add_argument("--seed", type=int, default=0, help="of chance")
    arguments, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, report = folder / "fuzz.toml", folder / "report.json"
        # A key that is revoked on the way stays good for a while.
        known = Settings(data_dir=folder, auth={"mode": "keys", "cache_seconds": 300}, enrich=LANGUAGE_MODEL)
        key = asyncio.run(make_admin_key(known))
        with served(known) as url:
            headers = {"Authorization": f"Bearer {key}"}
            config.write_text(CONFIG.read_text() + dictionaries(url, headers))
            command = [
                Path(sys.executable).with_name("schemathesis"),
                f"--config-file={config}",
                "run",
                f"{url}/openapi.json",
                *(f"--header={name}: {value}" for name, value in headers.items()),
                f"--seed={arguments.seed}",
                f"--report-json-path={report}",
                *others,
            ]
            done = subprocess.run(command, check=False)
        sent = json.loads(report.read_text())["test_cases"]
    print(f"{sent['generated']} requests, {sent['with_failures']} with findings, seed {arguments.seed}")
    return done.returncode


def dictionaries(url: str, headers: dict[str, str]) -> str:
    """Have jobs done, and return their ids and those of their images as the configuration takes them."""
    body = {"model_id": "shapes", "prompt": "a large red circle", "settings": {"num_images": 8}}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        jobs = [http.post("/api/generate", json=body).json()["job_id"] for _ in range(JOBS)]
        images = []
        for job in jobs:
            while not (found := http.get(f"/api/status/{job}?wait=60").json()["images"]):
                pass
            images += [image["id"] for image in found]
    return f"\n[dictionaries]\njobs.values = {json.dumps(jobs)}\nimages.values = {json.dumps(images)}\n"


async def make_admin_key(known: Settings) -> str:
    """Make a key with every scope, straight in the database."""
    store = await JobStore.open(known.resolved_database_url)
    key_id, key = make_key()
    await store.keys.add(key_id, hash_of(key), NewKey(name="fuzz", scopes=(Scope.ADMIN,)), "fuzz")
    await store.close()
    return key


@contextmanager
def served(known: Settings) -> Iterator[str]:
    """Serve the application from a thread, on a free port; gives its URL."""
    tracker = JobTracker(
        TrackerSettings(database_url=known.resolved_database_url, queue=QueueSettings(limit=10_000_000))
    )
    catalog = load_catalog(PROJECT / "configs" / "cpu.yaml", {})
    storage = LocalStorage(known.images_dir)
    services = Services(known, catalog, tracker, storage)
    vars(services)["enricher"] = Enricher(known.enrich, httpx.MockTransport(_written_out))
    app = build_api(services)
    service = ApiService(app, None, tracker, storage, known.images_dir)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(_serve(server, service)))
    thread.start()
    while not server.started:
        thread.join(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _written_out(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"content": "a lonely castle in morning fog"}}]})


async def _serve(server: uvicorn.Server, service: ApiService) -> None:
    drawing = asyncio.create_task(_draw_forever(service))
    await server.serve()
    drawing.cancel()
    await asyncio.wait([drawing])
    await service.tracker.close()


async def _draw_forever(service: ApiService) -> None:
    while True:
        await service.tracker.administration.resume("shapes", "fuzz")  # which a request may have paused
        claims = await service.tracker.claim({"shapes": 10}, "fuzz", str(uuid4()), wait_seconds=1.0)
        for claim in claims:
            # A job that was cancelled or forgotten meanwhile is no concern of ours.
            with suppress(AssertionError):
                await service.finish(claim)


if __name__ == "__main__":
    raise SystemExit(main())
