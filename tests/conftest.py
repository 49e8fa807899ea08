"""One Ray cluster, one service, one PostgreSQL, Redis and S3 server for all tests of a session that need them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from serve.launcher import prepare_environment
from tests.support.ports import free_port
from tests.support.postgresql import PostgresqlServer, find_programs
from tests.support.redis_server import RedisServer, find_program
from tests.support.s3_server import OtherServer, S3Server
from tests.support.service import APP_NAME, Service

LEASE_SECONDS = 5.0
MEMORY_DISK, ENOUGH_BYTES = Path("/dev/shm"), 2 << 30


# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Put the tests' folders into memory where there is room: on a disk, all that is committed or stored is flushed."""
    if MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > ENOUGH_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """What a test runs of the service keeps the files of this process private; the next test begins as before."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service with the built-in model, on a Ray cluster of this session."""
    # Imported here, as Ray reads the environment when it is imported.
    prepare_environment()
    import ray  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415

    from serve.app import build_app  # noqa: PLC0415

    os.umask(0o022)  # the cluster's processes inherit nothing of the service's own
    data_dir, port = tmp_path_factory.mktemp("service"), free_port()
    ray.init(
        address="local",
        num_cpus=8,
        num_gpus=1,
        include_dashboard=False,
        object_store_memory=100 << 20,
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    arguments = {"data_dir": str(data_dir), "queue": {"lease_seconds": LEASE_SECONDS}}
    serve.run(build_app(arguments), name=APP_NAME, route_prefix="/")
    yield Service(f"http://127.0.0.1:{port}", data_dir)
    ray.shutdown()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server of this session."""
    programs = find_programs()
    if programs is None:
        do_without("PostgreSQL is not installed: install it, or name the folder of initdb in POSTGRESQL_BIN")
    server = PostgresqlServer(programs)
    server.start()
    yield server
    server.stop("immediate")
    server.remove()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server of one test, which may stop it."""
    program = find_program()
    if program is None:
        do_without("Redis is not installed: install it, or name its program in REDIS_SERVER")
    server = RedisServer(program)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """An S3 server of this session."""
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The session's S3 server, with credentials for it where boto3 looks for them."""
    use_credentials(monkeypatch, moto)
    return moto


def do_without(reason: str) -> NoReturn:
    """Skip a test of what is not installed here, loudly; where everything should be, it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def use_credentials(monkeypatch: pytest.MonkeyPatch, server: S3Server | OtherServer) -> None:
    """Let boto3 find a server's credentials, and none of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    for name, value in {**nothing, "AWS_EC2_METADATA_DISABLED": "true", **server.environment}.items():
        monkeypatch.setenv(name, value)
