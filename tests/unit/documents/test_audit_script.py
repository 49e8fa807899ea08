"""``make audit``: bandit's findings count, and those of pip-audit where PyPI answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
GOOD = {"name": "numpy", "version": "1.0", "vulns": []}
BAD = {"name": "pillow", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


def program(path: Path, *, says: str = "", complains: str = "", status: int = 0) -> None:
    """Put a program in the place of a real one."""
    path.write_text(
        f"#!{sys.executable}\nimport sys\nprint({says!r})\nprint({complains!r}, file=sys.stderr)\nsys.exit({status})\n"
    )
    path.chmod(0o755)


def audit(folder: Path) -> tuple[list[str], int]:
    """Run the script with the programs of a folder; gives its lines and its exit status."""
    command = [sys.executable, PROJECT / "scripts" / "audit", folder]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    return [line for line in done.stdout.splitlines() if line], done.returncode


@pytest.mark.parametrize(
    ("packages", "told", "status"),
    [
        ([GOOD, GOOD], ["0 of 2 packages have known vulnerabilities"], 0),
        ([GOOD, BAD], ["pillow 2.0: CVE-1, mended in 2.1", "1 of 2 packages have known vulnerabilities"], 1),
        ([GOOD, UNKNOWN], ["PyPI does not know torch", "0 of 1 packages have known vulnerabilities"], 1),
        ([UNKNOWN, UNKNOWN], ["not asked: PyPI answers for none of the 2 packages"], 0),
    ],
)
@pytest.mark.parametrize("risky", [0, 1])
def test_what_pypi_answers_counts(tmp_path, packages, told, status, risky):
    program(tmp_path / "bandit", status=risky)
    program(tmp_path / "pip-audit", says=json.dumps({"dependencies": packages}), status=status)

    lines, exit_status = audit(tmp_path)

    assert lines[1:] == [f"pip-audit: {line}" for line in told]
    assert exit_status == max(risky, status)


@pytest.mark.parametrize("risky", [0, 1])
def test_without_an_answer_bandit_counts_alone(tmp_path, risky):
    program(tmp_path / "bandit", status=risky)
    program(tmp_path / "pip-audit", complains="a traceback\nConnectionError: no route to pypi.org", status=1)

    assert audit(tmp_path) == (
        [
            f"bandit: {'see above' if risky else 'no risky calls'}",
            "pip-audit: not asked: ConnectionError: no route to pypi.org",
        ],
        risky,
    )


def test_without_pip_audit_bandit_counts_alone(tmp_path):
    program(tmp_path / "bandit")
    program(tmp_path / "pip", status=1)

    assert audit(tmp_path) == (
        ["bandit: no risky calls", "pip-audit: not asked: it is not installed, and could not be"],
        0,
    )


def test_without_bandit_there_is_no_audit(tmp_path):
    program(tmp_path / "pip", status=1)
    program(tmp_path / "pip-audit", says=json.dumps({"dependencies": [GOOD]}))

    assert audit(tmp_path)[1] == 1
