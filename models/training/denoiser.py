"""Stage three: a U-Net that turns noise and words into latents."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from transformers import CLIPTextModel, CLIPTokenizer

from models.training.autoencoder import LATENT_CHANNELS, encode_scenes
from models.training.language import Scene, split_scenes, training_caption
from models.training.reader import TEXT_WIDTH
from models.training.stage import Stage
from models.training.tokenizer import tokenize

_BATCH = 64
_DRAWINGS_PER_SCENE = 6
_DROPPED_CAPTIONS = 0.1
_SHAPE_WEIGHT = 3.0
_TIMESTEPS = 1000
_NOISY_FROM = 400
_NOISY_SHARE = 0.75


def build_scheduler() -> DDIMScheduler:
    """Build a noise schedule that ends in pure noise.

    Without it 8x8 latents still show their layout at the last step, so the model learns to read the place of a shape
    from there and ignores the words (Lin et al., https://arxiv.org/abs/2305.08891).
    """
    return DDIMScheduler(
        num_train_timesteps=_TIMESTEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        steps_offset=1,
    )


def build_unet() -> UNet2DConditionModel:
    """Build an untrained U-Net over 8x8 latents.

    It goes down to 2x2, where padding makes every cell different from the others, since a U-Net has no other way to
    know left from right. The words reach it twice: through attention, and pooled into the time embedding, which scales
    and shifts the features of every block.
    """
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(112, 128, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def train_denoiser(
    checkpoint: Path,
    steps: int,
    seed: int,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> UNet2DConditionModel:
    """Train on velocities (Salimans and Ho, https://arxiv.org/abs/2202.00512); returns the averaged weights.

    The text encoder is frozen.
    """
    torch.manual_seed(seed)
    scenes = split_scenes()[0] * _DRAWINGS_PER_SCENE
    latents, shape_cells = _encode_once(checkpoint.with_name("latents.pt"), autoencoder, scenes, seed)
    scheduler = build_scheduler()
    unet = build_unet().to(memory_format=torch.channels_last).train()
    average = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)

    def loss_of_step(generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(scenes), (_BATCH,), generator=generator)
        chance = random.Random(int(chosen[0]) * 65_537 + int(chosen[1]))
        captions = [_caption_or_nothing(scenes[index], chance) for index in chosen.tolist()]
        with torch.no_grad():
            words = text_encoder(tokenize(tokenizer, captions)).last_hidden_state
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = _draw_timesteps(generator)
        noisy = scheduler.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        velocity = unet(noisy, timesteps, encoder_hidden_states=words).sample
        # Most cells are plain background, which is learned quickly; the few cells of the shape are the hard part.
        weight = 1 + _SHAPE_WEIGHT * shape_cells[chosen]
        error = (velocity - scheduler.get_velocity(clean, noise, timesteps)) ** 2
        return (error * weight).sum() / (LATENT_CHANNELS * weight.sum())

    parts: dict[str, Any] = {"unet": unet, "average": average}
    stage = Stage(checkpoint, steps, learning_rate=1e-3, decay_from=0.3, seed=seed)
    stage.run(parts, list(unet.parameters()), loss_of_step, lambda: average.step(unet.parameters()))
    average.copy_to(unet.parameters())
    return unet.eval()


def _draw_timesteps(generator: torch.Generator) -> torch.Tensor:
    """Draw mostly noisy timesteps: they decide the layout, and the others are learned quickly."""
    noisy = torch.randint(_NOISY_FROM, _TIMESTEPS, (_BATCH,), generator=generator)
    clear = torch.randint(0, _NOISY_FROM, (_BATCH,), generator=generator)
    return torch.where(torch.rand(_BATCH, generator=generator) < _NOISY_SHARE, noisy, clear)


def _encode_once(
    cache: Path, autoencoder: AutoencoderKL, scenes: list[Scene], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if not cache.exists():
        torch.save(encode_scenes(autoencoder, scenes, seed), cache)
    latents, shape_cells = torch.load(cache, weights_only=True)
    return latents, shape_cells


def _caption_or_nothing(scene: Scene, chance: random.Random) -> str:
    return "" if chance.random() < _DROPPED_CAPTIONS else training_caption(scene, chance)
