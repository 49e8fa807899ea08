"""Streams and events of a pretended GPU: what is done before what, and who may read it."""

import pytest
import torch

from tests.support.pretended_gpu import pretend_gpu


@pytest.fixture
def gpu():
    with pretend_gpu() as gpu:
        yield gpu


@pytest.fixture
def tensor(gpu):
    return torch.ones(4, device="cuda")


class TestAsynchronousCopies:
    def test_need_pinned_memory_and_are_no_sync(self, gpu, tensor):
        pinned = torch.empty(4, pin_memory=True)
        assert pinned.is_pinned()
        assert torch.empty(4).pin_memory().is_pinned()
        pinned.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        gpu.forget()
        pinned.to("cuda", non_blocking=True)
        tensor.to("cpu", non_blocking=True)
        assert {kind for kind, _ in gpu.copies} == {"async H2D", "async D2H"}
        assert not gpu.syncs
        torch.empty(4).copy_(tensor, non_blocking=True)
        assert {kind for kind, _ in gpu.syncs} == {"D2H"}

    @pytest.mark.parametrize("read", [torch.Tensor.numpy, torch.Tensor.sum, torch.Tensor.tolist, torch.clone])
    def test_the_host_must_not_read_what_may_be_under_way(self, gpu, tensor, read):
        arriving = tensor.to("cpu", non_blocking=True)
        with pytest.raises(RuntimeError, match="may be under way"):
            read(arriving)
        event = torch.cuda.Event()
        event.record()
        event.synchronize()
        read(arriving)

    def test_an_event_from_before_the_copy_does_not_tell(self, gpu, tensor):
        event = torch.Event()
        event.record()
        arriving = tensor.to("cpu", non_blocking=True)
        assert event.query()
        with pytest.raises(RuntimeError, match="may be under way"):
            arriving.numpy()

    def test_looking_at_a_part_of_a_buffer_reads_nothing(self, gpu, tensor):
        buffer = torch.empty(2, 4, pin_memory=True)
        buffer[0].copy_(tensor, non_blocking=True)
        buffer[1].copy_(tensor, non_blocking=True)
        assert not gpu.faults


class TestEvents:
    def test_can_be_asked_until_they_are_reached(self, gpu):
        gpu.late_queries = 2
        event = torch.cuda.Event()
        event.record()
        assert [event.query() for _ in range(4)] == [False, False, True, True]
        assert not gpu.syncs

    def test_waiting_for_the_last_work_is_a_sync_and_for_earlier_work_it_is_not(self, gpu, tensor):
        first, last = torch.cuda.Event(), torch.cuda.Event()
        first.record()
        tensor.add_(1)
        last.record()
        first.synchronize()
        assert {kind for kind, _ in gpu.waits} == {"event.synchronize"}
        assert not gpu.syncs
        last.synchronize()
        assert {kind for kind, _ in gpu.syncs} == {"event.synchronize"}

    def test_measure_time_once_they_are_reached(self):
        seconds = iter((1.0, 3.5))
        with pretend_gpu(clock=lambda: next(seconds)) as gpu:
            start, end = torch.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            with pytest.raises(RuntimeError, match="recorded"):
                start.elapsed_time(end)
            start.record()
            end.record()
            with pytest.raises(RuntimeError, match="completed"):
                start.elapsed_time(end)
            end.synchronize()
            assert start.elapsed_time(end) == 2500.0
            assert [each.what for each in gpu.events] == ["record", "record", "synchronize"]


class TestStreams:
    def test_what_another_stream_writes_must_be_waited_for(self, gpu, tensor):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side), pytest.raises(RuntimeError, match="without waiting"):
            tensor + 1
        side.wait_stream(torch.cuda.current_stream())
        with side:
            assert torch.cuda.current_stream() is side
            result = tensor + 1
        assert torch.cuda.current_stream() is torch.cuda.default_stream()
        with pytest.raises(RuntimeError, match="without waiting"):
            result.sum()
        torch.cuda.current_stream().wait_event(side.record_event())
        result.sum()

    def test_waiting_for_a_stream_that_waited_is_enough(self, gpu, tensor):
        middle, last = torch.cuda.Stream(), torch.Stream()
        middle.wait_stream(torch.cuda.current_stream())
        last.wait_stream(middle)
        with last:
            tensor + 1

    def test_what_the_host_waited_for_is_done_for_all(self, gpu, tensor):
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            tensor + 1
        assert not gpu.faults
