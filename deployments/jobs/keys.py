"""API keys, and the secrets that all replicas share."""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from deployments.jobs.database.tables import api_keys, shared_secrets
from deployments.jobs.database.upserts import upsert
from deployments.jobs.records.api_keys import ApiKey, NewKey
from deployments.jobs.records.exceptions import UnknownKeyError
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.operations import Operations, changes, reads, reads_clock

USE_NOTED_EVERY = timedelta(minutes=10)


class Keys(Operations):
    """API keys, and secrets that all who use the database share."""

    @changes
    async def add(self, key_id: str, key_hash: str, new: NewKey, who: str) -> ApiKey:
        """Keep a new key, or return the one that already has this id.

        Args:
            key_id: From :func:`make_key`.
            key_hash: Of the whole key, from :func:`hash_of`.
            new: What the key is for.
            who: Who creates it.
        """
        existing = await self._find(key_id)
        if existing is not None:
            return _key_of(existing)
        now = self.transaction.now
        row = {"id": key_id, "hash": key_hash, **new.model_dump(mode="json"), "created_at": now}
        await self.connection.execute(insert(api_keys).values(**row))
        await Audit(self.transaction).note(who, Action.CREATE_KEY, key_id=key_id, name=new.name)
        return ApiKey(id=key_id, created_at=now, **dict(new))

    @changes
    async def revoke(self, key_id: str, who: str) -> ApiKey:
        """Revoke a key and return it; a key that is revoked already stays as it is.

        Raises:
            UnknownKeyError: There is none with this id.
        """
        row = await self._find(key_id)
        if row is None:
            raise UnknownKeyError(f"There is no API key {key_id}.")
        key = _key_of(row)
        if key.revoked_at is not None:
            return key
        await self._update(key_id, revoked_at=self.transaction.now)
        await Audit(self.transaction).note(who, Action.REVOKE_KEY, key_id=key_id, name=key.name)
        return key.model_copy(update={"revoked_at": self.transaction.now})

    @reads_clock
    async def check(self, key_id: str, key_hash: str) -> ApiKey | None:
        """Return the key with this id and hash; None where there is none, or it is revoked.

        The key's use is noted in a transaction that follows, every ten minutes: most checks only read.
        """
        row = await self._find(key_id)
        if row is None or not hmac.compare_digest(row["hash"], key_hash) or row["revoked_at"] is not None:
            return None
        key, now = _key_of(row), self.transaction.now
        if key.last_used_at is None or now - key.last_used_at >= USE_NOTED_EVERY:
            self.transaction.afterwards.append(lambda change: Keys(change)._update(key_id, last_used_at=now))
        return key

    @changes
    async def secret(self, name: str) -> str:
        """Return a secret that all who use this database share; the first call makes it."""
        made = upsert(self.connection, shared_secrets).values(name=name, value=secrets.token_hex(32))
        await self.connection.execute(made.on_conflict_do_nothing(index_elements=[shared_secrets.c.name]))
        kept = select(shared_secrets.c.value).where(shared_secrets.c.name == name)
        return str(await self.connection.scalar(kept))

    @reads
    async def list(self) -> list[ApiKey]:
        """Return every key, the oldest first; revoked keys are among them."""
        found = await self.connection.execute(select(api_keys).order_by(api_keys.c.number))
        return [_key_of(row) for row in found.mappings()]

    async def _find(self, key_id: str) -> RowMapping | None:
        found = await self.connection.execute(select(api_keys).where(api_keys.c.id == key_id))
        return found.mappings().one_or_none()

    async def _update(self, key_id: str, **values: Any) -> None:
        await self.connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(**values))


def _key_of(row: RowMapping) -> ApiKey:
    fields: dict[str, Any] = {name: row[name] for name in ApiKey.model_fields}
    return ApiKey(**fields)
