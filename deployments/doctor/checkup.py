"""All checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deployments.doctor.configuration import check_catalog, check_keys_are_asked_for
from deployments.doctor.files import check_data_folder, check_database, check_logs, check_pictures
from deployments.doctor.finding import Finding, Level
from deployments.doctor.key_names import check_key_names
from deployments.doctor.ray_token import check_token_file, check_token_is_asked_for
from deployments.settings.service import Settings, SettingsError, load_settings

OF_MACHINE: tuple[Callable[[], Finding], ...] = (check_token_is_asked_for, check_token_file)
"""Checks that need no settings."""
OF_SETTINGS: tuple[Callable[[Settings], Finding], ...] = (
    check_catalog,
    check_data_folder,
    check_database,
    check_pictures,
    check_logs,
    check_keys_are_asked_for,
    check_key_names,
)


def examine(arguments: Mapping[str, Any]) -> Iterator[Finding]:
    """Run the checks, one after the other; where the settings are not valid, those that need none.

    Args:
        arguments: Settings that go before those of the environment.
    """
    try:
        settings = load_settings(arguments)
    except SettingsError as error:
        yield Finding("settings", Level.ERROR, f"{'; '.join(str(error).splitlines())}.")
    else:
        yield Finding("settings", Level.OK, "They can be read.")
        yield from (check(settings) for check in OF_SETTINGS)
    yield from (check() for check in OF_MACHINE)


def exposed(settings: Settings) -> list[Finding]:
    """What is worth a line at each start: the data folder or the database can be read by every user of this machine."""
    found = [check(settings) for check in (check_data_folder, check_database)]
    return [finding for finding in found if finding.level is Level.ERROR]
