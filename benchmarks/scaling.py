"""How many replicas one job tracker keeps busy, with models that sleep: where it bends, and what is full then.

Real are the tracker, an actor in a process of its own over a real database, the dispatcher, and each replica's progress
reporter. Only the models are not: a replica makes one job after the other, and a denoising step of it is a sleep. All
replicas share the process of the benchmark, so its own CPU share is told too: near 100 % it is that one that is full,
not the tracker.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --replicas 64 256 --job-seconds 2 --steps 4 --databases postgresql

"busy" is the share of time in which replicas made steps, with jobs always waiting. The PostgreSQL server is one of its
own where it is installed, and does not wait for the disk; SQLite does.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psutil
import ray

from benchmarks.databases import new_database, sqlite_file
from benchmarks.jobs import MODEL, fill
from deployments.jobs.parts import OpenParts
from deployments.jobs.records.jobs import Claim, JobPhase, NewImage
from deployments.jobs.store import JobStore
from deployments.jobs.transaction.operations import set_parts
from deployments.settings.service import QueueSettings
from deployments.settings.tracker import TrackerSettings
from deployments.tracker.actor import connect_tracker
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.progress import ProgressReporter
from deployments.tracker.remote import remote_tracker
from serve.dispatch import Dispatcher
from tests.support.postgresql import PostgresqlServer, find_programs

NAMESPACE = "benchmark"
ONGOING_JOBS = 2  # one under way, and one that follows without a gap: ModelEntry.most_ongoing_jobs of max_batch 1
CLIENTS = 20
BENDS_BELOW = 0.9


@dataclass
class Meter:
    """What happened within the window that is measured.

    Attributes:
        seconds: How long each call of the tracker took, by method.
        steps: Seconds of each denoising step.
        jobs: How many were completed.
        is_on: Whether the window is open.
    """

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    steps: list[float] = field(default_factory=list)
    jobs: int = 0
    is_on: bool = False


class TimedTracker:
    """A tracker whose calls are timed."""

    def __init__(self, tracker: JobTracker, meter: Meter) -> None:
        self._tracker = tracker
        self._meter = meter
        set_parts(self, OpenParts, self.call)

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            answer = await getattr(self._tracker, name)(*args, **kwargs)
            if self._meter.is_on:
                self._meter.seconds[name].append(time.perf_counter() - began)
            return answer

        return call


class SleepingReplica:
    """Makes jobs one after the other; a step is a sleep. It reports and completes as a real replica does."""

    def __init__(self, tracker: JobTracker, meter: Meter, load: Load) -> None:
        self._tracker = tracker
        self._meter = meter
        self._step_seconds = load.job_seconds / load.steps
        self._steps = load.steps
        # As if it had been at work before: replicas that all begin at once would also all end at once.
        self._steps_of_first = random.randrange(1, load.steps + 1)
        self._reporter = ProgressReporter(tracker, load.report_seconds)
        self._turn = asyncio.Lock()

    async def generate(self, claim: Claim) -> None:
        """Make a job."""
        with self._reporter.follow(claim, lambda: None) as progress:
            async with self._turn:
                progress.phase = JobPhase.GENERATING
                steps, self._steps_of_first = self._steps_of_first, self._steps
                for step in range(1, steps + 1):
                    await asyncio.sleep(self._step_seconds)
                    progress.step = step
                    if self._meter.is_on:
                        self._meter.steps.append(self._step_seconds)
            progress.phase = JobPhase.SAVING
            completed = await self._tracker.complete(claim.job_id, claim.fence, [_image_of(claim)])
        self._meter.jobs += completed and self._meter.is_on

    async def close(self) -> None:
        """Stop reporting."""
        await self._reporter.close()


class SleepingDeployment:
    """In place of Ray Serve's handle of a deployment: the replica with the fewest jobs gets the next one."""

    def __init__(self, replicas: list[SleepingReplica]) -> None:
        self._ongoing = dict.fromkeys(replicas, 0)

    @property
    def generate(self) -> SleepingDeployment:
        """The method."""
        return self

    def remote(self, claim: Claim) -> asyncio.Task[None]:
        """Call it."""
        replica = min(self._ongoing, key=lambda each: self._ongoing[each])
        self._ongoing[replica] += 1
        return asyncio.create_task(self._generate(replica, claim))

    async def _generate(self, replica: SleepingReplica, claim: Claim) -> None:
        try:
            await replica.generate(claim)
        finally:
            self._ongoing[replica] -= 1


def _image_of(claim: Claim) -> NewImage:
    metadata = {"model_id": claim.request.model_id, "prompt": claim.request.prompt}
    image_id = str(uuid4())
    return NewImage(
        id=image_id,
        index=0,
        key=f"2026/01/01/{image_id}.png",
        media_type="image/png",
        byte_count=400_000,
        sha256="0" * 64,
        metadata=metadata,
    )


@dataclass(frozen=True)
class Load:
    """What replicas have to do.

    Attributes:
        replicas: How many.
        job_seconds: Of each job.
        steps: Of each job.
        report_seconds: Between two reports of a replica.
        dispatchers: As many as there are ingress replicas.
        seconds: Of the window that is measured.
    """

    replicas: int
    job_seconds: float
    steps: int
    report_seconds: float
    dispatchers: int
    seconds: float

    @property
    def backlog(self) -> int:
        """More jobs than can be begun in that time."""
        return int(self.replicas * (2 * self.seconds / self.job_seconds + 4 * ONGOING_JOBS)) + 10


