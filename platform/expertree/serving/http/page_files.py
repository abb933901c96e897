"""The web page's files, read once: no path that a request names is ever opened."""

import dataclasses
import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from expertree.serving.http.problems import ProblemError

INDEX, DOCS = "index.html", "docs.html"

_MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Policy by which nothing is loaded from elsewhere, and no other site can frame the page."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PageFile:
    """One file of the web page.

    Attributes:
        data: Bytes of the file.
        media_type: Media type of the file.
        etag: Hash of its content, in quotes as `ETag` has it.
    """

    data: bytes
    media_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """Read the files of the page that the package carries, by name."""
    found = {}
    for file in resources.files("expertree.serving").joinpath("page").iterdir():
        media_type = _MEDIA_TYPES.get("." + file.name.rpartition(".")[2])
        if media_type is not None:
            data = file.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
            found[file.name] = PageFile(data=data, media_type=media_type, etag=etag)
    return found


def page_response(files: Mapping[str, PageFile], name: str, request: Request) -> Response:
    """Answer with a file of the page; 304 where the caller has it.

    Raises:
        ProblemError: If there is no such file.
    """
    file = files.get(name)
    if file is None:
        raise ProblemError("not-found", f"The page has no file {name[:80]!r}.")
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
    }
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.media_type, headers=headers)
