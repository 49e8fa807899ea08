"""A check of the Ray cluster that runs on this machine, if one does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata

import httpx

from deployments.doctor.facts.machine import Machine
from deployments.doctor.facts.ports import DASHBOARD
from deployments.doctor.finding import Finding, Level
from deployments.doctor.ray_token import token

_CHECK = "Ray's version"
_SECONDS = 2.0


def check_cluster(machine: Machine) -> Iterator[Finding]:
    """Whether the cluster's Ray is the installed one: Ray refuses clusters of mixed versions."""
    installed = metadata.version("ray")
    named = os.environ.get("RAY_API_SERVER_ADDRESS")
    address = named or f"http://127.0.0.1:{DASHBOARD}"
    # Whoever has the token may run code in the cluster: another user's process at this port must not be sent it.
    may_have_token = bool(named) or any(port.number == DASHBOARD and port.is_own for port in machine.ports)
    running = _version_at(address, token() if may_have_token else "")
    if not running:
        yield Finding(_CHECK, Level.OK, f"{installed} is installed; no cluster tells its version at {address}.")
    elif running == installed:
        yield Finding(_CHECK, Level.OK, f"{installed}, as the cluster at {address} has.")
    else:
        sentence = f"{installed} is installed, and the cluster at {address} has {running}: Ray refuses mixed versions."
        yield Finding(_CHECK, Level.PROBLEM, sentence, f"pip install 'ray[serve]=={running}'")


def _version_at(address: str, token: str) -> str:
    """The version that a cluster's dashboard names; empty where none answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{address.rstrip('/')}/api/version", headers=headers, timeout=_SECONDS)
        return str(answer.raise_for_status().json()["ray_version"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return ""
