"""Stage one: an autoencoder that turns 64x64 drawings into 8x8 latents of 16 channels."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from models.training.drawing import RESOLUTION, draw
from models.training.language import Scene, split_scenes
from models.training.stage import Stage

LATENT_CHANNELS = 16
_BATCH = 16
_KL_WEIGHT = 1e-5
_SHAPE_WEIGHT = 3.0
_FORGIVEN_NOISE = 0.1  # in deviations of the latents
_DRAWN_PER_SIZE = {"small": 3, "medium": 1, "large": 1}  # small shapes are the hardest


def build_autoencoder() -> AutoencoderKL:
    """Build an untrained autoencoder; most of its width is at the lowest resolution, where it costs least."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=RESOLUTION,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def train_autoencoder(checkpoint: Path, steps: int, seed: int) -> AutoencoderKL:
    """Train with an L1 reconstruction loss and a little KL, then standardise the latents.

    With much KL the colours of small shapes drown in the posterior's noise. The KL term is that of Kingma and Welling,
    https://arxiv.org/abs/1312.6114, averaged over latent elements. What is decoded is noisier than the posterior, since
    the denoiser's latents will be a little off as well.
    """
    torch.manual_seed(seed)
    autoencoder = build_autoencoder().to(memory_format=torch.channels_last).train()
    scenes = [scene for scene in split_scenes()[0] for _ in range(_DRAWN_PER_SIZE[scene.size])]

    def loss_of_step(generator: torch.Generator) -> torch.Tensor:
        chance = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        pictures = draw_batch(chance.choices(scenes, k=_BATCH), chance)
        posterior = autoencoder.encode(pictures).latent_dist
        latents = posterior.sample(generator)
        spread = latents.detach().std(dim=(0, 2, 3), keepdim=True)
        noise = _FORGIVEN_NOISE * spread * torch.randn(latents.shape, generator=generator)
        restored = autoencoder.decode(latents + noise).sample
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return _restoration_loss(restored, pictures) + _KL_WEIGHT * kl

    stage = Stage(checkpoint, steps, learning_rate=2e-3, decay_from=0.02, seed=seed)
    stage.run({"autoencoder": autoencoder}, list(autoencoder.parameters()), loss_of_step)
    _standardise_latents(autoencoder.eval(), scenes, seed)
    return autoencoder


def _restoration_loss(restored: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error, weighted so that the few pixels of a shape count more than its background."""
    weight = 1 + _SHAPE_WEIGHT * find_shape(pictures)
    return ((restored - pictures).abs() * weight).sum() / (3 * weight.sum())


def find_shape(pictures: torch.Tensor) -> torch.Tensor:
    """Mark where drawings differ from their background: 0 or 1, of shape (batch, 1, height, width)."""
    background = pictures[:, :, :1, :1]
    return ((pictures - background).abs().amax(dim=1, keepdim=True) > 0.1).float()


def draw_batch(scenes: list[Scene], chance: random.Random) -> torch.Tensor:
    """Draw scenes as a float tensor of shape (batch, 3, 64, 64) with values in -1..1."""
    pixels = np.stack([draw(scene, chance) for scene in scenes])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def encode_scenes(autoencoder: AutoencoderKL, scenes: list[Scene], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw and encode scenes.

    Returns:
        The posterior means, of shape (scenes, 16, 8, 8), and which of their cells the shape touches: 0 or 1, of shape
        (scenes, 1, 8, 8).
    """
    chance = random.Random(seed)
    latents, cells = [], []
    for start in range(0, len(scenes), 64):
        pictures = draw_batch(scenes[start : start + 64], chance)
        latents.append(autoencoder.encode(pictures).latent_dist.mean)
        cells.append(torch.nn.functional.max_pool2d(find_shape(pictures), RESOLUTION // 8))
    return torch.cat(latents), torch.cat(cells)


@torch.no_grad()
def _standardise_latents(autoencoder: AutoencoderKL, scenes: list[Scene], seed: int) -> None:
    """Fold the latents' mean and deviation into the 1x1 convolutions around them.

    The stock pipeline has one scaling factor for all channels; after this every channel has mean 0 and deviation 1.
    """
    latents, _ = encode_scenes(autoencoder, random.Random(seed).choices(scenes, k=4096), seed)
    mean = latents.mean(dim=(0, 2, 3))
    deviation = latents.std(dim=(0, 2, 3))
    into, out_of = autoencoder.quant_conv, autoencoder.post_quant_conv
    out_of.bias += torch.einsum("oi,i->o", out_of.weight[:, :, 0, 0], mean)
    out_of.weight *= deviation[None, :, None, None]
    channels = len(mean)
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()
