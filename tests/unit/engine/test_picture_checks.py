"""Values that are not numbers fail their image, with the part that is likely at fault, and no other image."""

import numpy as np
import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Lora
from deployments.catalog.tasks import ControlNet
from deployments.engine.engine import Engine
from deployments.engine.picture_checks import DecodingCheck, PictureFindings
from deployments.engine.request import ImageRequest
from deployments.pipelines.exceptions import NotNumbersError
from deployments.pipelines.loading import load_pipeline
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_controlnet, save_folder, save_lora
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_stable_diffusion
from tests.unit.pipelines.test_engine_tasks import picture

WAIT = 120


def outcomes(pipeline, *requests: ImageRequest) -> list[np.ndarray | BaseException]:
    """What became of images that were made together."""
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    generations = [engine.submit(request) for request in requests]
    found = [generation.future.exception(WAIT) or generation.future.result() for generation in generations]
    engine.stop(WAIT)
    return found


@torch.no_grad()
def spoil(module: torch.nn.Module, name: str = "") -> None:
    """Fill those parameters of a module that have this in their names."""
    for key, parameter in module.named_parameters():
        if name in key:
            parameter.fill_(torch.nan)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_autoencoder_that_overflows_is_named(value):
    pipeline = tiny_stable_diffusion()
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.bias[0] = value
    (error,) = outcomes(pipeline, image_request())
    assert isinstance(error, NotNumbersError)
    assert "VAE" in str(error)
    assert "float32" in str(error)
    assert not error.retryable


def test_a_lora_and_a_controlnet_are_named_and_the_other_images_are_made(tmp_path):
    save_folder(tmp_path / "model")
    save_lora(tmp_path / "ink", seed=1)
    save_controlnet(tmp_path / "lines")
    entry = ModelEntry(
        repo=str(tmp_path / "model"),
        source="local",
        controlnet=ControlNet(repo=str(tmp_path / "lines"), source="local"),
        request_loras={"ink": Lora(repo=str(tmp_path / "ink"), source="local")},
    )
    pipeline = load_pipeline(entry, "cpu")
    spoil(pipeline.unet, "ink")
    spoil(pipeline.components["controlnet"])
    with_lora = image_request(loras=(("ink", 0.5),))
    with_control = image_request(inputs={"control_image": picture(1)})
    lora, control, plain = outcomes(pipeline, with_lora, with_control, image_request())
    assert 'LoRA "ink"' in str(lora)
    assert "ControlNet" in str(control)
    assert "ControlNet" not in str(lora)
    assert np.isfinite(plain).all()


def test_the_check_waits_for_nothing():
    with pretend_gpu() as gpu, torch.inference_mode():
        latents, decoded = torch.ones(1, 4, 8, 8, device="cuda"), torch.ones(1, 3, 16, 16, device="cuda")
        gpu.forget()
        check = DecodingCheck()
        check.note(latents, (decoded,))
        assert not gpu.syncs
        check.require_numbers(np.ones((16, 16, 3), np.float32), image_request())


@pytest.mark.parametrize(("values", "is_black"), [(0.0, True), (0.001, True), (0.004, False)])
def test_a_picture_is_black_when_its_file_would_be(values, is_black):
    findings = PictureFindings.of(np.full((4, 4, 3), values, np.float32), {})
    assert findings == PictureFindings(is_black=is_black)


def test_what_is_transparent_does_not_count():
    rgba = np.zeros((4, 4, 4), np.float32)
    rgba[..., 3] = 1
    assert PictureFindings.of(rgba, {}).is_black


@pytest.mark.parametrize("flag", [None, [False], [True]])
def test_a_safety_checker_flags(flag):
    findings = PictureFindings.of(np.zeros((4, 4, 3), np.float32), {"nsfw_content_detected": flag})
    assert findings.is_flagged is (flag == [True])
