"""Who may read what the service writes: whichever of its processes does so, and whatever the shell's umask is."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.model.replica import ModelReplica
from deployments.pools.replica import PoolReplica
from deployments.private_files import Readers, keep_files_private, readers_of
from deployments.settings.service import Settings, SettingsError
from deployments.settings.tracker import TrackerSettings
from deployments.storage.local import LocalStorage
from deployments.telemetry.logs import close_logs, configure_logs
from deployments.tracker.actor import JobTrackerActor
from deployments.upkeep.backup import write_backup
from serve.app import build_app
from serve.cli import main as cli
from serve.ingress import Ingress
from serve.launcher import launch
from tests.support.api_service import api_service
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def _careless_shell() -> None:
    """A umask that lets everybody read and write; another fixture restores it."""
    os.umask(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody can enter, as pytest's own cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="cyberimage-public-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


class StopError(Exception):
    """The process would go on from here."""


class Unreadable:
    """Settings of which nothing can be read: a process gets no further than to its first one."""

    def __getattr__(self, name: str) -> Any:
        raise StopError


class TestEachProcess:
    @pytest.mark.parametrize(
        ("deployment", "arguments"),
        [
            (Ingress, (Unreadable(), None, {})),
            (ModelReplica, ("shapes", None, Unreadable())),
            (PoolReplica, ("pool", None, {}, Unreadable())),
        ],
    )
    async def test_of_a_deployment(self, deployment, arguments):
        with pytest.raises(StopError):
            await deployment.__init__(deployment.__new__(deployment), *arguments)

        assert umask() == 0o077

    async def test_of_the_tracker(self, tmp_path):
        tracker = JobTrackerActor(None, TrackerSettings(database_url=f"sqlite+aiosqlite:///{tmp_path}/jobs.db"))
        assert umask() == 0o077
        await tracker.keys.list()
        await tracker.close()

        assert oct((tmp_path / "jobs.db").stat().st_mode & 0o777) == "0o600"

    def test_that_builds_the_application(self):
        with pytest.raises(SettingsError):
            build_app({"auth": "neither"})

        assert umask() == 0o077

    def test_of_the_launcher_before_ray_starts(self, tmp_path):
        assert launch("127.0.0.1", free_port(), tmp_path / "no catalog", tmp_path / "data") == 1

        assert umask() == 0o077


class TestEachCommand:
    @pytest.mark.parametrize(
        "command",
        [
            "storage sweep", "storage verify", "storage copy --from local --to s3", "backup b.tar", "restore b.tar",
            "keys list --data-dir .", "doctor",
        ],
    )  # fmt: skip
    def test_that_touches_the_data(self, monkeypatch, command):
        monkeypatch.setenv("CYBERIMAGE_AUTH__MODE", "neither")
        assert CliRunner().invoke(cli.app, command.split()).exit_code == 1

        assert umask() == 0o077

    def test_that_writes_files_for_the_user_leaves_them_to_the_users_umask(self):
        done = CliRunner().invoke(cli.app, ["generate", "a", "--url", f"http://127.0.0.1:{free_port()}"])
        assert done.exit_code == 1

        assert umask() == 0


def test_all_that_is_written_is_for_its_owner_alone(tmp_path, own_logs):
    keep_files_private()
    settings = Settings(data_dir=tmp_path / "data")
    settings.prepare_data_dir()
    configure_logs(settings.logging, "test", settings.logs_dir, draws=True)
    logging.getLogger("serve").error("a line")

    async def work() -> None:
        async with api_service(settings.data_dir) as service:
            image, _ = await service.make_image()
            assert (await service.http.get(f"/api/image/{image.id}/thumbnail?size=256")).status_code == 200
        storage = LocalStorage(settings.images_dir)
        await write_backup(settings.resolved_database_url, storage, settings.data_dir / "backup.tar")

    asyncio.run(work())
    close_logs()

    written = [settings.data_dir, *settings.data_dir.rglob("*")]
    assert {".db", ".log", ".png", ".webp", ".tar"} <= {path.suffix for path in written}
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_the_data_folder_is_private_whatever_the_umask_is(tmp_path):
    Settings(data_dir=tmp_path / "data").prepare_data_dir()

    assert oct((tmp_path / "data").stat().st_mode & 0o777) == "0o700"


async def test_pictures_are_private_whatever_the_umask_is(tmp_path):
    key = "2030/01/02/00000000-0000-4000-8000-000000000000.png"
    await LocalStorage(tmp_path).write(key, b"1")

    assert oct((tmp_path / key).stat().st_mode & 0o777) == "0o600"


class TestReaders:
    @pytest.mark.parametrize(
        ("mode", "readers"),
        [
            (0o600, Readers.OWNER), (0o640, Readers.GROUP), (0o620, Readers.GROUP), (0o644, Readers.EVERYBODY),
            (0o604, Readers.EVERYBODY), (0o602, Readers.EVERYBODY),
        ],
    )  # fmt: skip
    def test_of_a_file(self, public_folder, mode, readers):
        file = public_folder / "a.db"
        file.touch()
        file.chmod(mode)

        assert readers_of(file) is readers

    @pytest.mark.parametrize("mode", [0o700, 0o744])
    def test_of_what_is_in_a_folder_that_others_cannot_enter(self, public_folder, mode):
        (public_folder / "a").touch(0o666)
        public_folder.chmod(mode)

        assert readers_of(public_folder / "a") is Readers.OWNER

    def test_of_what_is_in_a_folder_that_its_group_can_enter(self, public_folder):
        (public_folder / "a").touch(0o666)
        public_folder.chmod(0o750)

        assert readers_of(public_folder / "a") is Readers.GROUP

    def test_of_what_a_link_leads_to(self, public_folder, tmp_path):
        (tmp_path / "link").symlink_to(public_folder)

        assert readers_of(tmp_path / "link") is Readers.EVERYBODY
