"""Create, list and revoke API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from deployments.jobs.records.api_keys import NewKey, hash_of, make_key
from serve.api.cyberimage import answers, examples, key_bodies
from serve.api.cyberimage.key_bodies import KeyAnswer, KeysAnswer, NewKeyAnswer
from serve.api.cyberimage.parameters import Behind, Caller
from serve.errors import ApiError
from serve.http.access import ADMINISTERS
from serve.submission.fields import Text

router = APIRouter()


class KeysAreOffError(ApiError):
    """No API keys are asked for (auth.mode), so anybody could make one; use `cyberimage keys create --data-dir`."""

    status = 403
    code = "keys_are_off"


@router.post(
    "/api/keys",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses={200: examples.answer(key_bodies.NEW_KEY)} | answers.BAD | answers.DOWN,
)
async def create_key(
    behind: Behind, caller: Caller, body: Annotated[NewKey, Body(examples=[key_bodies.KEY_BODY])]
) -> NewKeyAnswer:
    """Make an API key. The answer is the only place where it is ever shown."""
    if not behind.protection.asks_for_keys:
        raise KeysAreOffError
    key_id, key = make_key()
    kept = await behind.tracker.keys.add(key_id, hash_of(key), body, caller)
    return NewKeyAnswer(**kept.model_dump(), key=key)


@router.get(
    "/api/keys",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses=answers.DOWN | {200: examples.answer(key_bodies.KEYS)},
)
async def list_keys(behind: Behind) -> KeysAnswer:
    """All API keys, the oldest first, revoked ones included; without their secrets."""
    return KeysAnswer(keys=[KeyAnswer.of(key) for key in await behind.tracker.keys.list()])


@router.delete(
    "/api/keys/{key_id}",
    dependencies=[ADMINISTERS],
    tags=["admin"],
    responses=key_bodies.UNKNOWN_KEY | {200: examples.answer(key_bodies.REVOKED_KEY)} | answers.DOWN,
)
async def revoke_key(behind: Behind, caller: Caller, key_id: Text) -> KeyAnswer:
    """Revoke an API key; each ingress replica follows within `auth.cache_seconds`."""
    return KeyAnswer.of(await behind.tracker.keys.revoke(key_id, caller))
