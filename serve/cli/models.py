"""``cyberimage models``: the models of a service."""

from __future__ import annotations

from typing import Any

from serve.cli.client import DEFAULT_URL
from serve.cli.session import ApiKey, AsJson, Url, print_json, print_table, service


def models(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List the models of the service."""
    with service(url, api_key) as client:
        answer = client.models()
    if as_json:
        print_json(answer)
        return
    rows = []
    for model_id, entry in answer["models"].items():
        mark = " (default)" if model_id == answer.get("default") else ""
        rows.append((model_id + mark, _steps_of(entry), _size_of(entry), entry.get("description") or ""))
    print_table(("Model", "Steps", "Size", "Description"), rows)


def _steps_of(entry: dict[str, Any]) -> str:
    config = entry.get("step_config") or {}
    if "fixed_steps" in config:
        return f"{config['fixed_steps']} (fixed)"
    steps = config.get("steps")
    return f"{steps['min']}-{steps['max']} ({steps['default']})" if steps else ""


def _size_of(entry: dict[str, Any]) -> str:
    size = entry.get("size")
    return f"{size['default_width']}x{size['default_height']}" if size else ""