@dataclass(frozen=True)
class Shares:
    """CPU time of processes by the time of the window."""

    tracker: float
    driver: float


async def measure(load: Load, tracker: JobTracker, pid: int) -> tuple[Meter, Shares]:
    """Let all replicas work for the time of the window; returns what happened in it."""
    meter = Meter()
    timed: Any = TimedTracker(tracker, meter)
    replicas = [SleepingReplica(timed, meter, load) for _ in range(load.replicas)]
    share = -(-load.replicas * ONGOING_JOBS // load.dispatchers)
    deployment = SleepingDeployment(replicas)
    dispatchers = [Dispatcher(timed, {MODEL: deployment}, {MODEL: share}, 2.0, 2.0) for _ in range(load.dispatchers)]
    for dispatcher in dispatchers:
        dispatcher.start()
    # Until what each replica took in at the start has been made: later it is busy only with what came in time.
    await asyncio.sleep(ONGOING_JOBS * load.job_seconds)
    actor, driver = psutil.Process(pid), psutil.Process()
    before, began = (_cpu_seconds(actor), _cpu_seconds(driver)), time.perf_counter()
    meter.is_on = True
    await asyncio.sleep(load.seconds)
    meter.is_on = False
    elapsed = time.perf_counter() - began
    shares = Shares((_cpu_seconds(actor) - before[0]) / elapsed, (_cpu_seconds(driver) - before[1]) / elapsed)
    for dispatcher in dispatchers:
        await dispatcher.close()
    for replica in replicas:
        await replica.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return meter, shares


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run(load: Load, url: str) -> tuple[Meter, Shares]:
    """Measure with a tracker of its own over an empty database."""

    async def prepare() -> None:
        await (await JobStore.open(url)).close()
        await fill(url, load.backlog, CLIENTS)

    asyncio.run(prepare())
    settings = TrackerSettings(database_url=url, queue=QueueSettings(limit=2**31 - 1))
    actor = connect_tracker(settings, f"tracker-{uuid4()}", NAMESPACE)
    try:
        pid = ray.get(actor.describe.remote())["pid"]
        return asyncio.run(measure(load, remote_tracker(actor), pid))
    finally:
        ray.kill(actor)


COLUMNS = (
    f"{'database':<11} {'replicas':>8} {'busy':>6} {'jobs/s':>7} {'calls/s':>8}"
    f" {'tracker CPU':>11} {'a job':>7} {'own CPU':>8}"
    f" {'claim p50':>10} {'p95':>6} {'report p50':>11} {'p95':>6} {'complete p50':>13} {'p95':>6}"
)


def row(kind: str, load: Load, meter: Meter, shares: Shares) -> str:
    """A line of the table; times in milliseconds. A claim may wait until there is a job, or a slot, for some time."""
    calls = sum(len(each) for each in meter.seconds.values())
    busy = sum(meter.steps) / (load.replicas * load.seconds)
    cpu_of_job = shares.tracker * load.seconds / meter.jobs if meter.jobs else float("nan")
    times = [f"{value:.0f}" for name in ("claim", "report", "complete") for value in _quantiles(meter.seconds[name])]
    return (
        f"{kind:<11} {load.replicas:>8} {busy:>6.1%} {meter.jobs / load.seconds:>7.1f} {calls / load.seconds:>8.0f}"
        f" {shares.tracker:>11.0%} {cpu_of_job * 1000:>4.0f} ms {shares.driver:>8.0%}"
        f" {times[0]:>10} {times[1]:>6} {times[2]:>11} {times[3]:>6} {times[4]:>13} {times[5]:>6}"
        f"{'  bends' if busy < BENDS_BELOW else ''}"
    )


def _quantiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile, in milliseconds."""
    if len(seconds) < 2:
        return (float("nan"),) * 2
    return statistics.median(seconds) * 1000, statistics.quantiles(seconds, n=20)[-1] * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64, 256, 1000])
    parser.add_argument("--job-seconds", type=float, default=5.0, help="time of a job")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps of a job")
    parser.add_argument("--report-seconds", type=float, default=0.2, help="between two reports of a replica")
    parser.add_argument("--dispatchers", type=int, default=1, help="as many as ingress replicas")
    parser.add_argument("--seconds", type=float, default=10.0, help="time that is measured")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        kinds: dict[str, Any] = {"sqlite": sqlite_file}
        programs = find_programs()
        if programs is not None and "postgresql" in arguments.databases:
            server = PostgresqlServer(programs)
            stack.callback(server.remove)
            server.start()
            stack.callback(server.stop)
            kinds["postgresql"] = lambda: new_database(server)
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False
        )
        stack.callback(ray.shutdown)
        print(f"jobs of {arguments.steps} steps in {arguments.job_seconds:g} s, {arguments.dispatchers} dispatcher(s)")
        print(COLUMNS, flush=True)
        for kind in arguments.databases:
            if kind not in kinds:
                print("PostgreSQL is not installed, and is not measured.")
                continue
            for replicas in arguments.replicas:
                load = Load(
                    replicas,
                    arguments.job_seconds,
                    arguments.steps,
                    arguments.report_seconds,
                    arguments.dispatchers,
                    arguments.seconds,
                )
                with kinds[kind]() as url:
                    print(row(kind, load, *run(load, url)), flush=True)


if __name__ == "__main__":
    main()
