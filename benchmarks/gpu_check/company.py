"""Images a second and waiting times in company, by the way to serve."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section
from benchmarks.gpu_check.servers import MOST_TOGETHER, SERVERS, InEngine, Server

COMPANY = (1, 4, 8)
# In a mixed load clients come this share of a lone image's time apart, every other one with twice the steps.
_GAP = 0.25


@dataclass(frozen=True)
class Load:
    """Clients who ask for an image each.

    Attributes:
        size: Width and height in pixels.
        clients: How many.
        gap: Seconds from one client to the next; 0: all come at once, and ask for the same steps.
    """

    size: int
    clients: int
    gap: float = 0.0

    def serve(self, server: Server, model: Model) -> tuple[float, float]:
        """Images a second, and the 95th percentile of the seconds that a client waits."""
        seconds: list[float] = []

        def be_client(number: int) -> None:
            time.sleep(number * self.gap)
            steps = model.steps * (2 if self.gap and number % 2 else 1)
            began = time.perf_counter()
            server.draw(model.request(number, self.size, num_inference_steps=steps))
            seconds.append(time.perf_counter() - began)

        started = time.perf_counter()
        with ThreadPoolExecutor(self.clients) as threads:
            list(threads.map(be_client, range(self.clients)))
        return len(seconds) / (time.perf_counter() - started), float(np.percentile(seconds, 95))

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.clients}, mixed" if self.gap else str(self.clients)


def check_company(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Clients who come at once, at both sizes, and a mixed load; each with each way to serve them."""
    columns = ("size", "clients", "by", "images/s", "of serial", "p95 (s)", "p95 of serial's", "rows computed / asked")
    section = Section(f"{model.name}: in company, {model.steps} steps", columns)
    serial: dict[Load, tuple[float, float]] = {}
    for name, serve in SERVERS.items():
        server = serve(pipeline)
        try:
            for size in model.sizes:
                Load(size, 1).serve(server, model)
                if name != "serial":
                    Load(size, MOST_TOGETHER).serve(server, model)
                for load in [each for each in serial if each.size == size] or _loads(server, model, size):
                    if bench.seconds_left < 0:
                        section.notes.append(f"Time ended before {name}, {size} pixels, {load.name} clients.")
                        continue
                    before = _rows(server)
                    rate, late = load.serve(server, model)
                    base = serial.setdefault(load, (rate, late))
                    waste = _waste(before, _rows(server))
                    row = [size, load.name, name, rate, rate / base[0], late, late / base[1], waste]
                    section.rows.append(row)
        finally:
            server.stop()
    return section


def _loads(server: Server, model: Model, size: int) -> list[Load]:
    """The loads of a size; the gap of the mixed one follows from what an image takes alone."""
    _, alone = Load(size, 1).serve(server, model)
    mixed = [Load(size, COMPANY[-1], gap=_GAP * alone)] if size == model.sizes[0] else []
    return [*(Load(size, clients) for clients in COMPANY), *mixed]


def _rows(server: Server) -> tuple[int, int]:
    """Rows that were asked for, and rows that were computed besides, of the engine so far."""
    if not isinstance(server, InEngine):
        return 0, 0
    statistics = server.engine.statistics
    return statistics.asked_rows, statistics.checking_rows + statistics.padded_rows


def _waste(before: tuple[int, int], after: tuple[int, int]) -> float | str:
    asked, besides = after[0] - before[0], after[1] - before[1]
    return 1 + besides / asked if asked else ""
