"""The FastAPI application: middleware, routers, the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from deployments.version import package_version
from serve.api import cyberimage
from serve.api.documentation import TAGS, add_documentation
from serve.api.errors import add_error_handlers
from serve.api.middleware import BodyLimit, RequestHeaders, UnexpectedErrors
from serve.api.page import add_page
from serve.services import Services


@asynccontextmanager
async def _nothing_to_do(_: FastAPI) -> AsyncIterator[None]:
    yield


def build_api(
    services: Services, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] = _nothing_to_do
) -> FastAPI:
    """Build the application; it knows nothing of Ray.

    Args:
        services: What the routes work with.
        lifespan: What runs as long as the application does.
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
    )
    app.state.services = services
    add_error_handlers(app)
    # The last one added is the outermost: what the others answer has the headers too.
    app.add_middleware(BodyLimit, max_bytes=services.settings.max_body_bytes)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(RequestHeaders)
    app.include_router(cyberimage.router)
    add_page(app)
    add_documentation(app)
    return app
