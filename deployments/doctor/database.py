"""Checks of the job database: whether it answers, and the names of the API keys in it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.doctor.finding import Finding, Level
from deployments.jobs.database.database import Database
from deployments.jobs.database.tables import api_keys
from deployments.jobs.records.api_keys import is_address
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.settings.service import Settings

_ANSWER = "database's answer"
_KEY_NAMES = "names of API keys"
_SECONDS = 5.0


def check_database_content(settings: Settings) -> Iterator[Finding]:
    """Read the API keys: whether the database answers, and whether one is named like an address.

    An earlier version let keys have such names. Only keys that are not revoked count.
    """
    file = settings.database_file
    if file is not None and not file.exists():  # to look would make it
        yield Finding(_ANSWER, Level.OK, f"{file} is not there yet; the service makes it.")
        yield Finding(_KEY_NAMES, Level.OK, f"{file} is not there yet.")
        return
    try:
        named = asyncio.run(_names(settings.resolved_database_url))
    except StoreUnavailableError as error:
        yield Finding(_ANSWER, Level.PROBLEM, str(error), _remedy(settings))
        yield Finding(_KEY_NAMES, Level.WARNING, f"Not looked at. {error}", _remedy(settings))
        return
    yield Finding(_ANSWER, Level.OK, f"It answers, and has {len(named)} API keys.")
    yield _check_names(named, settings)


def _check_names(named: dict[str, str], settings: Settings) -> Finding:
    wrong = {key_id: name for key_id, name in named.items() if is_address(name)}
    if not wrong:
        return Finding(_KEY_NAMES, Level.OK, "None is an address.")
    sentence = (
        f"{', '.join(wrong.values())}: a key with the name of an address does not have what was submitted from there; "
        "make another key and revoke this one."
    )
    return Finding(
        _KEY_NAMES,
        Level.WARNING,
        sentence,
        f"cyberimage keys revoke {next(iter(wrong))} --data-dir {shlex.quote(str(settings.data_dir))}",
    )


def _remedy(settings: Settings) -> str:
    if settings.database_file is None:
        return "start the server, or mend CYBERIMAGE_DATABASE_URL"
    return "cyberimage restore BACKUP with another CYBERIMAGE_DATA_DIR, or move the file away"


async def _names(url: str) -> dict[str, str]:
    """The names of the keys by their ids. The schema is left as it is: the service of another version may run.

    Raises:
        StoreUnavailableError: The database cannot be used, or does not answer in time.
    """

    async def work(connection: AsyncConnection) -> dict[str, str]:
        found = await connection.execute(select(api_keys.c.id, api_keys.c.name).where(api_keys.c.revoked_at.is_(None)))
        return {key_id: name for key_id, name in found}  # noqa: C416 - rows are no pairs to a type checker

    database = Database(url)
    try:
        async with asyncio.timeout(_SECONDS):
            return await database.read(work)
    except TimeoutError:
        raise StoreUnavailableError.because(database.name, f"it does not answer within {_SECONDS:.0f} s") from None
    finally:
        await database.close()
