"""The previews of one image: made on the device, and shown when they have arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from deployments.engine.latent_colours import LatentColours
from deployments.engine.readbacks import Readback
from deployments.engine.request import ImageRequest
from deployments.pipelines.exceptions import one_line

logger = logging.getLogger(__name__)


class ImagePreviews:
    """Shows what one image becomes, at most so often as its request says. The host waits for none of it.

    A preview is shown at the step after it has arrived, or when the image is finished. What goes wrong with a preview
    ends the previews of the image, and not the image.

    Args:
        colours: Of the model's latents.
        pipeline: Makes the image.
        request: Of the image.
        clock: Seconds since any moment.
    """

    def __init__(
        self,
        colours: LatentColours,
        pipeline: DiffusionPipeline,
        request: ImageRequest,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._colours = colours
        self._pipeline = pipeline
        self._request = request
        self._clock = clock
        self._latents: torch.Tensor | None = None
        self._on_its_way: tuple[int, Readback] | None = None
        self._due = clock()
        self._show: Callable[[int, NDArray[np.uint8]], None] | None = request.on_preview

    def note_step(self, step: int, latents: torch.Tensor | None) -> None:
        """Show a preview that has arrived, and begin the next one if it is time for it.

        Args:
            step: Denoising steps done.
            latents: After them; None where the pipeline does not show them.
        """
        self._latents = latents
        if self._show is None or latents is None:
            return
        try:
            self._show_arrived()
            if self._on_its_way is None and step % self._request.preview_every == 0 and self._clock() >= self._due:
                self._begin(step, latents)
                self._show_arrived()
        except Exception as error:
            self._show = None
            logger.warning("The previews of an image failed: %s: %s", type(error).__name__, one_line(error))

    def finish(self, picture: NDArray[np.float32]) -> None:
        """Show what has arrived by now, and let the colours learn from the picture.

        Args:
            picture: Of shape (height, width, 3), with values in 0..1.
        """
        self._show_arrived()
        if self._latents is not None:
            self._colours.learn(self._pipeline, self._latents, picture)

    def _begin(self, step: int, latents: torch.Tensor) -> None:
        self._due = self._clock() + self._request.preview_seconds
        settings = self._request.settings
        preview = self._colours.preview(self._pipeline, latents, settings.width, settings.height)
        self._on_its_way = None if preview is None else (step, preview)

    def _show_arrived(self) -> None:
        if self._on_its_way is not None and self._show is not None and self._on_its_way[1].is_ready:
            step, preview = self._on_its_way
            self._on_its_way = None
            self._show(step, preview.value().numpy())
