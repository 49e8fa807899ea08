"""``cyberimage keys``: against a service, and in a database of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from deployments.jobs.records.api_keys import ApiKey, hash_of, key_id_of
from deployments.jobs.store import JobStore
from serve.api.cyberimage import key_bodies
from serve.cli import main as cli
from serve.cli import session as command_session
from serve.cli.client import Client


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["keys", *(str(argument) for argument in arguments)])


def check(folder: Path, key: str) -> ApiKey | None:
    async def ask() -> ApiKey | None:
        store = await JobStore.open(f"sqlite+aiosqlite:///{folder}/cyberimage.db")
        try:
            return await store.keys.check(key_id_of(key) or "", hash_of(key))
        finally:
            await store.close()

    return asyncio.run(ask())


class TestInTheDatabase:
    def test_the_first_key_is_made_listed_and_revoked(self, tmp_path):
        made = run("create", "boss", "--scope", "admin", "--data-dir", tmp_path / "data")
        key = made.stdout.strip()

        assert made.exit_code == 0, made.output
        assert "shown only now" in made.stderr
        assert check(tmp_path / "data", key).scopes == ("admin",)
        listed = run("list", "--data-dir", tmp_path / "data")
        assert "boss" in listed.stdout
        assert key not in listed.stdout
        revoked = run("revoke", key_id_of(key), "--data-dir", tmp_path / "data")
        assert revoked.exit_code == 0
        assert check(tmp_path / "data", key) is None

    def test_limits_are_kept(self, tmp_path):
        made = run(
            "create", "ann", "--requests-per-minute", "60", "--concurrent-jobs", "5", "--queued-jobs", "4",
            "--images-per-day", "100", "--priority", "low", "--model", "shapes", "--model", "sketches", "--json",
            "--database-url", f"sqlite+aiosqlite:///{tmp_path}/cyberimage.db", "--data-dir", tmp_path,
        )  # fmt: skip
        answer = json.loads(made.stdout)

        assert set(answer) == set(key_bodies.NEW_KEY)
        assert answer["scopes"] == ["read", "generate"]
        assert check(tmp_path, answer["key"]).limits.model_dump() == {
            "requests_per_minute": 60,
            "concurrent_jobs": 5,
            "queued_jobs": 4,
            "images_per_day": 100,
            "priority": "low",
            "models": ("shapes", "sketches"),
        }
        listed = json.loads(run("list", "--json", "--data-dir", tmp_path).stdout)["keys"]
        assert [key["id"] for key in listed] == [answer["id"]]

    @pytest.mark.parametrize(
        ("arguments", "exit_code", "told"),
        [
            (("create", "a b"), 2, "name"),
            (("create", "127.0.0.1"), 2, "name: 127.0.0.1 is an address, and jobs that were submitted without keys"),
            (("create", "::1"), 2, "name"),
            (("create", "ann", "--model", "a/b"), 2, "limits.models.0"),
            (("revoke", "0123456789ab"), 1, "There is no API key 0123456789ab."),
        ],
    )
    def test_what_is_wrong_is_one_line(self, tmp_path, arguments, exit_code, told):
        result = run(*arguments, "--data-dir", tmp_path)

        assert result.exit_code == exit_code
        assert told in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1

    def test_a_database_that_cannot_be_used_is_told_without_its_password(self, tmp_path):
        url = "postgresql+asyncpg://ann:hunter2@127.0.0.1:1/jobs"
        result = run("list", "--database-url", url, "--data-dir", tmp_path)

        assert result.exit_code == 1
        assert "cannot be used" in result.stderr
        assert "hunter2" not in result.output


class TestAtAService:
    @pytest.fixture(autouse=True)
    def service(self, monkeypatch):
        """Answers like a service; gives what it was asked."""
        asked: list[tuple] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append((request.method, request.url.path, request.headers.get("authorization")))
            if request.method == "POST":
                asked.append(json.loads(request.content))
                return httpx.Response(200, json=key_bodies.NEW_KEY)
            if request.method == "DELETE":
                return httpx.Response(200, json=key_bodies.REVOKED_KEY)
            return httpx.Response(200, json=key_bodies.KEYS)

        def connect(url: str, api_key: str | None) -> Client:
            return Client(url, api_key=api_key, transport=httpx.MockTransport(answer))

        monkeypatch.setattr(command_session, "connect", connect)
        return asked

    def test_a_key_is_made(self, service):
        result = run("create", "gallery", "--images-per-day", "500", "--api-key", "ci_admin")

        assert result.stdout.strip() == key_bodies.NEW_KEY["key"]
        assert service[0] == ("POST", "/api/keys", "Bearer ci_admin")
        assert service[1]["name"] == "gallery"
        assert service[1]["limits"]["images_per_day"] == 500

    def test_keys_are_listed(self, service):
        result = run("list", "--api-key", "ci_admin")

        assert key_bodies.KEY["id"] in result.stdout
        assert service == [("GET", "/api/keys", "Bearer ci_admin")]

    def test_a_key_is_revoked(self, service):
        assert run("revoke", "9f86d081884c", "--api-key", "ci_admin").exit_code == 0
        assert service == [("DELETE", "/api/keys/9f86d081884c", "Bearer ci_admin")]
