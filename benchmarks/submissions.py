"""Accepted submissions per second, against requests to the same ingress that do nothing.

    python -m benchmarks.submissions

Starts the service as `serve run` does, on each kind of database, and lets a few connections submit jobs and do nothing
in turns: with `GET /live`, and with a body, as a submission has one, by calling a method that JSON-RPC does not have.
No replica of the model can run, so that nothing else uses the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import yaml

from tests.chaos.served import ServedCluster
from tests.support.postgresql import PostgresqlServer, find_programs

NOTHING = {"jsonrpc": "2.0", "id": 1, "method": "nothing", "params": {"prompt": "a red circle"}}
BODY = {"model_id": "asleep", "prompt": "a red circle", "settings": {"num_inference_steps": 4}}
CATALOG = {
    "default": "asleep",
    "models": {
        "asleep": {
            "repo": "shapes",
            "source": "builtin",
            "size": {
                "default_width": 64,
                "default_height": 64,
                "multiple_of": 64,
                "minimum": 64,
                "maximum": 64,
                "max_pixels": 4096,
            },
            # It wants a part that no machine has: jobs are queued, and none is begun.
            "replicas": {"min": 0, "max": 1, "num_cpus": 1024, "num_gpus": 0},
        }
    },
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="turns of each route")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument("--connections", type=int, default=16, help="requests under way at once")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _measure("SQLite", folder, {}, arguments)
        programs = find_programs()
        if programs is None:
            print("PostgreSQL is not installed; not measured")
            return
        server = PostgresqlServer(programs)
        stack.callback(server.remove)
        server.start()
        stack.callback(server.stop, "immediate")
        _measure("PostgreSQL", folder, {"database_url": server.url(server.create_database())}, arguments)


def _measure(name: str, folder: Path, settings: dict[str, str], arguments: argparse.Namespace) -> None:
    place = folder / name
    place.mkdir()
    catalog = place / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(CATALOG))
    queue = {"limit": 10_000_000}
    cluster = ServedCluster(place, {"catalog": str(catalog), "queue": queue, **settings})
    try:
        cluster.start()
        rates = asyncio.run(_rates(cluster.url, arguments))
    finally:
        cluster.stop()
    submits = rates.pop("submission")
    print(f"{name}: {statistics.median(submits):.0f} submissions/s")
    for kind, nothing in rates.items():
        ratios = [submit / noop for submit, noop in zip(submits, nothing, strict=True)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"  {kind}: {statistics.median(nothing):.0f}/s; {each} of its rate, median {statistics.median(ratios):.2f}"
        )


async def _rates(url: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Requests per second in each turn, by what they do."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=arguments.connections)) as session:

        async def get_nothing() -> None:
            async with session.get("/live") as answer:
                assert answer.status == 200

        async def post_nothing() -> None:
            async with session.post("/api/mcp", json=NOTHING) as answer:
                assert answer.status == 200

        async def submit() -> None:
            async with session.post("/api/generate", json=BODY) as answer:
                assert answer.status == 200, await answer.text()

        calls = {"nothing (GET)": get_nothing, "nothing (POST)": post_nothing, "submission": submit}
        rates: dict[str, list[float]] = {kind: [] for kind in calls}
        for _ in range(arguments.rounds):
            for kind, call in calls.items():
                rates[kind].append(await _rate(call, arguments))
    return rates


async def _rate(call: Callable[[], Awaitable[None]], arguments: argparse.Namespace) -> float:
    """Calls per second, with as many connections as were asked for."""
    done = 0
    end = time.perf_counter() + arguments.seconds

    async def one_after_the_other() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(arguments.connections)))
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
