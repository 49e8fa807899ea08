"""Examples of the routes that list, order and clear jobs, and of their errors."""

from __future__ import annotations

from typing import Any

from serve.api.cyberimage import answers, examples

_RETRY_ID = "0d0f8f5e-33c4-4a55-8f5c-6f0c3b1e5f0a"

BATCH_BODY: dict[str, Any] = {
    "jobs": [examples.GENERATE_BODY, {"model_id": "shapes", "prompt": "a small blue ring", "priority": "low"}]
}

BATCH: dict[str, Any] = {
    "job_ids": [examples.GENERATE["job_id"], "f7a5a7a2-3f6c-4c0e-9f44-2a1b0c9d8e7f"],
    "message": "2 jobs are queued.",
}

RETRY: dict[str, Any] = {**examples.GENERATE, "job_id": _RETRY_ID}

PRIORITY_BODY: dict[str, Any] = {"priority": "high"}

JOBS: dict[str, Any] = {
    "jobs": [
        {
            "id": examples.GENERATE["job_id"],
            "status": "completed",
            "model_id": "shapes",
            "client": "10.1.2.3",
            "priority": "normal",
            "prompt": examples.GENERATE_BODY["prompt"],
            "num_images": 1,
            "step": 20,
            "total_steps": 20,
            "created_at": "2030-01-01T12:00:00.000Z",
            "started_at": "2030-01-01T12:00:00.120Z",
            "completed_at": "2030-01-01T12:00:01.340Z",
            "message": "",
            "retry_of": None,
        }
    ],
    "next_cursor": None,
}

PAUSED: dict[str, Any] = {"status": "success", "message": "The queue of shapes is paused."}

RESUMED: dict[str, Any] = {"status": "success", "message": "The queue of shapes goes on."}

RESET: dict[str, Any] = {"status": "success", "reset_count": 1, "message": "1 stalled job was reset."}

CLEAR: dict[str, Any] = {"status": "success", "cleared": 40, "remaining": 0, "message": "40 failed jobs are cleared."}

AUDIT: dict[str, Any] = {
    "entries": [
        {
            "at": "2030-01-01T12:00:00.000Z",
            "who": "10.1.2.3",
            "action": "pause",
            "job_id": None,
            "model_id": "shapes",
            "details": {},
        }
    ],
    "next_cursor": None,
}

BAD_LIST: answers.Responses = {
    400: examples.error("A parameter is not valid.", "limit: input should be less than or equal to 100.")
}
WRONG_STATE: answers.Responses = {
    409: examples.error(
        "The job's state does not allow it.",
        "The job is completed; only a failed or cancelled job can be tried again.",
    )
}
UNKNOWN_MODEL: answers.Responses = {
    404: examples.error("There is no such model.", 'There is no model "shape"; available: shapes.')
}
