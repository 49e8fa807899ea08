"""``cyberimage queue ...`` and ``cyberimage audit``: the queues and the audit record."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from serve.cli.client import DEFAULT_URL
from serve.cli.session import ApiKey, AsJson, Cursor, Url, plain, print_json, print_table, service

_STATES = ("pending", "processing", "completed", "failed", "cancelled")

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="The model's id.")]

app = typer.Typer(help="Show, pause, resume and reset queues.", no_args_is_help=True)


@app.command()
def show(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Show how many jobs of each model are in which state."""
    with service(url, api_key) as opened:
        answer = opened.queue()
    if as_json:
        print_json(answer)
        return
    rows = []
    for model_id, counts in answer["models"].items():
        mark = " (paused)" if model_id in answer["paused"] else ""
        rows.append((model_id + mark, *(counts[state] for state in _STATES)))
    rows.append(("All", *(answer[state] for state in _STATES)))
    print_table(("Model", *(state.capitalize() for state in _STATES)), rows)


@app.command()
def pause(model_id: ModelId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Start no more jobs of a model; those that run go on, those that wait keep waiting."""
    with service(url, api_key) as opened:
        typer.echo(plain(opened.order_queue(model_id, "pause")))


@app.command()
def resume(model_id: ModelId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Start jobs of a model again."""
    with service(url, api_key) as opened:
        typer.echo(plain(opened.order_queue(model_id, "resume")))


@app.command()
def reset(url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Put jobs back whose replica no longer reports."""
    with service(url, api_key) as opened:
        typer.echo(plain(opened.reset_queue()))


def audit(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Actions to show.")] = 20,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show who did what to jobs and queues, newest first."""
    with service(url, api_key) as opened:
        answer = opened.audit(limit=limit, cursor=cursor)
    if as_json:
        print_json(answer)
        return
    rows = []
    for entry in answer["entries"]:
        on = entry["job_id"] or entry["model_id"] or ""
        details = json.dumps(entry["details"]) if entry["details"] else ""
        rows.append((entry["at"], entry["who"], entry["action"], on, details))
    print_table(("Time", "Who", "Action", "On", "Details"), rows)
