import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.settings.service import Settings, SettingsError


def refusing(number: int) -> Callable[..., int]:
    def refuse(*_args: object, **_kwargs: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def test_the_folder_is_created_and_left_clean(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a" / "b")

    settings.prepare_data_dir()
    settings.prepare_data_dir()

    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("place", ["data", "data/below"])
def test_file_in_the_place_of_a_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "data").touch()
    settings = Settings(data_dir=tmp_path / place)

    with pytest.raises(SettingsError, match="a file is in the place of a folder") as caught:
        settings.prepare_data_dir()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    monkeypatch.setattr(os, call, refusing(number))

    with pytest.raises(SettingsError) as caught:
        settings.prepare_data_dir()

    assert str(caught.value) == f"data_dir {tmp_path}/data: cannot be written: {os.strerror(number)}"
    monkeypatch.undo()
    assert list((tmp_path / "data").iterdir()) == []
