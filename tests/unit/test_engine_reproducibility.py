"""A deterministic image has the same bytes alone and in any company, and still has company."""

import random
import threading

import numpy as np
import pytest
import torch

from deployments.engine.engine import Engine
from deployments.engine.exactness import is_exact
from deployments.engine.exceptions import GenerationCancelledError
from deployments.engine.grouping import read_call
from deployments.engine.request import ImageRequest
from tests.unit.forward_costs import FixedCosts
from tests.unit.tiny_pipelines import tiny_stable_diffusion

WAIT = 120


def request(index: int, **changes) -> ImageRequest:
    chance = random.Random(index)
    values = {
        "prompt": chance.choice(("a ring", "a large blue star on a white background", "circle, red")),
        "negative_prompt": chance.choice(("", "green")),
        "num_inference_steps": chance.randint(2, 12),
        "guidance_scale": chance.choice((1.0, 2.5, 7.0)),
        "width": 16,
        "height": chance.choice((16, 24)),
        "seed": index,
    }
    return ImageRequest(**(values | changes))


def test_the_same_bytes_alone_and_in_a_changing_crowd():
    exact = [request(index, deterministic=True) for index in range(24)]
    lone = Engine(tiny_stable_diffusion(), max_batch=8, costs=FixedCosts())
    alone = [lone.submit(each).future.result(WAIT) for each in exact]
    lone.stop(WAIT)

    crowd = Engine(tiny_stable_diffusion(), max_batch=8, costs=FixedCosts())
    order = random.Random(7).sample(range(24), 24)
    together = {index: crowd.submit(exact[index]) for index in order[:8]}
    others = [crowd.submit(request(100 + index)) for index in range(6)]
    late: threading.Event = threading.Event()

    def join_and_leave(step: int) -> None:
        if step == 2:
            together.update({index: crowd.submit(exact[index]) for index in order[8:]})
            others[0].cancel()
            late.set()

    host = crowd.submit(request(200, num_inference_steps=12, on_step=join_and_leave))
    assert late.wait(WAIT)
    host.future.result(WAIT)
    pictures = {index: each.future.result(WAIT) for index, each in together.items()}
    crowd.stop(WAIT)

    assert len(pictures) == 24
    assert all(np.array_equal(alone[index], picture) for index, picture in pictures.items())
    assert crowd.statistics.widest_batch > 1
    assert crowd.statistics.padded_rows > 0
    with pytest.raises(GenerationCancelledError):
        others[0].future.result(WAIT)


class TestVerification:
    def call(self, forward, rows=2):
        return read_call(forward, "Denoiser", (torch.randn(rows, 4), torch.tensor(1.0)), {})

    def test_a_module_that_minds_only_its_own_rows_is_exact(self):
        assert is_exact(self.call(lambda sample, timestep: (sample * 2,)), 8)

    def test_a_module_that_looks_at_its_neighbours_is_not(self):
        assert not is_exact(self.call(lambda sample, timestep: (sample - sample.mean(),)), 8)

    def test_a_module_that_minds_the_place_of_its_rows_is_not(self):
        def forward(sample, timestep):
            return (sample + torch.arange(len(sample))[:, None],)

        assert not is_exact(self.call(forward), 8)

    def test_a_call_as_wide_as_the_forward_has_no_company_to_mind(self):
        assert is_exact(self.call(lambda sample, timestep: (sample - sample.mean(),), rows=8), 8)


def test_where_the_device_is_not_exact_deterministic_images_run_alone_and_repeat():
    pipeline = tiny_stable_diffusion()
    forward = pipeline.unet.forward

    def minds_its_neighbours(sample, *args, **kwargs):
        (result,) = forward(sample, *args, **{**kwargs, "return_dict": False})
        return (result + 1e-3 * sample.mean(),)

    pipeline.unet.forward = minds_its_neighbours
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    exact = request(1, deterministic=True)
    alone = engine.submit(exact).future.result(WAIT)
    crowd = [engine.submit(request(index)) for index in range(2, 6)]
    again = engine.submit(exact).future.result(WAIT)
    for each in crowd:
        each.future.result(WAIT)
    engine.stop(WAIT)
    assert np.array_equal(alone, again)
    assert engine.statistics.padded_rows == 0
