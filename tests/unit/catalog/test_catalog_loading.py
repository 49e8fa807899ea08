"""What may be said of a model's loading, and what does not go together."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.catalog.catalog import load_catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.file import CatalogError
from deployments.catalog.loading import Loading, Lora, Quantization, SchedulerChoice


def entry(loading: dict[str, object] | None = None, **fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"repo": "owner/name", "loading": loading or {}, **fields})


def write(folder: Path, text: str) -> Path:
    path = folder / "catalog.yaml"
    path.write_text(text)
    return path


def test_all_of_it_is_off_where_nothing_is_said() -> None:
    assert entry().loading == Loading()
    assert entry().prompt_encoding == "stock"
    assert not entry().is_single_file


def test_lists_of_the_file_are_taken(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
models:
  some:
    repo: owner/name
    loading:
      quantization: {method: torchao, kind: int8, components: [transformer, text_encoder]}
      loras:
        - {repo: owner/style, weight_name: style.safetensors, scale: 0.5}
      scheduler: {name: EulerDiscreteScheduler, config: {use_karras_sigmas: true}}
""",
    )
    loading = load_catalog(path, {}).get("some").loading

    assert loading.quantization == Quantization(
        method="torchao", kind="int8", components=("transformer", "text_encoder")
    )
    assert loading.loras == (Lora(repo="owner/style", weight_name="style.safetensors", scale=0.5),)
    assert loading.scheduler == SchedulerChoice(name="EulerDiscreteScheduler", config={"use_karras_sigmas": True})


