"""How long the job store takes with an empty queue, and with many pending jobs: submit, status, claim, counts.

Two databases of each kind stand side by side, one with a backlog and one without, and each call is made to both in
turn, so that whatever else the machine does falls on both. Medians, in milliseconds.

    python -m benchmarks.jobs
    python -m benchmarks.jobs --backlog 10000 --rounds 50 --clients 1 1000

The PostgreSQL server is one of its own where it is installed, and does not wait for the disk: waiting adds the same
time to every call that writes, and would hide what the backlog costs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.database import Database
from deployments.jobs.database.tables import jobs, lanes, tallies
from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.records.jobs import JobRequest, JobState
from deployments.jobs.store import JobStore
from deployments.parameters import GenerationSettings
from tests.support.postgresql import PostgresqlServer, find_programs

MODEL = "tiny"
LEASE = timedelta(seconds=60)
SETTINGS = GenerationSettings(num_images=1, num_inference_steps=20, guidance_scale=7.5, width=512, height=512, seed=1)
UNLIMITED = QueueLimits(total=2**31 - 1)

Times = defaultdict[str, list[float]]


def request_of(client: str) -> JobRequest:
    """A client's request for one image."""
    return JobRequest(model_id=MODEL, prompt="a red circle on a blue square", settings=SETTINGS, client=client)


def client_of(number: int, clients: int) -> str:
    """Who submits the job with this number."""
    return f"client {number % clients}"


async def fill(url: str, backlog: int, clients: int) -> None:
    """Put ``backlog`` pending jobs of so many clients into a database with the newest schema."""
    now = datetime.now(UTC)
    job = {
        "model_id": MODEL,
        "prompt": request_of("").prompt,
        "negative_prompt": "",
        "settings": SETTINGS.model_dump(mode="json"),
        "search_text": request_of("").prompt,
        "state": JobState.PENDING,
        "total_steps": SETTINGS.num_inference_steps,
        "created_at": now,
    }
    waiting = [
        {**job, "id": f"backlog {number}", "client": client_of(number, clients), "place": number // clients + 1}
        for number in range(backlog)
    ]
    queues = []
    for number in range(min(clients, backlog)):
        pending = len(range(number, backlog, clients))
        row = {"model_id": MODEL, "client": client_of(number, clients), "pending": pending, "places": pending}
        queues.append({**row, "last_turn": 0})

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(jobs), waiting)
        await connection.execute(insert(lanes), queues)
        counted = {"state": JobState.PENDING, "model_id": MODEL, "shard": 0, "jobs": backlog}
        await connection.execute(insert(tallies), [counted])

    database = Database(url)
    await database.write(work)
    await database.close()


async def measure(store: JobStore, times: Times, number: int, clients: int, watched: str | None) -> None:
    """Make one round of calls; ``watched`` is a job of the backlog, or None where there is none."""

    async def timed(name: str, call: Callable[[], Awaitable[Any]]) -> None:
        start = time.perf_counter()
        await call()
        times[name].append((time.perf_counter() - start) * 1000)

    job_id, claim_id = str(uuid4()), str(uuid4())
    request = request_of(client_of(number, clients))

    async def status() -> None:
        await store.jobs.get(watched or job_id)
        await store.jobs.position(watched or job_id)

    await timed("submit", lambda: store.queue.submit({job_id: request}, UNLIMITED))
    await timed("status", status)
    await timed("counts", store.counts)
    await timed("claim", lambda: store.claims.claim({MODEL: 1}, "benchmark", claim_id, LEASE))


async def compare(urls: list[str], backlog: int, clients: int, rounds: int) -> tuple[Times, Times]:
    """Return the times of each call without and with a backlog."""
    empty, full = [await JobStore.open(url) for url in urls]
    await fill(urls[1], backlog, clients)
    without: Times = defaultdict(list)
    with_backlog: Times = defaultdict(list)
    choice = random.Random(0)
    for number in range(rounds + 5):
        await measure(empty, without, number, clients, None)
        # From the younger half: the older one may be claimed while this runs.
        await measure(full, with_backlog, number, clients, f"backlog {choice.randrange(backlog // 2, backlog)}")
    await empty.close()
    await full.close()
    warm = [defaultdict(list, {name: taken[5:] for name, taken in each.items()}) for each in (without, with_backlog)]
    return warm[0], warm[1]


@contextmanager
def two_files() -> Iterator[list[str]]:
    """URLs of two SQLite files."""
    with tempfile.TemporaryDirectory() as folder:
        yield [f"sqlite+aiosqlite:///{Path(folder)}/{name}.db" for name in ("empty", "full")]


@contextmanager
def two_databases(server: PostgresqlServer) -> Iterator[list[str]]:
    """URLs of two databases of a server."""
    names = [server.create_database() for _ in range(2)]
    yield [server.url(name) for name in names]
    for name in names:
        server.drop_database(name)


def report(kind: str, clients: int, without: Times, with_backlog: Times) -> None:
    """Print a line for each call."""
    for name, times in without.items():
        few, many = statistics.median(times), statistics.median(with_backlog[name])
        print(f"{kind:<11} {clients:>8} {name:<7} {few:>10.2f} {many:>12.2f} {many / few:>7.2f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backlog", type=int, default=100_000, help="pending jobs")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 100, 10_000], help="who submitted them")
    parser.add_argument("--rounds", type=int, default=200, help="calls of each kind")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        kinds: dict[str, Callable[[], Any]] = {"sqlite": two_files}
        programs = find_programs()
        if programs is None:
            print("PostgreSQL is not installed, and is not measured.")
        else:
            server = PostgresqlServer(programs)
            stack.callback(server.remove)
            server.start()
            stack.callback(server.stop)
            kinds["postgresql"] = lambda: two_databases(server)
        print(f"{arguments.backlog} pending jobs, {arguments.rounds} calls of each kind; medians in ms")
        print(f"{'database':<11} {'clients':>8} {'call':<7} {'empty':>10} {'backlog':>12} {'ratio':>7}")
        for kind, two in kinds.items():
            for clients in arguments.clients:
                with two() as urls:
                    measured = asyncio.run(compare(urls, arguments.backlog, clients, arguments.rounds))
                report(kind, clients, *measured)


if __name__ == "__main__":
    main()
