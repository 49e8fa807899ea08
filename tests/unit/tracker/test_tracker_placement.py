"""On which nodes the job tracker may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.cluster import tracker_resources
from deployments.settings.service import Settings, SettingsError, load_settings
from deployments.settings.tracker import TrackerSettings

POSTGRESQL = "postgresql+asyncpg://cyberimage@db.example/cyberimage"


def settings(folder: Path, **more: object) -> Settings:
    return load_settings({"data_dir": str(folder), **more})


def test_stays_with_its_file_where_the_database_is_one(tmp_path: Path) -> None:
    assert tracker_resources(settings(tmp_path)) == {"node:__internal_head__": 0.001}


def test_may_be_anywhere_where_the_database_is_a_server(tmp_path: Path) -> None:
    assert tracker_resources(settings(tmp_path, database_url=POSTGRESQL)) == {}


@pytest.mark.parametrize("database", [{}, {"database_url": POSTGRESQL}], ids=["sqlite", "postgresql"])
def test_is_where_the_settings_say(tmp_path: Path, database: dict[str, str]) -> None:
    wanted = {"tracker": 0.001}
    assert tracker_resources(settings(tmp_path, tracker={"resources": wanted}, **database)) == wanted


def test_variable_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBERIMAGE_TRACKER__RESOURCES", '{"tracker": 0.001}')
    assert tracker_resources(settings(tmp_path)) == {"tracker": 0.001}


def test_none_of_a_resource_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tracker\.resources"):
        settings(tmp_path, tracker={"resources": {"tracker": 0}})


def test_another_place_makes_another_tracker() -> None:
    url = "sqlite+aiosqlite:///jobs.db"
    one, other = (TrackerSettings(database_url=url, resources={name: 1.0}) for name in ("a", "b"))
    assert one.fingerprint != other.fingerprint
