"""No setting and no catalog field without its place in docs/configuration.md."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.entry import PROJECT_ROOT, ModelEntry
from deployments.catalog.limits import GuidanceLimits, SizeLimits, StepCacheLimits, StepLimits
from deployments.catalog.loading import Loading, Lora, Quantization, SchedulerChoice
from deployments.catalog.pools import Pool
from deployments.catalog.replicas import Replicas
from deployments.catalog.tasks import ControlNet
from deployments.settings.service import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
SECTIONS: dict[type[BaseModel], str] = {
    Catalog: "### The file",
    ModelEntry: "### A model",
    StepLimits: "### `steps`",
    GuidanceLimits: "### `guidance`",
    SizeLimits: "### `size`",
    ControlNet: "### `controlnet`",
    StepCacheLimits: "### `step_cache`",
    Loading: "### `loading`",
    Quantization: "### `quantization`",
    Lora: "### `loras`",
    SchedulerChoice: "### `scheduler`",
    Replicas: "### `replicas`",
    Pool: "### `pools`",
}


YAML_EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], FieldInfo]]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += leaves(kind, (*path, name))
        else:
            found.append(((*path, name), field))
    return found


def cells_of_row(text: str, name: str) -> list[str]:
    rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    assert rows, f"docs/configuration.md has no row for {name}"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


def default_text(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value in (None, "", ()):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{int(value) if isinstance(value, float) and value.is_integer() else value}`"


@pytest.mark.parametrize(("path", "field"), leaves(Settings), ids=lambda part: str(part)[:40])
def test_every_setting_has_its_row(path: tuple[str, ...], field: FieldInfo) -> None:
    _, variable, default, meaning = cells_of_row(PAGE, ".".join(path))

    assert variable == f"`CYBERIMAGE_{'__'.join(path).upper()}`"
    assert default == default_text(field.default)
    assert meaning == field.description


@pytest.mark.parametrize("model", SECTIONS)
def test_every_catalog_field_has_its_row(model: type[BaseModel]) -> None:
    section = PAGE.split(f"\n{SECTIONS[model]}\n")[1].split("\n#")[0]
    for name, field in model.model_fields.items():
        _, default, meaning = cells_of_row(section, name)

        assert default == ("below" if field.default_factory else default_text(field.default)), name
        assert meaning == field.description, name


def test_no_model_of_the_catalog_is_left_out() -> None:
    def nested(kind: Any) -> set[type[BaseModel]]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return {kind}.union(*(nested(field.annotation) for field in kind.model_fields.values()))
        return set().union(*map(nested, get_args(kind)))

    assert nested(Catalog) == set(SECTIONS)


def test_the_other_variables_are_there() -> None:
    for word in ("CYBERIMAGE_BUILTIN_MODELS", "HF_TOKEN", "HUGGINGFACE_TOKEN", "MODEL_<N>", "fixed_steps"):
        assert word in PAGE


@pytest.mark.parametrize("example", [text for text in YAML_EXAMPLES if "import_path" not in text])
def test_catalog_examples_load(tmp_path: Path, example: str) -> None:
    around = {0: "", 2: "models:\n", 4: "models:\n  some:\n    repo: owner/name\n"}
    path = tmp_path / "catalog.yaml"
    (tmp_path / "gpu.yaml").write_bytes((PROJECT_ROOT / "configs" / "gpu.yaml").read_bytes())
    path.write_text(around[len(example) - len(example.lstrip())] + example)

    assert load_catalog(path, {}).models


def test_settings_example_is_taken() -> None:
    (example,) = [text for text in YAML_EXAMPLES if "import_path" in text]
    (application,) = yaml.safe_load(example)["applications"]

    assert Settings.model_validate(application["args"]).queue.limit == 500


def test_variable_example_is_taken(tmp_path: Path) -> None:
    (value,) = re.findall(r"export MODEL_1='(.*)'", PAGE)
    path = tmp_path / "catalog.yaml"
    path.write_text("models:\n")

    assert load_catalog(path, {"MODEL_1": value}).get("sana-sprint").step_config() == {"fixed_steps": 2}
