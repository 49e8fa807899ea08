"""The ``cyberimage`` command, against a service made of answers."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from serve.cli import main as cli
from serve.cli import session as command_session
from serve.cli.client import Client, JobStatus
from serve.cli.jobs import activity_of

MODELS = {
    "models": {
        "built-in": {
            "description": "Coloured [bold]shapes",
            "step_config": {"steps": {"min": 4, "max": 50, "default": 20}},
            "size": {"default_width": 64, "default_height": 64},
        },
        "sprint": {"description": "Fast", "step_config": {"fixed_steps": 2}},
        "bare": {},
    },
    "default": "built-in",
}


class Service:
    """Answers requests; each status request takes the next of ``statuses``, the last one again and again."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []
        self.uploaded: list[tuple[str, bytes]] = []
        self.cancelled: list[str] = []
        self.replayed: list[str] = []
        self.statuses: list[dict[str, Any] | BaseException] = []
        self.refusal: httpx.Response | None = None
        self.cancel_refusal: httpx.Response | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/models":
            return httpx.Response(200, json=MODELS)
        if path == "/api/inputs":
            self.uploaded.append((request.headers["Content-Type"], request.content))
            return httpx.Response(200, json={"id": f"u{len(self.uploaded)}", "width": 64, "height": 64})
        if path == "/api/generate":
            self.submitted.append(json.loads(request.content))
            return self.refusal or httpx.Response(200, json={"job_id": "j1", "status": "pending"})
        if path == "/api/status/j1":
            answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            if isinstance(answer, BaseException):
                raise answer
            return httpx.Response(200, json=answer)
        if path == "/api/jobs/j1":
            self.cancelled.append("j1")
            return self.cancel_refusal or httpx.Response(200, json={"status": "success", "message": "Job j1 cancelled"})
        if path == "/api/image/i9/replay":
            self.replayed.append("i9")
            return httpx.Response(200, json={"job_id": "j1", "status": "pending"})
        if path.startswith("/api/image/"):
            return httpx.Response(200, content=path.removeprefix("/api/image/").encode())
        return httpx.Response(404, json={"status": "error", "message": "No such job"})


