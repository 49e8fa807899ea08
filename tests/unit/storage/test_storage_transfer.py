"""Copying images from one storage to another, to a real S3 server and back."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.storage.base import Storage, StorageError
from deployments.storage.local import LocalStorage
from deployments.storage.transfer import Transfer
from serve.cli.main import app
from tests.support.s3_server import S3Server
from tests.support.storage_samples import PREFIX, bucket_at, key_of

CONTENTS = {key_of(number): bytes([number]) * 100 for number in range(12)}
CONTENTS[key_of(1).replace(".png", ".256.webp")] = b"thumbnail"


class Recording(LocalStorage):
    """Knows which keys were read and written, and fails when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_keys: list[str] = []
        self.written: list[str] = []
        self.broken: set[str] = set()
        self.corrupt: set[str] = set()

    async def read(self, key: str) -> bytes:
        self.read_keys.append(key)
        return await super().read(key)

    async def write(self, key: str, content: bytes) -> None:
        if key in self.broken:
            raise StorageError(f"Could not write {key}: the disk failed.")
        await super().write(key, b"?" * len(content) if key in self.corrupt else content)
        if key in CONTENTS:
            self.written.append(key)


@pytest.fixture
async def source(tmp_path: Path) -> Recording:
    storage = Recording(tmp_path / "source")
    for key, content in CONTENTS.items():
        await storage.write(key, content)
    return storage


@pytest.fixture
def target(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "target")


async def contents_of(storage: Storage) -> dict[str, bytes]:
    return {found.key: await storage.read(found.key) async for page in storage.pages() for found in page}


async def test_everything_is_copied_and_nothing_deleted(source: Recording, target: Recording) -> None:
    transfer = Transfer(source, target)
    inventory = await transfer.take_inventory()
    seen: list[str] = []

    outcome = await transfer.run(lambda found: seen.append(found.key))

    assert (inventory.objects, inventory.bytes) == (len(CONTENTS), sum(map(len, CONTENTS.values())))
    assert (outcome.copied, outcome.present, outcome.removed, outcome.failures) == (len(CONTENTS), 0, 0, [])
    assert sorted(seen) == sorted(CONTENTS)
    assert await contents_of(target) == await contents_of(source) == CONTENTS


async def test_a_second_run_copies_only_what_is_missing(source: Recording, target: Recording) -> None:
    await Transfer(source, target).run()
    target.written.clear()
    missing, short = sorted(CONTENTS)[2:4]
    await target.delete(missing)
    await target.write(short, b"half")
    target.written.clear()

    outcome = await Transfer(source, target).run()

    assert (outcome.copied, outcome.present) == (2, len(CONTENTS) - 2)
    assert sorted(target.written) == [missing, short]
    assert await contents_of(target) == CONTENTS


@pytest.mark.parametrize("compare", [False, True])
async def test_other_content_of_the_same_size_is_found_on_request(
    source: Recording, target: Recording, compare: bool
) -> None:
    await Transfer(source, target).run()
    key = next(iter(CONTENTS))
    await target.write(key, b"?" * len(CONTENTS[key]))

    outcome = await Transfer(source, target, compare=compare).run()

    assert outcome.copied == int(compare)
    assert (await target.read(key) == CONTENTS[key]) == compare


async def test_what_is_stopped_goes_on(source: Recording, target: Recording) -> None:
    started = asyncio.Event()
    stopped = asyncio.create_task(Transfer(source, target).run(lambda _: started.set()))
    await started.wait()
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped

    for key, content in (await contents_of(target)).items():
        assert content == CONTENTS[key]
    outcome = await Transfer(source, target).run()
    assert outcome.copied + outcome.present == len(CONTENTS)
    assert await contents_of(target) == CONTENTS


async def test_a_failure_is_told_and_holds_up_nothing(source: Recording, target: Recording) -> None:
    key = sorted(CONTENTS)[3]
    target.broken.add(key)

    outcome = await Transfer(source, target, remove=True).run()

    assert outcome.failures == [f"Could not write {key}: the disk failed."]
    assert (outcome.copied, outcome.removed) == (len(CONTENTS) - 1, len(CONTENTS) - 1)
    assert await contents_of(source) == {key: CONTENTS[key]}


async def test_what_arrives_otherwise_than_it_left_is_a_failure(source: Recording, target: Recording) -> None:
    key = sorted(CONTENTS)[3]
    target.corrupt.add(key)

    outcome = await Transfer(source, target, remove=True).run()

    assert outcome.failures == [f"The image file {key} is not the same at the target; it was not copied."]
    assert await source.read(key) == CONTENTS[key]
    assert not await target.exists(key)


