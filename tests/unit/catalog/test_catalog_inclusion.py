from pathlib import Path

import pytest

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.file import CatalogError

OFFERED = """
default: large
models:
  large: {repo: owner/large, max_batch: 4, loading: {vae_slicing: true}}
  small: {repo: owner/small, steps: {default: 20}}
  local: {repo: weights/one, source: local}
pools:
  shared: {memory: 8GiB, parked_memory: 32GiB}
"""


def load(folder: Path, text: str, offered: str = OFFERED) -> Catalog:
    (folder / "offered.yaml").write_text(offered)
    (folder / "catalog.yaml").write_text(text)
    return load_catalog(folder / "catalog.yaml", {})


def problem(folder: Path, text: str, offered: str = OFFERED) -> str:
    with pytest.raises(CatalogError) as caught:
        load(folder, text, offered)
    return str(caught.value).replace(f"{folder}/", "")


def test_without_models_of_its_own_it_has_them_all(tmp_path: Path) -> None:
    catalog = load(tmp_path, "include: offered.yaml\n")

    assert list(catalog.models) == ["large", "small", "local"]
    assert catalog.default == "large"
    assert catalog.get("local").repo == str(tmp_path / "weights" / "one")


def test_it_has_those_it_names_with_the_fields_it_does_not_give(tmp_path: Path) -> None:
    text = (
        "include: offered.yaml\nmodels:\n  small:\n  large:\n    max_batch: 1\n    loading: {offload: model}\n"
        "  own: {repo: owner/own}\n"
    )
    catalog = load(tmp_path, text)

    assert list(catalog.models) == ["small", "large", "own"]
    assert catalog.default == "large"
    large = catalog.get("large")
    assert (large.repo, large.max_batch) == ("owner/large", 1)
    assert (large.loading.offload, large.loading.vae_slicing) == ("model", True)
    assert catalog.get("small").steps.default == 20


def test_its_own_default_wins_and_that_of_a_model_left_out_does_not_count(tmp_path: Path) -> None:
    assert load(tmp_path, "include: offered.yaml\ndefault: small\n").default == "small"
    assert load(tmp_path, "include: offered.yaml\nmodels: {small: }\n").default == "small"


def test_pools_are_taken_field_by_field(tmp_path: Path) -> None:
    text = "include: offered.yaml\nmodels: {small: {pool: shared}}\npools: {shared: {memory: 4GiB}}\n"
    pool = load(tmp_path, text).pools["shared"]

    assert (pool.memory, pool.parked_memory) == (4 << 30, 32 << 30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "include: offered.yaml\nmodels:\n  small:\n    max_batch: many\n",
            "catalog.yaml:4: models.small.max_batch: should be a valid integer",
        ),
        (
            "include: offered.yaml\nmodels:\n  small: {steps: {maximum: 10}}\n",
            "offered.yaml:5: models.small.steps.default: 20 is not within 1..10",
        ),
        (
            "include: offered.yaml\nmodels:\n  smal:\n",
            'catalog.yaml:3: models.smal: the included file has no model "smal"; did you mean "small"?',
        ),
        (
            "include: nowhere.yaml\n",
            "catalog.yaml:1: include: nowhere.yaml: no such file",
        ),
        (
            "include: ../offered.yaml\n",
            "catalog.yaml:1: include: should be the name of a file in the same folder, such as gpu.yaml",
        ),
        (
            "include: [a]\n",
            "catalog.yaml:1: include: should be the name of a file in the same folder, such as gpu.yaml",
        ),
        (
            "include: catalog.yaml\n",
            "catalog.yaml:1: include: catalog.yaml:1 includes a file itself; name that one",
        ),
    ],
)
def test_problems_name_the_file_that_has_them(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problem(tmp_path, text)


def test_problems_of_the_included_file_count(tmp_path: Path) -> None:
    twice = "models:\n  a: {repo: o/a}\n  a: {repo: o/b}\n"

    assert "offered.yaml:3: models.a: given twice; first on line 2" in problem(
        tmp_path, "include: offered.yaml\n", twice
    )
