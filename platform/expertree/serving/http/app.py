"""The HTTP contract: an application of FastAPI over an engine."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.responses import Response

import expertree
from expertree.routing.instructions import ReadText, load_reader
from expertree.serving.engine import Engine
from expertree.serving.http import contract
from expertree.serving.http.auth import make_admission
from expertree.serving.http.endpoints import Endpoints
from expertree.serving.http.job_endpoints import JobEndpoints
from expertree.serving.http.middleware import HeadMiddleware, RequestMiddleware
from expertree.serving.http.operations import add_operations
from expertree.serving.http.page_files import DOCS, INDEX, page_response, read_page
from expertree.serving.http.problems import install
from expertree.serving.http.request import RequestReader
from expertree.serving.http.responses import EXPOSED_HEADERS
from expertree.serving.jobs import Jobs, JobTable, LocalJobs
from expertree.serving.metrics import Metrics
from expertree.serving.service import Service
from expertree.serving.settings import HttpConfig

_DESCRIPTION = (
    "Restores photographs with a tree of experts: an image is judged once, one expert is chosen, "
    "and that expert restores it. Errors are problems of RFC 9457."
)


class _Application(FastAPI):
    """FastAPI, with an OpenAPI document that is completed by `contract.finish`."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, which is made once."""
        if not self.openapi_schema:
            self.openapi_schema = contract.finish(super().openapi())
        return self.openapi_schema


def create_app(
    engine: Engine,
    config: HttpConfig,
    *,
    jobs: Jobs | None = None,
    metrics: Metrics | None = None,
    read_text: ReadText | None = None,
    echoes_id: bool = True,
) -> FastAPI:
    """Make the application that answers HTTP requests with an engine.

    Args:
        engine: The engine that routes and restores.
        config: Keys, sites and limits; `check_binding` must be called on it before listening.
        jobs: The table of jobs that all gateways of an endpoint share; one of this process by
            default.
        metrics: Recorder of measurements; None records nothing.
        read_text: Reader of instructions in free text; by default made from `config.text_model`.
        echoes_id: Whether answers have `X-Request-Id`; False behind a proxy that adds it.

    Raises:
        ConfigError: If the text model cannot be loaded.
    """
    if read_text is None and config.text_model is not None:
        read_text = load_reader(config.text_model)
    service = Service(engine, config.limits)
    reader = RequestReader(service, read_text)
    table = jobs if jobs is not None else LocalJobs(JobTable(config.jobs))
    job_endpoints = JobEndpoints(reader, table, config.jobs, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await job_endpoints.runner.close()
        service.close()

    app = _Application(
        title="expertree",
        version=expertree.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    operations = (*Endpoints(reader).operations(), *job_endpoints.operations())
    add_operations(app, operations, make_admission(config))
    _add_page(app)
    install(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"],
        expose_headers=EXPOSED_HEADERS,
    )
    app.add_middleware(RequestMiddleware, metrics=metrics, echoes_id=echoes_id)
    app.add_middleware(HeadMiddleware)
    return app


def _add_page(app: FastAPI) -> None:
    """Add the web page at `/`, its files, and the docs page."""
    files = read_page()

    async def index(request: Request) -> Response:
        return page_response(files, INDEX, request)

    async def docs(request: Request) -> Response:
        return page_response(files, DOCS, request)

    async def file(request: Request, name: str) -> Response:
        return page_response(files, name, request)

    for path, answer in (("/", index), ("/docs", docs), ("/page/{name}", file)):
        app.add_api_route(path, answer, include_in_schema=False, response_class=Response)
