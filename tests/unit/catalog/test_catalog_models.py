import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.catalog.catalog import Catalog, UnknownModelError, load_catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import SizeLimits, StepLimits
from deployments.catalog.replicas import Replicas

CONFIGS = Path(__file__).parents[3] / "configs"


def entry(**fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"repo": "owner/name", **fields})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_catalogs_load(path: Path) -> None:
    catalog = load_catalog(path, {})

    assert catalog.default in catalog.models
    for model in catalog.models.values():
        assert model.description
        assert model.token_env in (None, "HF_TOKEN")


def test_ready_catalogs_are_where_they_are_looked_for() -> None:
    assert {"cpu", "gpu", "cluster"} <= {path.stem for path in CONFIGS.glob("*.yaml")}


def test_built_in_model_is_as_it_was_trained() -> None:
    shapes = load_catalog(CONFIGS / "cpu.yaml", {}).get("shapes")

    assert (shapes.size.minimum, shapes.size.maximum, shapes.size.multiple_of) == (64, 64, 64)
    assert shapes.step_config() == {"steps": {"min": 1, "max": 100, "default": 20}}
    assert shapes.guidance.default == 1.5
    assert shapes.max_prompt_characters == 2000
    assert (shapes.replicas.min, shapes.replicas.max, shapes.replicas.num_gpus) == (1, 1, 0)


def test_models_of_the_earlier_cyberimage_keep_their_names() -> None:
    catalog = load_catalog(CONFIGS / "gpu.yaml", {})

    assert catalog.get("flux-1").repo == "black-forest-labs/FLUX.1-dev"
    assert catalog.get("flux-schnell").repo == "black-forest-labs/FLUX.1-schnell"
    assert catalog.get("sd-3.5").repo == "stabilityai/stable-diffusion-3.5-large"
    assert catalog.get("animagine-xl").repo == "cagliostrolab/animagine-xl-4.0"
    assert catalog.get("sana-sprint").step_config() == {"fixed_steps": 2}


def test_first_model_is_the_default() -> None:
    assert Catalog(models={"b": entry(), "a": entry()}).default == "b"


def test_unknown_model_lists_those_there_are() -> None:
    catalog = Catalog(models={"one": entry(), "two": entry()})

    with pytest.raises(UnknownModelError, match=r'Unknown model "three". Available models: one, two') as caught:
        catalog.get("three")
    assert caught.value.status == 404
    assert str(UnknownModelError()) == "There is no model of that name."


def test_public_form() -> None:
    public = entry(description="A model", max_sequence_length=77).public("some")

    assert public["id"] == "some"
    assert public["repo"] == "owner/name"
    assert public["description"] == "A model"
    assert public["source"] == "huggingface"
    assert public["type"] == "image"
    assert public["step_config"] == {"steps": {"min": 1, "max": 100, "default": 30}}
    assert public["guidance"] == {"min": 0.0, "max": 30.0, "default": 5.0}
    assert public["default_settings"]["num_inference_steps"] == 30
    assert "token" not in str(public)


def test_public_form_hides_where_a_local_model_is() -> None:
    local = entry(source="local", repo="/srv/weights/mine")

    assert local.location() == "/srv/weights/mine"
    assert local.public("mine")["repo"] == "mine"


def test_locations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CYBERIMAGE_BUILTIN_MODELS", raising=False)
    shapes = entry(source="builtin", repo="shapes")

    assert entry().location() == "owner/name"
    assert shapes.location() == str(CONFIGS.parent / "models" / "shapes")
    monkeypatch.setenv("CYBERIMAGE_BUILTIN_MODELS", str(tmp_path))
    assert shapes.location() == str(tmp_path / "shapes")


def test_hub_token_comes_from_the_environment() -> None:
    gated = entry(token_env="HF_TOKEN")

    assert gated.token({"HF_TOKEN": "a", "HUGGINGFACE_TOKEN": "b"}) == "a"
    assert gated.token({"HUGGINGFACE_TOKEN": "b"}) == "b"
    assert gated.token({}) is None
    assert entry(token_env="MY_TOKEN").token({"HUGGINGFACE_TOKEN": "b"}) is None
    assert entry().token({"HF_TOKEN": "a"}) is None


