"""How far the expected time to a job's end is off, under a steady load on a scripted model.

The tracker and its database are real, and so are claims and reports; the replicas are a script, and the clock is
theirs. Each replica denoises up to four jobs together, a forward takes 50 ms and 20 ms more for each of them, and a job
is prepared and saved for 0.1 s each. Jobs of 4 to 50 steps come at random, at 95 % of what the replicas can do, onto a
backlog. Once a second every open job is asked for its ``eta_seconds``; the error is relative to the seconds that it
then really took.

    python -m benchmarks.eta
    python -m benchmarks.eta --jobs 1000 --seed 7
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deployments.jobs.records.jobs import Claim, JobPhase, JobRequest, JobState, ProgressReport
from deployments.parameters import GenerationSettings
from deployments.settings.service import QueueSettings
from deployments.settings.tracker import TrackerSettings
from deployments.tracker.job_tracker import JobTracker

MODEL = "scripted"
REPLICAS = 2
ROWS = 4
FORWARD_SECONDS, ROW_SECONDS = 0.05, 0.02
EDGE_SECONDS = 0.1
REPORT_SECONDS = 0.2
SAMPLE_SECONDS = 1.0
BACKLOG = 30
LOAD = 0.95
STEPS = (4, 8, 20, 28, 50)
START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Run:
    """A claimed job at a replica.

    Attributes:
        claim: The right to run it.
        ready_at: When it is prepared.
        step: Steps done.
        saved_at: When it will have been saved; None before its last step.
    """

    claim: Claim
    ready_at: float
    step: int = 0
    saved_at: float | None = None

    @property
    def steps(self) -> int:
        """Steps it has in all."""
        return self.claim.request.settings.num_inference_steps

    def report(self, now: float) -> ProgressReport:
        """What its replica says of it."""
        phase = JobPhase.PREPARING if now < self.ready_at else JobPhase.GENERATING
        phase = phase if self.saved_at is None else JobPhase.SAVING
        return ProgressReport(job_id=self.claim.job_id, fence=self.claim.fence, phase=phase, step=self.step)


@dataclass
class Replica:
    """Denoises its jobs together, a step of all that are ready at a time."""

    runs: list[Run] = field(default_factory=list)
    batch: list[Run] = field(default_factory=list)
    forward_ends: float | None = None

    def begin(self, now: float) -> None:
        """Begin a forward, if none is under way and some job is ready for it."""
        if self.forward_ends is None:
            self.batch = [run for run in self.runs if run.ready_at <= now and run.saved_at is None]
            if self.batch:
                self.forward_ends = now + FORWARD_SECONDS + ROW_SECONDS * len(self.batch)

    def end(self, now: float) -> None:
        """End the forward whose time has come."""
        self.forward_ends = None
        for run in self.batch:
            run.step += 1
            if run.step == run.steps:
                run.saved_at = now + EDGE_SECONDS

    def next_time(self, now: float) -> float:
        """When something happens here next."""
        times = [run.ready_at for run in self.runs if run.ready_at > now]
        times += [run.saved_at for run in self.runs if run.saved_at is not None]
        return min([*times, *([self.forward_ends] if self.forward_ends is not None else [])], default=float("inf"))


@dataclass
class Sample:
    """What was told of a job: when, in which state, and how many seconds."""

    at: float
    state: JobState
    eta_seconds: float


class Simulation:
    """A steady load of so many jobs."""

    def __init__(self, tracker: JobTracker, clock: list[float], count: int, seed: int) -> None:
        self._tracker = tracker
        self._clock = clock
        choice = random.Random(seed)
        steps = [choice.choice(STEPS) for _ in range(count)]
        rate = REPLICAS * ROWS / (FORWARD_SECONDS + ROW_SECONDS * ROWS)  # steps a second
        mean_seconds = statistics.mean(STEPS) / rate / LOAD
        at, self._arrivals = 0.0, list[tuple[float, str, int]]()
        for number in range(count):
            at += choice.expovariate(1 / mean_seconds) if number >= BACKLOG else 0.0
            self._arrivals.append((at, f"job {number}", steps[number]))
        self._replicas = [Replica() for _ in range(REPLICAS)]
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self._open: set[str] = set()
        self._claims = 0
        self.ended: dict[str, float] = {}

    async def run(self) -> dict[str, list[float]]:
        """Run to the end; returns the relative errors by the state that the jobs were in."""
        report_at, sample_at = REPORT_SECONDS, SAMPLE_SECONDS
        while self._arrivals or self._open:
            now = min(
                report_at,
                sample_at,
                self._arrivals[0][0] if self._arrivals else float("inf"),
                *(replica.next_time(self._clock[0]) for replica in self._replicas),
            )
            self._clock[0] = now
            await self._arrive(now)
            await self._work(now)
            if now >= report_at:
                report_at += REPORT_SECONDS
                await self._report(now)
            if now >= sample_at:
                sample_at += SAMPLE_SECONDS
                await self._sample(now)
        errors: dict[str, list[float]] = {"pending": [], "processing": []}
        for job_id, samples in self._samples.items():
            for sample in samples:
                true = self.ended[job_id] - sample.at
                errors[sample.state].append(abs(sample.eta_seconds - true) / true)
        return errors

    async def _arrive(self, now: float) -> None:
        while self._arrivals and self._arrivals[0][0] <= now:
            _, job_id, steps = self._arrivals.pop(0)
            settings = GenerationSettings(
                num_images=1, num_inference_steps=steps, guidance_scale=7, width=64, height=64, seed=1
            )
            client = f"client {len(self._arrivals) % 5}"
            request = JobRequest(model_id=MODEL, prompt="a ring", settings=settings, client=client)
            await self._tracker.submit_all({job_id: request})
            self._open.add(job_id)

    async def _work(self, now: float) -> None:
        for replica in self._replicas:
            if replica.forward_ends is not None and replica.forward_ends <= now:
                replica.end(now)
            for run in [run for run in replica.runs if run.saved_at is not None and run.saved_at <= now]:
                replica.runs.remove(run)
                await self._tracker.complete(run.claim.job_id, run.claim.fence, [])
                self._open.remove(run.claim.job_id)
                self.ended[run.claim.job_id] = now
        free = REPLICAS * ROWS - sum(len(replica.runs) for replica in self._replicas)
        waiting = len(self._open) - (REPLICAS * ROWS - free)
        if free and waiting:
            self._claims += 1
            for claim in await self._tracker.claim({MODEL: free}, "dispatcher", f"claim {self._claims}"):
                quietest = min(self._replicas, key=lambda replica: len(replica.runs))
                quietest.runs.append(Run(claim, now + EDGE_SECONDS))
        for replica in self._replicas:
            replica.begin(now)

    async def _report(self, now: float) -> None:
        for replica in self._replicas:
            if replica.runs:
                await self._tracker.report([run.report(now) for run in replica.runs])

    async def _sample(self, now: float) -> None:
        for job_id, view in (await self._tracker.get_many(sorted(self._open))).items():
            if view.eta_seconds is not None:
                self._samples[job_id].append(Sample(now, view.job.state, view.eta_seconds))


async def measure(count: int, seed: int) -> dict[str, list[float]]:
    """Return the relative errors of one load, by the state that the jobs were in."""
    clock = [0.0]
    with tempfile.TemporaryDirectory() as folder:
        tracker = JobTracker(
            TrackerSettings(
                database_url=f"sqlite+aiosqlite:///{folder}/jobs.db",
                queue=QueueSettings(limit=count, lease_seconds=3600),
            ),
            clock=lambda: START + timedelta(seconds=clock[0]),
        )
        try:
            return await Simulation(tracker, clock, count, seed).run()
        finally:
            await tracker.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=400, help="jobs of the load")
    parser.add_argument("--seed", type=int, default=1, help="of the load")
    arguments = parser.parse_args()
    errors = asyncio.run(measure(arguments.jobs, arguments.seed))
    print(f"{arguments.jobs} jobs, seed {arguments.seed}; errors relative to the true seconds left")
    print(f"{'told while':<12} {'samples':>8} {'median':>8} {'mean':>8} {'90 %':>8}")
    for state, found in {**errors, "all": [each for some in errors.values() for each in some]}.items():
        ranked = sorted(found)
        middle, most = statistics.median(ranked), ranked[int(len(ranked) * 0.9)]
        print(f"{state:<12} {len(ranked):>8} {middle:>8.1%} {statistics.mean(ranked):>8.1%} {most:>8.1%}")


if __name__ == "__main__":
    main()
