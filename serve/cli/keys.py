"""``cyberimage keys ...``: make, list and revoke API keys, at a service or in its database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from deployments.jobs.keys import Keys
from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from deployments.jobs.records.exceptions import JobError
from deployments.jobs.records.jobs import PriorityClass
from deployments.jobs.store import JobStore
from deployments.private_files import keep_files_private
from deployments.settings.service import SettingsError, load_settings
from serve.cli.client import DEFAULT_URL
from serve.cli.session import WRONG_USE, ApiKey, AsJson, Url, fail, plain, print_json, print_table, service

Result = TypeVar("Result")

_WHO = "command line"  # in the audit record: without a service there is no caller

DataDir = Annotated[
    Path | None,
    typer.Option(help="Go to the database in this data folder instead of a service: for the first key."),
]
DatabaseUrl = Annotated[str | None, typer.Option(help="Go to the job database at this URL instead of a service.")]

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command()
def create(  # noqa: PLR0913, PLR0917 - typer makes options of parameters
    name: Annotated[str, typer.Argument(help="The key's owner: keys with the same name share jobs and images.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may be used for, once for each; read and generate if left out.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests that queue jobs.")] = None,
    concurrent_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that wait or run at once.")] = None,
    queued_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that wait at once.")] = None,
    images_per_day: Annotated[int | None, typer.Option(min=1, help="Images asked for on one day, in UTC.")] = None,
    priority: Annotated[PriorityClass, typer.Option(help="The highest class of its jobs.")] = PriorityClass.HIGH,
    model: Annotated[
        list[str] | None, typer.Option(help="The only model that it may use, once for each; all if left out.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make an API key and show it: once, for only its hash is kept."""
    limits = {
        "requests_per_minute": requests_per_minute,
        "concurrent_jobs": concurrent_jobs,
        "queued_jobs": queued_jobs,
        "images_per_day": images_per_day,
        "priority": priority,
        "models": model or (),
    }
    new = _read(name, scope or list(NewKey.model_fields["scopes"].default), limits)
    if _is_local(data_dir, database_url):
        key_id, key = make_key()
        made = _in_database(data_dir, database_url, lambda keys: keys.add(key_id, hash_of(key), new, _WHO))
        answer = made.model_dump(mode="json") | {"key": key}
    else:
        with service(url, api_key) as opened:
            answer = opened.create_key(new.model_dump(mode="json"))
    if as_json:
        print_json(answer)
        return
    typer.echo(f"The key {answer['id']} of {plain(answer['name'])}; it is shown only now:", err=True)
    typer.echo(answer["key"])


@app.command(name="list")
def list_keys(
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List API keys, the oldest first, revoked ones included."""
    if _is_local(data_dir, database_url):
        known = _in_database(data_dir, database_url, lambda keys: keys.list())
        answer = {"keys": [key.model_dump(mode="json") for key in known]}
    else:
        with service(url, api_key) as opened:
            answer = opened.keys()
    if as_json:
        print_json(answer)
        return
    rows = []
    for key in answer["keys"]:
        times = (key["created_at"], key["last_used_at"], key["revoked_at"])
        rows.append((key["id"], key["name"], ", ".join(key["scopes"]), *(time or "" for time in times)))
    print_table(("Id", "Name", "Scopes", "Created", "Last used", "Revoked"), rows)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, the part after ci_.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Revoke an API key."""
    if _is_local(data_dir, database_url):
        _in_database(data_dir, database_url, lambda keys: keys.revoke(key_id, _WHO))
    else:
        with service(url, api_key) as opened:
            opened.revoke_key(key_id)
    typer.echo(f"The key {plain(key_id)} is revoked.")


def _read(name: str, scopes: list[Scope], limits: dict[str, Any]) -> NewKey:
    try:
        return NewKey.model_validate({"name": name, "scopes": scopes, "limits": limits})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()
        )
        fail(f"This cannot be a key: {problems}", WRONG_USE)


def _is_local(data_dir: Path | None, database_url: str | None) -> bool:
    return data_dir is not None or database_url is not None


def _in_database(data_dir: Path | None, database_url: str | None, work: Callable[[Keys], Awaitable[Result]]) -> Result:
    """Run an operation on the keys of a job database, which is created where there is none."""
    keep_files_private()
    given = {"data_dir": data_dir, "database_url": database_url}
    try:
        settings = load_settings({name: str(value) for name, value in given.items() if value is not None})
        settings.prepare_data_dir()
        return asyncio.run(_at_store(settings.resolved_database_url, work))
    except (SettingsError, JobError) as error:
        fail(str(error))
    except UnicodeEncodeError as error:
        fail(f"{error.object!a} is not valid Unicode")


async def _at_store(url: str, work: Callable[[Keys], Awaitable[Result]]) -> Result:
    store = await JobStore.open(url)
    try:
        return await work(store.keys)
    finally:
        await store.close()
