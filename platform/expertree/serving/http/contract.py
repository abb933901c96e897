"""OpenAPI descriptions of parameters, bodies and answers, where FastAPI cannot derive them."""

from typing import Any, TypeAlias

from expertree.images.containers import PHOTO_FORMATS
from expertree.routing.guide import CONFIDENCES
from expertree.serving.http.options import MAX_TEXT, NAMES
from expertree.serving.http.problems import KINDS, MEDIA_TYPE, Problem
from expertree.serving.http.responses import JSON
from expertree.serving.photos import MEDIA_TYPES

Json: TypeAlias = dict[str, Any]

Responses: TypeAlias = dict[int | str, Json]

_WHOLE: Json = {"type": "integer", "minimum": 0, "maximum": 999_999}

_OPTIONS: dict[str, tuple[Json, str]] = {
    "instruction": (
        {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}},
        (
            "What is wrong with the image, by the names that `/v1/models` lists, several with "
            "commas between; or free text, where `free_text` there says so."
        ),
    ),
    "confidence": (
        {"type": "integer", "enum": list(CONFIDENCES)},
        "How sure that is, which picks the level: 0 the coarsest, 2 the finest.",
    ),
    "level": (_WHOLE, "Take this level of the tree; 0 is the root's."),
    "expert": (_WHOLE, "Take this expert, by its node."),
    "insist": (
        {"type": "boolean"},
        "Whether an expert restores the image even if it is better left as it is.",
    ),
    "strength": (
        {"type": "number", "minimum": 0, "maximum": 1},
        "How much of the restoration is mixed into the image: 0 none, 1 all of it.",
    ),
    "tile": (
        {"anyOf": [{"type": "string", "enum": ["auto"]}, _WHOLE]},
        "Largest side of a tile in pixels; 0 for the whole image at once.",
    ),
    "format": (
        {"type": "string", "enum": list(PHOTO_FORMATS)},
        "Of the answer's file; the image's own by default.",
    ),
    "quality": (
        {"type": "integer", "minimum": 1, "maximum": 100},
        "Of JPEG and WebP.",
    ),
    "explain": ({"type": "boolean"}, "Whether JSON says in words why the expert was chosen."),
}

_FILE: Json = {"type": "string", "format": "binary"}

IMAGE_ERRORS = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
"""Statuses of the problems that a request with an image may have."""

_HEADERS: dict[str, str] = {
    "X-Restore-Model": "Digest of the model.",
    "X-Restore-Route": (
        "The expert, the level and the path, as a structured field; `as-is` where the image is "
        "left as it is."
    ),
    "X-Restore-Confidence": "How sure the choice is, 0 to 1.",
    "X-Restore-Tiles": "Tiles that the image was restored in; 0 if no expert ran.",
    "Server-Timing": "Time by stage.",
}


def problems(*statuses: int) -> Responses:
    """Return the OpenAPI responses for problems of these statuses, and of 500."""
    found: Responses = {}
    for status in sorted({*statuses, 500}):
        titles = [title for own, title in KINDS.values() if own == status]
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        found[status] = {"description": "; ".join(titles), "content": content}
        if status in {429, 503}:
            found[status]["headers"] = {
                "Retry-After": {
                    "description": "Seconds after which it is worth another try.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            }
    return found


def images(description: str) -> Json:
    """Return the OpenAPI response for an answer that is an image's file."""
    content: Json = {media: {"schema": _FILE} for media in MEDIA_TYPES.values()}
    headers = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
    }
    return {"description": description, "content": content, "headers": headers}


def takes_image(names: tuple[str, ...] = NAMES, *more: Json) -> Json:
    """Return the OpenAPI parameters and body of an operation that takes an image and options.

    Args:
        names: Names of the options.
        more: Further parameters.
    """
    options = {name: {**_OPTIONS[name][0], "description": _OPTIONS[name][1]} for name in names}
    return {
        "parameters": [
            *(
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "schema": _OPTIONS[name][0],
                    "description": _OPTIONS[name][1],
                }
                for name in names
            ),
            *more,
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": _FILE},
                "multipart/form-data": {"schema": _object({"image": _FILE, **options})},
                JSON: {
                    "schema": _object(
                        {"image": {"type": "string", "contentEncoding": "base64"}, **options}
                    )
                },
            },
        },
    }


def finish(document: Json) -> Json:
    """Add the schema of problems to an OpenAPI document, and drop answers that never come."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": ["image"],
        "additionalProperties": False,
    }


def _problem_schema() -> Json:
    kinds = [f"/docs#{kind}" for kind in KINDS]
    optional: Json = {"type": "string"}
    return {
        "title": "Problem",
        "description": (Problem.__doc__ or "").partition("\n")[0],
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "enum": kinds},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": optional,
            "option": optional,
        },
        "x-kinds": [
            {"id": kind, "status": status, "title": title}
            for kind, (status, title) in KINDS.items()
        ],
    }


IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    "description": "Of the caller's making: asked for twice with the same one, it is one job.",
}
