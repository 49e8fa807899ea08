"""Images made in company are the images made alone, and they really are made in company."""

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.request import ImageRequest
from deployments.pipelines.exceptions import EngineStoppedError, GenerationCancelledError
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_stable_diffusion

TOLERANCE = 1e-4
WAIT = 120


def request(**changes) -> ImageRequest:
    values = {
        "prompt": "a red circle",
        "num_inference_steps": 5,
        "guidance_scale": 3.0,
        "width": 16,
        "height": 16,
        "seed": 1,
    }
    return image_request(**(values | changes))


SIX_DIFFERENT = [
    {"prompt": "a red circle", "num_inference_steps": 12, "guidance_scale": 1.0, "seed": 1},
    {"prompt": "a large blue star on a white background", "num_inference_steps": 4, "guidance_scale": 2.5, "seed": 2},
    {"prompt": "ring", "num_inference_steps": 9, "guidance_scale": 7.5, "seed": 3, "negative_prompt": "green"},
    {"prompt": "", "num_inference_steps": 1, "guidance_scale": 3.0, "seed": 4},
    {"prompt": "an elephant", "num_inference_steps": 7, "guidance_scale": 4.0, "seed": 2**63 - 1},
    {"prompt": "a red circle", "num_inference_steps": 12, "guidance_scale": 3.0, "seed": 6, "negative_prompt": "cat"},
]


@pytest.fixture
def pipeline():
    return tiny_stable_diffusion()


@pytest.fixture
def engine(pipeline) -> Iterator[Engine]:
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    yield engine
    engine.stop(WAIT)


