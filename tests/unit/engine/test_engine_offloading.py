"""Modules that take turns on the device stay there for a while: a transfer costs as much as many steps."""

import itertools

import numpy as np
import pytest
import torch

from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call, read_call
from deployments.engine.offloading import ModuleTurns, takes_turns
from deployments.engine.policy import Policy
from deployments.engine.request import ImageRequest
from deployments.pipelines.offload import offload_modules
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.stand_in_modules import Autoencoder, Denoiser
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 60
IMAGES, STEPS = 5, 12
TOLERANCE = 1e-4


DENOISER, OTHER_DENOISER, AUTOENCODER = Denoiser(), Denoiser(), Autoencoder()


def waiting_at(function, *arguments, arrival: float = 0.0) -> Generation:
    made = Generation(image_request("a ring", num_inference_steps=10, width=64, height=64))
    made.waiting_call = read_call(function, type(function.__self__).__name__, arguments, {})
    made.arrival = arrival
    return made


def denoising(module=DENOISER, size: int = 4, **changes) -> Generation:
    return waiting_at(module.forward, torch.ones(1, size), torch.tensor(1.0), **changes)


def encoding() -> Generation:
    return waiting_at(AUTOENCODER.encode, torch.ones(1, 4))


def decoding() -> Generation:
    return waiting_at(AUTOENCODER.decode, torch.ones(1, 4))


class Loop:
    """Chooses forwards and says what they took."""

    def __init__(self) -> None:
        self.policy = Policy(FixedCosts(), CheckedGroups(), 8, 1, turns=ModuleTurns())

    def choose(self, *waiting: Generation) -> list[Generation]:
        group = self.policy.choose(waiting)
        assert group is not None
        return group.generations

    def run(self, generation: Generation, seconds: float) -> None:
        assert generation.waiting_call is not None
        self.policy.note(self.policy.launch([generation.waiting_call]), seconds)


class TestTurns:
    def test_the_denoiser_stays_until_it_has_worked_for_as_long_as_its_coming_took(self):
        loop, running, done, newcomer = Loop(), denoising(), decoding(), encoding()
        loop.run(running, 4.0)
        for _ in range(4):
            assert loop.choose(running, done, newcomer) == [running]
            loop.run(running, 1.0)
        assert loop.choose(running, done, newcomer) == [newcomer]

    def test_it_stays_until_its_coming_was_measured(self):
        loop, running, done = Loop(), denoising(), decoding()
        loop.policy.launch([running.waiting_call])
        assert loop.choose(running, done) == [running]

    def test_it_goes_at_once_where_nobody_waits_for_it(self):
        loop, running, done = Loop(), denoising(), decoding()
        loop.run(running, 4.0)
        assert loop.choose(done) == [done]

    def test_once_it_is_gone_all_that_is_aside_comes_first(self):
        loop, running, done, newcomer = Loop(), denoising(), decoding(), encoding()
        loop.run(running, 0.5)
        loop.run(running, 1.0)
        for each in (newcomer, done):
            assert loop.choose(running, *{newcomer: (newcomer, done), done: (done,)}[each]) == [each]
            loop.run(each, 1.0)
        assert loop.choose(running) == [running]

    def test_two_denoisers_take_turns_as_well(self):
        loop, early, late = Loop(), denoising(arrival=1.0), denoising(OTHER_DENOISER)
        loop.run(early, 3.0)
        assert loop.choose(early, late) == [early]
        loop.run(early, 1.0)
        loop.run(early, 2.0)
        assert loop.choose(early, late) == [late]

    def test_a_forward_that_brings_its_module_in_says_nothing_of_what_forwards_cost(self):
        costs = ForwardCosts()
        policy = Policy(costs, CheckedGroups(), 8, 1, turns=ModuleTurns())
        call: Call = denoising().waiting_call
        first, second = policy.launch([call]), policy.launch([call])
        policy.note(first, 9.0)
        policy.note(second, 1.0)
        assert costs.expected(first.name, 1) == 1.0


@pytest.mark.parametrize("offloads", [True, False])
def test_only_offloaded_modules_take_turns(offloads):
    pipeline = tiny_stable_diffusion()
    with pretend_gpu():
        if offloads:
            offload_modules(pipeline, "cuda")
        else:
            pipeline.to("cuda")
        assert takes_turns(pipeline) == offloads


def request(index: int, **changes) -> ImageRequest:
    words = {"prompt": f"ring {index}", "seed": index, "num_inference_steps": STEPS, "width": 16, "height": 16}
    return image_request(**words, **changes)


def test_images_that_come_one_after_another_bring_the_denoiser_in_no_more_often_than_they_come():
    pipeline = tiny_stable_diffusion()
    alone = [draw_image(pipeline, request(index)) for index in range(IMAGES)]
    moved = []
    move = pipeline.unet.to

    def moving(device, *args, **kwargs):
        moved.append(torch.device(device).type)
        return move(device, *args, **kwargs)

    pipeline.unet.to = moving
    ticks = itertools.count()
    # A forward takes a tick, and each tensor that is moved takes one more.
    with pretend_gpu(clock=lambda: float(next(ticks) + gpu.copies.total())) as gpu:
        offload_modules(pipeline, "cuda")
        moved.clear()
        engine = Engine(pipeline, max_batch=8)
        generations: list[Generation] = []

        def submit_next(step: int) -> None:
            if step % 2 == 0 and len(generations) < IMAGES - 1:
                generations.append(engine.submit(request(len(generations) + 1)))

        first = engine.submit(request(0, on_step=submit_next))
        first.future.result(WAIT)
        pictures = [generation.future.result(WAIT) for generation in [first, *generations]]
        engine.stop(WAIT)
    assert moved.count("cuda") <= IMAGES
    assert max(np.abs(mine - theirs).max() for mine, theirs in zip(pictures, alone, strict=True)) <= TOLERANCE
    assert engine.statistics.widest_batch > 1
