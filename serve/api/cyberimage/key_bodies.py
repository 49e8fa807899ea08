"""Bodies of the routes about API keys, and examples of them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from deployments.jobs.records.api_keys import ApiKey, KeyLimits, Scope
from deployments.jobs.records.exceptions import UnknownKeyError
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.bodies import Moment
from serve.submission.fields import Body


class KeyAnswer(Body):
    """An API key, without its secret."""

    id: str = Field(description="The public part of the key.")
    name: str = Field(description="Its owner.")
    scopes: list[Scope]
    limits: KeyLimits
    created_at: Moment
    last_used_at: Moment | None = Field(default=None, description="To some minutes; null before the first use.")
    revoked_at: Moment | None = None

    @classmethod
    def of(cls, key: ApiKey) -> KeyAnswer:
        """Describe a key, without its secret."""
        return cls(**key.model_dump())


class NewKeyAnswer(KeyAnswer):
    """An API key, and its secret."""

    key: str = Field(description="The key itself. It is shown only now: keep it.")


class KeysAnswer(Body):
    """All API keys, the oldest first."""

    keys: list[KeyAnswer]


KEY_BODY: dict[str, Any] = {
    "name": "gallery",
    "scopes": ["read", "generate"],
    "limits": {"requests_per_minute": 60, "images_per_day": 500, "priority": "normal"},
}
KEY: dict[str, Any] = {
    "id": "9f86d081884c",
    "name": "gallery",
    "scopes": ["read", "generate"],
    "limits": {
        "requests_per_minute": 60,
        "concurrent_jobs": None,
        "queued_jobs": None,
        "images_per_day": 500,
        "priority": "normal",
        "models": [],
    },
    "created_at": "2030-01-01T12:00:00.000Z",
    "last_used_at": None,
    "revoked_at": None,
}
NEW_KEY: dict[str, Any] = {**KEY, "key": f"ci_{KEY['id']}_{'0123456789abcdef' * 4}"}
KEYS: dict[str, Any] = {"keys": [KEY]}
REVOKED_KEY: dict[str, Any] = {**KEY, "revoked_at": "2030-01-02T12:00:00.000Z"}
UNKNOWN_KEY: answers.Responses = {404: examples.error("There is no such API key.", str(UnknownKeyError()))}
