"""Tensors of a pretended GPU behave as those of a real one: where they are, what they cost, what may not be mixed."""

import copy
import threading

import numpy as np
import pytest
import torch

from tests.support.pretended_gpu import pretend_gpu

HERE = "tests/unit/pretended_gpu/test_pretended_tensors.py"
KIB = 1 << 10


@pytest.fixture
def gpu():
    with pretend_gpu(capacity=64 * KIB) as gpu:
        yield gpu


def counted(counter) -> dict[str, int]:
    """By kind; every place is in this file."""
    assert all(where.startswith(HERE) for _, where in counter)
    return {kind: sum(count for (each, _), count in counter.items() if each == kind) for kind, _ in counter}


class TestDevices:
    def test_a_tensor_is_where_it_was_made_or_moved(self, gpu):
        host = torch.ones(4)
        made = torch.ones(4, device="cuda")
        assert host.device == torch.device("cpu")
        assert made.device == torch.device("cuda", 0)
        assert made.is_cuda
        assert not made.is_cpu
        for moved in (
            host.to("cuda"),
            host.cuda(),
            host.to(made),
            host.to(0),
            host.to(device="cuda", dtype=torch.half),
        ):
            assert moved.device == made.device
        assert made.cpu().device == made.to("cpu").device == host.device

    def test_what_is_computed_is_where_its_inputs_are(self, gpu):
        tensor = torch.ones(4, 4, device="cuda")
        for result in (
            tensor + 1,
            tensor @ tensor,
            tensor[0],
            tensor.view(-1),
            torch.zeros_like(tensor),
            tensor.double(),
        ):
            assert result.is_cuda
        assert torch.zeros_like(tensor, device="cpu").is_cpu
        assert copy.deepcopy([tensor])[0].is_cuda
        assert (tensor + torch.tensor(2.0)).is_cuda

    def test_modules_move_with_their_weights(self, gpu):
        module = torch.nn.BatchNorm1d(4).to("cuda")
        assert all(tensor.is_cuda for tensor in [*module.parameters(), *module.buffers()])
        assert all(tensor.is_cpu for tensor in module.to("cpu").parameters())

    def test_a_thread_that_is_started_meanwhile_pretends_too(self, gpu):
        devices = []
        thread = threading.Thread(target=lambda: devices.append(torch.ones(1, device="cuda").device.type))
        thread.start()
        thread.join()
        assert devices == ["cuda"]

    def test_there_is_none_afterwards(self):
        with pretend_gpu():
            assert torch.cuda.is_available()
        assert not torch.cuda.is_available()
        with pytest.raises((AssertionError, RuntimeError)):
            torch.ones(1, device="cuda")


class TestMixing:
    @pytest.mark.parametrize(
        "mix",
        [
            lambda host, device: host + device,
            lambda host, device: device * host,
            lambda host, device: torch.cat([device, host]),
            lambda host, device: torch.stack([device.sum(), host.sum()]),
            lambda host, device: torch.nn.functional.linear(device, host),
            lambda host, device: torch.nn.functional.embedding(device.long(), host),
            lambda host, device: device.add_(host),
            lambda host, device: host[device.long()],
        ],
    )
    def test_raises_and_is_noted(self, gpu, mix):
        with pytest.raises(RuntimeError, match="device"):
            mix(torch.ones(4, 4), torch.ones(4, 4, device="cuda"))
        (fault,) = gpu.faults
        assert fault.where.startswith(HERE)

    def test_numpy_takes_no_tensor_of_the_device(self, gpu):
        for read in (np.asarray, torch.Tensor.numpy):
            with pytest.raises(TypeError, match="to numpy"):
                read(torch.ones(1, device="cuda"))

    def test_a_generator_of_the_host_draws_nothing_on_the_device(self, gpu):
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(4, device="cuda", generator=torch.Generator())

    def test_there_is_one_device(self, gpu):
        with pytest.raises(RuntimeError, match="ordinal"):
            torch.ones(1, device="cuda:1")


