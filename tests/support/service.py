"""A running service, and how tests talk to it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from ray._common.test_utils import wait_for_condition

from models.training.judge import Verdict, judge

WAIT_SECONDS = 120
APP_NAME = "cyberimage"
TERMINAL = {"completed", "failed", "cancelled"}


@dataclass(frozen=True)
class Service:
    """The HTTP API of a service, in sentences."""

    url: str
    data_dir: Path

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def submit(self, prompt: str, negative_prompt: str = "", **settings: Any) -> str:
        body = {"model_id": "shapes", "prompt": prompt, "negative_prompt": negative_prompt, "settings": settings}
        answer = self.http.post("/api/generate", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["job_id"]

    def status(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/status/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_until(self, job_id: str, *states: str) -> dict[str, Any]:
        """Wait until a job is in one of these states; it must not end in another."""
        seen: dict[str, Any] = {}

        def arrived() -> bool:
            seen.update(self.status(job_id))
            assert seen["status"] in states or seen["status"] not in TERMINAL, seen
            return seen["status"] in states

        wait_for_condition(arrived, timeout=WAIT_SECONDS, retry_interval_ms=100)
        return seen

    def wait_for_step(self, job_id: str, step: int) -> None:
        """Wait until a job has taken some steps."""
        wait_for_condition(
            lambda: self.status(job_id)["progress"]["step"] >= step, timeout=WAIT_SECONDS, retry_interval_ms=50
        )

    def image(self, image_id: str) -> bytes:
        answer = self.http.get(f"/api/image/{image_id}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def draw(self, prompt: str, **more: Any) -> bytes:
        """Submit, wait, and fetch the one image."""
        (image,) = self.wait_until(self.submit(prompt, **more), "completed")["images"]
        return self.image(image["id"])


def judged(content: bytes) -> Verdict:
    """What a picture file shows."""
    return judge(pixels(content))


def shown(content: bytes) -> tuple[str | None, str | None, str | None]:
    """The shape, its colour and the background of a picture file."""
    verdict = judged(content)
    return verdict.shape, verdict.colour, verdict.background


def pixels(content: bytes) -> np.ndarray:
    """The pixels of a picture file."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
