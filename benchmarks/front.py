"""Latency and requests a second of what stands in front of the ingress.

    python -m benchmarks.front

Starts the service as `serve run` does, once for each front, all of them on one machine, and asks `GET /live`, a route
that does nothing, of one after the other: over one connection, and over several. No replica of a model can run, so that
nothing else uses the cores. The ratios are to Ray's own proxy in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import yaml

from benchmarks.submissions import CATALOG
from tests.chaos.served import ServedCluster

# The variables by which each is chosen; docs/operations.md, "The front", has what they are for.
FRONTS = {
    "proxy": {},
    "one loop": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"},
    "HAProxy": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
}
WARM_UP = 100


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="turns of each front")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement")
    parser.add_argument("--connections", type=int, default=16, help="requests under way at once")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {name: _start(stack, folder / name.replace(" ", "-"), variables) for name, variables in FRONTS.items()}
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in urls}
        for _ in range(arguments.rounds):
            for name, url in urls.items():
                figures[name].append(asyncio.run(_measure(url, arguments)))
    report(figures)


def report(figures: dict[str, list[tuple[float, float]]]) -> None:
    """Print the medians over the rounds, and the ratios to the first front in each of them."""
    base = next(iter(figures.values()))
    for name, rounds in figures.items():
        alone, together = zip(*rounds, strict=True)
        slower = [mine[0] / other[0] for mine, other in zip(rounds, base, strict=True)]
        faster = [mine[1] / other[1] for mine, other in zip(rounds, base, strict=True)]
        print(
            f"{name}: p50 {statistics.median(alone) * 1000:.1f} ms, {statistics.median(together):.0f} requests/s; "
            f"p50 {_ratios(slower)}; requests/s {_ratios(faster)}"
        )


def _ratios(ratios: list[float]) -> str:
    return f"{', '.join(f'{ratio:.2f}' for ratio in ratios)} times, median {statistics.median(ratios):.2f}"


def _start(stack: ExitStack, place: Path, variables: dict[str, str]) -> str:
    place.mkdir()
    catalog = place / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(CATALOG))
    cluster = ServedCluster(place, {"catalog": str(catalog)}, environment=variables)
    stack.callback(cluster.stop)
    cluster.start()
    return cluster.url


async def _measure(url: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """The median seconds of a request at one connection, and the requests a second at several."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=arguments.connections)) as session:

        async def ask() -> float:
            start = time.perf_counter()
            async with session.get("/live") as answer:
                assert answer.status == 200
                await answer.read()
            return time.perf_counter() - start

        async def ask_until(end: float) -> list[float]:
            taken = []
            while time.perf_counter() < end:
                taken.append(await ask())
            return taken

        for _ in range(WARM_UP):
            await ask()
        alone = await ask_until(time.perf_counter() + arguments.seconds)
        start = time.perf_counter()
        end = start + arguments.seconds
        together = await asyncio.gather(*(ask_until(end) for _ in range(arguments.connections)))
        return statistics.median(alone), sum(map(len, together)) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
