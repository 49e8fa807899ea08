"""After a fault of its device an engine makes no more images, and says so; too little memory is no fault."""

import functools
import threading

import pytest
import torch

from deployments.engine.device_faults import is_device_fault
from deployments.engine.engine import Engine
from deployments.pipelines.exceptions import EngineStoppedError
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 60
CUDA = torch.device("cuda", 0)


def request(**changes):
    return image_request(**{"num_inference_steps": 6, "width": 16, "height": 16, **changes})


class Poison:
    """What an illegal memory access does: the call that meets it fails, and all later waits for the device do."""

    def __init__(self, monkeypatch) -> None:
        self.is_spilled = False
        synchronize = torch.accelerator.synchronize

        def wait(*args):
            if self.is_spilled:
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            return synchronize(*args)

        monkeypatch.setattr(torch.accelerator, "synchronize", wait)

    def spill(self):
        self.is_spilled = True
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def gpu():
    with pretend_gpu() as gpu:
        yield gpu


@pytest.fixture
def poison(gpu, monkeypatch):
    return Poison(monkeypatch)


@pytest.fixture
def pipeline(gpu):
    return tiny_stable_diffusion().to("cuda")


def allocate_too_much() -> None:
    activations = torch.zeros(1 << 20, device="cuda")
    raise torch.OutOfMemoryError(f"no room beside {activations.nbytes} bytes")


def in_forward(pipeline, poison, monkeypatch) -> None:
    @functools.wraps(pipeline.unet.forward)
    def faulty(*args, **kwargs):
        return poison.spill()

    pipeline.unet.forward = faulty


def in_the_pipelines_own_code(pipeline, poison, monkeypatch) -> None:
    def step(scheduler, *args, **kwargs):
        return poison.spill()

    monkeypatch.setattr(type(pipeline.scheduler), "step", step)


def at_the_wait_for_the_forward_before(pipeline, poison, monkeypatch) -> None:
    forward, calls = pipeline.unet.forward, []

    @functools.wraps(forward)
    def counted(*args, **kwargs):
        calls.append(args)
        return forward(*args, **kwargs)

    pipeline.unet.forward = counted
    query = type(torch.cuda.Event()).query

    def ask(event):
        return poison.spill() if len(calls) >= 2 else query(event)

    monkeypatch.setattr(type(torch.cuda.Event()), "query", ask)


@pytest.mark.parametrize("meet", [in_forward, in_the_pipelines_own_code, at_the_wait_for_the_forward_before])
def test_a_fault_ends_the_engine_and_all_its_images(pipeline, poison, monkeypatch, meet):
    meet(pipeline, poison, monkeypatch)
    engine = Engine(pipeline, max_batch=4, costs=FixedCosts())
    reached = threading.Event()
    generations = [engine.submit(request(seed=seed, on_stage=lambda _: reached.set())) for seed in range(3)]
    for generation in generations:
        with pytest.raises((EngineStoppedError, torch.AcceleratorError), match=r"stopped|illegal memory"):
            generation.future.result(WAIT)
    engine._thread.join(WAIT)
    assert not engine.is_alive
    assert "illegal memory access" in engine.failure
    with pytest.raises(EngineStoppedError, match="illegal memory access"):
        engine.submit(request())


def test_an_error_that_leaves_the_device_sound_fails_its_image_alone(pipeline, poison):
    forward = pipeline.unet.forward

    @functools.wraps(forward)
    def refuses_wide_ones(sample, *args, **kwargs):
        if sample.shape[-1] > 8:
            raise torch.AcceleratorError("CUDA error: invalid configuration argument")
        return forward(sample, *args, **kwargs)

    pipeline.unet.forward = refuses_wide_ones
    engine = Engine(pipeline, max_batch=4, costs=FixedCosts())
    bad, good = engine.submit(request(width=32, height=32)), engine.submit(request())
    with pytest.raises(torch.AcceleratorError, match="invalid configuration"):
        bad.future.result(WAIT)
    assert good.future.result(WAIT).shape == (16, 16, 3)
    assert engine.is_alive
    engine.stop(WAIT)


def test_too_little_memory_is_no_fault(poison):
    poison.is_spilled = True
    assert not is_device_fault(torch.OutOfMemoryError("too little"), CUDA)


@pytest.mark.parametrize("error", [ValueError("no number"), EngineStoppedError()])
def test_what_no_device_raises_is_none_and_costs_no_wait(gpu, error):
    assert not is_device_fault(error, CUDA)
    assert not gpu.syncs


def test_memory_is_given_back_after_what_the_failed_forward_held(pipeline, gpu):
    forward = pipeline.unet.forward

    @functools.wraps(forward)
    def hungry(sample, *args, **kwargs):
        if len(sample) <= 2:
            return forward(sample, *args, **kwargs)
        try:
            allocate_too_much()
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError("too many rows") from error

    pipeline.unet.forward = hungry
    engine = Engine(pipeline, max_batch=4, costs=FixedCosts())
    gpu.forget()
    weights = gpu.live
    for generation in [engine.submit(request(seed=seed, guidance_scale=3.0)) for seed in range(2)]:
        generation.future.result(WAIT)
    engine.stop(WAIT)
    emptied = [each.live for each in gpu.events if each.what == "empty_cache"]
    assert emptied
    assert max(emptied) < weights + (4 << 20), "the activations that did not fit are still there"
