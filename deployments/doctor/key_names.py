"""A check of the names of the API keys that there are."""

from __future__ import annotations

import asyncio
import shlex

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.doctor.finding import Finding, Level
from deployments.jobs.database.database import Database
from deployments.jobs.database.tables import api_keys
from deployments.jobs.records.api_keys import is_address
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.settings.service import Settings

_CHECK = "names of API keys"


def check_key_names(settings: Settings) -> Finding:
    """Whether a key that is not revoked has an address for its name, as an earlier version let it have."""
    file = settings.database_file
    if file is not None and not file.exists():  # to look would make it
        return Finding(_CHECK, Level.OK, f"{file} is not there yet.")
    try:
        named = asyncio.run(_names(settings.resolved_database_url))
    except StoreUnavailableError as error:
        return Finding(_CHECK, Level.ERROR, str(error))
    wrong = {key_id: name for key_id, name in named.items() if is_address(name)}
    if not wrong:
        return Finding(_CHECK, Level.OK, "None is an address.")
    sentence = (
        f"{', '.join(wrong.values())}: a key with the name of an address does not have what was submitted from there; "
        "make another key and revoke this one."
    )
    return Finding(
        _CHECK,
        Level.WARNING,
        sentence,
        f"cyberimage keys revoke {next(iter(wrong))} --data-dir {shlex.quote(str(settings.data_dir))}",
    )


async def _names(url: str) -> dict[str, str]:
    """The names of the keys by their ids. The schema is left as it is: the service of another version may run."""

    async def work(connection: AsyncConnection) -> dict[str, str]:
        found = await connection.execute(select(api_keys.c.id, api_keys.c.name).where(api_keys.c.revoked_at.is_(None)))
        return {key_id: name for key_id, name in found}  # noqa: C416 - rows are no pairs to a type checker

    database = Database(url)
    try:
        return await database.read(work)
    finally:
        await database.close()
