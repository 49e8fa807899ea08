"""Checks of what keeps others out of Ray's ports: whoever has the cluster's token may run code in it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from deployments.doctor.files import check_file
from deployments.doctor.finding import Finding, Level


def check_token_file() -> Finding:
    """Who may read the file of the token, which Ray itself looks for in this order and makes if there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Finding("Ray's token", Level.OK, "RAY_AUTH_TOKEN has it.")
    path = _token_path()
    return check_file("Ray's token", path, f"chmod 600 {shlex.quote(str(path))}")


def check_token_is_asked_for() -> Finding:
    """Whether Ray asks for the token."""
    check = "Ray's authentication"
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is None:
        return Finding(check, Level.OK, "RAY_AUTH_MODE is not set; a cluster of `cyberimage serve` asks for its token.")
    if mode.lower() != "disabled":
        return Finding(check, Level.OK, "Ray's ports ask for the cluster's token.")
    sentence = "RAY_AUTH_MODE is disabled: whoever reaches one of Ray's ports may run code here."
    return Finding(check, Level.PROBLEM, sentence, "unset RAY_AUTH_MODE")


def token() -> str:
    """The cluster's token; empty where there is none that this user may read."""
    try:
        return os.environ.get("RAY_AUTH_TOKEN") or _token_path().read_text().strip()
    except OSError:
        return ""


def _token_path() -> Path:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named).absolute() if named else Path.home() / ".ray" / "auth_token"
