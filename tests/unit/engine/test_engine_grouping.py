"""Calls run together only where that cannot change a result."""

from dataclasses import dataclass

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils import BaseOutput
from transformers import DynamicCache

from deployments.engine.grouping import read_call, run_together
from deployments.pipelines.exceptions import UngroupableError


def denoise(sample, timestep, encoder_hidden_states=None, scale=None, extra=None, return_dict=True):
    result = sample * timestep.reshape(-1, 1)
    if encoder_hidden_states is not None:
        result = result + encoder_hidden_states.mean(dim=(1, 2)).reshape(-1, 1)
    return (result,)


def call(rows=2, target=denoise, owner="UNet", **changes):
    arguments = {"sample": torch.randn(rows, 4), "timestep": torch.tensor(3.0)} | changes
    return read_call(target, owner, (), arguments)


class TestKeys:
    def test_timestep_and_batch_size_may_differ(self):
        assert call(rows=1, timestep=torch.tensor(3.0)).key == call(rows=2, timestep=torch.tensor(900.0)).key

    @pytest.mark.parametrize(
        "changes",
        [
            {"sample": torch.randn(2, 5)},
            {"sample": torch.randn(2, 4, dtype=torch.float64)},
            {"scale": 0.5},
            {"encoder_hidden_states": torch.randn(2, 3, 4)},
            {"extra": {"ids": torch.arange(3)}},
            {"return_dict": False},
        ],
    )
    def test_what_cannot_be_joined_must_agree(self, changes):
        assert call().key != call(**changes).key

    def test_tensors_without_rows_must_be_equal(self):
        assert call(extra=torch.arange(3)).key == call(extra=torch.arange(3)).key
        assert call(extra=torch.arange(3)).key != call(extra=torch.arange(1, 4)).key

    def test_large_tensors_without_rows_are_compared_too(self):
        angles = torch.randn(400, 64)
        assert call(extra=(angles, angles + 1)).key == call(extra=(angles.clone(), angles + 1)).key
        assert call(extra=(angles, angles + 1)).key != call(extra=(angles, angles + 2)).key

    def test_values_make_a_key_and_only_forms_make_a_layout(self):
        first, second = call(extra=torch.arange(3), scale=0.5), call(extra=torch.arange(1, 4), scale=0.7)
        assert first.key != second.key
        assert first.layout == second.layout
        assert first.layout != call(rows=3, extra=torch.arange(3), scale=0.5).layout

    def test_lists_of_sequences_may_differ_in_length_and_lists_of_sizes_may_not_differ(self):
        def forward(x, cap_feats, img_shapes):
            return x

        def one(words: int, height: int):
            arguments = {"x": [torch.ones(4, 1, 8, 8)], "cap_feats": [torch.ones(words, 16)]}
            return read_call(forward, "DiT", (), arguments | {"img_shapes": [[(1, height, 8)]]})

        assert one(3, 8).key == one(5, 8).key
        assert one(3, 8).key != one(3, 4).key

    def test_positional_and_named_arguments_are_the_same_call(self):
        sample, timestep = torch.randn(2, 4), torch.tensor(1.0)
        positional = read_call(denoise, "UNet", (sample, timestep), {})
        assert positional.key == call(sample=sample, timestep=timestep).key

    def test_a_call_without_rows_cannot_be_grouped(self):
        with pytest.raises(UngroupableError):
            call(sample=torch.tensor(1.0))


class TestRunning:
    def test_each_call_gets_its_own_rows(self):
        calls = [call(rows=rows, timestep=torch.tensor(float(rows))) for rows in (1, 3, 2)]
        results = run_together(calls)
        for one, (result,) in zip(calls, results, strict=True):
            assert torch.equal(result, one.columns[0] * one.rows)

    def test_nested_rows_are_joined_and_outputs_of_any_form_are_parted(self):
        @dataclass
        class Output(BaseOutput):
            sample: torch.Tensor
            hidden: tuple[torch.Tensor, ...]
            nothing: None = None

        def forward(sample, added):
            total = sample + added["text_embeds"]
            return Output(sample=total, hidden=(total, total * 2))

        calls = [
            read_call(forward, "UNet", (torch.full((rows, 2), 1.0),), {"added": {"text_embeds": torch.ones(rows, 2)}})
            for rows in (2, 1)
        ]
        first, second = run_together(calls)
        assert first.sample.shape == (2, 2)
        assert second.hidden[1].tolist() == [[4.0, 4.0]]

    def test_lists_with_one_entry_per_row_are_joined(self):
        def forward(images):
            return ([image + 1 for image in images],)

        calls = [read_call(forward, "DiT", ([torch.full((2,), float(n))],), {}) for n in (1, 2)]
        results = run_together(calls)
        assert [result[0][0].tolist() for result in results] == [[2.0, 2.0], [3.0, 3.0]]

    def test_distributions_and_caches_are_parted(self):
        def encode(sample):
            cache = DynamicCache()
            cache.update(sample[:, None, None], sample[:, None, None], 0)
            return DiagonalGaussianDistribution(sample[:, :, None, None]), cache

        first, second = (read_call(encode, "VAE", (torch.full((1, 4), float(n)),), {}) for n in (1, 2))
        (_, _), (distribution, cache) = run_together([first, second])
        assert distribution.mode().flatten().tolist() == [2.0, 2.0]
        assert cache.layers[0].keys.shape == (1, 1, 1, 4)
        assert cache.layers[0].values.flatten().tolist() == [2.0] * 4

    def test_a_call_alone_gets_its_arguments_as_they_came(self):
        seen = []

        def forward(sample, timestep):
            seen.append(timestep)
            return sample

        run_together([read_call(forward, "UNet", (torch.ones(2, 2), 7), {})])
        assert seen == [7]

    def test_a_result_that_cannot_be_told_apart_is_refused(self):
        def forward(sample):
            return sample.sum()

        calls = [read_call(forward, "UNet", (torch.ones(1, 2),), {}) for _ in range(2)]
        with pytest.raises(UngroupableError):
            run_together(calls)
