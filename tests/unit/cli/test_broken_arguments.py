"""Arguments that no terminal should send: bytes that are no UTF-8 end a command with a sentence, not a traceback."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from serve.cli import main as cli
from tests.support.ports import free_port

BROKEN = "a\udcffb"  # as Python has the bytes a, FF, b


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", BROKEN), ("watch", BROKEN), ("cancel", BROKEN), ("replay", BROKEN), ("jobs", "retry", BROKEN),
        ("jobs", "priority", BROKEN, "high"), ("queue", "pause", BROKEN), ("queue", "resume", BROKEN),
        ("keys", "revoke", BROKEN), ("generate", "a", "--model", BROKEN), ("jobs", "list", "--model", BROKEN),
        ("jobs", "list", "--client", BROKEN), ("jobs", "list", "--cursor", BROKEN), ("audit", "--cursor", BROKEN),
        ("models", "--api-key", BROKEN), ("models", "--api-key", "\u043a\u043b\u044e\u0447"),
    ],
)  # fmt: skip
def test_end_a_command_with_a_sentence(arguments):
    done = CliRunner().invoke(cli.app, [*arguments, "--url", f"http://127.0.0.1:{free_port()}"])

    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert done.stderr.count("\n") == 1 or arguments[0] == "watch"


@pytest.mark.parametrize("arguments", [("keys", "revoke", BROKEN), ("keys", "create", BROKEN)])
def test_end_a_command_at_a_database(tmp_path, arguments):
    done = CliRunner().invoke(cli.app, [*arguments, "--data-dir", str(tmp_path)])

    assert isinstance(done.exception, SystemExit)
    assert "nicode" in done.stderr


def test_may_be_the_name_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CYBERIMAGE_DATA_DIR", str(tmp_path))
    file = tmp_path / f"{BROKEN}.tar"
    for command in ("backup", "restore"):
        done = CliRunner().invoke(cli.app, [command, str(file)])
        assert done.exit_code == 0, done.output
