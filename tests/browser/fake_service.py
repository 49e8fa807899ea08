"""The shapes of the CyberImage dialect with nothing behind them: jobs move when a test says so."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import uuid
from typing import Any

import uvicorn

from tests.browser.fake_models import MODELS
from tests.browser.fake_routes import build_app
from tests.support.ports import free_port

MOMENT = "2026-01-01T12:00:00.000Z"


class FakeService:
    """Serves the page and the API on a free port of this machine; it can be stopped and started, and keeps its jobs.

    Attributes:
        jobs: In the form of ``GET /api/status``, by id.
        images: In the form of ``GET /api/gallery``, newest first.
        inputs: Bytes of pictures that were sent, by id.
        requests: Bodies of ``POST /api/generate``.
        refusal: What a submission is answered, as a status and a sentence.
        enriches: Whether there is a language model.
        links: Pages of other programs, by name.
        streams: Whether there are event streams; else the page has to ask.
        key: The API key that it asks for.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._readers: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.forget()
        self._app = build_app(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        config = uvicorn.Config(
            self._app, host="127.0.0.1", port=self._port, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the fake service did not start")
            threading.Event().wait(0.02)

    def stop(self) -> None:
        if self._server and self._thread:
            self._send(None)
            self._server.should_exit = True
            self._thread.join(timeout=10)

    def forget(self) -> None:
        """Back to a service that nobody has asked anything yet."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.images: list[dict[str, Any]] = []
        self.inputs: dict[str, bytes] = {}
        self.requests: list[dict[str, Any]] = []
        self.models: dict[str, dict[str, Any]] = copy.deepcopy(MODELS)
        self.paused: list[str] = []
        self.keys: list[dict[str, Any]] = []
        self.refusal: tuple[int, str] | None = None
        self.enriches = True
        self.links: dict[str, str | None] = {"ray_dashboard": None, "grafana": None}
        self.streams = True
        self.key: str | None = None
        self._sent: dict[str, str] = {}

    @property
    def newest(self) -> dict[str, Any]:
        return list(self.jobs.values())[-1]

    def load(self, job: dict[str, Any], seconds: float, usual_seconds: float | None) -> None:
        is_news = job.get("loading") is None
        job |= {"status": "processing", "queue_position": None}
        job["loading"] = {"seconds": seconds, "usual_seconds": usual_seconds}
        job["progress"]["loading_model"] = True
        if is_news:
            self.tell("state", job)

    def step(self, job: dict[str, Any], step: int) -> None:
        was = job["status"]
        job |= {"status": "processing", "queue_position": None, "loading": None}
        job["progress"] |= {"loading_model": False, "generating": True, "step": step}
        job["preview"] = f"/api/jobs/{job['id']}/preview"
        job["eta_seconds"] = 3.2
        if was != "processing":
            self.tell("state", job)
        news = {"id": job["id"], "step": step, "total_steps": job["progress"]["total_steps"], "phase": "generating"}
        self.tell("progress", {**news, "eta_seconds": 3.2, "queue_position": None})

    def preview(self, job: dict[str, Any], data_url: str) -> None:
        self.tell("preview", {"id": job["id"], "step": job["progress"]["step"], "image": data_url})

    def complete(self, job: dict[str, Any]) -> None:
        settings = job["settings"]
        for index in range(settings["num_images"]):
            made = self.add_image(job["prompt"], job["model_id"], **{**settings, "seed": settings["seed"] + index})
            metadata = {"prompt": job["prompt"], "settings": made["settings"]}
            job["images"].append({"id": made["id"], "file_path": "", "created_at": MOMENT, "metadata": metadata})
        job["progress"] |= {"completed": True, "step": job["progress"]["total_steps"]}
        self._end(job, "completed", "")

    def fail(self, job: dict[str, Any], sentence: str) -> None:
        self._end(job, "failed", sentence)

    def cancel(self, job: dict[str, Any]) -> None:
        self._end(job, "cancelled", "Cancelled on request")

    def add_image(self, prompt: str, model_id: str = "shapes", **settings: Any) -> dict[str, Any]:
        """Put an image into the gallery, before all others."""
        made = {
            "id": str(uuid.uuid4()),
            "model_id": model_id,
            "prompt": prompt,
            "created_at": MOMENT,
            "settings": {"seed": len(self.images), "num_inference_steps": 20, "width": 64, "height": 64, **settings},
            "media_type": "image",
            "favourite": False,
            "tags": [],
        }
        made["file_path"] = f"/api/image/{made['id']}"
        self.images.insert(0, made)
        return made

    def submit(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        if key in self._sent:
            return self.jobs[self._sent[key]]
        size = MODELS[body["model_id"]]["size"]
        settings = {
            "num_images": 1,
            "width": size["default_width"],
            "height": size["default_height"],
            "seed": 9007199254740993,
            **body["settings"],
        }
        job = {
            "id": str(uuid.uuid4()),
            "status": "pending",
            "model_id": body["model_id"],
            "prompt": body["prompt"],
            "negative_prompt": body.get("negative_prompt", ""),
            "priority": body.get("priority", "normal"),
            "settings": settings,
            "created_at": MOMENT,
            "started_at": None,
            "completed_at": None,
            "message": "",
            "progress": {"step": 0, "total_steps": settings["num_inference_steps"] * settings["num_images"]},
            "images": [],
            "queue_position": 1 + sum(job["status"] == "pending" for job in self.jobs.values()),
        }
        self.jobs[job["id"]] = job
        self._sent[key] = job["id"]
        self.tell("state", job)
        return job

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Send an event to all who read the stream."""
        self._send(f"event: {event}\r\ndata: {json.dumps(data)}\r\n\r\n")

    def listen(self) -> asyncio.Queue[str | None]:
        """Of events from now on; None when the service stops."""
        self._loop = asyncio.get_running_loop()
        reader: asyncio.Queue[str | None] = asyncio.Queue()
        self._readers.add(reader)
        return reader

    def leave(self, reader: asyncio.Queue[str | None]) -> None:
        self._readers.discard(reader)

    def _send(self, text: str | None) -> None:
        if not self._loop or self._loop.is_closed():
            return
        for reader in list(self._readers):
            self._loop.call_soon_threadsafe(reader.put_nowait, text)

    def _end(self, job: dict[str, Any], status: str, message: str) -> None:
        job |= {"status": status, "message": message, "queue_position": None, "eta_seconds": None, "preview": None}
        self.tell("end", job)
