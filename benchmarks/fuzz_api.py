"""Sends requests that the OpenAPI document allows, and requests that it forbids, to every route: ``make fuzz``.

The application runs as in a unit test, with a real tracker, database and storage; in place of a replica, each job gets
images of one colour at once. It asks for an API key, which the requests have. What is looked for: an answer of 500 or
above, an undocumented status, an answer that has not the documented form, a bad body that is taken, a route that minds
no wrong key.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks

from deployments.catalog import load_catalog
from deployments.job_tracker import JobTracker
from deployments.jobs.api_keys import NewKey, Scope, hash_of, make_key
from deployments.jobs.store import JobStore
from deployments.settings import Settings
from deployments.storage.local import LocalStorage
from serve.api.application import build_api
from serve.services import Services
from tests.unit.api_service import ApiService

PROJECT = Path(__file__).parents[1]
# A stream without an end (events of a single job are fuzzed), and what needs another service (503 without one).
LEFT_OUT = {"/api/events", "/api/enrich"}
# What a schema allows may still be beyond a model's limits, and is 400 then.
LEFT_OUT_CHECKS = [checks.positive_data_acceptance]
# Query parameters that a route does not know are not minded.
LEFT_OUT_WITHOUT_BODY = [*LEFT_OUT_CHECKS, checks.negative_data_rejection]


def main() -> int:
    """Fuzz, and return 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="requests in all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = Settings(data_dir=Path(folder), auth={"mode": "keys"})
        key = asyncio.run(make_admin_key(known))
        with served(known) as url:
            schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
            operations = [found.ok() for found in schema.get_all_operations()]
            operations = [operation for operation in operations if operation.path not in LEFT_OUT]
            varied = [each for each in operations if each.path_parameters or each.query or each.headers or each.body]
            share = -(-arguments.cases // len(varied))
            found = {operation.label: fuzz(operation, share, key) for operation in operations}
    for label, (sent, problem) in found.items():
        print(f"{label}: {sent} requests, {problem or 'nothing found'}")
    failed = [label for label, (_, problem) in found.items() if problem]
    print(f"{sum(sent for sent, _ in found.values())} requests, {len(found)} operations, {len(failed)} with findings")
    return 1 if failed else 0


def fuzz(operation: Any, cases: int, key: str) -> tuple[int, str]:
    """Send requests of both kinds to one operation.

    Args:
        operation: Of the OpenAPI document.
        cases: How many requests.
        key: An API key with every scope.

    Returns:
        How many were sent, and what was found first, with the request as a command.
    """
    sent, newest = 0, ""
    left_out = LEFT_OUT_CHECKS if operation.body else LEFT_OUT_WITHOUT_BODY
    both = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode))

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(both)
    def send(case: Any) -> None:
        nonlocal sent, newest
        sent, newest = sent + 1, case.as_curl_command()
        headers = {"Authorization": f"Bearer {key}"}
        case.call_and_validate(timeout=60, headers=headers, excluded_checks=left_out)

    try:
        send()
    except Exception as error:
        return sent, f"{type(error).__name__}: {error}\n{newest}"
    except BaseExceptionGroup as errors:
        return sent, "\n".join([*map(str, errors.exceptions), newest])
    return sent, ""


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
    tracker = JobTracker(database_url=known.resolved_database_url, queue_limit=10_000_000)
    catalog = load_catalog(PROJECT / "configs" / "cpu.yaml", {})
    storage = LocalStorage(known.images_dir)
    app = build_api(Services(known, catalog, tracker, storage))
    service = ApiService(app, None, tracker, storage, known.images_dir)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(_serve(server, service)))
    thread.start()
    while not server.started:
        thread.join(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


async def _serve(server: uvicorn.Server, service: ApiService) -> None:
    drawing = asyncio.create_task(_draw_forever(service))
    await server.serve()
    drawing.cancel()
    await asyncio.wait([drawing])
    await service.tracker.close()


async def _draw_forever(service: ApiService) -> None:
    while True:
        claims = await service.tracker.claim({"shapes": 10}, "fuzz", str(uuid4()), wait_seconds=1.0)
        for claim in claims:
            # A job that was cancelled or forgotten meanwhile is no concern of ours.
            with suppress(AssertionError):
                await service.finish(claim)


if __name__ == "__main__":
    raise SystemExit(main())
