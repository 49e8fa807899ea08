"""The server of the protocol's official library, with the tools of this service."""

from __future__ import annotations

import logging
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.catalog.catalog import UnknownModelError
from deployments.jobs.records.exceptions import JobError
from deployments.storage.base import StorageError
from deployments.telemetry.measuring import note_rejection
from deployments.version import package_version
from serve.api.mcp.tools import TOOLS, Call
from serve.errors import ApiError
from serve.http.errors import problem_of
from serve.http.field_problems import describe_problems

_FIELDS = {"model_id": "model"}
_READ_ONLY = ("get_job", "list_models", "search_gallery")
_INSTRUCTIONS = (
    "Draws images from prompts. list_models tells what there is; generate_image draws, and answers with the images."
)

# A manager lives for one request here, and would log its beginning and end each time.
logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)


class ProtocolAnswer(Response):
    """Answers a message of the protocol.

    There is no state between requests, so any replica can answer any of them.

    Args:
        max_body_bytes: The largest message.
    """

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__()
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the message and answer."""
        manager = StreamableHTTPSessionManager(_SERVER, stateless=True, max_request_body_size=self._max_body_bytes)
        async with manager.run():
            await manager.handle_request(scope, receive, send)


async def _list_tools(_: ServerRequestContext[Any, Any], _page: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(
        tools=[
            Tool(
                name=name,
                description=tool.__doc__,
                input_schema=arguments.model_json_schema(),
                annotations=ToolAnnotations(read_only_hint=name in _READ_ONLY),
            )
            for name, (arguments, tool) in TOOLS.items()
        ]
    )


async def _call_tool(context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
    if params.name not in TOOLS:
        return _failure(f'There is no tool "{params.name[:64]}"; there are: {", ".join(TOOLS)}.')
    arguments, tool = TOOLS[params.name]
    request: Any = context.request
    try:
        return await tool(Call(context, request), arguments.model_validate(params.arguments or {}))
    except ValidationError as error:
        problems = [{**problem, "loc": ("call", *problem["loc"])} for problem in error.errors(include_url=False)]
        return _failure(describe_problems(problems))
    except (ApiError, JobError, StorageError, UnknownModelError) as error:
        note_rejection(error)
        return _failure(problem_of(error).in_words_of(_FIELDS).message)


def _failure(sentence: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=sentence)], is_error=True)


_SERVER = Server(
    "cyberimage",
    version=package_version(),
    title="CyberImage",
    instructions=_INSTRUCTIONS,
    on_list_tools=_list_tools,
    on_call_tool=_call_tool,
)
