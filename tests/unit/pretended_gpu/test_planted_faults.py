"""Faults that only a GPU shows are found on the pretended one, in the engine and on its own thread."""

import threading

import numpy as np
import pytest
import torch

from deployments.engine.engine import Engine
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 60
STEPS = 5


def draw(pipeline, **changes) -> np.ndarray:
    """One image of an engine of its own."""
    engine = Engine(pipeline, max_batch=2, costs=FixedCosts())
    try:
        return engine.submit(image_request(num_inference_steps=STEPS, **changes)).future.result(WAIT)
    finally:
        engine.stop(WAIT)


def before_each_forward(pipeline, fault) -> None:
    """Have a fault in the denoiser."""
    forward = pipeline.unet.forward

    def faulty(sample, *args, **kwargs):
        return forward(fault(sample), *args, **kwargs)

    pipeline.unet.forward = faulty


@pytest.fixture
def pipeline():
    return tiny_stable_diffusion()


def test_a_sound_pipeline_has_none(pipeline):
    expected = draw(tiny_stable_diffusion())
    with pretend_gpu() as gpu:
        picture = draw(pipeline.to("cuda"))
    assert np.abs(picture - expected).max() < 1e-5
    assert not gpu.faults


def test_an_encoder_left_on_the_cpu(pipeline):
    with pretend_gpu() as gpu:
        pipeline.to("cuda")
        pipeline.text_encoder.to("cpu")
        with pytest.raises(RuntimeError, match="same device"):
            draw(pipeline)
        assert gpu.faults


@pytest.mark.parametrize(
    "read", [lambda latents: latents.numpy(), lambda latents: latents[0, :3] * torch.ones(3, 1, 1)]
)
def test_a_preview_without_a_copy_to_the_host(pipeline, read):
    def preview(pipe, step, timestep, values):
        read(values["latents"])
        return values

    with pretend_gpu() as gpu, torch.inference_mode():
        pipeline.to("cuda")
        with pytest.raises((RuntimeError, TypeError)):
            pipeline("a ring", height=16, width=16, num_inference_steps=2, callback_on_step_end=preview)
        assert gpu.faults


def test_a_preview_that_is_read_before_it_has_arrived(pipeline):
    def preview(pipe, step, timestep, values):
        values["latents"].to("cpu", non_blocking=True).numpy()
        return values

    with pretend_gpu(), torch.inference_mode(), pytest.raises(RuntimeError, match="may be under way"):
        pipeline.to("cuda")("a ring", height=16, width=16, num_inference_steps=2, callback_on_step_end=preview)


def test_a_tensor_made_on_the_wrong_device_in_a_loop(pipeline):
    before_each_forward(pipeline, lambda sample: sample + torch.zeros(sample.shape))
    with pretend_gpu() as gpu:
        pipeline.to("cuda")
        with pytest.raises(RuntimeError, match="same device"):
            draw(pipeline)
        assert {fault.where.rpartition(":")[0] for fault in gpu.faults} == {
            "tests/unit/pretended_gpu/test_planted_faults.py"
        }


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda sample: sample if sample.sum().item() else -sample, "item"),
        (lambda sample: sample if sample.isfinite().all() else -sample, "__bool__"),
        (lambda sample: sample + torch.zeros(sample.shape).to(sample.device), "H2D"),
        (lambda sample: sample.cpu().to(sample.device), "D2H"),
    ],
)
def test_a_sync_or_a_copy_in_a_loop(pipeline, fault, kind):
    before_each_forward(pipeline, fault)
    with pretend_gpu() as gpu:
        pipeline.to("cuda")
        gpu.forget()
        draw(pipeline)
        here = {each: count for (each, where), count in gpu.syncs.items() if "test_planted_faults" in where}
    assert here[kind] >= STEPS


def test_more_memory_than_there_is(pipeline):
    with pretend_gpu() as gpu:
        pipeline.to("cuda")
        enough_for_weights = gpu.live
    with pretend_gpu(capacity=enough_for_weights + 1000), pytest.raises(torch.OutOfMemoryError):
        draw(tiny_stable_diffusion().to("cuda"))


def test_a_thread_from_before_does_not_pretend():
    """The limit of the pretence: threads of a pool that is kept."""
    go, seen = threading.Event(), []

    def look() -> None:
        go.wait(WAIT)
        seen.append(tensor.device.type)

    thread = threading.Thread(target=look)
    thread.start()
    with pretend_gpu():
        tensor = torch.ones(1, device="cuda")
        go.set()
        thread.join()
    assert seen == ["cpu"]
