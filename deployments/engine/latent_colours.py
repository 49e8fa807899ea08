"""Previews of unfinished images: a linear map from latents to colours, which costs next to nothing."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from deployments.engine.readbacks import Readback
from deployments.pipelines.exceptions import one_line
from deployments.pipelines.loading import execution_device

logger = logging.getLogger(__name__)

Preview = NDArray[np.uint8]

_SAMPLES, _SIDE, _COARSE = 8, 64, 4
_RIDGE = 1e-3
_KEPT = 4  # finished images that wait to be learned from


class LatentColours:
    """Colours for latents by least squares, from what a model's autoencoder makes of them.

    The fit begins with random pictures that the autoencoder encodes, and continues with finished images, as later
    images look most like those. A preview has one pixel for each place of the latents: with an autoencoder that shrinks
    eightfold, an eighth of the image's sides. Finished images wait on the device until a preview is wanted: as long as
    nobody watches, nothing is copied.

    Args:
        latents: Of shape (places, channels).
        colours: What they show, of shape (places, 3), in -1..1.
    """

    def __init__(self, latents: torch.Tensor, colours: torch.Tensor) -> None:
        known = _with_ones(latents)
        self._squares = known.T @ known / len(known) + _RIDGE * torch.eye(known.shape[1])
        self._products = known.T @ colours / len(known)
        self._weights = torch.linalg.solve(self._squares, self._products)
        self._weights_there: torch.Tensor | None = None
        self._finished: deque[tuple[DiffusionPipeline, torch.Tensor, NDArray[np.float32]]] = deque(maxlen=_KEPT)
        self._arriving: deque[tuple[Readback, NDArray[np.float32]]] = deque()

    @classmethod
    def fitted_to(cls, pipeline: DiffusionPipeline) -> LatentColours | None:
        """Fit the colours to a pipeline's autoencoder; None where it has none for plain pictures."""
        autoencoder = pipeline.components.get("vae")
        if autoencoder is None:
            return None
        try:
            return cls(*_encode_samples(autoencoder, execution_device(pipeline)))
        except Exception as error:
            logger.warning("%s has no previews: %s: %s", type(pipeline).__name__, type(error).__name__, one_line(error))
            return None

    def learn(self, pipeline: DiffusionPipeline, latents: torch.Tensor, picture: NDArray[np.float32]) -> None:
        """Note a finished image; the next preview updates the fit with it.

        Args:
            pipeline: The pipeline that made it.
            latents: Its last ones, as :meth:`preview` takes them.
            picture: Of shape (height, width, 3), in 0..1.
        """
        if picture.shape[2:] == (3,):
            self._finished.append((pipeline, latents, picture))

    def preview(self, pipeline: DiffusionPipeline, latents: torch.Tensor, width: int, height: int) -> Readback | None:
        """What one image's latents look like.

        Args:
            pipeline: Whose latents they are; some pack them, and know how to unpack them.
            latents: Of shape (1, channels, height, width), or packed as (1, places, features).
            width: Of the image, in pixels.
            height: Of the image, in pixels.

        Returns:
            Red, green and blue of shape (latent height, latent width, 3) as uint8, on their way to the host; None for
            latents of another form.
        """
        self._update()
        plain = self._plain(pipeline, latents, width, height)
        if plain is None:
            return None
        colours = _with_ones(_places(plain)) @ self._weights_on(plain.device)
        pixels = (colours.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
        return Readback(pixels.reshape(*plain.shape[2:], 3))

    def _update(self) -> None:
        """Send for the images that were finished, and learn from those that have arrived."""
        while self._finished:
            pipeline, latents, picture = self._finished.popleft()
            plain = self._plain(pipeline, latents, picture.shape[1], picture.shape[0])
            if plain is not None:
                self._arriving.append((Readback(plain), picture))
        while self._arriving and self._arriving[0][0].is_ready:
            arrived, picture = self._arriving.popleft()
            if np.isfinite(picture).all():
                self._fit(arrived.value(), picture)

    def _fit(self, plain: torch.Tensor, picture: NDArray[np.float32]) -> None:
        colours = torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1
        known = _with_ones(_places(plain))
        shown = _places(_shrink(colours, plain))
        self._squares += known.T @ known / len(known)
        self._products += known.T @ shown / len(known)
        self._weights = torch.linalg.solve(self._squares, self._products)
        self._weights_there = None

    def _weights_on(self, device: torch.device) -> torch.Tensor:
        there = self._weights if device.type == "cpu" else self._weights_there
        if there is None or there.device != device:
            there = self._weights_there = self._weights.pin_memory().to(device, non_blocking=True)
        return there

    def _plain(
        self, pipeline: DiffusionPipeline, latents: torch.Tensor, width: int, height: int
    ) -> torch.Tensor | None:
        plain = _unpack(pipeline, latents, width, height) if latents.ndim == 3 else latents
        if plain is None or plain.ndim != 4 or plain.shape[1] + 1 != len(self._weights):
            return None
        return plain[:1].float()


@torch.inference_mode()
def _encode_samples(autoencoder: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of random pictures as pipelines have them, of shape (places, channels), and their mean colours.

    Half of the pictures are smooth, half have plain areas with edges between them, as photographs and drawings do.
    """
    config = autoencoder.config
    coarse = torch.rand(_SAMPLES, 3, _COARSE, _COARSE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, size=_SIDE, mode="bilinear")
    plain = torch.nn.functional.interpolate(coarse[:, :, :2, :2], size=_SIDE, mode="nearest")
    pictures = torch.cat([smooth, plain])
    encoded = autoencoder.encode(pictures.to(device, autoencoder.dtype), return_dict=False)[0].mode()
    latents = (encoded.float().cpu() - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
    return _places(latents), _places(_shrink(pictures, latents))


def _shrink(pictures: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Pictures at the size of their latents."""
    return torch.nn.functional.adaptive_avg_pool2d(pictures, (latents.shape[2], latents.shape[3]))


def _places(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _with_ones(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values, values.new_ones(len(values), 1)], dim=1)


def _unpack(pipeline: DiffusionPipeline, latents: torch.Tensor, width: int, height: int) -> torch.Tensor | None:
    unpack = getattr(pipeline, "_unpack_latents", None)
    if unpack is None or list(inspect.signature(unpack).parameters)[:4] != [
        "latents",
        "height",
        "width",
        "vae_scale_factor",
    ]:
        return None
    plain: torch.Tensor = unpack(latents, height, width, pipeline.vae_scale_factor)
    return plain
