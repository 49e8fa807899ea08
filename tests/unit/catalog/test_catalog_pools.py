"""Pools of the catalog: what a model needs to be in one, and what it has from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.file import CatalogError
from deployments.catalog.pools import Pool


def catalog(shared: dict[str, Any] | None = None, /, **model: Any) -> Catalog:
    """A catalog of one model in a pool, and one that has copies of its own."""
    return Catalog.model_validate(
        {
            "models": {"v1.5": {"repo": "owner/name", "pool": "shared", **model}, "other": {"repo": "owner/other"}},
            "pools": {"shared": shared or {}},
        }
    )


def problem(shared: dict[str, Any] | None = None, /, **model: Any) -> tuple[str, str]:
    """The field and what is wrong with it."""
    with pytest.raises(ValidationError) as caught:
        catalog(shared, **model)
    (error,) = caught.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


def test_a_members_copies_are_those_of_the_pool() -> None:
    found = catalog({"replicas": {"min": 1, "max": 3, "num_gpus": 0.5}})

    assert found.get("v1.5").replicas == found.pools["shared"].replicas
    assert found.get("other").replicas.max == 1
    assert list(found.members("shared")) == ["v1.5"]


def test_survives_pickle_and_json() -> None:
    found = catalog({"replicas": {"num_gpus": 0}, "memory": "20GiB"})

    assert pickle.loads(pickle.dumps(found)) == found
    assert Catalog.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(("written", "size"), [("20GiB", 20 << 30), ("1.5GB", 1_500_000_000), (4096, 4096)])
def test_sizes_are_written_by_people(written: object, size: int) -> None:
    assert Pool.model_validate({"memory": written}).memory == size


@pytest.mark.parametrize("written", ["a lot", "-1GiB", True, -1])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        Pool.model_validate({"parked_memory": written})


@pytest.mark.parametrize(
    ("model", "field", "words"),
    [
        ({"pool": "sharde"}, "pool", 'there is no pool "sharde"; did you mean "shared"?'),
        ({"replicas": {"max": 2}}, "replicas", "the copies are those of its pool (pools.shared.replicas)"),
        ({"loading": {"offload": "model"}}, "loading.offload", "does not go with a pool"),
        ({"loading": {"offload": "group"}}, "loading.offload", "does not go with a pool"),
        ({"loading": {"device": "cpu"}}, "loading.device", "does not go with a pool that has a GPU"),
        (
            {"loading": {"quantization": {"method": "bitsandbytes", "kind": "nf4"}}},
            "loading.quantization",
            "take torchao or gguf",
        ),
    ],
)
def test_what_keeps_a_model_out_of_its_pool_is_told(model: dict[str, Any], field: str, words: str) -> None:
    place, text = problem(**model)

    assert place == f"models.v1.5.{field}"
    assert words in text


@pytest.mark.parametrize(
    "loading",
    [
        {"layerwise_casting": "float8_e4m3fn"},
        {"compile": True},
        {"quantization": {"method": "torchao", "kind": "int8"}},
        {"quantization": {"method": "gguf", "file": "a.gguf"}},
        {"loras": [{"repo": "owner/ink"}]},
    ],
)
def test_what_can_be_moved_is_taken(loading: dict[str, Any]) -> None:
    assert catalog(loading=loading).members("shared")


def test_what_needs_a_gpu_is_refused_in_a_pool_without_one() -> None:
    place, text = problem({"replicas": {"num_gpus": 0}}, loading={"attention_backend": "flash"})

    assert place == "models.v1.5.loading.attention_backend"
    assert "needs a GPU" in text


def test_a_problem_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text("models:\n  v1.5:\n    repo: owner/name\n    pool: none\n", encoding="utf-8")

    with pytest.raises(CatalogError) as caught:
        load_catalog(path, {})
    assert str(caught.value) == f'{path}:4: models.v1.5.pool: there is no pool "none"'
