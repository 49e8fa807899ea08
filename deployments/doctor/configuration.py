"""Checks of the catalog, and of what the settings open."""

from __future__ import annotations

import os

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.file import CatalogError
from deployments.doctor.finding import Finding, Level
from deployments.settings.service import Settings


def read_catalog(settings: Settings) -> tuple[Catalog | None, Finding]:
    """Read the catalog, and find whether that can be done.

    Returns:
        The catalog, or None where something in it is wrong; and the finding.
    """
    try:
        catalog = load_catalog(settings.catalog_path, os.environ)
    except CatalogError as error:
        return None, Finding("catalog", Level.PROBLEM, f"{'; '.join(str(error).splitlines())}.")
    return catalog, Finding("catalog", Level.OK, f"{settings.catalog_path} has {', '.join(catalog.models)}.")


def check_keys_are_asked_for(settings: Settings) -> Finding:
    """Whether other machines may reach a service that asks for no API keys."""
    check = "API keys"
    if settings.auth.mode == "keys":
        return Finding(check, Level.OK, "Requests need an API key.")
    if not settings.auth.allow_open:
        return Finding(check, Level.OK, "None are asked for, and the service listens to this machine alone.")
    sentence = "None are asked for, and auth.allow_open lets others in: whoever reaches the port may do everything."
    return Finding(check, Level.WARNING, sentence, "export CYBERIMAGE_AUTH__MODE=keys")
