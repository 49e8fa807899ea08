"""The FastAPI application: middleware, routers, the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI

from deployments.settings.service import Settings
from deployments.telemetry.traces import current_tracer
from deployments.version import package_version
from serve.api import automatic1111, cyberimage, errors, mcp, openai
from serve.api.automatic1111 import errors as automatic1111_errors
from serve.api.documentation import TAGS, add_documentation
from serve.api.openai import errors as openai_errors
from serve.http.cross_origin import add_cors
from serve.http.deadlines import Deadlines
from serve.http.errors import add_error_handlers
from serve.http.gate import Gate
from serve.http.middleware import BodyLimit, RequestHeaders, UnexpectedErrors
from serve.http.page import add_page
from serve.http.problems import Renderers
from serve.http.request_spans import RequestSpans
from serve.services.services import Services

# An included router analyses its routes when the first request comes, which takes longer than many a test. The
# applications of a process share these, so that it happens once.
_ROUTES = APIRouter()
for _dialect in (cyberimage, openai, automatic1111, mcp):
    _ROUTES.include_router(_dialect.router)

_MOST_UPLOADS_EACH = 8  # of the largest size, of one client, in the memory of a replica


@asynccontextmanager
async def _nothing_to_do(_: FastAPI) -> AsyncIterator[None]:
    yield


def build_api(
    services: Services, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] = _nothing_to_do
) -> FastAPI:
    """Build the application, without Ray.

    Args:
        services: The parts that the routes use.
        lifespan: Runs as long as the application.
    """
    app = FastAPI(
        title="CyberImage",
        version=package_version(),
        summary="Text to image: submit a prompt, follow the job, fetch the image.",
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        routes=_ROUTES.routes,
    )
    app.state.services = services
    others = {"/v1": openai_errors.render_error, "/sdapi/v1": automatic1111_errors.render_error}
    add_error_handlers(app, Renderers(errors.render_error, others))
    # The last one added is the outermost: it adds the headers to the others' answers too.
    settings = services.settings
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_bytes_of=_largest_bodies(settings),
        max_bytes_each=_MOST_UPLOADS_EACH * settings.max_upload_bytes,
    )
    app.add_middleware(Deadlines, body_seconds=settings.body_seconds, answer_seconds=settings.answer_seconds)
    app.add_middleware(
        Gate,
        protection=services.protection,
        trusted_proxies=settings.trusted_proxies,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.cors.allowed_origins,
    )
    app.add_middleware(UnexpectedErrors)
    if settings.cors.allowed_origins:
        add_cors(app, settings.cors)
    if (tracer := current_tracer()) is not None:
        app.add_middleware(RequestSpans, tracer=tracer)
    app.add_middleware(RequestHeaders)
    add_page(app, services.settings.storage.image_sources)
    add_documentation(app)
    return app


def _largest_bodies(settings: Settings) -> dict[str, int]:
    """Return larger limits in bytes, by path: for two pictures, which Base64 makes a third larger, and the fields."""
    pictures, fields = 2 * settings.max_upload_bytes, settings.max_body_bytes
    return {
        "/api/inputs": settings.max_upload_bytes,
        "/v1/images/edits": pictures + fields,
        "/sdapi/v1/img2img": pictures * 4 // 3 + fields,
    }
