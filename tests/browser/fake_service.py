"""The shapes of the CyberImage dialect with nothing behind them: jobs move when a test says so."""

from __future__ import annotations

import io
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image, ImageDraw

WEB = Path(__file__).parents[2] / "serve" / "web"
POLICY = "default-src 'self'; img-src 'self' blob: data:"
PICTURE_SIZE = 64
PREVIEW_SIZE = 8

MODELS: dict[str, dict[str, Any]] = {
    "shapes": {
        "id": "shapes",
        "repo": "shapes",
        "description": "The small model that comes with CyberImage: coloured shapes, 64 by 64 pixels.",
        "source": "builtin",
        "type": "image",
        "step_config": {"steps": {"min": 4, "max": 50, "default": 20}},
        "size": {
            "default_width": 64,
            "default_height": 64,
            "multiple_of": 64,
            "minimum": 64,
            "maximum": 64,
            "max_pixels": 4096,
        },
        "guidance": {"min": 1.0, "max": 12.0, "default": 4.0},
        "max_prompt_characters": 2000,
        "max_images": 8,
    },
    "sprint": {
        "id": "sprint",
        "repo": "example/sprint",
        "description": "Two steps, always.",
        "source": "huggingface",
        "type": "image",
        "step_config": {"fixed_steps": 2},
        "size": {
            "default_width": 1024,
            "default_height": 768,
            "multiple_of": 32,
            "minimum": 256,
            "maximum": 1536,
            "max_pixels": 1048576,
        },
        "guidance": {"min": 4.5, "max": 4.5, "default": 4.5},
        "max_images": 2,
    },
}


class FakeService:
    """Serves the page and the API on a free port of this machine; it can be stopped and started, and keeps its jobs."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []
        self.refusal: tuple[int, str] | None = None
        self._keys: dict[str, str] = {}
        self._port = _free_port()
        self._app = self._build()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        config = uvicorn.Config(self._app, host="127.0.0.1", port=self._port, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the fake service did not start")
            threading.Event().wait(0.02)

    def stop(self) -> None:
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(timeout=10)

    def forget(self) -> None:
        """Back to a service that nobody has asked anything yet."""
        self.jobs.clear()
        self.requests.clear()
        self._keys.clear()
        self.refusal = None

    @property
    def newest(self) -> dict[str, Any]:
        return list(self.jobs.values())[-1]

    def step(self, job: dict[str, Any], step: int) -> None:
        job["status"] = "processing"
        job.pop("queue_position", None)
        job["progress"] |= {"generating": True, "step": step}
        job["preview"] = f"/api/jobs/{job['id']}/preview"

    def complete(self, job: dict[str, Any]) -> None:
        settings = job["settings"]
        for index in range(settings["num_images"]):
            metadata = {"prompt": job["prompt"], "settings": {**settings, "seed": settings["seed"] + index}}
            job["images"].append(
                {"id": str(uuid.uuid4()), "file_path": "", "created_at": "2026-01-01T00:00:00Z", "metadata": metadata}
            )
        job.pop("queue_position", None)
        job["progress"] |= {"completed": True, "step": job["progress"]["total_steps"]}
        job["status"] = "completed"

    def fail(self, job: dict[str, Any], sentence: str) -> None:
        job.pop("queue_position", None)
        job |= {"status": "failed", "message": sentence}

    def _submit(self, body: dict[str, Any]) -> dict[str, Any]:
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
            "settings": settings,
            "created_at": "2026-01-01T00:00:00Z",
            "started_at": None,
            "completed_at": None,
            "message": "",
            "progress": {"step": 0, "total_steps": settings["num_inference_steps"] * settings["num_images"]},
            "images": [],
            "queue_position": 1 + sum(job["status"] == "pending" for job in self.jobs.values()),
        }
        self.jobs[job["id"]] = job
        return job

    def _build(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def add_policy(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
            response = await call_next(request)
            if not request.url.path.startswith("/docs"):
                response.headers["Content-Security-Policy"] = POLICY
            return response

        @app.get("/")
        async def page() -> FileResponse:
            return FileResponse(WEB / "index.html")

        @app.get("/api/models")
        async def models() -> dict[str, Any]:
            return {"models": MODELS, "default": "shapes"}

        @app.post("/api/generate")
        async def generate(request: Request) -> Response:
            body = await request.json()
            self.requests.append(body)
            if self.refusal:
                status_code, sentence = self.refusal
                return JSONResponse({"status": "error", "message": sentence}, status_code)
            key = request.headers["Idempotency-Key"]
            job = self.jobs[self._keys[key]] if key in self._keys else self._submit(body)
            self._keys[key] = job["id"]
            count = job["settings"]["num_images"]
            return JSONResponse({"job_id": job["id"], "status": "pending", "num_images": count, "message": "Queued"})

        @app.get("/api/status/{job_id}")
        async def status(job_id: str) -> Response:
            if job_id not in self.jobs:
                return JSONResponse({"status": "error", "message": "No such job"}, 404)
            return JSONResponse(self.jobs[job_id])

        @app.delete("/api/jobs/{job_id}")
        async def cancel(job_id: str) -> dict[str, str]:
            self.jobs[job_id] |= {"status": "cancelled", "message": "Cancelled on request"}
            self.jobs[job_id].pop("queue_position", None)
            return {"status": "success", "message": "Cancelled"}

        @app.get("/api/jobs/{job_id}/preview")
        async def preview(job_id: str) -> Response:
            return Response(_picture(PREVIEW_SIZE), media_type="image/png")

        @app.get("/api/image/{image_id}")
        async def image(image_id: str) -> Response:
            return Response(_picture(), media_type="image/png")

        app.mount("/static", StaticFiles(directory=WEB))
        return app


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _picture(size: int = PICTURE_SIZE) -> bytes:
    picture = Image.new("RGB", (size, size), (40, 70, 200))
    ImageDraw.Draw(picture).ellipse((14, 14, 50, 50), fill=(220, 40, 50))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
