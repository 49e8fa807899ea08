"""On a pretended GPU, every family draws what it draws on the CPU, in as many forwards and as wide ones."""

import pytest

from deployments.pipelines.exceptions import ModelLoadError
from tests.support.gpu_runs import ALL_FAMILIES, assert_same, assert_same_pictures, run_on_cpu, run_on_gpu
from tests.support.tiny_pipelines.families import FAMILIES

TILED = ("stable-diffusion", "flux", "sana", "qwen-image", "z-image")

SHARES_LAYERS = "z-image-controlnet"


@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_after_its_weights_went_and_came(name):
    assert_same(run_on_gpu(name, is_pooled=True), run_on_cpu(name))


@pytest.mark.parametrize("name", sorted(ALL_FAMILIES.keys() - {SHARES_LAYERS}))
def test_with_layers_that_are_fetched_by_a_stream(name):
    assert_same(run_on_gpu(name, offload="group"), run_on_cpu(name))


def test_layers_that_two_components_share_are_not_fetched_by_a_stream():
    with pytest.raises(ModelLoadError, match="offload: group does not go with the controlnet"):
        run_on_gpu(SHARES_LAYERS, offload="group")


def test_modules_that_share_layers_are_fetched_when_they_are_called():
    assert_same_pictures(run_on_gpu(SHARES_LAYERS, offload="model"), run_on_cpu(SHARES_LAYERS))


@pytest.mark.parametrize("name", FAMILIES)
def test_with_modules_that_are_fetched_when_they_are_called(name):
    # Whoever can use the module that is there goes first, so the order is another one.
    assert_same_pictures(run_on_gpu(name, offload="model"), run_on_cpu(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_with_weights_of_few_bits_that_are_cast_layer_by_layer(name):
    casting = {"layerwise_casting": "float8_e4m3fn"}
    assert_same(run_on_gpu(name, **casting), run_on_cpu(name, **casting))


@pytest.mark.parametrize("name", TILED)
def test_with_pictures_that_are_decoded_one_by_one_and_in_tiles(name):
    tiling = {"vae_slicing": True, "vae_tiling": True}
    assert_same(run_on_gpu(name, **tiling), run_on_cpu(name, **tiling))