def test_fixed_steps_are_all_three_limits() -> None:
    steps = StepLimits(fixed=2)

    assert (steps.minimum, steps.maximum, steps.default) == (2, 2, 2)
    assert StepLimits.model_validate(steps.model_dump()) == steps


def test_catalog_survives_pickle_and_json() -> None:
    catalog = load_catalog(CONFIGS / "gpu.yaml", {})

    assert pickle.loads(pickle.dumps(catalog)) == catalog
    assert Catalog.model_validate_json(catalog.model_dump_json()) == catalog


@pytest.mark.parametrize(
    ("build", "field", "words"),
    [
        (lambda: StepLimits(minimum=5, maximum=10, default=20), "default", "20 is not within 5..10"),
        (lambda: StepLimits(maximum=4), "default", "30, what it is when left out, is not within 1..4"),
        (lambda: StepLimits(fixed=2, minimum=1), "minimum", "does not go with fixed"),
        (lambda: StepLimits(default=True), "default", "valid integer"),
        (lambda: SizeLimits(default_width=1000), "default_width", "1000 is not a multiple of 16"),
        (lambda: SizeLimits(default_height=128), "default_height", "128 is not within 256..2048"),
        (lambda: SizeLimits(max_pixels=1000), "max_pixels", "1000 is less than the default size's 1048576"),
        (lambda: Replicas(min=3, max=2), "min", "3 is more than max, 2"),
        (lambda: Replicas(num_gpus=1.5), "num_gpus", "one GPU at most"),
        (lambda: Replicas(num_gpus=2), "num_gpus", "raise max"),
        (lambda: Replicas(num_cpus=float("nan")), "num_cpus", "finite"),
        (lambda: entry(repo="/srv/weights"), "repo", "set source: local"),
        (lambda: entry(source="builtin", repo="../secrets"), "repo", "built-in model"),
        (lambda: entry(max_images=9), "max_images", "less than or equal to 8"),
        (lambda: Catalog(models={"a": entry()}, default="b"), "default", 'there is no model "b"'),
    ],
)
def test_rules_name_their_field(build: object, field: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        build()  # type: ignore[operator]

    errors = caught.value.errors()
    assert [error["loc"][-1] for error in errors] == [field]
    assert words in errors[0]["msg"]


def test_a_token_in_place_of_its_variable_is_not_repeated() -> None:
    token = "hf_" + "a" * 34
    with pytest.raises(ValidationError, match="this is a token") as caught:
        entry(token_env=token)

    assert token not in str(caught.value)


SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES, st.sampled_from([1, 8, 16, 64]), st.integers(8, 512), st.integers(512, 4096), st.integers(1, 64))
def test_a_pictures_size_is_always_fitted_into_the_limits(
    width: int, height: int, multiple_of: int, minimum: int, maximum: int, room: int
) -> None:
    side = -(-minimum // multiple_of) * multiple_of
    limits = SizeLimits(
        default_width=side,
        default_height=side,
        multiple_of=multiple_of,
        minimum=minimum,
        maximum=max(maximum, side),
        max_pixels=side * side * room,
    )
    fitted = limits.fit(width, height)

    assert all(limits.minimum <= pixels <= limits.maximum and pixels % multiple_of == 0 for pixels in fitted)
    assert fitted[0] * fitted[1] <= limits.max_pixels


@pytest.mark.parametrize(
    ("size", "fitted"), [((1024, 1024), (1024, 1024)), ((1000, 700), (992, 704)), ((4000, 3000), (1680, 1248))]
)
def test_a_picture_keeps_its_shape_where_the_limits_allow_it(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert SizeLimits(max_pixels=2**21).fit(*size) == fitted


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tasks": ["text2video"]}, "image2image"),
        ({"controlnet": {"repo": "no id at all"}}, "not a hub id"),
        ({"controlnet": {"repo": "owner/lines.bin"}}, "a pickle can run code"),
        ({"request_loras": {"a.b": {"repo": "owner/style"}}}, "not a name"),
        ({"request_loras": {"ink": {"repo": "style.pt"}}}, "a pickle can run code"),
        ({"request_loras": {"ink": {"repo": "owner/style"}}, "loading": {"compile": True}}, "loading.compile"),
        ({"max_loras": 0}, "greater than or equal to 1"),
    ],
)
def test_pictures_and_loras_of_requests_are_checked_where_the_catalog_is_read(fields: dict, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        entry(**fields)
    assert problem in str(caught.value)