class TestSyncs:
    @pytest.mark.parametrize(
        ("wait", "kind"),
        [
            (lambda tensor: tensor.sum().item(), "item"),
            (lambda tensor: tensor.tolist(), "tolist"),
            (lambda tensor: float(tensor.sum()), "__float__"),
            (lambda tensor: 1 if tensor.any() else 0, "__bool__"),
            (lambda tensor: tensor[tensor > 0], "nonzero"),
            (torch.nonzero, "nonzero"),
            (lambda tensor: torch.where(tensor > 0), "where"),
            (lambda tensor: torch.equal(tensor, tensor), "equal"),
            (lambda tensor: torch.arange(3)[tensor[0].long()], "__index__"),
            (lambda tensor: tensor.repeat_interleave(tensor.long()), "repeat_interleave"),
            (lambda tensor: torch.tensor([tensor[0]]), "item"),
            (lambda tensor: torch.arange(tensor.sum()), "item"),
            (lambda tensor: tensor.cpu(), "D2H"),
            (lambda tensor: tensor.to("cpu", copy=True), "D2H"),
            (lambda tensor: torch.empty(4).copy_(tensor), "D2H"),
            (lambda tensor: torch.ones(4).to(tensor.device), "H2D"),
            (lambda tensor: torch.ones(4).to(tensor, non_blocking=True), "H2D"),
            (lambda tensor: torch.tensor([1.0], device="cuda"), "H2D"),
            (lambda tensor: torch.as_tensor(torch.ones(1), device="cuda"), "H2D"),
            (lambda tensor: tensor[[0, 1]], "H2D"),
            (lambda tensor: tensor.__setitem__(slice(None), torch.ones(4)), "H2D"),
            (lambda tensor: torch.cuda.synchronize(), "synchronize"),
            (lambda tensor: torch.accelerator.synchronize(), "synchronize"),
            (lambda tensor: torch.cuda.current_stream().synchronize(), "stream.synchronize"),
        ],
    )
    def test_what_makes_the_host_wait_is_counted(self, gpu, wait, kind):
        tensor = torch.ones(4, device="cuda")
        gpu.forget()
        wait(tensor)
        assert counted(gpu.syncs) == {kind: 1}
        assert counted(gpu.copies) == ({kind: 1} if kind in ("D2H", "H2D") else {})
        assert not gpu.faults

    @pytest.mark.parametrize(
        "work",
        [
            lambda tensor: tensor * 2 + 1,
            lambda tensor: tensor[1:3],
            lambda tensor: tensor[torch.zeros(2, dtype=torch.long, device="cuda")],
            lambda tensor: torch.where(tensor > 0, tensor, 0.0),
            lambda tensor: tensor.shape[0] + len(tensor) + tensor.dim(),
            lambda tensor: torch.zeros(4, device="cuda"),
            lambda tensor: torch.arange(4, device="cuda"),
            lambda tensor: tensor.fill_(3.0),
            lambda tensor: tensor.half().float().to("cuda"),
            lambda tensor: tensor.mul_(torch.tensor(2.0)),
            lambda tensor: torch.cat([tensor, tensor]).max(dim=0).values,
        ],
    )
    def test_what_does_not_is_not(self, gpu, work):
        tensor = torch.ones(4, device="cuda")
        gpu.forget()
        work(tensor)
        assert not gpu.syncs
        assert not gpu.copies

    def test_what_the_host_computes_alone_is_not(self, gpu):
        tensor = torch.ones(4)
        assert tensor.sum().item() == 4
        assert tensor.numpy()[0] == tensor.cpu()[0] == 1
        assert not gpu.syncs


class TestMemory:
    def test_bytes_live_as_long_as_a_storage_is_used(self, gpu):
        tensor = torch.ones(KIB, device="cuda")
        view = tensor[:10]
        assert gpu.live == torch.cuda.memory_allocated() == 4 * KIB
        del tensor
        assert gpu.live == 4 * KIB
        del view
        assert gpu.live == 0
        assert gpu.peak == torch.cuda.max_memory_allocated() == 4 * KIB
        torch.cuda.reset_peak_memory_stats()
        assert gpu.peak == 0

    def test_the_allocator_keeps_what_is_freed_until_it_is_emptied(self, gpu):
        tensor = torch.ones(KIB, device="cuda")
        del tensor
        assert torch.cuda.mem_get_info() == torch.accelerator.get_memory_info() == (60 * KIB, 64 * KIB)
        torch.cuda.empty_cache()
        assert torch.cuda.mem_get_info() == (64 * KIB, 64 * KIB)
        assert [each.what for each in gpu.events] == ["empty_cache"]

    def test_more_than_there_is_raises_and_leaves_what_was(self, gpu):
        tensor = torch.ones(8 * KIB, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 65536 bytes"):
            torch.ones(16 * KIB, device="cuda")
        with pytest.raises(torch.OutOfMemoryError):
            tensor.double()
        assert gpu.live == 32 * KIB
        assert (tensor + 1).is_cuda

    def test_a_process_may_have_a_share(self, gpu):
        torch.cuda.set_per_process_memory_fraction(0.25)
        torch.ones(4 * KIB, device="cuda")
        with pytest.raises(torch.OutOfMemoryError):
            torch.ones(5 * KIB, device="cuda")


def test_it_says_what_it_is():
    with pretend_gpu(capacity=24 << 30, capability=(7, 5), name="Some card"):
        assert torch.accelerator.is_available()
        assert torch.accelerator.current_accelerator() == torch.device("cuda")
        assert torch.cuda.device_count() == torch.accelerator.device_count() == 1
        assert torch.cuda.get_device_name() == "Some card"
        assert torch.cuda.get_device_capability() == (7, 5)
        assert not torch.cuda.is_bf16_supported(including_emulation=False)
        assert torch.cuda.get_device_properties(0).total_memory == 24 << 30
