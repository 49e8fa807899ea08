"""What it costs to watch a job: calls of the tracker, and CPU time, with 1, 100 and 1,000 watchers.

The application, the tracker and its database are real and share one process; the watchers read event streams in memory,
so what a network would add is not in it. Each progress report of the job goes to all watchers before the next one is
made.

    python -m benchmarks.watching
    python -m benchmarks.watching --reports 200 --watchers 1 10 5000
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.catalog.catalog import load_catalog
from deployments.catalog.entry import PROJECT_ROOT
from deployments.jobs.parts import OpenParts
from deployments.jobs.records.jobs import JobPhase, JobRequest, ProgressReport
from deployments.jobs.transaction.operations import set_parts
from deployments.parameters import GenerationSettings
from deployments.settings.service import Settings
from deployments.settings.tracker import TrackerSettings
from deployments.storage.local import LocalStorage
from deployments.tracker.job_tracker import JobTracker
from serve.application import build_api
from serve.services.job_feed import Rhythm
from serve.services.services import Services
from tests.support.event_stream import EventStream, open_stream

JOB_ID = "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d"


class CountedTracker:
    """A tracker whose calls are counted."""

    def __init__(self, tracker: JobTracker) -> None:
        self._tracker = tracker
        self.calls: Counter[str] = Counter()
        set_parts(self, OpenParts, self.call)

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return await getattr(self._tracker, name)(*args, **kwargs)

        return call


@dataclass
class Cost:
    """What one report cost: calls of the tracker, and CPU seconds of the process."""

    calls: float
    seconds: float


async def step_of(stream: EventStream, step: int) -> None:
    """Read until the progress with this step."""
    while (await stream.event("progress")).data["step"] < step:
        pass


async def measure(watchers: int, reports: int, folder: Path) -> Cost:
    """Return what a report costs with so many watchers; the cost of the report itself is in it."""
    settings = Settings(data_dir=folder)
    tracker = JobTracker(TrackerSettings(database_url=settings.resolved_database_url))
    counted: Any = CountedTracker(tracker)
    catalog = load_catalog(PROJECT_ROOT / "configs" / "cpu.yaml", {})
    # No rest: each report is told by itself, so that there are as many events as reports.
    services = Services(settings, catalog, counted, LocalStorage(settings.images_dir), Rhythm(rest=0.0))
    app = build_api(services)
    asked = GenerationSettings(
        num_images=1, num_inference_steps=reports + 1, guidance_scale=7, width=64, height=64, seed=1
    )
    await tracker.submit_all({JOB_ID: JobRequest(model_id="shapes", prompt="a ring", settings=asked)})
    (claim,) = await tracker.claim({"shapes": 1}, "benchmark", "claim")
    async with AsyncExitStack() as stack:
        path = f"/api/jobs/{JOB_ID}/events"
        streams = [await stack.enter_async_context(open_stream(app, path)) for _ in range(watchers)]
        await asyncio.gather(*(step_of(stream, 0) for stream in streams))
        counted.calls.clear()
        began = time.process_time()
        for step in range(1, reports + 1):
            told = ProgressReport(job_id=JOB_ID, fence=claim.fence, phase=JobPhase.GENERATING, step=step)
            await tracker.report([told])
            await asyncio.gather(*(step_of(stream, step) for stream in streams))
        cost = Cost(counted.calls.total() / reports, (time.process_time() - began) / reports)
    await services.feed.close()
    await tracker.close()
    return cost


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reports", type=int, default=50, help="progress reports of the job")
    parser.add_argument("--watchers", type=int, nargs="+", default=[1, 100, 1000], help="who watch it at once")
    arguments = parser.parse_args()
    print(f"{arguments.reports} reports; ratios are to {arguments.watchers[0]} watcher(s)")
    columns = f"{'calls/report':>13} {'ratio':>6} {'CPU/report':>11} {'ratio':>6} {'CPU/event':>10} {'ratio':>6}"
    print(f"{'watchers':>8} {columns}")
    first: Cost | None = None
    for watchers in arguments.watchers:
        with tempfile.TemporaryDirectory() as folder:
            cost = asyncio.run(measure(watchers, arguments.reports, Path(folder)))
        first = first or cost
        event, first_event = cost.seconds / watchers, first.seconds / arguments.watchers[0]
        print(
            f"{watchers:>8} {cost.calls:>13.2f} {cost.calls / first.calls:>6.2f}"
            f" {cost.seconds * 1000:>8.2f} ms {cost.seconds / first.seconds:>6.2f}"
            f" {event * 1000:>7.3f} ms {event / first_event:>6.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
