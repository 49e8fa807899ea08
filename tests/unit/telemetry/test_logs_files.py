"""Log files: which line is in which, and that nothing is lost where several processes put files aside at once."""

import json
import logging
import subprocess
import sys
from pathlib import Path

from deployments.settings.service import Settings
from deployments.settings.telemetry import LoggingSettings
from deployments.settings.tracker import TrackerSettings
from deployments.telemetry.logs import APP_FILE, ERROR_FILE, MODEL_FILE, close_logs, configure_logs
from deployments.tracker.actor import JobTrackerActor, TrackerLogs

PROJECT = Path(__file__).parents[3]
LINES = 800
WRITER = """
import logging, sys
from pathlib import Path
from deployments.settings.telemetry import LoggingSettings
from deployments.telemetry.logs import configure_logs
settings = LoggingSettings(format="json", max_bytes=8192, kept_files=200)
configure_logs(settings, "writer", Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    logging.getLogger("serve").info("%s %d", sys.argv[2], number)
"""


def messages(path: Path) -> list[str]:
    close_logs()
    return [json.loads(line)["message"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_errors_have_a_file_of_their_own(own_logs, tmp_path):
    configure_logs(LoggingSettings(format="json"), "ingress", tmp_path / "logs")
    logging.getLogger("serve.x").info("fine")
    logging.getLogger("deployments.y").error("broken")

    assert messages(tmp_path / "logs" / APP_FILE) == ["fine", "broken"]
    assert messages(tmp_path / "logs" / ERROR_FILE) == ["broken"]
    assert not (tmp_path / "logs" / MODEL_FILE).exists()


def test_what_serves_a_model_writes_to_the_file_of_the_models_too(own_logs, tmp_path):
    configure_logs(LoggingSettings(format="json"), "model-shapes", tmp_path, draws=True)
    logging.getLogger("deployments.model.image_model").info("loaded")

    assert messages(tmp_path / MODEL_FILE) == messages(tmp_path / APP_FILE) == ["loaded"]


def test_every_line_goes_to_stderr_too(own_logs, tmp_path, capsys):
    configure_logs(LoggingSettings(), "ingress", tmp_path)
    logging.getLogger("serve.x").info("fine")

    assert "INFO    serve.x: fine [process=ingress-" in capsys.readouterr().err


def test_configuring_twice_writes_no_line_twice(own_logs, tmp_path):
    for _ in range(2):
        configure_logs(LoggingSettings(format="json"), "ingress", tmp_path)
    logging.getLogger("serve.x").info("once")

    assert messages(tmp_path / APP_FILE) == ["once"]


def test_a_folder_that_cannot_be_written_does_not_stop_the_service(own_logs, tmp_path, capsys):
    (tmp_path / "logs").write_text("a file")
    configure_logs(LoggingSettings(), "ingress", tmp_path / "logs")
    logging.getLogger("serve.x").info("fine")
    told = capsys.readouterr().err

    assert f"Logs are not kept in files, as {tmp_path / 'logs'} cannot be written: " in told
    assert "serve.x: fine" in told


def test_without_files_none_is_made(own_logs, tmp_path):
    configure_logs(LoggingSettings(files=False), "ingress", tmp_path / "logs")

    assert not (tmp_path / "logs").exists()


def test_are_beside_the_data_unless_told_otherwise(tmp_path):
    assert Settings(data_dir=tmp_path).logs_dir == tmp_path / "logs"
    assert Settings(data_dir=tmp_path, logging={"folder": "/var/log/ci"}).logs_dir == Path("/var/log/ci")


def test_the_trackers_process_logs_as_the_others_do(own_logs, tmp_path):
    logs = TrackerLogs(LoggingSettings(format="json", level="WARNING"), tmp_path)
    JobTrackerActor(logs, TrackerSettings(database_url=f"sqlite+aiosqlite:///{tmp_path}/jobs.db"))
    logging.getLogger("deployments.tracker.job_tracker").info("quiet")
    logging.getLogger("deployments.tracker.job_tracker").warning("loud")

    assert messages(tmp_path / APP_FILE) == ["loud"]


def test_two_processes_that_put_files_aside_at_once_lose_nothing(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name, str(LINES)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    files = list(tmp_path.glob(f"{APP_FILE}*"))
    written = [message for file in files for message in messages(file)]

    assert len(files) > 10
    assert sorted(written) == sorted(f"{name} {number}" for name in ("one", "two") for number in range(LINES))
