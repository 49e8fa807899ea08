"""Examples of the routes about many images, and of their errors."""

from __future__ import annotations

from typing import Any

from deployments.jobs.records.exceptions import TooManyTagsError
from serve.api.cyberimage import answers, examples

_IMAGE_ID = examples.STATUS["images"][0]["id"]
_OTHER_ID = "b3a1c1de-9d0f-5b7e-8a45-7c2f1e0d9b60"

GALLERY: dict[str, Any] = {
    "images": [
        {
            "id": _IMAGE_ID,
            "model_id": "shapes",
            "file_path": f"/api/image/{_IMAGE_ID}",
            "prompt": examples.GENERATE_BODY["prompt"],
            "created_at": "2030-01-01T12:00:01.340Z",
            "settings": examples.JOB_SETTINGS,
            "media_type": "image",
            "width": 64,
            "height": 64,
            "owner": "10.1.2.3",
            "job_id": examples.GENERATE["job_id"],
            "favourite": True,
            "tags": ["circles"],
        }
    ],
    "page": 1,
    "limit": 20,
    "has_more": False,
    "total": 1,
    "next_cursor": None,
}

FAVOURITE: dict[str, Any] = {"status": "success", "message": "The image is a favourite."}

NO_FAVOURITE: dict[str, Any] = {"status": "success", "message": "The image is no favourite."}

TAGS_OF_IMAGE: dict[str, Any] = {"tags": ["circles"]}

TAGS: dict[str, Any] = {"tags": [{"tag": "circles", "images": 12}]}

LINEAGE: dict[str, Any] = {
    "id": _IMAGE_ID,
    "ancestors": [
        {
            "id": examples.INPUT["id"],
            "kind": "input",
            "role": "image",
            "of": _IMAGE_ID,
            "generation": 1,
            "file_path": None,
        }
    ],
    "descendants": [
        {
            "id": _OTHER_ID,
            "kind": "image",
            "role": "image",
            "of": _IMAGE_ID,
            "generation": 1,
            "file_path": f"/api/image/{_OTHER_ID}",
        }
    ],
}

IDS_BODY: dict[str, Any] = {"ids": [_IMAGE_ID, _OTHER_ID]}

DELETED_IMAGES: dict[str, Any] = {
    "status": "success",
    "deleted": [_IMAGE_ID],
    "missing": [_OTHER_ID],
    "message": "1 image was deleted.",
}

USAGE: dict[str, Any] = {
    "usage": [{"owner": "10.1.2.3", "model_id": "shapes", "images": 40, "bytes": 163840}],
    "images": 40,
    "bytes": 163840,
    "quota_images": None,
    "quota_bytes": None,
}

SWEEP: dict[str, Any] = {
    "status": "success",
    "files": 1000,
    "removed": 1,
    "removed_bytes": 4096,
    "inputs": 0,
    "unfinished": 0,
    "next_after": "2030/01/01/5a3f2f2e-58a5-5a0e-9b0c-2f6d7d1c9a41.png",
    "message": "1 file was removed.",
}

BAD_TAG: answers.Responses = {
    400: examples.error("The tag is not valid.", "tag: it has 80 characters; it may have 1 to 64.")
}
TOO_MANY_TAGS: answers.Responses = {409: examples.error("The image has 50 tags.", str(TooManyTagsError()))}
BAD_IDS: answers.Responses = {
    **answers.BAD,
    400: examples.error("An id, or their number, is not valid.", "ids: it has 501 items; at most 500 are taken."),
}
ARCHIVE: answers.Responses = {
    200: {
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The ZIP file.",
    }
}