def test_local_files_are_relative_to_the_catalog(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
models:
  some:
    repo: mine.safetensors
    source: local
    loading:
      config: ./configs
      quantization: {method: gguf, file: mine.gguf}
      loras:
        - {repo: loras/style.safetensors, source: local}
        - {repo: owner/style}
  other:
    repo: /srv/other.safetensors
    source: local
    loading: {config: owner/configs}
""",
    )
    catalog = load_catalog(path, {})
    some, other = catalog.get("some"), catalog.get("other")

    assert some.is_single_file
    assert some.location() == str(tmp_path / "mine.safetensors")
    assert some.loading.config == str(tmp_path / "configs")
    assert some.loading.quantization is not None
    assert some.loading.quantization.file == str(tmp_path / "mine.gguf")
    assert [lora.repo for lora in some.loading.loras] == [str(tmp_path / "loras/style.safetensors"), "owner/style"]
    assert (other.location(), other.loading.config) == ("/srv/other.safetensors", "owner/configs")


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ("offlaod: model", "loading.offlaod", 'unknown field; did you mean "offload"?'),
        ("quantization: {methd: gguf}", "loading.quantization.methd", 'did you mean "method"?'),
        ("loras: [{repo: owner/name, weigth_name: a}]", "loading.loras.0.weigth_name", 'did you mean "weight_name"?'),
        ("scheduler: {nam: Euler}", "loading.scheduler.nam", 'did you mean "name"?'),
    ],
)
def test_a_misspelt_field_is_named(tmp_path: Path, line: str, place: str, words: str) -> None:
    # The model's id is a field's name too.
    path = write(tmp_path, f"models:\n  size:\n    repo: owner/name\n    loading:\n      {line}\n")
    with pytest.raises(CatalogError) as caught:
        load_catalog(path, {})

    assert any(f"{path}:5: models.size.{place}: " in told and words in told for told in str(caught.value).splitlines())


CPU = {"num_gpus": 0}
BNB = {"method": "bitsandbytes", "kind": "nf4"}
INT8 = {"method": "torchao", "kind": "int8"}


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"loading": {"offload": "model"}, "replicas": CPU}, "loading.offload", "needs a GPU"),
        ({"loading": {"offload": "group", "device": "cpu"}}, "loading.offload", "device is cpu"),
        ({"loading": {"offload": ["model", "group"]}}, "loading.offload", "'none', 'encoders', 'model' or 'group'"),
        ({"loading": {"device": "cuda"}, "replicas": CPU}, "loading.device", "num_gpus above 0"),
        ({"loading": {"quantization": BNB}, "replicas": CPU}, "loading.quantization", "needs a GPU"),
        ({"loading": {"quantization": BNB, "device": "cpu"}}, "loading.quantization", "needs a GPU"),
        ({"loading": {"quantization": BNB, "offload": "group"}}, "loading.offload", "does not go with bitsandbytes"),
        (
            {"loading": {"quantization": INT8, "layerwise_casting": "float8_e5m2"}},
            "loading.layerwise_casting",
            "does not go with quantization",
        ),
        ({"loading": {"compile": True, "offload": "group"}}, "loading.compile", "does not go with offload: group"),
        (
            {"loading": {"attention_backend": "flash"}, "replicas": CPU},
            "loading.attention_backend",
            "flash needs a GPU",
        ),
        ({"loading": {"attention_backend": "flash_hub"}}, "loading.attention_backend", "'native', 'xformers'"),
        ({"loading": {"config": "owner/name"}}, "loading.config", "only for a single .safetensors file"),
        (
            {"repo": "a.safetensors", "source": "local", "loading": {"quantization": INT8}},
            "loading.quantization",
            "a single file cannot be quantized",
        ),
        ({"repo": "model.ckpt", "source": "local"}, "repo", "a pickle can run code"),
        ({"repo": "model.PT", "source": "local"}, "repo", "give a .safetensors file"),
        ({"loading": {"loras": [{"repo": "../style.safetensors"}]}}, "loading.loras.0.repo", "set source: local"),
        (
            {"loading": {"loras": [{"repo": "owner/name", "weight_name": "a.bin"}]}},
            "loading.loras.0.weight_name",
            "a pickle can run code",
        ),
        (
            {"loading": {"loras": [{"repo": "style.pt", "source": "local"}]}},
            "loading.loras.0.repo",
            "a pickle can run code",
        ),
        (
            {"loading": {"loras": [{"repo": "owner/name", "weight_name": "style"}]}},
            "loading.loras.0.weight_name",
            "not the name of a .safetensors file",
        ),
        ({"loading": {"scheduler": {"name": "euler a"}}}, "loading.scheduler.name", "not the name of a class"),
        (
            {"loading": {"quantization": {"method": "torchao"}}},
            "loading.quantization.kind",
            "torchao needs one of int8, float8",
        ),
        (
            {"loading": {"quantization": {"method": "torchao", "kind": "int4"}}},
            "loading.quantization.kind",
            "take nf4 of bitsandbytes, or gguf",
        ),
        (
            {"loading": {"quantization": {"method": "bitsandbytes", "kind": "float8"}}},
            "loading.quantization.kind",
            "bitsandbytes needs one of int8, nf4, fp4",
        ),
        ({"loading": {"quantization": {"method": "gguf"}}}, "loading.quantization.file", "the path of a .gguf file"),
        (
            {"loading": {"quantization": {"method": "gguf", "file": "a.gguf", "kind": "int8"}}},
            "loading.quantization.kind",
            "leave it out",
        ),
        (
            {"loading": {"quantization": {"method": "gguf", "file": "a.gguf", "components": ["vae"]}}},
            "loading.quantization.components",
            "leave it out",
        ),
        (
            {"loading": {"quantization": {**INT8, "file": "a.gguf"}}},
            "loading.quantization.file",
            "leave it out",
        ),
        ({"prompt_encoding": "longer"}, "prompt_encoding", "'stock' or 'long'"),
    ],
)
def test_what_does_not_go_together_is_refused_at_its_field(fields: dict[str, object], place: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        entry(**fields)  # type: ignore[arg-type]

    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == place
    assert words in error["msg"]


def test_what_a_cpu_can_do_is_taken_for_a_cpu_model() -> None:
    loading = {"layerwise_casting": "float8_e4m3fn", "vae_slicing": True, "vae_tiling": True, "compile": True}
    assert entry(loading, replicas=CPU).loading.compile
    assert entry({"quantization": INT8, "device": "cpu", "attention_backend": "native"}, replicas=CPU)
