import os
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.catalog.entry import PROJECT_ROOT
from deployments.settings.service import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("CYBERIMAGE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    settings = Settings()

    assert settings.data_dir == tmp_path / "data"
    assert settings.images_dir == tmp_path / "data" / "images"
    assert settings.resolved_database_url == f"sqlite+aiosqlite:///{tmp_path}/data/cyberimage.db"
    assert (settings.queue.limit, settings.queue.max_attempts, settings.queue.lease_seconds) == (1000, 3, 30)
    assert settings.max_body_bytes == 1024 * 1024
    assert settings.ingress_replicas == 1


def test_built_from_a_plain_dict_as_ray_serve_does() -> None:
    settings = Settings.model_validate({"catalog": "configs/gpu.yaml", "queue": {"limit": 5}})

    assert settings.catalog == Path("configs/gpu.yaml")
    assert settings.queue.limit == 5
    assert settings.queue.max_attempts == 3


def test_environment_fills_what_arguments_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBERIMAGE_QUEUE__LIMIT", "7")
    monkeypatch.setenv("CYBERIMAGE_QUEUE__LEASE_SECONDS", "12.5")
    monkeypatch.setenv("CYBERIMAGE_INGRESS_REPLICAS", "4")

    settings = Settings.model_validate({"ingress_replicas": 2, "queue": {"limit": 5}})

    assert settings.ingress_replicas == 2
    assert settings.queue.limit == 5
    assert settings.queue.lease_seconds == 12.5


def test_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBERIMAGE_DATABASE_URL", "")

    assert Settings().database_url is None


def test_settings_travel_to_other_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(data_dir=Path("mine"))
    content = pickle.dumps(settings)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert pickle.loads(content).data_dir == tmp_path / "mine"


def test_catalog_path_is_the_projects_where_it_is_not_here(tmp_path: Path) -> None:
    assert Settings().catalog_path == PROJECT_ROOT / "configs" / "cpu.yaml"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "cpu.yaml").touch()
    assert Settings().catalog_path == tmp_path / "configs" / "cpu.yaml"
    assert Settings(catalog=Path("nowhere.yaml")).catalog_path == tmp_path / "nowhere.yaml"


def test_problems_name_key_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBERIMAGE_QUEUE__LIMIT", "many")

    with pytest.raises(SettingsError) as caught:
        load_settings({"colour": "red", "queue": {"max_attempts": 0}})

    assert sorted(str(caught.value).splitlines()) == [
        "colour (CYBERIMAGE_COLOUR): unknown setting",
        "queue.limit (CYBERIMAGE_QUEUE__LIMIT): should be a valid integer, unable to parse string as an integer",
        "queue.max_attempts (CYBERIMAGE_QUEUE__MAX_ATTEMPTS): should be greater than or equal to 1",
    ]


def test_unreadable_group_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBERIMAGE_QUEUE", "not json")

    with pytest.raises(SettingsError, match="queue") as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"queue": {"limits": 5}})


def test_password_is_never_shown() -> None:
    settings = Settings(database_url="postgresql+asyncpg://me:secret@db/jobs")

    assert settings.resolved_database_url.endswith("secret@db/jobs")
    assert "secret" not in repr(settings)
    with pytest.raises(ValidationError) as caught:
        Settings(database_url="me:secret@db")
    assert "secret" not in str(caught.value)


def test_default_messages() -> None:
    assert str(SettingsError()) == "The settings are not valid."
    assert SettingsError.status == 500
