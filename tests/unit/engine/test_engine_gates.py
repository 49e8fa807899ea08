"""The engine's gates stay in front of the modules, whatever hooks come and go behind them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook as AccelerateHook
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from diffusers import FluxPipeline
from diffusers.hooks import HookRegistry, ModelHook

from deployments.engine.engine import Engine
from deployments.engine.gates import gate_shared_modules
from deployments.pipelines.offload import place_pipeline
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

WAIT = 120
TOLERANCE = 1e-4


class Gate:
    """Notes the calls that pass it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __call__(self, target, owner, args, kwargs):
        self.calls.append((owner, target.__name__))
        return target(*args, **kwargs)


class Layer(torch.nn.Module):
    """Has all three entrances."""

    def forward(self, number: torch.Tensor) -> torch.Tensor:
        return number + 1

    def encode(self, number: torch.Tensor) -> torch.Tensor:
        return number + 2

    def decode(self, number: torch.Tensor) -> torch.Tensor:
        return number + 3


class Doubling(ModelHook):
    def post_forward(self, module, output):
        return 2 * output


class VanishingHook(ModelHook):
    """As diffusers' lazy prefetching does, it is gone after the first forward."""

    def post_forward(self, module, output):
        module._diffusers_hook.remove_hook("vanishing")
        return output


@pytest.fixture
def layer():
    return Layer()


@pytest.fixture
def gate(layer):
    gate = Gate()
    gate_shared_modules({"layer": layer}, gate)
    return gate


ONE = torch.ones(())


def test_each_entrance_has_one(layer, gate):
    assert [layer(ONE), layer.encode(ONE), layer.decode(ONE)] == [2, 3, 4]
    assert gate.calls == [("Layer", "forward"), ("Layer", "encode"), ("Layer", "decode")]


def test_a_copy_of_the_module_has_none(layer, gate):
    copy.deepcopy(layer)(ONE)

    assert gate.calls == []


class TestAGateStays:
    def assert_stays(self, layer, gate, expected=2):
        gate.calls.clear()
        assert layer(ONE) == expected
        assert gate.calls == [("Layer", "forward")]

    def test_when_a_hook_of_before_goes(self, layer):
        HookRegistry.check_if_exists_or_initialize(layer).register_hook(Doubling(), "doubling")
        gate = Gate()
        gate_shared_modules({"layer": layer}, gate)

        self.assert_stays(layer, gate, 4)
        layer._diffusers_hook.remove_hook("doubling")
        self.assert_stays(layer, gate)

    def test_when_a_hook_goes_in_the_midst_of_a_forward(self, layer):
        HookRegistry.check_if_exists_or_initialize(layer).register_hook(VanishingHook(), "vanishing")
        gate = Gate()
        gate_shared_modules({"layer": layer}, gate)

        self.assert_stays(layer, gate)
        assert not layer._diffusers_hook.hooks
        self.assert_stays(layer, gate)

    def test_when_a_hook_comes_later_and_goes(self, layer, gate):
        HookRegistry.check_if_exists_or_initialize(layer).register_hook(Doubling(), "doubling")
        self.assert_stays(layer, gate, 4)
        layer._diffusers_hook.remove_hook("doubling")
        self.assert_stays(layer, gate)

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_when_one_of_accelerate_goes(self, layer, order):
        gate = Gate()
        if order == "before":
            add_hook_to_module(layer, AccelerateHook())
        gate_shared_modules({"layer": layer}, gate)
        if order == "after":
            add_hook_to_module(layer, AccelerateHook())

        self.assert_stays(layer, gate)
        remove_hook_from_module(layer)
        self.assert_stays(layer, gate)

    def test_when_forward_is_replaced(self, layer, gate):
        layer.forward = lambda number: number + 10
        self.assert_stays(layer, gate, 11)


class TestGroupOffload:
    """Diffusers takes a hook off after the first forward where it fetches the next layers over a stream."""

    def test_a_step_cache_skips_in_every_round(self):
        def draw(pipeline) -> list[tuple[int, np.ndarray]]:
            engine = Engine(pipeline, max_batch=1, costs=FixedCosts(), has_step_cache=True)
            try:
                generations = [engine.submit(image_request(num_inference_steps=6, step_cache=0.5)) for _ in range(2)]
                pictures = [generation.future.result(WAIT) for generation in generations]
                return [(each.skipped_passes, picture) for each, picture in zip(generations, pictures, strict=True)]
            finally:
                engine.stop(WAIT)

        expected = draw(flux_whose_blocks_have_parameters())
        with pretend_gpu() as gpu:
            pipeline = flux_whose_blocks_have_parameters()
            place_pipeline(pipeline, "group", "cuda")
            offloaded = draw(pipeline)
            assert not gpu.faults
        assert expected[0][0] > 0
        for (skipped, picture), (alone_skipped, alone) in zip(offloaded, expected, strict=True):
            assert skipped == alone_skipped
            assert np.abs(picture - alone).max() <= TOLERANCE

    def test_images_are_batched_in_every_round(self):
        requests = [image_request(seed=seed, num_inference_steps=3) for seed in range(3)]
        expected = [draw_image(tiny_stable_diffusion(), request) for request in requests]
        with pretend_gpu() as gpu:
            pipeline = tiny_stable_diffusion()
            place_pipeline(pipeline, "group", "cuda")
            engine = Engine(pipeline, max_batch=4, costs=FixedCosts())
            try:
                for _ in range(2):
                    generations = [engine.submit(request) for request in requests]
                    pictures = [generation.future.result(WAIT) for generation in generations]
                    for picture, alone in zip(pictures, expected, strict=True):
                        assert np.abs(picture - alone).max() <= TOLERANCE
                    assert gated_images(engine) >= asked_steps(requests)
                    engine.statistics.forwards.clear()
            finally:
                engine.stop(WAIT)
            assert not gpu.faults


def flux_whose_blocks_have_parameters() -> FluxPipeline:
    """Beside those of their layers, as in PixArt, Sana and Wan; so the blocks have hooks of their own."""
    pipeline = tiny_pipeline(FluxPipeline)
    for block in [*pipeline.transformer.transformer_blocks, *pipeline.transformer.single_transformer_blocks]:
        block.scale_shift_table = torch.nn.Parameter(torch.zeros(1))
    return pipeline


def gated_images(engine: Engine) -> int:
    """Images in the U-Net's forwards that the engine ran itself."""
    return sum(width * count for (name, width), count in engine.statistics.forwards.items() if "UNet2D" in name)


def asked_steps(requests) -> int:
    """How many that should be."""
    return sum(request.settings.num_inference_steps for request in requests)
