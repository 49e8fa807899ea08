"""Forwards are timed without holding up the device, and the host is one of them ahead."""

import pytest
import torch

from deployments.engine.engine import Engine
from deployments.engine.forward_clock import ForwardClock, Launch
from deployments.engine.stages import Stage
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines.families import FAMILIES

WAIT = 60
LOOP = ("engine", "forwards", "forward_clock", "policy", "costs", "offloading", "statistics", "exactness")
CUDA = torch.device("cuda", 0)


def launch(rows: int) -> Launch:
    return Launch("denoiser", Stage.DENOISING, 0, rows)


class Host:
    """Launches forwards of 1, 2, 3... rows, and notes which of them are over when."""

    def __init__(self, device: torch.device) -> None:
        self.clock = ForwardClock(device, lambda over, seconds: self.over.append((over.rows, seconds)))
        self.over: list[tuple[int, float]] = []
        self.launched = 0
        self.tensor = torch.zeros(1, device=device)

    def run(self, forwards: int = 1) -> None:
        for _ in range(forwards):
            self.clock.keep_pace()
            self.launched += 1
            with self.clock.timing(launch(self.launched)):
                self.tensor.add_(1)


@pytest.fixture
def gpu():
    ticks = iter(range(1000))
    with pretend_gpu(clock=lambda: float(next(ticks))) as gpu:
        # The device is slow: whoever asks is told that it has not got there.
        gpu.late_queries = 1000
        yield gpu


class TestOnAnAccelerator:
    def test_the_host_waits_for_the_forward_before_the_last_one(self, gpu):
        host = Host(CUDA)
        host.run(2)
        assert not host.over
        assert not gpu.waits
        host.run()
        assert [rows for rows, _ in host.over] == [1]
        host.run(3)
        assert [rows for rows, _ in host.over] == [1, 2, 3, 4]
        assert gpu.waits.total() == 4
        assert not gpu.syncs

    def test_where_the_device_is_ahead_nothing_is_waited_for(self, gpu):
        gpu.late_queries = 0
        host = Host(CUDA)
        host.run(5)
        assert [rows for rows, _ in host.over] == [1, 2, 3, 4]
        assert not gpu.waits
        assert not gpu.syncs

    def test_seconds_are_those_between_the_events_around_a_forward(self, gpu):
        host = Host(CUDA)
        host.run(3)
        assert host.over == [(1, 1.0)]

    def test_what_is_over_is_learned_without_waiting(self, gpu):
        host = Host(CUDA)
        host.run(2)
        host.clock.collect()
        assert not host.over
        torch.cuda.synchronize()
        gpu.syncs.clear()
        host.clock.collect()
        assert [rows for rows, _ in host.over] == [1, 2]
        assert not gpu.syncs
        assert not gpu.waits

    def test_a_forward_that_fails_is_not_timed(self, gpu):
        host = Host(CUDA)
        with pytest.raises(ValueError, match="no forward"), host.clock.timing(launch(9)):
            raise ValueError("no forward")
        host.run(3)
        assert [rows for rows, _ in host.over] == [1]


def test_on_the_cpu_a_forward_is_over_when_its_call_returns():
    host = Host(torch.device("cpu"))
    host.run(2)
    assert [rows for rows, _ in host.over] == [1, 2]
    assert all(seconds >= 0 for _, seconds in host.over)


def test_the_engines_loop_adds_no_sync_and_no_copy_to_the_steps():
    with pretend_gpu() as gpu:
        gpu.late_queries = 1000
        engine = Engine(FAMILIES["flux-schnell"].build().to("cuda"), max_batch=4, costs=FixedCosts())
        gpu.forget()
        requests = [image_request(seed=seed, num_inference_steps=6, width=16, height=16) for seed in range(3)]
        generations = [engine.submit(request) for request in requests]
        for generation in generations:
            generation.future.result(WAIT)
        engine.stop(WAIT)
    mine = {key for key in [*gpu.syncs, *gpu.copies] if any(f"engine/{part}.py" in key[1] for part in LOOP)}
    assert not mine
    assert not gpu.faults
    assert engine.statistics.steps >= 6
    assert engine.statistics.step_seconds > 0
