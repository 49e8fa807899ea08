"""The model catalog: the models, the limits of their requests, and their replicas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from deployments.catalog.entry import ModelEntry
from deployments.catalog.file import (
    CatalogError,
    CatalogFile,
    ModelVariables,
    explain_errors,
    read_model_variables,
    suggestion,
)
from deployments.catalog.inclusion import read_with_included
from deployments.catalog.names import ModelId, PoolName
from deployments.catalog.part import CatalogPart
from deployments.catalog.pools import Pool, member_problems
from deployments.errors import CyberImageError


class UnknownModelError(CyberImageError):
    """There is no model of that name."""

    status = 404


class Catalog(CatalogPart):
    """The models, by id."""

    default: str = Field(
        default="", description="Id of the model for requests that name none; left out: the first one."
    )
    models: dict[ModelId, ModelEntry] = Field(min_length=1, description="The models, by id.")
    pools: dict[PoolName, Pool] = Field(default_factory=dict, description="Copies that several models share, by name.")

    @model_validator(mode="before")
    @classmethod
    def _first_is_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("default") is None and isinstance(data.get("models"), dict):
            return {**data, "default": next(iter(data["models"]), "")}
        return data

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in self.models:
            hint = suggestion(self.default, list(self.models))
            self.refuse([("default", f'there is no model "{self.default}"{hint}')])
        return self

    @model_validator(mode="after")
    def _members_share_their_pools_copies(self) -> Self:
        members = {model_id: entry for model_id, entry in self.models.items() if entry.pool is not None}
        self.refuse(
            [
                (("models", model_id, *field.split(".")), problem)
                for model_id, entry in members.items()
                for field, problem in member_problems(entry, self.pools)
            ]
        )
        for model_id, entry in members.items():
            self.models[model_id] = entry.model_copy(update={"replicas": self.pools[entry.pool or ""].replicas})
        return self

    def members(self, pool: str) -> dict[str, ModelEntry]:
        """The models of a pool, by id."""
        return {model_id: entry for model_id, entry in self.models.items() if entry.pool == pool}

    def get(self, model_id: str) -> ModelEntry:
        """Return the entry of a model.

        Raises:
            UnknownModelError: There is no such model; the message lists those there are.
        """
        try:
            return self.models[model_id]
        except KeyError:
            raise UnknownModelError(
                f'Unknown model "{model_id[:64]}". Available models: {", ".join(self.models)}'
            ) from None


def load_catalog(path: Path | str, environ: Mapping[str, str]) -> Catalog:
    """Read the catalog: a YAML file, what it includes, and the models of the variables ``MODEL_<N>``.

    Args:
        path: The YAML file. Local models' folders are relative to its folder.
        environ: The environment.

    Raises:
        CatalogError: Something is wrong; the message has one line for each problem, with its file and line, or its
            variable, and its field.
    """
    file = read_with_included(Path(path))
    variables = read_model_variables(environ)
    problems = file.problems + variables.problems
    models = file.data.get("models") or {}
    if isinstance(models, dict):
        problems += _drop_known(variables, models, file)
        models = {**models, **variables.models}
    try:
        catalog = Catalog.model_validate({**file.data, "models": models})
    except ValidationError as error:
        problems += explain_errors(error, Catalog, file, variables)
    if problems:
        raise CatalogError("\n".join(problems))
    return _with_absolute_paths(catalog, Path(path).absolute().parent)


def _drop_known(variables: ModelVariables, models: dict[str, Any], file: CatalogFile) -> list[str]:
    """Drop the variables whose model the file already has, and log them."""
    problems = []
    for model_id in set(variables.models) & set(models):
        del variables.models[model_id]
        place = file.place_of(("models", model_id))
        problems.append(f'{variables.sources.pop(model_id)}: name: "{model_id}" is already in {place}')
    return problems


def _with_absolute_paths(catalog: Catalog, folder: Path) -> Catalog:
    models = {}
    for model_id, entry in catalog.models.items():
        changes: dict[str, Any] = {"loading": entry.loading.with_absolute_paths(folder)}
        if entry.source == "local":
            changes["repo"] = str(folder / Path(entry.repo).expanduser())
        if entry.controlnet is not None:
            changes["controlnet"] = entry.controlnet.with_absolute_path(folder)
        changes["request_loras"] = {name: lora.with_absolute_path(folder) for name, lora in entry.request_loras.items()}
        models[model_id] = entry.model_copy(update=changes).with_found_tasks()
    return catalog.model_copy(update={"models": models})
