"""A module that nobody knows is never silently given company that it does not bear."""

import json

import numpy as np
import pytest
import torch

from deployments.engine.checked_kinds import CheckedKinds
from deployments.engine.checking import CheckedGroups
from deployments.engine.grouping import Call, read_call
from tests.support.pretended_gpu import pretend_gpu


def calls_of(module, *arguments, **shared) -> list[Call]:
    return [read_call(module, "Unknown", (), {**own, **shared}) for own in arguments]


def run(groups: CheckedGroups, calls: list[Call]):
    """Alone and by the engine's rules: in company while they may."""
    alone = [call.target(**call.arguments) for call in calls]
    together = [groups.may_join(calls[0], call) for call in calls[1:]]
    return alone, groups.run(calls) if all(together) else None


class Counting:
    """Wraps a function and keeps the number of rows of each call."""

    def __init__(self, function) -> None:
        self.function = function
        self.rows: list[int] = []

    def forward(self, sample, **others):
        self.rows.append(len(sample))
        return self.function(sample, **others)


def sample(seed: int, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def test_a_module_that_bears_company_is_checked_once_and_then_always_grouped():
    module = Counting(lambda sample: sample * 2)
    forward, groups = module.forward, CheckedGroups()
    for seed in range(3):
        calls = calls_of(forward, {"sample": sample(seed)}, {"sample": sample(seed + 10)})
        for call, result in zip(calls, groups.run(calls), strict=True):
            assert torch.equal(result, call.arguments["sample"] * 2)
    assert module.rows == [4, 2, 2, 4, 4]


@pytest.mark.parametrize(
    "module",
    [
        lambda sample, timestep: sample * timestep.reshape(-1)[0],
        lambda sample, timestep: sample * timestep.max(),
        lambda sample, timestep: (sample * timestep.reshape(-1, 1)).sort(dim=0).values,
        lambda sample, timestep: sample - sample.mean(),
        lambda sample, timestep: sample[:1].expand(2, 4).clone(),
        lambda sample, timestep: {"sample": sample, "hidden": torch.ones(4, 3)},
        lambda sample, timestep: sample if len(sample) == 2 else 1 / 0,
    ],
)
def test_a_module_that_mixes_rows_gives_what_it_gives_alone_and_is_not_grouped_again(module):
    groups = CheckedGroups()
    calls = calls_of(
        module,
        {"sample": sample(1), "timestep": torch.tensor(3.0)},
        {"sample": sample(2), "timestep": torch.tensor(900.0)},
    )
    alone, together = run(groups, calls)
    for mine, theirs in zip(together, alone, strict=True):
        assert mine.keys() == theirs.keys() if isinstance(theirs, dict) else torch.equal(mine, theirs)
    assert not groups.may_join(*calls)


def test_what_was_proved_with_equal_values_is_proved_again_where_they_differ():
    def first_timestep_for_all(sample, timestep):
        return sample * timestep.reshape(-1)[0]

    groups = CheckedGroups()
    equal, other = torch.tensor(3.0), torch.tensor(900.0)
    calls = calls_of(
        first_timestep_for_all, {"sample": sample(1), "timestep": equal}, {"sample": sample(2), "timestep": equal}
    )
    groups.run(calls)
    assert groups.may_join(*calls)
    calls = calls_of(
        first_timestep_for_all, {"sample": sample(1), "timestep": equal}, {"sample": sample(2), "timestep": other}
    )
    first, second = groups.run(calls)
    assert torch.equal(first, sample(1) * 3)
    assert torch.equal(second, sample(2) * 900)


def test_a_tensor_with_as_many_rows_as_the_batch_by_chance_does_no_harm():
    def transformer(hidden_states, txt_ids):
        return hidden_states + txt_ids.float().sum() / len(txt_ids)

    groups = CheckedGroups()
    calls = calls_of(
        transformer,
        {"hidden_states": sample(1), "txt_ids": torch.tensor([1, 2])},
        {"hidden_states": sample(2), "txt_ids": torch.tensor([30, 40])},
    )
    alone, together = run(groups, calls)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(together, alone, strict=True))


def test_a_module_that_draws_noise_takes_it_from_each_generator_in_turn():
    def noisy(sample, generator):
        return sample + torch.randn(sample.shape, generator=generator)

    def arguments(seed: int) -> dict:
        return {"sample": sample(seed), "generator": torch.Generator().manual_seed(seed)}

    expected = [noisy(**arguments(seed)) for seed in (1, 2)]
    groups = CheckedGroups()
    calls = calls_of(noisy, arguments(1), arguments(2))
    results = groups.run(calls)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(results, expected, strict=True))
    assert not groups.may_join(*calls)


