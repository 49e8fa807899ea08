"""Whether the database, the storage and a cluster answer, asked for real and within a time limit."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from deployments.doctor import database, ray_cluster, storage
from deployments.doctor.database import check_database_content
from deployments.doctor.facts.machine import Machine
from deployments.doctor.facts.ports import Port
from deployments.doctor.finding import Finding
from deployments.doctor.ray_cluster import check_cluster
from deployments.doctor.storage import check_storage_answers
from deployments.settings.service import Settings
from deployments.settings.storage import StorageSettings
from tests.support.job_databases import write_job_database
from tests.support.machines import GOOD
from tests.support.ports import free_port


@pytest.fixture
def silent() -> Iterator[int]:
    """A port on which connections are taken and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def answer_of_database(url: str | None, data_dir: Path) -> Finding:
    answer, _ = check_database_content(Settings(database_url=url, data_dir=data_dir))
    assert answer.check == "database's answer"
    return answer


class TestDatabase:
    def test_that_answers(self, tmp_path):
        write_job_database(tmp_path / "cyberimage.db")

        assert answer_of_database(None, tmp_path) == Finding(
            "database's answer", "ok", "It answers, and has 0 API keys."
        )

    def test_that_is_not_there_yet_is_not_made(self, tmp_path):
        assert answer_of_database(None, tmp_path).level == "ok"
        assert list(tmp_path.iterdir()) == []

    def test_whose_server_is_down(self, tmp_path):
        found = answer_of_database(f"postgresql+asyncpg://ann:secret@127.0.0.1:{free_port()}/jobs", tmp_path)

        assert (found.level, found.remedy) == ("problem", "start the server, or mend CYBERIMAGE_DATABASE_URL")
        assert "cannot be used" in found.sentence
        assert "secret" not in found.sentence

    def test_whose_server_does_not_answer(self, tmp_path, silent, monkeypatch):
        monkeypatch.setattr(database, "_SECONDS", 0.2)
        found = answer_of_database(f"postgresql+asyncpg://ann:secret@127.0.0.1:{silent}/jobs", tmp_path)

        assert found.level == "problem"
        assert "it does not answer within" in found.sentence


class TestBucket:
    @pytest.fixture(autouse=True)
    def _credentials(self, monkeypatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def look(self, data_dir: Path, url: str, bucket: str = "pictures") -> Finding:
        kept = StorageSettings(kind="s3", bucket=bucket, endpoint_url=url, region="us-east-1", path_style=True)
        (found,) = check_storage_answers(Settings(data_dir=data_dir, storage=kept))
        return found

    def test_that_answers(self, tmp_path, s3):
        s3.s3.create_bucket(Bucket="pictures")

        assert self.look(tmp_path, s3.url).level == "ok"
        assert "Contents" not in s3.s3.list_objects_v2(Bucket="pictures")

    def test_that_does_not_exist(self, tmp_path, s3):
        found = self.look(tmp_path, s3.url, "nowhere")

        assert (found.level, "the bucket does not exist" in found.sentence) == ("problem", True)

    def test_whose_server_does_not_answer(self, tmp_path, silent, monkeypatch):
        monkeypatch.setattr(storage, "_SECONDS", 0.2)
        found = self.look(tmp_path, f"http://127.0.0.1:{silent}")

        assert found.level == "problem"
        assert "the server does not answer in time" in found.sentence


class TestFolder:
    def look(self, data_dir: Path) -> Finding:
        (found,) = check_storage_answers(Settings(data_dir=data_dir))
        return found

    def test_that_is_not_there_yet_is_not_made(self, tmp_path):
        assert self.look(tmp_path).level == "ok"
        assert list(tmp_path.iterdir()) == []

    def test_that_can_be_written(self, tmp_path):
        (tmp_path / "images").mkdir()

        assert self.look(tmp_path).level == "ok"
        assert list((tmp_path / "images").iterdir()) == []

    def test_that_is_a_file(self, tmp_path):
        (tmp_path / "images").touch()

        assert self.look(tmp_path).level == "problem"

    def test_that_this_user_cannot_write(self, tmp_path, monkeypatch):
        (tmp_path / "images").mkdir()
        monkeypatch.setattr(storage.os, "access", lambda path, mode: False)  # root may always
        found = self.look(tmp_path)

        assert found.level == "problem"
        assert found.remedy.startswith("chown ")


class TestCluster:
    @pytest.fixture
    def cluster(self, monkeypatch):
        """Serve a dashboard that names a version of Ray; gives the tokens that it was asked with."""
        servers: list[HTTPServer] = []
        tokens: list[str] = []

        def start(answer: object) -> list[str]:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    tokens.append(self.headers.get("authorization", ""))
                    self.send_response(200 if self.path == "/api/version" else 404)
                    self.end_headers()
                    self.wfile.write(json.dumps(answer).encode())

                def log_message(self, *_: object) -> None:
                    """Nothing is printed."""

            server = HTTPServer(("127.0.0.1", 0), Handler)
            servers.append(server)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{server.server_port}")
            return tokens

        yield start
        for server in servers:
            server.shutdown()
            server.server_close()

    def look(self, machine: Machine = GOOD) -> Finding:
        (found,) = check_cluster(machine)
        return found

    def test_of_the_installed_version(self, cluster, monkeypatch):
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        tokens = cluster({"ray_version": metadata.version("ray")})

        assert self.look().level == "ok"
        assert tokens == ["Bearer secret"]

    @pytest.mark.parametrize(("is_own", "tokens"), [(True, ["Bearer secret"]), (False, [""])])
    def test_of_another_user_is_not_sent_the_token(self, cluster, monkeypatch, is_own, tokens):
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        asked = cluster({"ray_version": metadata.version("ray")})
        number = int(os.environ["RAY_API_SERVER_ADDRESS"].rpartition(":")[2])
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
        monkeypatch.setattr(ray_cluster, "DASHBOARD", number)
        held = Port(number, "ray::DashboardHead (process 5)", is_rays=True, is_own=is_own)
        self.look(replace(GOOD, ports=(Port(8000), held)))

        assert asked == tokens

    def test_of_another_version(self, cluster):
        cluster({"ray_version": "2.49.1"})
        found = self.look()

        assert (found.level, found.remedy) == ("problem", "pip install 'ray[serve]==2.49.1'")

    @pytest.mark.parametrize("answer", [{}, [], "Ray"])
    def test_that_is_none(self, cluster, answer):
        cluster(answer)

        assert "no cluster tells its version" in self.look().sentence

    def test_that_is_not_there(self, monkeypatch):
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{free_port()}")

        assert self.look().level == "ok"

    def test_that_does_not_answer(self, silent, monkeypatch):
        monkeypatch.setattr(ray_cluster, "_SECONDS", 0.2)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{silent}")

        assert self.look().level == "ok"
