"""How long an image takes of a model that has no replica, and whose time it is: ``python -m benchmarks.cold_start``.

Starts the service as `serve run` does, with the built-in model from zero replicas, and asks for one image of few steps
whenever the model has none. The moments are those of the job's record, of the service's log, and of the log of Ray
Serve's controller.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.chaos.served import PROJECT, ServedCluster
from tests.support.service import Service

STEPS = 4
# What comes to an end at each moment, and whose time it is.
PARTS = {
    "claimed": "the job is recorded and claimed (ours)",
    "wanted": "Ray Serve decides for a replica (Ray, by our policy)",
    "process": "Ray finds or starts a process (Ray)",
    "starts": "Python, Ray and the light modules are imported there (Ray, imports)",
    "imported": "torch and diffusers are imported (imports)",
    "loaded": "the model is loaded and its forwards are measured (ours)",
    "began": "Ray Serve sends the job there (Ray)",
    "completed": f"{STEPS} steps are made and the image is kept (ours)",
}
_LINES = {
    "starts": "A replica of shapes starts",
    "imported": "torch and diffusers were imported",
    "loaded": "Model shapes was loaded",
    "began": "Attempt 1 began",
}
_WANTED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}).*Upscaling Deployment\(name=.model-shapes.")


def main() -> None:
    """Measure, and print the medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3, help="cold starts (default: 3)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        cluster = ServedCluster(Path(folder), _settings(Path(folder)))
        try:
            cluster.start()
            report([_cold_start(cluster) for _ in range(rounds)])
        finally:
            cluster.stop()


def report(rounds: list[dict[str, float]]) -> None:
    """Print the median of each part, and its share.

    Args:
        rounds: Seconds since the submission at which each part of ``PARTS`` came to its end.
    """
    whole = statistics.median(moments["completed"] for moments in rounds)
    print(f"from the submission to the image: median {whole:.1f} s of {len(rounds)} cold starts")
    for (before, name), what in zip(pairwise(["submitted", *PARTS]), PARTS.values(), strict=True):
        seconds = statistics.median(moments[name] - moments[before] for moments in rounds)
        print(f"  {seconds:5.1f} s  {seconds / whole:4.0%}  {what}")


def _settings(folder: Path) -> dict[str, Any]:
    catalog = yaml.safe_load((PROJECT / "configs" / "cpu.yaml").read_text())
    catalog["models"]["shapes"]["replicas"] |= {"min": 0, "downscale_to_zero_delay_s": 1}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    return {"catalog": str(folder / "catalog.yaml"), "logging": {"format": "json"}}


def _cold_start(cluster: ServedCluster) -> dict[str, float]:
    service = Service(cluster.url, cluster.data_dir)
    _wait_until_cold(service)
    job_id = service.submit("a large red circle on a blue background", num_inference_steps=STEPS)
    job = service.wait_until(job_id, "completed")
    submitted = _moment(job["created_at"])
    found = {
        "submitted": submitted,
        "claimed": _moment(job["started_at"]),
        "completed": _moment(job["completed_at"]),
        "wanted": max(at for at in _decisions(cluster) if at < _moment(job["completed_at"])),
    }
    for line in _log_lines(cluster.data_dir):
        for name, beginning in _LINES.items():
            if line["message"].startswith(beginning) and submitted < (at := _moment(line["time"])):
                found[name] = at
                pid = int(line["process"].rpartition("-")[2])
    # A process that Ray had at hand is older than the wish for it.
    found["process"] = max(found["wanted"], psutil.Process(pid).create_time())
    return {name: at - submitted for name, at in found.items()}


def _wait_until_cold(service: Service) -> None:
    with service.http as http:
        while http.get("/api/models").json()["models"]["shapes"]["state"] != "cold":
            time.sleep(0.5)


def _decisions(cluster: ServedCluster) -> Iterator[float]:
    for log in cluster.ray_dir.glob("ray/session_*/logs/serve/controller_*.log"):
        for told in _WANTED.findall(log.read_text()):
            yield datetime.fromisoformat(told).timestamp()


def _log_lines(data_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data_dir / "logs" / "app.log").read_text().splitlines()]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    main()
