"""Any order of calls, stale ones included, keeps what the states promise."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.records.exceptions import JobStateError, QueueFullError, UnknownJobError
from deployments.jobs.records.jobs import Job, JobPhase, JobRequest, JobState, NewImage, PriorityClass, ProgressReport
from deployments.jobs.store import JobStore
from deployments.jobs.transaction.backoff import Backoff
from deployments.parameters import GenerationSettings
from tests.support.job_samples import complete, reported, submit

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
QUEUE_LIMIT = 3
JOB_IDS = [f"job-{number}" for number in range(4)]

jobs = st.sampled_from(JOB_IDS)
fences = st.integers(1, MAX_ATTEMPTS)


class LifeCycle(RuleBasedStateMachine):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        backoff = Backoff(4.0, 60.0, jitter=lambda: 0.5)
        self.store = self.runner.run(JobStore.open(url, lambda: self.now, backoff))
        self.paused: set[str] = set()
        self.known: dict[str, Job] = {}
        self.completed_by: dict[str, int] = {}
        self.claimed: set[tuple[str, int]] = set()

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    @rule(
        job_id=jobs,
        client=st.sampled_from(["ann", "bob"]),
        priority=st.sampled_from(PriorityClass),
        expires_in=st.sampled_from([None, None, 10, 40]),
    )
    def submit(self, job_id: str, client: str, priority: PriorityClass, expires_in: int | None) -> None:
        generation = GenerationSettings(
            num_images=1, num_inference_steps=4, guidance_scale=7, width=64, height=64, seed=1
        )
        request = JobRequest(
            model_id="tiny",
            prompt="a red circle",
            settings=generation,
            client=client,
            priority=priority,
            expires_in=expires_in,
        )
        pending = sum(job.state is JobState.PENDING for job in self.known.values())
        try:
            job = self.runner.run(submit(self.store, job_id, request, QueueLimits(total=QUEUE_LIMIT)))
        except QueueFullError:
            assert pending == QUEUE_LIMIT
            assert job_id not in self.known
        else:
            assert job == self.known.setdefault(job_id, job)

    @rule(count=st.integers(1, 3), claim_id=st.sampled_from(["1", "2", "3", "4", "5"]))
    def claim(self, count: int, claim_id: str) -> None:
        waiting = [job for job in self.known.values() if job.state is JobState.PENDING]
        for claim in self.runner.run(self.store.claims.claim({"tiny": count}, "replica", claim_id, LEASE)):
            job = self.known[claim.job_id]
            if job in waiting:
                assert not self.paused
                assert job.not_before is None or job.not_before <= self.now
                assert job.expires_at is None or job.expires_at > self.now
            before = self.known[claim.job_id]
            if before.state is JobState.PENDING:
                assert claim.fence == before.attempts + 1
                self.claimed.add((claim.job_id, claim.fence))
            else:  # a repeated call
                assert (before.state, before.attempts) == (JobState.PROCESSING, claim.fence)

    @rule(job_id=jobs, fence=fences, step=st.integers(0, 4))
    def report(self, job_id: str, fence: int, step: int) -> None:
        progress = ProgressReport(job_id=job_id, fence=fence, phase=JobPhase.GENERATING, step=step)
        stop = self.runner.run(reported(self.store, [progress], LEASE))
        job = self.known.get(job_id)
        assert (job_id not in stop) == (self.runs(job, fence) and not job.cancel_requested)

    @rule(job_id=jobs, fence=fences)
    def complete(self, job_id: str, fence: int) -> None:
        made = NewImage(
            id=f"{job_id}/0", index=0, key="key", media_type="image/png", byte_count=1, sha256="0", metadata={}
        )
        job = self.known.get(job_id)
        if self.runner.run(complete(self.store, job_id, fence, [made])):
            if self.runs(job, fence):
                assert not job.cancel_requested
            assert self.completed_by.setdefault(job_id, fence) == fence
        else:
            assert not self.runs(job, fence) or job.cancel_requested

    @rule(job_id=jobs, fence=fences, retryable=st.booleans())
    def fail(self, job_id: str, fence: int, retryable: bool) -> None:
        max_attempts = MAX_ATTEMPTS if retryable else None
        call = self.store.attempts.fail(job_id, fence, "No luck.", max_attempts=max_attempts)
        assert self.runner.run(call) or not self.runs(self.known.get(job_id), fence)

    @rule(job_id=jobs, fence=fences)
    def release(self, job_id: str, fence: int) -> None:
        self.runner.run(self.store.attempts.fail(job_id, fence, "gone.", MAX_ATTEMPTS))

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        try:
            job = self.runner.run(self.store.jobs.cancel(job_id))
        except UnknownJobError:
            assert job_id not in self.known
        else:
            assert job.state.is_terminal or job.cancel_requested

    @rule(job_id=jobs, priority=st.sampled_from(PriorityClass))
    def reprioritize(self, job_id: str, priority: PriorityClass) -> None:
        try:
            job = self.runner.run(self.store.jobs.reprioritize(job_id, priority, "eve"))
        except UnknownJobError:
            assert job_id not in self.known
        except JobStateError:
            assert self.known[job_id].state is not JobState.PENDING
        else:
            assert job.priority is priority

    @rule(is_paused=st.booleans())
    def pause_or_resume(self, is_paused: bool) -> None:
        if is_paused:
            self.runner.run(self.store.administration.pause("tiny", "eve"))
            self.paused.add("tiny")
        else:
            self.runner.run(self.store.administration.resume("tiny", "eve"))
            self.paused.clear()

    @rule(seconds=st.integers(1, 30))
    def settle_later(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.runner.run(self.store.deadlines.settle())

    @rule()
    def forget(self) -> None:
        ended = [job_id for job_id, job in self.known.items() if job.state.is_terminal]
        assert self.runner.run(self.store.administration.remove(ended, "eve")) == len(ended)
        for job_id in ended:
            del self.known[job_id]
            self.completed_by.pop(job_id, None)
            self.claimed = {claim for claim in self.claimed if claim[0] != job_id}

    @rule(job_id=jobs, fence=fences)
    def confirm_cancel(self, job_id: str, fence: int) -> None:
        if self.runner.run(self.store.attempts.confirm_cancel(job_id, fence)):
            assert self.runner.run(self.store.jobs.get(job_id)).state is JobState.CANCELLED

    @rule(seconds=st.integers(1, 70))
    def reap_later(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for job_id in self.runner.run(self.store.attempts.reap(MAX_ATTEMPTS)):
            assert self.known[job_id].state is JobState.PROCESSING

    @staticmethod
    def runs(job: Job | None, fence: int) -> bool:
        return job is not None and job.state is JobState.PROCESSING and job.attempts == fence

    @invariant()
    def promises_hold(self) -> None:
        # Runs after every rule, so what `known` holds is how each job stood before the next one.
        counts = self.runner.run(self.store.counts.by_state())
        positions: list[int | None] = []
        for job_id, before in list(self.known.items()):
            job = self.runner.run(self.store.jobs.get(job_id))
            self.known[job_id] = job
            if before.state.is_terminal:
                assert job == before
            assert before.attempts <= job.attempts <= MAX_ATTEMPTS
            if job.attempts == before.attempts and job.state is JobState.PROCESSING:
                assert job.step >= before.step
            assert (job.state is JobState.COMPLETED) == (job_id in self.completed_by)
            assert (job.completed_at is not None) == job.state.is_terminal
            assert job.attempts == 0 or (job_id, job.attempts) in self.claimed
            images = self.runner.run(self.store.images.of_jobs([job_id]))
            assert len(images) == (job.state is JobState.COMPLETED)
            position = self.runner.run(self.store.jobs.position(job_id))
            assert (position is not None) == (job.state is JobState.PENDING and job.not_before is None)
            positions.append(position)
        waiting = [position for position in positions if position is not None]
        assert sorted(waiting) == list(range(1, len(waiting) + 1))
        states = Counter(job.state for job in self.known.values())
        assert {state: getattr(counts, state) for state in JobState} == {state: states[state] for state in JobState}


def test_any_order_of_calls(databases):
    run_state_machine_as_test(
        lambda: LifeCycle(databases.create()),
        settings=settings(max_examples=12, stateful_step_count=25, suppress_health_check=list(HealthCheck)),
    )
