"""Lists and batches of jobs; retry and priority of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Query

from deployments.jobs.queue.jobs import JobFilter
from deployments.jobs.records.jobs import JobState
from serve.api.cyberimage import answers, control_examples, examples
from serve.api.cyberimage.bodies import GenerateAnswer, StatusAnswer
from serve.api.cyberimage.control_bodies import BatchAnswer, BatchBody, JobsAnswer, ListedJob, PriorityBody
from serve.api.cyberimage.parameters import Behind, OwnJobId, Time
from serve.http.access import CHANGES, READS, SUBMITS, Who
from serve.protection.identity import require_priority
from serve.submission import submit as submission
from serve.submission.fields import Text

router = APIRouter()


@router.get(
    "/api/jobs",
    dependencies=[READS],
    tags=["jobs"],
    responses={200: examples.answer(control_examples.JOBS)} | control_examples.BAD_LIST | answers.DOWN,
)
async def list_jobs(  # noqa: PLR0913, PLR0917 - each is a parameter of the route
    behind: Behind,
    who: Who,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    model: Annotated[Text | None, Query(description="Only jobs of this model.")] = None,
    client: Annotated[Text | None, Query(description="Only jobs of this client.")] = None,
    created_after: Annotated[Time | None, Query(description="Only jobs that were submitted later.")] = None,
    created_before: Annotated[Time | None, Query(description="Only jobs that were submitted earlier.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs on a page.")] = 50,
    cursor: Annotated[Text | None, Query(description="`next_cursor` of the page before.")] = None,
) -> JobsAnswer:
    """Jobs, newest first. A page stays the same when new jobs come."""
    if not who.owns(client or who.name):
        return JobsAnswer(jobs=[], next_cursor=None)
    wanted = JobFilter(state, model, who.limited_to(client), created_after, created_before)
    page = await behind.tracker.jobs.page(wanted, limit, cursor)
    return JobsAnswer(jobs=[ListedJob.of(job) for job in page.jobs], next_cursor=page.next_cursor)


@router.post(
    "/api/jobs/batch",
    dependencies=[SUBMITS],
    tags=["jobs"],
    responses={200: examples.answer(control_examples.BATCH)}
    | answers.BAD
    | answers.OTHER_BODY
    | answers.TOO_MANY
    | answers.FULL_OR_DOWN,
)
async def submit_jobs(
    behind: Behind,
    who: Who,
    body: Annotated[BatchBody, Body(examples=[control_examples.BATCH_BODY])],
    idempotency_key: Annotated[
        str | None,
        Header(max_length=255, description="Repeat a request with its key, and there is still one batch."),
    ] = None,
) -> BatchAnswer:
    """Queue up to 100 jobs: all of them, or none where one is not right or there is no room for all."""
    jobs = await submission.submit_batch(behind, body.jobs, who, idempotency_key)
    message = "1 job is queued." if len(jobs) == 1 else f"{len(jobs)} jobs are queued."
    return BatchAnswer(job_ids=[job.id for job in jobs], message=message)


@router.post(
    "/api/jobs/{job_id}/retry",
    dependencies=[SUBMITS],
    tags=["jobs"],
    responses={200: examples.answer(control_examples.RETRY)}
    | answers.UNKNOWN_JOB
    | control_examples.WRONG_STATE
    | answers.TOO_MANY
    | answers.FULL_OR_DOWN,
)
async def retry_job(behind: Behind, who: Who, job_id: OwnJobId) -> GenerateAnswer:
    """Queue what a failed or cancelled job asked for once more, as a new job whose `retry_of` names the old one."""
    return GenerateAnswer.of(await submission.retry_job(behind, job_id, who))


@router.post(
    "/api/jobs/{job_id}/priority",
    dependencies=[CHANGES],
    tags=["jobs"],
    responses={200: examples.answer(examples.STATUS)}
    | answers.BAD
    | answers.UNKNOWN_JOB
    | control_examples.WRONG_STATE
    | answers.DOWN,
)
async def reprioritize_job(
    behind: Behind,
    who: Who,
    job_id: OwnJobId,
    body: Annotated[PriorityBody, Body(examples=[control_examples.PRIORITY_BODY])],
) -> StatusAnswer:
    """Give a job that waits another class of priority; in it, it waits behind its client's other jobs."""
    require_priority(who, body.priority)
    await behind.tracker.jobs.reprioritize(job_id, body.priority, who.name)
    return StatusAnswer.of(await behind.tracker.view(job_id))
