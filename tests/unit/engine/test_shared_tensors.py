"""Tensors that rows share are compared by what they contain, and the host does not wait for it."""

import pytest
import torch

from deployments.engine.grouping import read_call
from deployments.engine.shared_tensors import Content, SharedTensors
from tests.support.pretended_gpu import pretend_gpu


def denoise(sample, angles):
    return sample + angles.sum()


def call(angles: torch.Tensor):
    return read_call(denoise, "DiT", (torch.ones(2, 4, device=angles.device), angles), {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_equal_contents_on_a_device_agree_without_a_sync(dtype):
    with pretend_gpu() as gpu, torch.inference_mode():
        mine = (torch.arange(300, device="cuda").reshape(3, 100) % 2).to(dtype)
        theirs, other = mine.clone(), mine.clone()
        other[1, 7] = 0 if mine[1, 7] else 1
        gpu.forget()
        assert call(mine).key == call(theirs).key
        assert call(mine).key != call(other).key
        assert not gpu.syncs


def test_a_content_that_is_on_its_way_agrees_with_none():
    with pretend_gpu() as gpu, torch.inference_mode():
        mine, theirs = torch.ones(3, 5, device="cuda"), torch.ones(3, 5, device="cuda")
        gpu.late_queries = 1
        first, second = call(mine), call(theirs)
        assert first.key != second.key
        assert first.key == second.key
        assert not gpu.syncs


def test_swapped_entries_make_another_content():
    with pretend_gpu():
        mine = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda")
        assert Content(mine) != Content(mine.flip(0))
        assert Content(mine) == Content(mine + 0)


def test_the_same_tensor_is_read_twice_and_then_no_more():
    with pretend_gpu() as gpu, torch.inference_mode():
        mine, theirs = torch.ones(3, 5, device="cuda"), torch.ones(3, 5, device="cuda")
        for _ in range(6):
            assert call(mine).key == call(theirs).key
        assert sum(gpu.copies.values()) == 4


def test_a_tensor_that_changes_in_place_between_steps_is_read_at_each():
    with torch.inference_mode():
        mine, theirs = torch.zeros(3, 5), torch.zeros(3, 5)
        for step in range(5):
            mine.fill_(step)
            theirs.fill_(step if step < 4 else 0)
            assert (call(mine).key == call(theirs).key) is (step < 4)


def test_a_version_tells_of_a_change():
    tensors, mine = SharedTensors(), torch.zeros(3)
    before = tensors.content_of(mine)
    assert tensors.content_of(mine) is before
    mine.add_(1)
    assert tensors.content_of(mine) is not before


def test_tensors_that_are_gone_are_forgotten():
    tensors = SharedTensors()
    tensors.content_of(torch.zeros(3))
    assert not tensors._sightings
