"""The table of an endpoint's operations: method and path, what answers, and its documentation."""

import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.responses import Response

from expertree.serving.http.auth import Admit
from expertree.serving.http.contract import Json, Responses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One row of the table, an operation of the OpenAPI document.

    Attributes:
        method: HTTP method.
        path: Path, with parameters in braces.
        handler: Function that answers; its docstring is the operation's description.
        summary: Summary in the OpenAPI document.
        responses: Responses by status, as OpenAPI has them.
        request: Parameters and body that FastAPI cannot derive; see `contract.takes_image`.
        status: Status of an answer without an error.
        needs_key: Whether the request must be admitted; see `auth.make_admission`.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Response]]
    summary: str
    responses: Responses
    request: Json | None = None
    status: int = 200
    needs_key: bool = True


def add_operations(app: FastAPI, operations: Iterable[Operation], admit: Admit) -> None:
    """Make an application answer the operations of a table, in their order.

    Args:
        app: The application.
        operations: Rows of the table.
        admit: Dependency that admits a request.
    """
    guarded: list[Any] = [Depends(admit), Depends(HTTPBearer(auto_error=False))]
    for row in operations:
        app.add_api_route(
            row.path,
            row.handler,
            methods=[row.method],
            summary=row.summary,
            dependencies=guarded if row.needs_key else None,
            status_code=row.status,
            response_class=Response,
            responses=row.responses,
            openapi_extra=row.request,
        )