async def test_what_is_deleted_meanwhile_is_no_failure(source: Recording, target: Recording) -> None:
    victim = sorted(CONTENTS)[-1]

    class Vanishing(Recording):
        async def read(self, key: str) -> bytes:
            await self.delete(victim)
            return await super().read(key)

    outcome = await Transfer(Vanishing(source._root), target).run()

    assert outcome.failures == []
    assert set(await contents_of(target)) == set(CONTENTS) - {victim}


async def test_a_storage_is_not_copied_onto_itself(source: Recording, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "source")

    with pytest.raises(StorageError, match="the same place"):
        await Transfer(source, LocalStorage(tmp_path / "alias"), remove=True).check()
    assert await contents_of(source) == CONTENTS


async def test_a_bucket_and_back(source: Recording, tmp_path: Path, s3: S3Server) -> None:
    bucket, back = bucket_at(s3.url, s3.create_bucket()), LocalStorage(tmp_path / "back")

    await Transfer(source, bucket).run()
    await Transfer(bucket, back, remove=True).run()

    assert await contents_of(back) == CONTENTS
    assert await contents_of(bucket) == {}


class TestCommand:
    @pytest.fixture(autouse=True)
    def settings(self, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        bucket = s3.create_bucket()
        for name, value in {
            "DATA_DIR": str(tmp_path / "data"),
            "STORAGE__BUCKET": bucket,
            "STORAGE__PREFIX": PREFIX,
            "STORAGE__ENDPOINT_URL": s3.url,
            "STORAGE__PATH_STYLE": "true",
            "STORAGE__REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(f"CYBERIMAGE_{name}", value)
        return bucket

    @pytest.fixture
    def images(self, tmp_path: Path, settings: str) -> LocalStorage:
        storage = LocalStorage(tmp_path / "data" / "images")
        for key, content in CONTENTS.items():
            asyncio.run(storage.write(key, content))
        return storage

    def run(self, *arguments: str):
        return CliRunner().invoke(app, ["storage", "copy", *arguments])

    def test_to_the_bucket_and_again(self, images: LocalStorage, s3: S3Server, settings: str) -> None:
        first = self.run("--from", "local", "--to", "s3")
        second = self.run("--from", "local", "--to", "s3")

        assert (first.exit_code, second.exit_code) == (0, 0), first.output
        assert first.stdout == f"{len(CONTENTS)} copied, 0 there already, 0 failed\n"
        assert second.stdout == f"0 copied, {len(CONTENTS)} there already, 0 failed\n"
        assert asyncio.run(contents_of(bucket_at(s3.url, settings))) == CONTENTS
        assert asyncio.run(contents_of(images)) == CONTENTS

    def test_the_source_is_deleted_when_told(self, images: LocalStorage, tmp_path: Path) -> None:
        result = self.run("--from", "local", "--to", str(tmp_path / "other"), "--delete-source")

        assert result.exit_code == 0, result.output
        assert f"{len(CONTENTS)} deleted from the source" in result.stdout
        assert asyncio.run(contents_of(images)) == {}
        assert asyncio.run(contents_of(LocalStorage(tmp_path / "other"))) == CONTENTS

    def test_to_another_bucket_by_its_name(self, images: LocalStorage, s3: S3Server) -> None:
        other = s3.create_bucket()

        result = self.run("--from", "local", "--to", f"s3://{other}/old/images?path_style=true", "--quiet")

        assert (result.exit_code, result.stdout) == (0, "")
        assert asyncio.run(contents_of(bucket_at(s3.url, other, prefix="old/images/"))) == CONTENTS

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ("s3://no-such-bucket", "bucket no-such-bucket"),
            ("bucket", "it is none of local, s3, s3://bucket/prefix and a folder, as ./bucket"),
            ("s3://bucket?colour=red", "storage.colour: "),
            ("local", "The source and the target are the same place."),
        ],
    )
    def test_a_place_that_cannot_be_is_told_in_one_line(self, images: LocalStorage, target: str, words: str) -> None:
        result = self.run("--from", "local", "--to", target, "--delete-source", "--quiet")

        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert words in line
        assert asyncio.run(contents_of(images)) == CONTENTS

    def test_ctrl_c_says_how_it_goes_on(self, images: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        async def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Transfer, "run", interrupted)
        result = self.run("--from", "local", "--to", "s3")

        assert result.exit_code == 130
        assert "the same command goes on with the rest" in result.stderr
