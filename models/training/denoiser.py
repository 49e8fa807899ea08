"""Stage two: a text encoder and a U-Net that turn noise and words into latents."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.training.autoencoder import LATENT_CHANNELS, encode_scenes
from models.training.language import Scene, split_scenes, training_caption
from models.training.place_probes import PlaceProbes
from models.training.stage import Stage
from models.training.tokenizer import MAX_TOKENS

_BATCH = 32
_DRAWINGS_PER_SCENE = 6
_DROPPED_CAPTIONS = 0.1
_SHAPE_WEIGHT = 3.0
_TIMESTEPS = 1000
_NOISY_FROM = 400
_NOISY_SHARE = 0.75
_TEXT_WIDTH = 128


def build_scheduler() -> DDIMScheduler:
    """A noise schedule that ends in pure noise.

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


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of three layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=4 * _TEXT_WIDTH,
            projection_dim=_TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """An untrained U-Net over 8x8 latents, with attention to the words at both of its resolutions."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(96, 128),
        layers_per_block=1,
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


class Denoiser(torch.nn.Module):
    """The parts that stage two trains together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer)
        self.unet = build_unet()
        self.place_probes = PlaceProbes(self.unet)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Predict the velocity, of the same shape as ``noisy``: (batch, 8, 8, 8)."""
        words = self.text_encoder(tokens).last_hidden_state
        prediction: torch.Tensor = self.unet(noisy, timesteps, encoder_hidden_states=words).sample
        return prediction


def start_denoiser(tokenizer: CLIPTokenizer, seed: int, finished: Path | None = None) -> Denoiser:
    """A denoiser to train: untrained, or with the weights of a finished pipeline.

    Args:
        tokenizer: Of the language.
        seed: Of the untrained weights.
        finished: A folder in diffusers format.
    """
    torch.manual_seed(seed)
    denoiser = Denoiser(tokenizer)
    if finished is not None:
        unet = UNet2DConditionModel.from_pretrained(finished / "unet", torch_dtype=torch.float32)
        text_encoder = CLIPTextModel.from_pretrained(finished / "text_encoder", dtype=torch.float32)
        denoiser.unet.load_state_dict(unet.state_dict())
        denoiser.text_encoder.load_state_dict(text_encoder.state_dict())
    return denoiser


def train_denoiser(
    denoiser: Denoiser, checkpoint: Path, steps: int, seed: int, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer
) -> Denoiser:
    """Train on velocities (Salimans and Ho, https://arxiv.org/abs/2202.00512); returns the averaged weights."""
    scenes = split_scenes()[0] * _DRAWINGS_PER_SCENE
    latents, shape_cells = _encode_once(checkpoint.with_name("latents.pt"), autoencoder, scenes, seed)
    scheduler = build_scheduler()
    denoiser.train()
    average = EMAModel(denoiser.parameters(), decay=0.9995, use_ema_warmup=True, power=0.75)

    def loss_of_step(generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(scenes), (_BATCH,), generator=generator)
        chance = random.Random(int(chosen[0]) * 65_537 + int(chosen[1]))
        captions = [_caption_or_nothing(scenes[index], chance) for index in chosen.tolist()]
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = _draw_timesteps(generator)
        velocity = denoiser(scheduler.add_noise(clean, noise, timesteps), timesteps, tokenize(tokenizer, captions))
        # Most cells are plain background, which is soon learned; the few of the shape carry what is hard.
        weight = 1 + _SHAPE_WEIGHT * shape_cells[chosen]
        error = (velocity - scheduler.get_velocity(clean, noise, timesteps)) ** 2
        return (error * weight).sum() / (LATENT_CHANNELS * weight.sum()) + denoiser.place_probes.loss()

    parts: dict[str, Any] = {"denoiser": denoiser, "average": average}
    stage = Stage(checkpoint, steps, learning_rate=8e-4, decay_from=0.7, seed=seed)
    stage.run(parts, list(denoiser.parameters()), loss_of_step, lambda: average.step(denoiser.parameters()))
    average.copy_to(denoiser.parameters())
    return denoiser.eval()


def _draw_timesteps(generator: torch.Generator) -> torch.Tensor:
    """Mostly noisy ones: what goes where is decided there, while the rest is soon learned."""
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


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids of shape (captions, 40), padded and cut as the pipeline does it."""
    ids: torch.Tensor = tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def _caption_or_nothing(scene: Scene, chance: random.Random) -> str:
    return "" if chance.random() < _DROPPED_CAPTIONS else training_caption(scene, chance)
