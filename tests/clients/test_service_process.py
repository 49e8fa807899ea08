"""The service as a person runs it: a process that starts, serves the command line, stops cleanly and starts again."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from ray._common.test_utils import wait_for_condition

from models.training.judge import Verdict
from tests.support.ports import free_port
from tests.support.service import WAIT_SECONDS, judged
from tests.support.service_process import CYBERIMAGE, serving


def processes_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in entry.read_bytes():
                found.append((entry.parent / "cmdline").read_text())
        except OSError:
            continue
    return found


def open_to_others(marker: str) -> list[str]:
    """Whose sockets listen on other addresses than this machine's own, of the processes started with the marker."""
    name, value = marker.split("=")
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get(name) != value:
                continue
            sockets = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
            # Ray appends what a process does to its title.
            title = process.cmdline()[0].split(".")[0] if sockets else ""
            found += [title for each in sockets if not is_own_address(each.laddr.ip)]
    return sorted(found)


def is_own_address(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*CYBERIMAGE, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        env=os.environ | environment,
    )


def refused(*arguments: str) -> str:
    """What a start that must be refused prints; one line and no traceback."""
    ended = run("serve", *arguments)
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert ended.stdout.count("\n") == 1
    return ended.stdout


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked up in /proc, which this system lacks")
def test_start_generate_stop_and_start_again(tmp_path, monkeypatch):
    marker = f"CYBERIMAGE_TEST_MARKER={tmp_path}"
    monkeypatch.setenv(*marker.split("="))
    data_dir, port = tmp_path / "data", free_port()

    with serving(data_dir, port) as first:
        printed = first.wait_for_announcement()
        url = first.service.url
        assert url in printed
        # A replica's socket for calls between deployments asks for Ray's token, and cannot be moved.
        replicas = [f"ray::ServeReplica:cyberimage:{name}" for name in ("Ingress", "model-shapes")]
        assert open_to_others(marker) == replicas

        # No name that a page makes mean this machine opens Ray's dashboard, which asks for the cluster's token.
        dashboard = first.service.http.get("/api/service").json()["links"]["ray_dashboard"]
        rebound = {"Host": "evil.example:8265", "Sec-Fetch-Site": "same-origin"}
        for method, path in (("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("GET", "/api/serve/applications/")):
            answer = httpx.request(method, f"{dashboard}{path}", headers=rebound, json={"entrypoint": "true"})
            assert answer.status_code == 401, (method, path)

        curl = next(line for line in printed.splitlines() if "curl " in line)
        answer = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
        assert '"job_id"' in answer.stdout, answer

        picture = tmp_path / "out.png"
        prompt = "a large red circle on a blue background"
        made = run("generate", prompt, "--seed", "3", "-o", str(picture), CYBERIMAGE_URL=url)
        assert made.returncode == 0, made
        verdict = judged(picture.read_bytes())
        assert verdict == Verdict("circle", "red", "blue", "centre")
        assert "shapes" in run("models", CYBERIMAGE_URL=url).stdout

        other_port, other_folder = str(free_port()), str(tmp_path / "other")
        assert url in refused("--port", other_port, "--data-dir", str(data_dir))
        assert str(port) in refused("--port", str(port), "--data-dir", other_folder)

        interrupted = first.service.submit("a red cross", num_images=4, num_inference_steps=100)
        first.service.wait_for_step(interrupted, 1)
        assert first.interrupt() == 0
    # This very process carries the marker too. Parts of Ray's dashboard end a moment after it, when they notice.
    wait_for_condition(lambda: len(processes_with(marker)) <= 1, timeout=10)

    with serving(data_dir, port) as again:
        again.wait_for_announcement()
        assert len(again.service.wait_until(interrupted, "completed")["images"]) == 4
        assert again.interrupt(signal.SIGTERM) == 0  # as systemd and Docker stop it


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models:\n  shapes:\n    repo: shapes\n    sauce: builtin\n", "catalog.yaml:4"),
        ("models: [\n", "catalog.yaml:"),
        ("", "catalog.yaml"),
    ],
)
def test_a_bad_catalog_is_one_line_at_start(tmp_path, text, complaint):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(text)
    printed = refused("--port", str(free_port()), "--catalog", str(catalog), "--data-dir", str(tmp_path / "data"))
    assert complaint in printed


def test_a_data_folder_that_is_a_file_is_one_line_at_start(tmp_path):
    (tmp_path / "data").write_text("")
    printed = refused("--port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    assert "a file is in the place of a folder" in printed