def job(status: str, step: int = 0, images: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "id": "j1",
        "status": status,
        "model_id": "built-in",
        "prompt": "a ring",
        "settings": {"seed": 7},
        "progress": {"step": step, "total_steps": 20},
        "images": [{"id": f"i{number}"} for number in range(1, images + 1)],
        "message": "",
        **fields,
    }


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()

    def connect(url: str, api_key: str | None) -> Client:
        transport = httpx.MockTransport(service)
        times = iter(range(10_000))
        return Client(url, api_key=api_key, transport=transport, sleep=lambda _: None, clock=lambda: next(times))

    monkeypatch.setattr(command_session, "connect", connect)
    return service


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_generate_writes_the_image(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("pending", queue_position=3), job("processing", step=10), job("completed", 20, images=1)]
    result = run("generate", "a ring", "-o", tmp_path / "ring.png", "--seed", "7", "--steps", "20")
    assert result.exit_code == 0
    assert (tmp_path / "ring.png").read_bytes() == b"i1"
    assert result.stdout.strip() == str(tmp_path / "ring.png")
    assert "seed 7" in result.stderr
    assert service.submitted == [
        {
            "model_id": "built-in",
            "prompt": "a ring",
            "settings": {"num_images": 1, "num_inference_steps": 20, "seed": 7},
        }
    ]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ring.PNG", {}),
        ("ring", {}),
        ("ring.webp", {"output_format": "webp"}),
        ("ring.jpeg", {"output_format": "jpeg"}),
        ("ring.JPG", {"output_format": "jpeg"}),
    ],
)
def test_the_name_of_the_file_says_its_format(
    service: Service, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    service.statuses = [job("completed", images=1)]

    assert run("generate", "a ring", "-o", tmp_path / name).exit_code == 0
    assert service.submitted[0]["settings"] == {"num_images": 1} | settings


def test_quality_goes_along(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("completed", images=1)]

    run("generate", "a ring", "-o", tmp_path / "ring.webp", "--quality", "40")
    assert service.submitted[0]["settings"] == {"num_images": 1, "output_format": "webp", "quality": 40}


def test_replay_makes_an_image_again(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("processing", step=10), job("completed", 20, images=1)]
    result = run("replay", "i9", "-o", tmp_path / "again.png")
    assert result.exit_code == 0
    assert service.replayed == ["i9"]
    assert (tmp_path / "again.png").read_bytes() == b"i1"


def test_progress_tells_the_queue_then_the_steps() -> None:
    def activity(**fields: Any) -> str:
        return activity_of(JobStatus.from_answer(job(**fields)))

    assert activity(status="pending") == "Queued"
    assert activity(status="pending", queue_position=3) == "Queued, position 3"
    assert activity(status="processing", progress={"loading_model": True}) == "Loading the model"
    assert activity(status="processing") == "Preparing"
    assert activity(status="processing", step=10) == "Step 10 of 20"
    assert activity(status="completed") == "Completed"


def test_several_images_are_numbered(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("completed", images=2)]
    result = run("generate", "a ring", "-n", "2", "-o", tmp_path / "out.png")
    assert result.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-1.png", "out-2.png"]
    assert (tmp_path / "out-2.png").read_bytes() == b"i2"


def test_quiet_prints_nothing(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("completed", images=1)]
    result = run("generate", "a ring", "--quiet", "-o", tmp_path / "out.png")
    assert (result.exit_code, result.output) == (0, "")


def test_failed_job_is_told(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("processing"), job("failed", message="Out of memory\x1b[2J")]
    result = run("generate", "a ring", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "Out of memory[2J" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_job_cancelled_by_somebody_else_is_told(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("cancelled")]
    result = run("generate", "a ring", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "Job j1 was cancelled" in result.stderr


def test_missing_image_is_told(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("completed", images=1)]
    result = run("generate", "a ring", "-n", "2", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "was to make 2 images, and has 1" in result.stderr


def test_refused_submission_is_the_sentence_of_the_service(service: Service, tmp_path: Path) -> None:
    service.refusal = httpx.Response(503, json={"status": "error", "message": "The queue is full"})
    result = run("generate", "a ring", "-o", tmp_path / "out.png")
    assert (result.exit_code, result.stderr) == (1, "The queue is full\n")


def test_interrupt_cancels_the_job(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("processing"), KeyboardInterrupt()]
    result = run("generate", "a ring", "-o", tmp_path / "out.png")
    assert result.exit_code == 130
    assert service.cancelled == ["j1"]
    assert "Interrupted: job j1 is cancelled on the service" in result.stderr


def test_interrupt_that_cannot_cancel_says_so(service: Service, tmp_path: Path) -> None:
    service.statuses = [KeyboardInterrupt()]
    service.cancel_refusal = httpx.Response(500)
    result = run("generate", "a ring", "-o", tmp_path / "out.png")
    assert result.exit_code == 130
    assert "could not be cancelled: The service answered 500" in result.stderr


def test_lost_connection_while_waiting_names_the_job(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("processing"), httpx.ReadError("reset")]
    result = run("generate", "a ring", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "cyberimage status j1" in result.stderr


def test_restart_while_waiting_loses_nothing(service: Service, tmp_path: Path) -> None:
    service.statuses = [job("processing"), httpx.ConnectError("refused"), job("completed", images=1)]
    assert run("generate", "a ring", "-o", tmp_path / "out.png").exit_code == 0


@pytest.mark.parametrize("output", ["missing/out.png", "."])
def test_unwritable_output_is_found_first(service: Service, tmp_path: Path, output: str) -> None:
    result = run("generate", "a ring", "-o", tmp_path / output)
    assert result.exit_code == 2
    assert "Cannot write" in result.stderr
    assert service.submitted == []


def test_existing_file_survives_a_failure(service: Service, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"before")
    service.statuses = [job("failed", message="no")]
    run("generate", "a ring", "-o", tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"before"


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["-n", "0"], ["--seed", "-1"], ["--width", "x"]])
def test_wrong_use_is_exit_code_2(service: Service, arguments: list[str]) -> None:
    assert run("generate", "a ring", *arguments).exit_code == 2
    assert service.submitted == []


def test_nobody_listening_is_one_line() -> None:
    result = run("models", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr == ("No service answers at http://127.0.0.1:1; start one with `make run` or give --url\n")


def test_models_as_a_table(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = run("models")
    assert result.exit_code == 0
    for words in ("built-in (default)", "4-50 (20)", "64x64", "Coloured [bold]shapes", "2 (fixed)", "bare"):
        assert words in result.stdout


def test_models_as_json(service: Service) -> None:
    assert json.loads(run("models", "--json").stdout) == MODELS


def test_status(service: Service) -> None:
    service.statuses = [job("processing", step=4, queue_position=1, message="Working")]
    result = run("status", "j1")
    assert result.exit_code == 0
    for words in ("processing", "4 of 20", "built-in", "a ring", "Working"):
        assert words in result.stdout
    assert json.loads(run("status", "j1", "--json").stdout)["id"] == "j1"


def test_status_of_an_unknown_job(service: Service) -> None:
    result = run("status", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "No such job\n")


def test_cancel(service: Service) -> None:
    result = run("cancel", "j1")
    assert (result.exit_code, result.stdout) == (0, "Job j1 cancelled\n")


def test_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYBERIMAGE_URL", "http://127.0.0.1:2")
    assert "http://127.0.0.1:2" in run("models").stderr


def test_serve_hands_its_options_to_the_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    launcher = types.ModuleType("serve.launcher")
    launcher.launch = lambda *arguments: calls.append(arguments) or 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serve.launcher", launcher)
    monkeypatch.setenv("PORT", "9001")
    catalog = tmp_path / "catalog.yaml"
    catalog.touch()
    assert run("serve", "--catalog", catalog, "--data-dir", tmp_path).exit_code == 0
    assert run("serve", "--port", "9002", "--host", "0.0.0.0").exit_code == 0
    assert calls == [("127.0.0.1", 9001, catalog, tmp_path), ("0.0.0.0", 9002, None, None)]


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("cyberimage ")


def test_module_is_the_command_and_does_not_import_ray() -> None:
    code = "import runpy, sys; sys.argv[1:] = ['--version']\n"
    code += "try: runpy.run_module('serve', run_name='__main__')\n"
    code += "except SystemExit as end: assert not end.code\n"
    code += "assert not {'ray', 'torch'} & set(sys.modules)"
    root = Path(cli.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("cyberimage ")


def test_watch_follows_a_job_that_somebody_else_submitted(service: Service) -> None:
    service.statuses = [job("pending", queue_position=3), job("processing", step=10), job("completed", 20, images=1)]
    result = run("watch", "j1")
    assert result.exit_code == 0
    assert "/api/image/i1" in result.stdout
    assert service.cancelled == []


def test_watch_prints_each_change_as_a_line_of_json(service: Service) -> None:
    service.statuses = [job("processing", step=10), job("completed", 20)]
    result = run("watch", "j1", "--json")
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["processing", "completed"]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_watch_fails_where_the_job_did_not_complete(service: Service, state: str) -> None:
    service.statuses = [job(state, message="Out of luck.")]
    result = run("watch", "j1")
    assert result.exit_code == 1
    assert "Out of luck." in result.stdout


def test_ctrl_c_leaves_a_watched_job_alone(service: Service) -> None:
    service.statuses = [KeyboardInterrupt()]
    assert run("watch", "j1").exit_code == 130
    assert service.cancelled == []


class TestPictures:
    def test_they_are_sent_and_named(self, service: Service, tmp_path: Path) -> None:
        service.statuses = [job("completed", 20, images=1)]
        for name in ("photo.jpg", "mask.png", "lines"):
            (tmp_path / name).write_bytes(name.encode())
        result = run(
            *("generate", "a ring", "-o", tmp_path / "ring.png", "--image", tmp_path / "photo.jpg"),
            *("--mask", tmp_path / "mask.png", "--control-image", tmp_path / "lines", "--strength", "0.5"),
            *("--lora", "ink", "--lora", "gold:-0.5"),
        )
        assert result.exit_code == 0, result.output
        assert service.uploaded == [
            ("image/jpeg", b"photo.jpg"),
            ("image/png", b"mask.png"),
            ("image/png", b"lines"),
        ]
        (body,) = service.submitted
        assert (body["image"], body["mask"], body["control_image"]) == ("u1", "u2", "u3")
        assert body["settings"] == {
            "num_images": 1,
            "strength": 0.5,
            "loras": [{"name": "ink"}, {"name": "gold", "scale": -0.5}],
        }

    def test_a_file_that_is_not_there_is_wrong_use(self, service: Service, tmp_path: Path) -> None:
        result = run("generate", "a ring", "-o", tmp_path / "ring.png", "--image", tmp_path / "none.png")
        assert result.exit_code == 2
        assert "Cannot read" in result.stderr
        assert (service.submitted, service.uploaded) == ([], [])

    def test_a_scale_that_is_no_number_is_wrong_use(self, service: Service, tmp_path: Path) -> None:
        result = run("generate", "a ring", "-o", tmp_path / "ring.png", "--lora", "ink:much")
        assert result.exit_code == 2
        assert "NAME:SCALE" in result.stderr
        assert service.submitted == []
