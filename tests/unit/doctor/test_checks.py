"""What ``cyberimage doctor`` finds, and what it says at each start."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.accelerator import Accelerator
from deployments.doctor import checkup
from deployments.doctor.files import exposed
from deployments.doctor.finding import Finding, Level
from deployments.jobs.records.api_keys import NO_LIMITS, NewKey, Scope, hash_of, make_key
from deployments.jobs.store import JobStore
from deployments.settings.service import Settings
from serve.cli import main as cli
from serve.gpu_catalogs import Gpus
from serve.launcher import launch
from tests.support.job_databases import write_job_database
from tests.support.machines import GOOD
from tests.support.ports import free_port

OF_THE_MACHINE = [
    "Python", "torch", "GPU 0", "main memory", "shared memory", "open files", "disk of the data", "HTTP port",
    "Ray's ports",
]  # fmt: skip
OF_RAY = ["Ray's version", "Ray's authentication", "Ray's token"]
NAMES = [
    "settings", *OF_THE_MACHINE, "catalog", "extras", "models on a GPU", "models in main memory", "hub",
    "disk of the models", "data folder", "database", "pictures", "logs", "database's answer", "names of API keys",
    "storage's answer", "API keys", *OF_RAY,
]  # fmt: skip


@pytest.fixture
def data_dir(monkeypatch) -> Iterator[Path]:
    """A data folder as an earlier version left it; the machine, the token file and the settings are of the test."""
    monkeypatch.setattr(checkup, "look_at_machine", lambda data_dir, http_port: GOOD)
    folder = Path(tempfile.mkdtemp(prefix="cyberimage-data-", dir="/tmp"))
    write_job_database(folder / "cyberimage.db")
    picture = folder / "images" / "2030" / "01" / "02" / "a.png"
    for file in (picture, folder / "logs" / "app.log", folder / "auth_token"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o755)
    monkeypatch.setenv("CYBERIMAGE_DATA_DIR", str(folder))
    monkeypatch.setenv("CYBERIMAGE_CATALOG", "configs/cpu.yaml")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "auth_token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    yield folder
    shutil.rmtree(folder)


def doctor(*arguments: str) -> tuple[dict[str, Finding], int]:
    """Ask the command; gives its findings by their checks, and its exit code."""
    done = CliRunner().invoke(cli.app, ["doctor", "--json", *arguments])
    findings = [Finding(**each) for each in json.loads(done.stdout)["findings"]]
    return {finding.check: finding for finding in findings}, done.exit_code


def levels(found: dict[str, Finding]) -> dict[str, str]:
    """Those that are not ok."""
    return {name: finding.level for name, finding in found.items() if finding.level != Level.OK}


def test_what_everybody_can_read_is_named_with_what_mends_it(data_dir):
    found, exit_code = doctor()

    assert list(found) == NAMES
    assert exit_code == 1
    assert levels(found) == dict.fromkeys(("data folder", "database", "pictures", "logs", "Ray's token"), "problem")
    assert found["data folder"].sentence == f"{data_dir} can be read by every user of this machine."
    assert found["data folder"].remedy == f"chmod go-rwx {data_dir}"
    assert found["database"].remedy == f"chmod go-rwx {data_dir}/cyberimage.db*"
    assert (
        found["pictures"].sentence == f"{data_dir}/images/2030/01/02/a.png can be read by every user of this machine."
    )
    assert found["Ray's token"].remedy == f"chmod 600 {data_dir}/auth_token"


def test_a_private_folder_makes_all_in_it_private(data_dir):
    data_dir.chmod(0o700)

    assert (levels(doctor()[0]), doctor()[1]) == ({}, 0)


def test_what_a_group_can_read_is_a_warning(data_dir):
    data_dir.chmod(0o750)
    found, exit_code = doctor()

    assert found["data folder"].sentence == f"{data_dir} can be read by its group."
    assert set(levels(found).values()) == {"warning"}
    assert exit_code == 0


def test_what_is_not_there_is_not_made(data_dir):
    nowhere = data_dir / "nowhere"
    data_dir.chmod(0o700)
    found, exit_code = doctor("--data-dir", str(nowhere))

    assert (levels(found), exit_code, nowhere.exists()) == ({}, 0, False)


def test_without_settings_the_rest_is_still_looked_at(data_dir, monkeypatch):
    monkeypatch.setenv("CYBERIMAGE_AUTH__MODE", "neither")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found, exit_code = doctor()

    assert found["settings"].sentence == "auth.mode (CYBERIMAGE_AUTH__MODE): should be 'off' or 'keys'."
    assert found["Ray's authentication"].remedy == "unset RAY_AUTH_MODE"
    assert (set(found), exit_code) == ({"settings", *OF_THE_MACHINE, *OF_RAY}, 1)


def test_a_catalog_that_cannot_be_read(data_dir, tmp_path):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("models: {a: {repo: b, stepps: 3}}")
    found, _ = doctor("--catalog", str(catalog))

    assert found["catalog"].level == "problem"
    assert "stepps" in found["catalog"].sentence


def test_a_service_that_is_open_to_others_is_a_warning(data_dir, monkeypatch):
    data_dir.chmod(0o700)
    monkeypatch.setenv("CYBERIMAGE_AUTH__ALLOW_OPEN", "true")
    found, exit_code = doctor()

    assert (levels(found), exit_code) == ({"API keys": "warning"}, 0)
    assert found["API keys"].remedy == "export CYBERIMAGE_AUTH__MODE=keys"


def test_a_token_in_the_environment_has_no_file(data_dir, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")

    assert doctor()[0]["Ray's token"].level == "ok"


def test_keys_that_are_named_like_addresses_are_named(data_dir):
    async def fill() -> str:
        store = await JobStore.open(f"sqlite+aiosqlite:///{data_dir}/cyberimage.db")
        for name in ("ann", "127.0.0.1", "10.0.0.1"):
            key_id, key = make_key()
            new = NewKey.model_construct(name=name, scopes=(Scope.READ,), limits=NO_LIMITS)
            await store.keys.add(key_id, hash_of(key), new, "test")
        await store.keys.revoke(key_id, "test")
        wrong = (await store.keys.list())[1].id
        await store.close()
        return wrong

    wrong = asyncio.run(fill())
    found = doctor()[0]["names of API keys"]

    assert found.level == "warning"
    assert found.sentence.startswith("127.0.0.1: a key with the name of an address")
    assert found.remedy == f"cyberimage keys revoke {wrong} --data-dir {data_dir}"


def test_a_damaged_database_is_told(data_dir):
    (data_dir / "cyberimage.db").write_bytes(b"not a database, but long enough to be one" * 100)

    assert "cannot be used" in doctor()[0]["names of API keys"].sentence


def test_the_catalog_is_the_one_that_a_start_chooses(data_dir, monkeypatch):
    monkeypatch.delenv("CYBERIMAGE_CATALOG")
    monkeypatch.setattr("serve.cli.doctor.find_gpus", lambda: Gpus((Accelerator("cuda", "Card", 24 << 30, (8, 9)),)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    assert "configs/gpu-24gb.yaml has " in doctor()[0]["catalog"].sentence


def test_what_a_model_lacks_is_named(data_dir, tmp_path):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        "models:\n"
        "  fast: {repo: shapes, source: builtin, replicas: {num_gpus: 0}}\n"
        "  small: {repo: shapes, source: builtin, replicas: {num_gpus: 0}, "
        "loading: {quantization: {method: gguf, file: none.gguf}}}\n"
    )
    found, exit_code = doctor("--catalog", str(catalog))

    assert (found["extras"].level, exit_code) == ("problem", 1)
    assert found["extras"].sentence == "small: the quantized file none.gguf is not there."


def test_people_see_a_line_for_each_check(data_dir):
    done = CliRunner().invoke(cli.app, ["doctor"])

    lines = done.stdout.splitlines()
    assert f"problem data folder: {data_dir} can be read by every user of this machine." in lines
    assert f"        chmod go-rwx {data_dir}" in lines
    assert lines[-1] == f"ok: {len(NAMES) - 5}, warnings: 0, problems: 5"
    assert done.exit_code == 1


@pytest.mark.parametrize(("arguments", "port"), [((), 8000), (("--port", "8001"), 8001)])
def test_the_port_is_that_of_the_service(data_dir, monkeypatch, arguments, port):
    monkeypatch.delenv("PORT", raising=False)
    asked = []
    monkeypatch.setattr(checkup, "look_at_machine", lambda data_dir, http_port: asked.append(http_port) or GOOD)
    doctor(*arguments)

    assert asked == [port]


def test_a_start_has_a_line_for_the_data_folder_the_database_and_the_token(data_dir, capsys):
    assert launch("0.0.0.0", free_port()) == 1  # no keys

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning: ")]
    for line, name in zip(lines, ("", "/cyberimage.db", "/auth_token"), strict=True):
        assert line.startswith(
            f"Warning: {data_dir}{name} can be read by every user of this machine. Mend it with: chmod"
        )


def test_a_start_that_fails_names_the_doctor(data_dir, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert launch("127.0.0.1", other.getsockname()[1]) == 1

    (error,) = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Warning: ")]
    assert error.startswith("CyberImage cannot start: ")
    assert "Run `cyberimage doctor`" in error


def test_only_what_everybody_can_read_is_worth_a_line_at_each_start(data_dir):
    assert [found.check for found in exposed(Settings())] == ["data folder", "database"]
    data_dir.chmod(0o750)
    assert exposed(Settings()) == []
