"""``cyberimage jobs ...``, ``status``, ``watch`` and ``cancel``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from deployments.jobs.records.jobs import JobState, PriorityClass
from serve.cli.client import DEFAULT_URL, Client, ConnectionLostError, JobStatus
from serve.cli.session import (
    FAILURE,
    INTERRUPTED,
    ApiKey,
    AsJson,
    Cursor,
    JobId,
    Url,
    fail,
    plain,
    print_json,
    print_table,
    service,
)

_SHOWN_PROMPT = 60

app = typer.Typer(help="List jobs, retry, reorder and clear them.", no_args_is_help=True)


@app.command("list")
def list_jobs(  # noqa: PLR0913, PLR0917 - typer makes options of parameters
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    client: Annotated[str | None, typer.Option(help="Only jobs of this client.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Jobs to show.")] = 20,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List jobs, newest first."""
    with service(url, api_key) as opened:
        answer = opened.jobs(state=state, model=model, client=client, limit=limit, cursor=cursor)
    if as_json:
        print_json(answer)
        return
    fields = ("id", "status", "priority", "model_id", "created_at", "prompt")
    rows = [[str(job[name])[:_SHOWN_PROMPT] for name in fields] for job in answer["jobs"]]
    print_table(("Job", "Status", "Priority", "Model", "Submitted", "Prompt"), rows)


@app.command()
def retry(job_id: JobId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Queue a failed or cancelled job once more, as a new job; prints its id."""
    with service(url, api_key) as opened:
        typer.echo(plain(opened.retry(job_id)))


@app.command()
def priority(
    job_id: JobId,
    priority_class: Annotated[PriorityClass, typer.Argument(metavar="CLASS", help="high, normal or low.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Give a job that waits another class of priority."""
    with service(url, api_key) as opened:
        job = opened.reprioritize(job_id, priority_class)
    typer.echo(f"Job {plain(job_id)} has the priority {priority_class}, position {job.get('queue_position')}")


@app.command()
def clear(
    state: Annotated[JobState, typer.Argument(help="pending (they are cancelled), completed, failed or cancelled.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Cancel all pending jobs, or forget all jobs that ended in a state, with their images."""
    if not yes:
        typer.confirm(f"Clear all {state} jobs?", abort=True)
    total = 0
    with service(url, api_key) as opened:
        while True:
            answer = opened.clear(state)
            total += answer["cleared"]
            if not answer["cleared"] or not answer["remaining"]:
                break
    typer.echo(f"{total} {state} {'job is' if total == 1 else 'jobs are'} cleared")


def status(job_id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show where a job stands."""
    with service(url, api_key) as client:
        job = client.status(job_id)
    if as_json:
        print_json(job.raw)
    else:
        _print_facts(job)


def watch(job_id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Follow a job until it ends; the exit code is 1 unless it completes. Ctrl-C leaves it running."""
    try:
        with service(url, api_key) as client:
            job = _print_changes(client, job_id) if as_json else follow(client, job_id, quiet=False)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not as_json:
        _print_facts(job)
    if job.state != "completed":
        raise typer.Exit(FAILURE)


def cancel(job_id: JobId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Cancel a queued or running job."""
    with service(url, api_key) as client:
        sentence = client.cancel(job_id)
    typer.echo(plain(sentence) or f"Job {job_id} is cancelled")


def follow(client: Client, job_id: str, *, quiet: bool) -> JobStatus:
    """Show the job's progress until it ends."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, disable=quiet) as bar:
            task = bar.add_task("Submitted", total=None)
            for job in client.watch(job_id):
                bar.update(task, description=activity_of(job), completed=job.step, total=job.total_steps or None)
    except ConnectionLostError as error:
        fail(f"{error}. The job may still be running; ask later with `cyberimage status {job_id}`")
    return job


def activity_of(job: JobStatus) -> str:
    """Describe what the job does now."""
    eta = job.raw.get("eta_seconds")
    left = f", some {max(1, round(eta))} s left" if eta is not None else ""
    if job.state == "pending":
        return "Queued" if job.queue_position is None else f"Queued, position {job.queue_position}{left}"
    if job.state == "processing" and job.step:
        return f"Step {job.step} of {job.total_steps}{left}"
    if job.state == "processing":
        return "Loading the model" if (job.raw.get("progress") or {}).get("loading_model") else "Preparing"
    return job.state.capitalize()


def _facts_of(job: JobStatus) -> list[tuple[str, str]]:
    """Return what ``status`` shows of a job, as names and values."""
    facts = [("Job", job.id), ("Status", job.state)]
    if job.state == "processing" and job.total_steps:
        facts.append(("Step", f"{job.step} of {job.total_steps}"))
    if job.queue_position is not None:
        facts.append(("Queue position", str(job.queue_position)))
    facts += [("Model", str(job.raw.get("model_id", ""))), ("Prompt", str(job.raw.get("prompt", "")))]
    if job.message:
        facts.append(("Message", job.message))
    facts += [("Image", f"/api/image/{image_id}") for image_id in job.image_ids]
    return facts


def _print_changes(client: Client, job_id: str) -> JobStatus:
    """Print a line of JSON at each change of a job."""
    for job in client.watch(job_id):
        typer.echo(json.dumps(job.raw))
    return job


def _print_facts(job: JobStatus) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in _facts_of(job):
        table.add_row(Text(name, style="dim"), Text(plain(value)))
    Console().print(table)
