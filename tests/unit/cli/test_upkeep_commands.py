"""``cyberimage storage sweep`` and ``verify``, ``backup`` and ``restore``, as an operator gives them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from serve.cli import main as cli
from tests.support.api_service import api_service
from tests.unit.upkeep.test_upkeep import ORPHAN


@pytest.fixture
def data_dir(tmp_path, monkeypatch) -> Path:
    """A data folder with two images, named by the settings."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("CYBERIMAGE_DATA_DIR", str(folder))

    async def fill() -> None:
        async with api_service(folder) as service:
            for _ in range(2):
                await service.make_image()

    asyncio.run(fill())
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "images").rglob("*.png"))


def test_a_sweep_removes_what_has_no_record(data_dir):
    orphan = data_dir / "images" / ORPHAN
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"1")
    os.utime(orphan, (0, 0))
    done = run("storage", "sweep")
    assert done.exit_code == 0, done.output
    assert "1 without a record removed" in done.output
    assert (orphan.exists(), len(pictures(data_dir))) == (False, 2)


def test_a_sweep_names_images_without_a_file(data_dir):
    gone = pictures(data_dir)[0]
    gone.unlink()
    done = run("storage", "sweep")
    assert done.exit_code == 1
    assert f"1 images have no file: {gone.stem}" in done.output


def test_verify(data_dir):
    assert "All 2 pictures" in run("storage", "verify").output
    pictures(data_dir)[0].write_bytes(b"damaged")
    done = run("storage", "verify", "--quiet")
    assert done.exit_code == 1
    assert "1 of 2 pictures are missing or damaged" in done.output


def test_a_backup_is_restored_into_an_empty_data_dir(data_dir, tmp_path, monkeypatch):
    file, other = tmp_path / "backup.tar", tmp_path / "new" / "data"
    written = run("backup", file)
    assert written.exit_code == 0, written.output
    assert f"2 pictures are in {file}" in written.output
    monkeypatch.setenv("CYBERIMAGE_DATA_DIR", str(other))
    restored = run("restore", file)
    assert restored.exit_code == 0, restored.output
    assert [path.read_bytes() for path in pictures(other)] == [path.read_bytes() for path in pictures(data_dir)]
    assert "All 2 pictures" in run("storage", "verify").output
    again = run("restore", file)
    assert again.exit_code == 1
    assert "there are jobs in it" in again.output
    assert "is there already" in run("backup", file).output