@pytest.mark.parametrize("entry", [lambda sample: sample * 2, lambda sample: 1.0, lambda sample: sample.mean(dim=1)])
def test_a_result_with_as_many_parts_as_rows_by_chance_does_no_harm(entry):
    """As a ControlNet has one for each block."""

    def controlnet(sample):
        return [entry(sample) for _ in range(4)]

    groups = CheckedGroups()
    for size in (3, 2):
        calls = calls_of(controlnet, *({"sample": sample(seed)} for seed in range(size)))
        alone, together = run(groups, calls)
        for mine, theirs in zip(together, alone, strict=True):
            assert len(mine) == len(theirs) == 4
            assert all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_too_little_memory_teaches_nothing():
    def hungry(sample):
        if len(sample) > 2:
            raise torch.OutOfMemoryError("too many rows")
        return sample

    groups = CheckedGroups()
    calls = calls_of(hungry, {"sample": sample(1)}, {"sample": sample(2)})
    with pytest.raises(torch.OutOfMemoryError):
        groups.run(calls)
    assert groups.may_join(*calls)


def test_an_error_of_one_call_alone_is_its_own():
    def picky(sample):
        if (sample > 100).any():
            raise ValueError("too bright")
        return sample

    groups = CheckedGroups()
    calls = calls_of(picky, {"sample": sample(1)}, {"sample": sample(2) + 200})
    with pytest.raises(ValueError, match="too bright"):
        groups.run(calls)
    assert groups.may_join(*calls)


def test_padding_counts_as_company():
    groups = CheckedGroups()
    (call,) = calls_of(lambda sample: sample - sample.mean(), {"sample": sample(1)})
    (result,) = groups.run([call], padded_rows=8)
    assert torch.equal(result, call.target(**call.arguments))


def test_calls_that_agree_in_a_value_are_tried_with_others_and_compared_no_more():
    module = Counting(lambda sample, timestep: sample * timestep.reshape(-1, 1))
    timestep = torch.tensor(3.0)
    groups = CheckedGroups()
    with pretend_gpu() as gpu:
        for step in range(3):
            calls = calls_of(
                module.forward,
                *({"sample": sample(seed).to("cuda"), "timestep": timestep.to("cuda")} for seed in (1, 2)),
            )
            gpu.forget()
            groups.run(calls)
            assert bool(gpu.syncs) is (step == 0)
    assert module.rows == [4, 2, 2, 2, 4, 4]
    assert groups.checked_rows == 6


def test_what_was_proved_is_known_after_a_restart():
    kept: dict = {}
    module, mixing = Counting(lambda sample: sample * 2), Counting(lambda sample: sample - sample.mean())
    for _ in range(2):
        groups = CheckedGroups(kinds=CheckedKinds(kept))
        for owner, forward in {"Separate": module.forward, "Mixing": mixing.forward}.items():
            calls = [read_call(forward, owner, (), {"sample": sample(seed)}) for seed in (1, 2)]
            if groups.may_join(*calls):
                groups.run(calls)
        kept = json.loads(json.dumps(kept))
    assert module.rows == [4, 2, 2, 4]
    assert mixing.rows == [4, 2, 2]


def test_masks_of_few_tokens_are_tried_with_others_too():
    def attend(sample, mask):
        return sample * mask.sum(dim=1, keepdim=True)

    mask = torch.tensor([[1, 1, 0, 0, 0, 0]] * 2)
    groups = CheckedGroups()
    with pretend_gpu() as gpu:
        for step in range(2):
            arguments = [{"sample": sample(seed).to("cuda"), "mask": mask.to("cuda")} for seed in (1, 2)]
            calls = calls_of(attend, *arguments)
            gpu.forget()
            groups.run(calls)
            assert bool(gpu.syncs) is (step == 0)


@pytest.mark.parametrize(("allow_tf32", "is_grouped"), [(True, True), (False, False)])
def test_float32_on_a_gpu_is_compared_as_exactly_as_it_is_computed(monkeypatch, allow_tf32, is_grouped):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allow_tf32)
    # Another algorithm for another number of rows: TF32 has ten bits.
    module = Counting(lambda sample: sample * (1 + len(sample) * 2**-11))
    with pretend_gpu():
        calls = calls_of(module.forward, {"sample": sample(1).to("cuda")}, {"sample": sample(2).to("cuda")})
        groups = CheckedGroups()
        groups.run(calls)
        assert groups.may_join(*calls) is is_grouped
