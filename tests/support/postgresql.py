"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.ports import free_port

GUARDED_ROLE, PASSWORD = "guarded", "open sesame"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
}
_ACCESS = f"host all {GUARDED_ROLE} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"


def find_programs() -> Path | None:
    """The folder of the server's programs: ``POSTGRESQL_BIN``, that of ``initdb``, or Debian's newest."""
    if named := os.environ.get("POSTGRESQL_BIN"):
        return Path(named)
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return newest and newest.parent


class PostgresqlServer:
    """A server on a free port of the loopback interface, its files in a folder of its own.

    What was committed outlives a crash of the server, but not one of the machine: it does not wait for the disk.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="cyberimage-postgresql-"))
        self._data = self._folder / "data"
        self.port = free_port()
        # The server refuses to run as root; Debian's package comes with this user.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}
            shutil.chown(self._folder, "postgres")

    def start(self) -> None:
        """Start it, for the first time or again; it answers when this returns."""
        if not self._data.exists():
            self._run("initdb", "--username=cyberimage", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D")
            (self._data / "pg_hba.conf").write_text(_ACCESS)
            lines = [f"{name} = '{value}'\n" for name, value in {**_SETTINGS, "port": self.port}.items()]
            with (self._data / "postgresql.conf").open("a") as settings:
                settings.writelines(lines)
        self._run("pg_ctl", "start", "--wait", f"--log={self._folder}/log", "-D")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` ends its connections, ``immediate`` is a crash."""
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", "-D")

    def remove(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._folder)

    def url(self, database: str, user: str = "cyberimage") -> str:
        """The job store's URL of a database."""
        return f"postgresql+asyncpg://{user}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """Create a copy of a database to which nobody is connected, an empty one by default, and return its name."""
        name = f"jobs_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run a statement in a database, as its owner, and return the rows as lines."""
        psql = [self._programs / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "cyberimage", "-d", database]
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        done = subprocess.run([*psql, *options, "-c", statement], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments, self._data]
        # A file, as the server would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", check=False, **self._user
            )
            output.seek(0)
            assert done.returncode == 0, f"{program}: {output.read()}"
