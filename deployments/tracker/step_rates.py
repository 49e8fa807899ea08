"""How fast the models work, measured from the reports of their replicas, and when a job will end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deployments.jobs.records.jobs import Claim, Job, JobPhase, JobState, ProgressReport

# Older measurements fade: those that lie this many seconds of running jobs back count for 1/e.
MEMORY_SECONDS = 120.0


@dataclass
class _Run:
    """A job that runs, as it was last heard of."""

    model_id: str
    fence: int
    total_steps: int
    heard_at: float
    step: int = 0
    phase: JobPhase = JobPhase.PREPARING


@dataclass
class _Pace:
    """What the jobs of a model did lately, fading."""

    steps: float = 0.0
    seconds: float = 0.0
    jobs: float = 0.0
    steps_of_jobs: float = 0.0

    def ran(self, steps: int, seconds: float) -> None:
        kept = math.exp(-seconds / MEMORY_SECONDS)
        self.steps = self.steps * kept + steps
        self.seconds = self.seconds * kept + seconds

    def began(self, total_steps: int) -> None:
        self.jobs = self.jobs * 0.99 + 1
        self.steps_of_jobs = self.steps_of_jobs * 0.99 + total_steps


class StepRates:
    """Measures how fast the jobs of each model advance while they run.

    The rate of all replicas of a model, in steps per second, is the rate of one of its running jobs times how many run;
    images that are denoised together, and replicas that work beside each other, are in both. Time in which a model is
    being loaded does not count; preparing and saving do, as they hold the same place.

    Args:
        clock: Gives seconds that never fall.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: dict[str, _Run] = {}
        self._paces: dict[str, _Pace] = {}

    def claimed(self, claim: Claim) -> None:
        """Note that a job begins to run; a claim that is already noted changes nothing."""
        known = self._running.get(claim.job_id)
        if known is not None and known.fence == claim.fence:
            return
        total_steps = claim.request.settings.total_steps
        self._running[claim.job_id] = _Run(claim.request.model_id, claim.fence, total_steps, self._clock())
        self._pace(claim.request.model_id).began(total_steps)

    def reported(self, report: ProgressReport) -> None:
        """Note where a job stands; a job whose claim was not noted is ignored."""
        run = self._running.get(report.job_id)
        if run is not None and run.fence == report.fence:
            self._advance(run, max(run.step, report.step))
            run.phase = max(run.phase, report.phase, key=lambda phase: phase.rank)

    def completed(self, job_id: str) -> None:
        """Note that a job has made all its steps."""
        run = self._running.pop(job_id, None)
        if run is not None:
            self._advance(run, run.total_steps)

    def stopped(self, job_id: str) -> None:
        """Note that a job stopped running, for whatever reason."""
        self._running.pop(job_id, None)

    def rate_of_one(self, model_id: str) -> float | None:
        """Return the steps per second of one running job of a model; None where nothing was measured yet."""
        pace = self._pace(model_id)
        return pace.steps / pace.seconds if pace.steps and pace.seconds else None

    def seconds_left(self, job: Job, queue_position: int | None, running: Sequence[int]) -> float | None:
        """Return in how many seconds a job will have made its last step.

        A pending job waits for its turn: as many jobs run at once as do now, each that ends makes room for the next
        one, and those ahead have as many steps as jobs of this model had lately.

        Args:
            job: The job.
            queue_position: Of a pending job, from 1.
            running: Steps left of each running job of its model.

        Returns:
            None where nothing was measured yet, the position is not known, or the job has ended.
        """
        rate = self.rate_of_one(job.request.model_id)
        if rate is None or job.state.is_terminal:
            return None
        if job.state is JobState.PROCESSING:
            return (job.total_steps - job.step) / rate
        if queue_position is None:
            return None
        pace = self._pace(job.request.model_id)
        mean_steps = pace.steps_of_jobs / pace.jobs if pace.jobs else job.total_steps
        rounds, place = divmod(queue_position - 1, max(1, len(running)))
        room_after = sorted(running)[place] if running else 0
        return (room_after + rounds * mean_steps + job.total_steps) / rate

    def _advance(self, run: _Run, step: int) -> None:
        now = self._clock()
        if run.phase is not JobPhase.LOADING_MODEL:
            self._pace(run.model_id).ran(step - run.step, now - run.heard_at)
        run.heard_at, run.step = now, step

    def _pace(self, model_id: str) -> _Pace:
        return self._paces.setdefault(model_id, _Pace())
