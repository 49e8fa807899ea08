"""What is wrong with a Ray Serve configuration; Ray itself drops keys that it does not know."""

from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve.config import AutoscalingPolicy
from ray.serve.schema import ServeDeploySchema

from deployments.settings.service import SettingsError, load_settings


def config_problems(text: str) -> list[str]:
    """One line for each unknown key, wrong value or setting that the application would refuse."""
    data = yaml.safe_load(text)
    problems = unknown_keys(data, ServeDeploySchema)
    try:
        config = ServeDeploySchema.model_validate(data)
    except ValidationError as error:
        return problems + [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    for application in config.applications:
        try:
            load_settings(application.args)
        except SettingsError as error:
            problems += [f"{application.name}: args: {line}" for line in str(error).splitlines()]
        try:
            _resolve_policy_callable(AutoscalingPolicy(**application.autoscaling_policy or {}))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            problems.append(f"{application.name}: autoscaling_policy: {error}")
    return problems


def unknown_keys(data: Any, annotation: Any, path: str = "") -> list[str]:
    """The keys of ``data``, at any depth, that are no fields of the schema.

    Mappings without a schema, such as ``args``, may have any key.
    """
    model = _schema_in(annotation)
    if model is None:
        return []
    if isinstance(data, list):
        return [problem for index, item in enumerate(data) for problem in unknown_keys(item, model, f"{path}[{index}]")]
    if not isinstance(data, dict):
        return []
    problems = []
    for key, value in data.items():
        place = f"{path}.{key}" if path else key
        if key in model.model_fields:
            problems += unknown_keys(value, model.model_fields[key].annotation, place)
        else:
            problems.append(f"{place}: unknown key")
    return problems


def _schema_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that an annotation is, or holds: in a list, or as one of several choices."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _schema_in(part))), None)
