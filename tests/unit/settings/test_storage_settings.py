"""Which storage the settings name, and what is refused before anything starts."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import ray

from deployments.cluster import require_reachable_images
from deployments.settings.service import Settings, SettingsError, load_settings
from deployments.settings.storage import StorageSettings
from deployments.storage.local import LocalStorage
from deployments.storage.opening import open_storage, prepare_storage
from deployments.storage.s3 import S3Storage


def test_images_are_beside_the_database_unless_told_otherwise(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")

    prepare_storage(settings.storage, settings.images_dir)

    assert isinstance(open_storage(settings.storage, settings.images_dir), LocalStorage)
    assert settings.images_dir.is_dir()
    assert list(settings.images_dir.iterdir()) == []


def test_variables_name_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"KIND": "s3", "BUCKET": "images", "PREFIX": "cyber", "REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"CYBERIMAGE_STORAGE__{name}", value)

    storage = open_storage(load_settings().storage, Path("images"))

    assert isinstance(storage, S3Storage)
    assert storage._prefix == "cyber/"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "s3"}, "kind s3 needs the bucket's name: storage.bucket"),
        ({"deliver": "redirect"}, "deliver: redirect needs a bucket: kind s3"),
        ({"encryption_key": "x"}, "encryption_key needs encryption: aws:kms"),
        ({"kind": "swift"}, "should be 'local' or 's3'"),
        ({"endpoint_url": "ftp://host"}, "should match pattern"),
        ({"endpoint_url": "http://user:secret@host"}, "should match pattern"),
        ({"prefix": "/images"}, "should match pattern"),
        ({"prefix": "a/../b/?"}, "should match pattern"),
        ({"url_seconds": 5}, "greater than or equal to 60"),
        ({"secret_key": "x"}, "unknown setting"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"storage": given})

    assert words in str(caught.value)
    assert "secret@" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_the_place_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "images").touch()

    with pytest.raises(SettingsError, match="a file is in the place of a folder") as caught:
        prepare_storage(StorageSettings(), tmp_path / "images")
    assert "\n" not in str(caught.value)


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError) as caught:
        prepare_storage(StorageSettings(), tmp_path / "images")
    assert str(caught.value) == f"storage: Could not keep images in {tmp_path}/images: the disk is full."


class TestNodes:
    @pytest.fixture(autouse=True)
    def nodes(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bool]]:
        nodes = [{"Alive": True}, {"Alive": True}, {"Alive": False}]
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        return nodes

    def test_several_cannot_share_the_disk_of_one(self) -> None:
        with pytest.raises(SettingsError, match="the cluster has 2 nodes, and images on one's disk are not there"):
            require_reachable_images(Settings())

    @pytest.mark.parametrize("storage", [{"shared": True}, {"kind": "s3", "bucket": "images"}])
    def test_they_can_share_what_all_reach(self, storage: dict[str, Any]) -> None:
        require_reachable_images(Settings(storage=storage))

    def test_one_that_is_left_has_its_own_disk(self, nodes: list[dict[str, bool]]) -> None:
        nodes[0]["Alive"] = False

        require_reachable_images(Settings())

    def test_without_a_cluster_there_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray, "is_initialized", lambda: False)

        require_reachable_images(Settings())


class TestImageSources:
    @pytest.mark.parametrize(
        ("given", "sources"),
        [
            ({"deliver": "stream"}, ()),
            ({}, ("https://amazonaws.com", "https://*.amazonaws.com")),
            ({"endpoint_url": "http://minio:9000/"}, ("http://minio:9000", "http://*.minio:9000")),
            (
                {"endpoint_url": "http://minio:9000", "public_endpoint_url": "https://pictures.example"},
                ("https://pictures.example", "https://*.pictures.example"),
            ),
        ],
    )
    def test_a_browser_is_allowed_where_it_is_sent(self, given: dict[str, Any], sources: tuple[str, ...]) -> None:
        settings = StorageSettings(**{"kind": "s3", "bucket": "images", "deliver": "redirect"} | given)

        assert settings.image_sources == sources
