"""A catalog file that takes its models from another one: ``include: gpu.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployments.catalog.file import CatalogError, CatalogFile, read_catalog_file, suggestion

INCLUDE = "include"


def read_with_included(path: Path) -> CatalogFile:
    """Read a catalog file; where it includes another, fill in what it takes from there.

    The models that it names are those of the catalog, each with the other file's fields where it has none of its own. A
    file that names no models has them all.

    Args:
        path: The file; errors name it as it is given here.

    Raises:
        CatalogError: It, or the file that it includes, cannot be read at all.
    """
    file = read_catalog_file(path)
    if INCLUDE not in file.data:
        return file
    own = dict(file.data)
    name = own.pop(INCLUDE)
    place = f"{file.place_of((INCLUDE,))}: {INCLUDE}"
    if not isinstance(name, str) or not name or Path(name).name != name:
        # Local models and LoRAs of both files are relative to one folder.
        raise CatalogError(f"{place}: should be the name of a file in the same folder, such as gpu.yaml")
    try:
        included = read_catalog_file(path.parent / name)
    except CatalogError as error:
        raise CatalogError(f"{place}: {error}") from None
    if INCLUDE in included.data:
        raise CatalogError(f"{place}: {included.place_of((INCLUDE,))} includes a file itself; name that one")
    file.included = included
    file.problems += included.problems
    file.data = _merged(included.data, own)
    _keep_named_models(file, own.get("models"), included.data.get("models"))
    if "default" not in own and file.data.get("default") not in (file.data.get("models") or {}):
        file.data.pop("default", None)  # then it is the first model
    return file


def _keep_named_models(file: CatalogFile, named: Any, offered: Any) -> None:
    if not isinstance(named, dict) or not isinstance(offered, dict):
        return
    file.data["models"] = {model_id: file.data["models"][model_id] for model_id in named}
    for model_id, entry in named.items():
        if entry is None and model_id not in offered:
            place = file.place_of(("models", model_id))
            hint = suggestion(model_id, list(offered))
            file.problems.append(f'{place}: models.{model_id}: the included file has no model "{model_id}"{hint}')


def _merged(base: Any, own: Any) -> Any:
    """What the including file has, and what only the included one has; an empty value takes all of the latter."""
    if own is None:
        return base
    if not isinstance(base, dict) or not isinstance(own, dict):
        return own
    return {key: _merged(base.get(key), own[key]) if key in own else value for key, value in {**base, **own}.items()}
