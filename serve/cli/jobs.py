"""``cyberimage jobs ...``: lists of jobs, and what can be done with them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.jobs.records.jobs import JobState, PriorityClass
from serve.cli.client import DEFAULT_URL
from serve.cli.session import ApiKey, AsJson, JobId, Url, plain, print_json, service

_SHOWN_PROMPT = 60

app = typer.Typer(help="List jobs, retry, reorder and clear them.", no_args_is_help=True)


@app.command("list")
def list_jobs(  # noqa: PLR0913, PLR0917 - typer makes options of parameters
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    client: Annotated[str | None, typer.Option(help="Only jobs of this client.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Jobs to show.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page of --json ended: its next_cursor.")] = None,
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
    table = Table("Job", "Status", "Priority", "Model", "Submitted", "Prompt")
    for job in answer["jobs"]:
        told = (job["id"], job["status"], job["priority"], job["model_id"], job["created_at"], job["prompt"])
        table.add_row(*(Text(plain(str(value))[:_SHOWN_PROMPT]) for value in told))
    Console().print(table)


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
