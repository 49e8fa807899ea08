"""Trains the built-in model: ``python -m models.training.train``.

The run goes on where it stopped; delete its folder to begin anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from models.training.autoencoder import train_autoencoder
from models.training.denoiser import build_scheduler, start_denoiser, train_denoiser
from models.training.tokenizer import build_tokenizer

SEED = 20_240_501


def main() -> None:
    """Read the command line, train both stages, and save a pipeline."""
    options = _parse()
    torch.set_num_threads(options.threads)
    tokenizer = build_tokenizer()
    if options.start_from:
        autoencoder = AutoencoderKL.from_pretrained(options.start_from / "vae", torch_dtype=torch.float32).eval()
    else:
        autoencoder = _train_autoencoder_once(options.run, options.autoencoder_steps)
    denoiser = train_denoiser(
        start_denoiser(tokenizer, SEED, options.start_from),
        options.run / "denoiser.pt",
        options.denoiser_steps,
        SEED,
        autoencoder,
        tokenizer,
    )
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Half precision halves the download; loaders compute in float32 all the same.
    pipeline.to(torch.float16).save_pretrained(options.out, safe_serialization=True)
    print(f"Saved the pipeline to {options.out}")


def _train_autoencoder_once(run: Path, steps: int) -> AutoencoderKL:
    finished = run / "autoencoder"
    if not finished.exists():
        train_autoencoder(run / "autoencoder.pt", steps, SEED).save_pretrained(finished)
    autoencoder: AutoencoderKL = AutoencoderKL.from_pretrained(finished)
    return autoencoder.eval()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the built-in text-to-image model.")
    parser.add_argument("--out", type=Path, default=Path("models/shapes"), help="where the finished pipeline goes")
    parser.add_argument("--run", type=Path, default=Path("training-runs/shapes"), help="where checkpoints are kept")
    parser.add_argument("--start-from", type=Path, help="a finished pipeline whose training goes on")
    parser.add_argument("--autoencoder-steps", type=int, default=8_500)
    parser.add_argument("--denoiser-steps", type=int, default=12_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
