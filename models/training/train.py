"""Trains the built-in model: ``python -m models.training.train``.

The run resumes where it stopped; delete its folder to start over.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, PreTrainedModel

from models.training.autoencoder import train_autoencoder
from models.training.denoiser import build_scheduler, train_denoiser
from models.training.reader import train_text_encoder
from models.training.tokenizer import build_tokenizer

SEED = 20_240_501


def main() -> None:
    """Read the command line, train the three stages, and save a pipeline."""
    options = _parse()
    torch.set_num_threads(options.threads)
    run: Path = options.run
    tokenizer = build_tokenizer()
    autoencoder = _once(
        run / "autoencoder",
        AutoencoderKL,
        lambda: train_autoencoder(run / "autoencoder.pt", options.autoencoder_steps, SEED),
    )
    text_encoder = _once(
        run / "text_encoder",
        CLIPTextModel,
        lambda: train_text_encoder(run / "reader.pt", options.reader_steps, SEED, tokenizer),
    )
    unet = _once(
        run / "unet",
        UNet2DConditionModel,
        lambda: train_denoiser(run / "denoiser.pt", options.denoiser_steps, SEED, autoencoder, text_encoder, tokenizer),
    )
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Half precision halves the download; loaders still compute in float32.
    pipeline.to(torch.float16).save_pretrained(options.out, safe_serialization=True)
    print(f"Saved the pipeline to {options.out}")


def _once(finished: Path, kind: Any, train: Callable[[], ModelMixin | PreTrainedModel]) -> Any:
    """Train a part, unless an earlier start of the run has finished it."""
    if not finished.exists():
        train().save_pretrained(finished)
    return kind.from_pretrained(finished).eval()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the built-in text-to-image model.")
    parser.add_argument("--out", type=Path, default=Path("models/shapes"), help="where the finished pipeline goes")
    parser.add_argument("--run", type=Path, default=Path("training-runs/shapes"), help="where checkpoints are kept")
    parser.add_argument("--autoencoder-steps", type=int, default=9_000)
    parser.add_argument("--reader-steps", type=int, default=2_000, help="of the text encoder")
    parser.add_argument("--denoiser-steps", type=int, default=6_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
