"""The one route of the Model Context Protocol."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve.api.cyberimage import answers
from serve.api.cyberimage.examples import answer, json_call
from serve.api.cyberimage.parameters import Behind
from serve.api.mcp.server import ProtocolAnswer
from serve.http.access import READS
from serve.http.event_streams import event_content

CALL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "generate_image", "arguments": {"prompt": "a large red circle on a blue background"}},
}
RESULT: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {
        "content": [{"type": "image", "data": "iVBORw0KGgoAAAANSUhEUgAA...", "mimeType": "image/png"}],
        "structuredContent": {"job_id": "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d", "status": "completed"},
    },
}
_REFUSED: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {"code": -32600, "message": "Not Acceptable: Client must accept both JSON and SSE"},
}
_NO_JSON: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {"code": -32600, "message": "Content-Type: send the message as application/json."},
}
_EVENT = 'event: message\ndata: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 5}}\n\n'


def _refused(description: str) -> dict[str, Any]:
    return {"description": description, **answer(_REFUSED)}


router = APIRouter()


@router.post(
    "/mcp",
    dependencies=[READS],
    tags=["mcp"],
    response_class=Response,
    openapi_extra=json_call(CALL),
    responses={
        200: {
            "description": "The answer, alone or behind progress notifications.",
            "content": {
                **answer(RESULT)["content"],
                **event_content(_EVENT),
            },
        },
        202: {"description": "It was a notification, which has no answer."},
        400: _refused("It is no message of the protocol, or of no version that is spoken here."),
        404: _refused("There is no such method in this version of the protocol."),
        406: _refused("`Accept` must have `application/json` and `text/event-stream`."),
        413: answers.BAD[413],
    },
)
async def protocol(behind: Behind, request: Request) -> Response:
    """The Model Context Protocol over streamable HTTP, for any client that speaks it. There are no sessions.

    Tools: `generate_image`, `get_job`, `cancel_job`, `list_models`, `search_gallery`.
    """
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        return JSONResponse(_NO_JSON, 400)  # the library's own answer is no message of the protocol
    return ProtocolAnswer(behind.settings.max_body_bytes)
