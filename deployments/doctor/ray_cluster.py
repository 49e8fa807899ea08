"""A check of the Ray cluster that runs on this machine, if one does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata

import httpx

from deployments.doctor.facts.ports import DASHBOARD
from deployments.doctor.finding import Finding, Level
from deployments.doctor.ray_token import token_path

_CHECK = "Ray's version"
_SECONDS = 2.0


def check_cluster() -> Iterator[Finding]:
    """Whether the cluster's Ray is the installed one: Ray refuses clusters of mixed versions."""
    installed = metadata.version("ray")
    address = os.environ.get("RAY_API_SERVER_ADDRESS") or f"http://127.0.0.1:{DASHBOARD}"
    running = _version_at(address)
    if not running:
        yield Finding(_CHECK, Level.OK, f"{installed} is installed; no cluster answers at {address}.")
    elif running == installed:
        yield Finding(_CHECK, Level.OK, f"{installed}, as the cluster at {address} has.")
    else:
        sentence = f"{installed} is installed, and the cluster at {address} has {running}: Ray refuses mixed versions."
        yield Finding(_CHECK, Level.PROBLEM, sentence, f"pip install 'ray[serve]=={running}'")


def _version_at(address: str) -> str:
    """The version that a cluster's dashboard names; empty where none answers."""
    headers = {"Authorization": f"Bearer {token}"} if (token := _token()) else {}
    try:
        answer = httpx.get(f"{address.rstrip('/')}/api/version", headers=headers, timeout=_SECONDS)
        return str(answer.raise_for_status().json()["ray_version"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return ""


def _token() -> str:
    try:
        return os.environ.get("RAY_AUTH_TOKEN") or token_path().read_text().strip()
    except OSError:
        return ""
