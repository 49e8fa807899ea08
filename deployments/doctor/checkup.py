"""All checks, in the order in which they are shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deployments.catalog.catalog import Catalog
from deployments.doctor.configuration import check_keys_are_asked_for, read_catalog
from deployments.doctor.database import check_database_content
from deployments.doctor.extras import check_extras, check_models_gpu, check_models_memory
from deployments.doctor.facts.hub import Hub, ask_hub
from deployments.doctor.facts.machine import Machine, look_at_machine
from deployments.doctor.facts.requirements import find_missing
from deployments.doctor.files import check_data_folder, check_database, check_logs, check_pictures
from deployments.doctor.finding import Finding, Level
from deployments.doctor.hardware import (
    check_data_disk,
    check_gpus,
    check_memory,
    check_open_files,
    check_python,
    check_shared_memory,
    check_torch,
)
from deployments.doctor.hub_models import check_access, check_hub, check_hub_disk
from deployments.doctor.ports import check_ports
from deployments.doctor.ray_cluster import check_cluster
from deployments.doctor.ray_token import check_token_file, check_token_is_asked_for
from deployments.doctor.storage import check_storage_answers
from deployments.settings.service import Settings, SettingsError, load_settings

OF_MACHINE: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    check_python,
    check_torch,
    check_gpus,
    check_memory,
    check_shared_memory,
    check_open_files,
    check_data_disk,
    check_ports,
)
OF_FILES: tuple[Callable[[Settings], Finding], ...] = (check_data_folder, check_database, check_pictures, check_logs)
"""Who may read what the service writes."""


def examine(arguments: Mapping[str, Any], http_port: int) -> Iterator[Finding]:
    """Run the checks, one after the other; where the settings or the catalog are not valid, those that need none.

    Args:
        arguments: Settings that go before those of the environment.
        http_port: Where the service shall listen.
    """
    settings = None
    try:
        settings = load_settings(arguments)
    except SettingsError as error:
        yield Finding("settings", Level.PROBLEM, f"{'; '.join(str(error).splitlines())}.")
    else:
        yield Finding("settings", Level.OK, "They can be read.")
    machine = look_at_machine(None if settings is None else settings.data_dir, http_port)
    for check in OF_MACHINE:
        yield from check(machine)
    if settings is not None:
        catalog, found = read_catalog(settings)
        yield found
        if catalog is not None:
            yield from check_extras(find_missing(catalog))
            yield from examine_models(machine, catalog, ask_hub(catalog, os.environ))
        yield from (check(settings) for check in OF_FILES)
        yield from check_database_content(settings)
        yield from check_storage_answers(settings)
        yield check_keys_are_asked_for(settings)
    yield from check_cluster(machine)
    yield check_token_is_asked_for()
    yield check_token_file()


def examine_models(machine: Machine, catalog: Catalog, hub: Hub) -> Iterator[Finding]:
    """Run the checks of what the catalog's models need.

    Args:
        machine: Where they shall run.
        catalog: The models.
        hub: What the hub says of their repositories.
    """
    yield from check_models_gpu(machine, catalog)
    yield from check_models_memory(machine, catalog, hub)
    yield from check_hub(hub)
    yield from check_access(hub)
    yield from check_hub_disk(machine.hub_cache, hub)