class Meeting:
    """Holds an image at one of its steps until the test lets it go on."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, step: int) -> None:
        if step == self.step:
            self.reached.set()
            assert self.go_on.wait(WAIT)


class TestAgreement:
    def test_six_different_requests_at_different_times_equal_their_stock_runs(self, pipeline):
        expected = [draw_image(pipeline, request(**changes)) for changes in SIX_DIFFERENT]
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        generations: list[Generation] = []

        def submit_rest_later(step: int) -> None:
            if 1 <= step < len(SIX_DIFFERENT):
                generations.append(engine.submit(request(**SIX_DIFFERENT[step])))

        first = engine.submit(request(**SIX_DIFFERENT[0], on_step=submit_rest_later))
        first.future.result(WAIT)
        pictures = [generation.future.result(WAIT) for generation in [first, *generations]]
        engine.stop(WAIT)

        assert len(pictures) == len(expected)
        for picture, alone in zip(pictures, expected, strict=True):
            assert np.abs(picture - alone).max() <= TOLERANCE
        assert engine.statistics.widest_batch > 1
        assert engine.statistics.grouped_share > 0.3

    def test_two_sizes_do_not_mix_and_both_are_right(self, pipeline):
        sizes = [{"width": 16}, {"width": 24}, {"width": 16, "seed": 2}, {"width": 24, "seed": 2}]
        expected = [draw_image(pipeline, request(**size)) for size in sizes]
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        meeting = Meeting(1)
        host = engine.submit(request(num_inference_steps=2, on_step=meeting))
        assert meeting.reached.wait(WAIT)
        generations = [engine.submit(request(**size)) for size in sizes]
        meeting.go_on.set()
        host.future.result(WAIT)
        for generation, alone in zip(generations, expected, strict=True):
            assert np.abs(generation.future.result(WAIT) - alone).max() <= TOLERANCE
        engine.stop(WAIT)

    def test_what_a_seed_draws_does_not_depend_on_who_else_runs(self, engine):
        alone = engine.submit(request(seed=5)).future.result(WAIT)
        company = [engine.submit(request(seed=seed, num_inference_steps=9)) for seed in range(6)]
        again = engine.submit(request(seed=5)).future.result(WAIT)
        other = company[0].future.result(WAIT)
        assert np.abs(alone - again).max() <= TOLERANCE
        assert np.abs(alone - other).max() > TOLERANCE


class TestJoiningAndLeaving:
    def test_newcomers_join_at_the_next_step_of_those_who_run(self, engine):
        meeting = Meeting(2)
        first = engine.submit(request(num_inference_steps=6, on_step=meeting))
        assert meeting.reached.wait(WAIT)
        second = engine.submit(request(num_inference_steps=4, seed=2))
        meeting.go_on.set()
        first.future.result(WAIT)
        second.future.result(WAIT)
        unet = "UNet2DConditionModel"
        assert engine.statistics.forwards[unet, 1] == 2
        assert engine.statistics.forwards[unet, 2] == 4

    def test_no_forward_is_wider_than_the_batch_limit(self, pipeline):
        engine = Engine(pipeline, max_batch=2, costs=FixedCosts())
        meeting = Meeting(1)
        host = engine.submit(request(on_step=meeting))
        assert meeting.reached.wait(WAIT)
        generations = [engine.submit(request(seed=seed)) for seed in range(5)]
        meeting.go_on.set()
        for generation in [host, *generations]:
            generation.future.result(WAIT)
        engine.stop(WAIT)
        assert engine.statistics.widest_batch == 2

    def test_steps_are_reported_one_by_one(self, engine):
        steps: list[int] = []
        engine.submit(request(num_inference_steps=5, on_step=steps.append)).future.result(WAIT)
        assert steps == [1, 2, 3, 4, 5]


class TestRows:
    def test_none_is_computed_that_no_image_asked_for_once_a_kind_of_group_was_checked(self, pipeline):
        forward, computed = pipeline.unet.forward, []

        @functools.wraps(forward)
        def counted(sample, *args, **kwargs):
            computed.append(len(sample))
            return forward(sample, *args, **kwargs)

        pipeline.unet.forward = counted
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())

        def draw_some() -> tuple[float, int]:
            """Rows computed over rows asked, as the engine says; and those of the denoiser that it asked for."""
            before = replace(engine.statistics)
            meeting = Meeting(1)
            host = engine.submit(request(on_step=meeting))
            assert meeting.reached.wait(WAIT)
            others = [engine.submit(request(seed=seed, num_inference_steps=8)) for seed in range(5)]
            meeting.go_on.set()
            for generation in [host, *others]:
                generation.future.result(WAIT)
            asked = engine.statistics.asked_rows - before.asked_rows
            extra = engine.statistics.checking_rows - before.checking_rows
            return 1 + extra / asked, engine.statistics.rows - before.rows

        draw_some()
        computed.clear()
        share, asked = draw_some()
        engine.stop(WAIT)
        assert share == 1.0
        assert sum(computed) == asked == 2 * (5 + 5 * 8)
        assert max(computed) > 2


class TestCancel:
    def test_a_cancelled_image_takes_no_further_step_and_its_neighbour_is_untouched(self, pipeline):
        alone = draw_image(pipeline, request(num_inference_steps=8))
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        steps: list[int] = []
        meeting = Meeting(1)
        host = engine.submit(request(num_inference_steps=8, on_step=meeting))
        assert meeting.reached.wait(WAIT)

        def cancel_at_third(step: int) -> None:
            steps.append(step)
            if step == 3:
                victim.cancel()

        victim = engine.submit(request(num_inference_steps=50, seed=2, on_step=cancel_at_third))
        meeting.go_on.set()
        with pytest.raises(GenerationCancelledError):
            victim.future.result(WAIT)
        assert steps == [1, 2, 3]
        assert np.abs(host.future.result(WAIT) - alone).max() <= TOLERANCE
        engine.stop(WAIT)

    def test_an_image_cancelled_before_its_turn_never_starts(self, engine):
        meeting = Meeting(1)
        host = engine.submit(request(on_step=meeting))
        assert meeting.reached.wait(WAIT)
        steps: list[int] = []
        victim = engine.submit(request(on_step=steps.append))
        victim.cancel()
        meeting.go_on.set()
        with pytest.raises(GenerationCancelledError):
            victim.future.result(WAIT)
        host.future.result(WAIT)
        assert steps == []


class TestFailure:
    def test_an_image_that_its_pipeline_refuses_fails_by_itself(self, engine):
        good, bad = engine.submit(request()), engine.submit(request(width=17))
        with pytest.raises(ValueError, match="divisible by 8"):
            bad.future.result(WAIT)
        assert np.isfinite(good.future.result(WAIT)).all()

    def test_a_forward_that_fails_in_company_is_tried_alone(self, pipeline):
        alone = [draw_image(pipeline, request(seed=seed)) for seed in (1, 2)]
        forward = pipeline.unet.forward

        @functools.wraps(forward)
        def no_company(sample, *args, **kwargs):
            if sample.shape[0] > 2:
                raise torch.OutOfMemoryError("too many rows")
            return forward(sample, *args, **kwargs)

        pipeline.unet.forward = no_company
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        meeting = Meeting(1)
        host = engine.submit(request(seed=1, on_step=meeting))
        assert meeting.reached.wait(WAIT)
        guest = engine.submit(request(seed=2))
        meeting.go_on.set()
        for generation, expected in zip((host, guest), alone, strict=True):
            assert np.abs(generation.future.result(WAIT) - expected).max() <= TOLERANCE
        engine.stop(WAIT)

    def test_stopping_fails_what_runs_and_refuses_what_comes(self, pipeline):
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        reached = threading.Event()
        running = engine.submit(request(num_inference_steps=900, on_step=lambda _: reached.set()))
        assert reached.wait(WAIT)
        engine.stop(WAIT)
        with pytest.raises(EngineStoppedError):
            running.future.result(WAIT)
        assert not engine.is_alive
        with pytest.raises(EngineStoppedError):
            engine.submit(request())
