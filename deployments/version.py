"""The version of the project."""

from __future__ import annotations

from importlib import metadata


def package_version() -> str:
    """The installed version, or ``unknown`` where the project runs from a source tree that was not installed."""
    try:
        return metadata.version("cyberimage")
    except metadata.PackageNotFoundError:
        return "unknown"
