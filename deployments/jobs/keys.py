"""What the job store knows of API keys, and the secrets that all replicas share."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import api_keys, shared_secrets
from deployments.jobs.database.upserts import upsert
from deployments.jobs.records.api_keys import ApiKey, NewKey
from deployments.jobs.records.exceptions import UnknownKeyError
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.change import Change
from deployments.jobs.transaction.store_part import StorePart

USE_NOTED_EVERY = timedelta(minutes=10)


class StoreKeys(StorePart):
    """API keys, and secrets that all who use the database share."""

    async def add(self, key_id: str, key_hash: str, new: NewKey, who: str) -> ApiKey:
        """Keep a new key, or return the one that already has this id.

        Args:
            key_id: From :func:`make_key`.
            key_hash: Of the whole key, from :func:`hash_of`.
            new: What the key is for.
            who: Who wants it.
        """

        async def work(change: Change) -> ApiKey:
            existing = await _find(change.connection, key_id)
            if existing is not None:
                return _key_of(existing)
            row = {"id": key_id, "hash": key_hash, **new.model_dump(mode="json"), "created_at": change.now}
            await change.connection.execute(insert(api_keys).values(**row))
            await Audit(change, who).note(Action.CREATE_KEY, key_id=key_id, name=new.name)
            return ApiKey(id=key_id, created_at=change.now, **dict(new))

        return await self._change(work)

    async def list(self) -> list[ApiKey]:
        """Return every key, revoked ones included, the oldest first."""

        async def work(connection: AsyncConnection) -> list[ApiKey]:
            found = await connection.execute(select(api_keys).order_by(api_keys.c.number))
            return [_key_of(row) for row in found.mappings()]

        return await self._database.read(work)

    async def revoke(self, key_id: str, who: str) -> ApiKey:
        """Let a key be good for nothing any more, and return it; one that was revoked stays as it is.

        Raises:
            UnknownKeyError: There is none with this id.
        """

        async def work(change: Change) -> ApiKey:
            row = await _find(change.connection, key_id)
            if row is None:
                raise UnknownKeyError(f"There is no API key {key_id}.")
            key = _key_of(row)
            if key.revoked_at is not None:
                return key
            revoked = update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=change.now)
            await change.connection.execute(revoked)
            await Audit(change, who).note(Action.REVOKE_KEY, key_id=key_id, name=key.name)
            return key.model_copy(update={"revoked_at": change.now})

        return await self._change(work)

    async def check(self, key_id: str, key_hash: str) -> ApiKey | None:
        """Return the key with this id and hash; None where there is none, or it was revoked. Its use is noted."""

        async def look(connection: AsyncConnection) -> tuple[ApiKey | None, datetime]:
            row = await _find(connection, key_id)
            now = await self._now(connection)
            if row is None or not hmac.compare_digest(row["hash"], key_hash) or row["revoked_at"] is not None:
                return None, now
            return _key_of(row), now

        key, now = await self._database.read(look)
        if key is not None and (key.last_used_at is None or now - key.last_used_at >= USE_NOTED_EVERY):
            await self._database.write(lambda connection: _note_use(connection, key_id, now))
        return key

    async def secret(self, name: str) -> str:
        """Return a secret that all who use this database share; it is made when it is first asked for."""

        async def work(connection: AsyncConnection) -> str:
            made = upsert(connection, shared_secrets).values(name=name, value=secrets.token_hex(32))
            await connection.execute(made.on_conflict_do_nothing(index_elements=[shared_secrets.c.name]))
            kept = select(shared_secrets.c.value).where(shared_secrets.c.name == name)
            return str(await connection.scalar(kept))

        return await self._database.write(work)


async def _find(connection: AsyncConnection, key_id: str) -> RowMapping | None:
    found = await connection.execute(select(api_keys).where(api_keys.c.id == key_id))
    return found.mappings().one_or_none()


async def _note_use(connection: AsyncConnection, key_id: str, now: datetime) -> None:
    await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))


def _key_of(row: RowMapping) -> ApiKey:
    fields: dict[str, Any] = {name: row[name] for name in ApiKey.model_fields}
    return ApiKey(**fields)
