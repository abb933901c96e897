"""The JSON and headers of answers, and the choice of the media type that a caller accepts."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from expertree.images.containers import PhotoFormat
from expertree.serving.engine import Alternative, Model, Routed
from expertree.serving.http.problems import Problem
from expertree.serving.photos import MEDIA_TYPES, RestoredFile

JSON = "application/json"

AS_IS = "as-is"
"""Value of the header `X-Restore-Route` for an image that is left as it is."""

EXPOSED_HEADERS = (
    *("X-Request-Id", "X-Restore-Model", "X-Restore-Route", "X-Restore-Confidence"),
    *("X-Restore-Tiles", "Server-Timing", "Location", "Retry-After"),
)
"""Headers that pages of other sites may read, if their sites may ask at all."""

NO_STORE = {"Cache-Control": "no-store"}

_NUM_SEEN = 3
"""Most degradations that an explanation names."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One node on the path through the tree.

    Attributes:
        node: Number of the node.
        expert: The expert that serves it, by that expert's node.
        num_samples: Training samples that fell into it.
        probability: Probability of all leaves below it, in [0, 1].
        holds: Share of its samples that carry a degradation, by name.
    """

    node: int
    expert: int
    num_samples: int
    probability: float
    holds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """The reasons why an expert was chosen.

    Attributes:
        text: Reasons in a few sentences.
        steps: Nodes from the root to the chosen one.
    """

    text: str
    steps: tuple[Step, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouteAnswer:
    """The answer of `/v1/route`.

    Attributes:
        route: The expert that the image would get, if any, and why.
        width_px: Width of the upright image.
        height_px: Height of the upright image.
        seconds: Seconds by stage.
        explanation: Reasons for the choice, if the option `explain` asks for them.
    """

    route: Routed
    width_px: int
    height_px: int
    seconds: Mapping[str, float]
    explanation: Explanation | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RestoreAnswer:
    """The answer of `/v1/restore` where JSON is asked for.

    Attributes:
        image: The restored file, in base64.
        media_type: Media type of the file.
        model: Digest of the model.
        route: The expert that restored it, if any, and why.
        num_tiles: Tiles it was restored in; 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Seconds by stage.
        layers: For each layer of the network that has experts of its own, the share of tiles that
            each has taken; empty where layers have none.
        explanation: Reasons for the choice, if the option `explain` asks for them.
    """

    image: str
    media_type: str
    model: str
    route: Routed
    num_tiles: int
    num_retries: int
    seconds: Mapping[str, float]
    layers: tuple[tuple[float, ...], ...]
    explanation: Explanation | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobAnswer:
    """The state of a job.

    Attributes:
        id: The job's id.
        state: `queued`, `running`, `done` or `failed`.
        tiles_done: Tiles done; back to 0 if the work has to start again.
        num_tiles: Tiles in all; 0 until that is known.
        created: Time at which it was asked for, in ISO 8601.
        expires: Time at which it is forgotten, in ISO 8601.
        result: Path of the restored file, once the job is done.
        media_type: Media type of the restored file.
        route: The expert that restored the image, if any, and why.
        seconds: Seconds by stage.
        layers: What layers with experts of their own chose, as in the answer of `/v1/restore`.
        explanation: Reasons for the choice, if the option `explain` asks for them.
        problem: The reason for which it failed.
    """

    id: str
    state: str
    tiles_done: int
    num_tiles: int
    created: str
    expires: str
    result: str | None = None
    media_type: str | None = None
    route: Routed | None = None
    seconds: Mapping[str, float] | None = None
    layers: tuple[tuple[float, ...], ...] | None = None
    explanation: Explanation | None = None
    problem: Problem | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelsAnswer:
    """The models that are served.

    Attributes:
        models: The models, the one in use first.
        free_text: Whether an instruction may be free text.
    """

    models: tuple[Model, ...]
    free_text: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HealthAnswer:
    """The health of the endpoint.

    Attributes:
        status: `alive` or `ready`.
    """

    status: str


def json_response(
    answer: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a dataclass as a JSON response, without optional members that are None."""
    if not dataclasses.is_dataclass(answer) or isinstance(answer, type):
        raise ValueError(f"json_response takes a dataclass, got {answer!r}")
    content = dataclasses.asdict(answer)
    optional = {field.name for field in dataclasses.fields(answer) if field.default is None}
    told = {k: v for k, v in content.items() if v is not None or k not in optional}
    return Response(
        json.dumps(told, allow_nan=False),
        status_code=status,
        media_type=JSON,
        headers={**NO_STORE, **(headers or {})},
    )


def file_response(file: RestoredFile) -> Response:
    """Return a response with the restored file, and headers that say what was done to it."""
    headers = {**NO_STORE, **restore_headers(file)}
    return Response(file.data, media_type=MEDIA_TYPES[file.format], headers=headers)


def restore_headers(file: RestoredFile) -> dict[str, str]:
    """Return headers that say what was done; the route is a structured field (RFC 9651)."""
    route = file.route
    path = " ".join(map(str, route.path))
    taken = f"expert={route.expert}, level={route.level}, path=({path})"
    return {
        "X-Restore-Model": route.model,
        "X-Restore-Route": AS_IS if route.expert is None else taken,
        "X-Restore-Confidence": f"{route.confidence:.4f}",
        "X-Restore-Tiles": str(file.num_tiles),
        "Server-Timing": server_timing(file.seconds),
    }


def restore_answer(file: RestoredFile, explanation: Explanation | None) -> RestoreAnswer:
    """Return the JSON answer for a restored file."""
    return RestoreAnswer(
        image=base64.b64encode(file.data).decode("ascii"),
        media_type=MEDIA_TYPES[file.format],
        model=file.route.model,
        route=file.route,
        num_tiles=file.num_tiles,
        num_retries=file.num_retries,
        seconds=file.seconds,
        layers=file.layers,
        explanation=explanation,
    )


def server_timing(seconds: Mapping[str, float]) -> str:
    """Return the value of the header `Server-Timing`, with milliseconds by stage."""
    return ", ".join(f"{name};dur={1000 * value:.2f}" for name, value in seconds.items())


def explain(route: Routed, model: Model) -> Explanation:
    """Explain why an expert was chosen, or none.

    Args:
        route: The choice.
        model: The model that chose.
    """
    steps = []
    for index in route.path:
        node = model.nodes[index]
        mass = sum(route.leaf_probabilities[leaf] for leaf in node.leaves)
        steps.append(
            Step(
                node=index,
                expert=node.expert,
                num_samples=node.num_samples,
                probability=round(min(1.0, mass), 4),
                holds=node.holds,
            )
        )
    last = steps[-1]
    return Explanation(
        text=(
            f"The image looks most like {_listed(route.degradations)}. Of levels 0 to "
            f"{len(model.groups) - 1}, level {route.level} was chosen, on the way to leaf "
            f"{route.leaf}: group {last.node} with {last.num_samples:,} training samples, which "
            f"hold {_listed(last.holds)}. {_served(route, last.expert)}"
        ),
        steps=tuple(steps),
    )


def _served(route: Routed, expert: int) -> str:
    if route.expert is None:
        gain = "" if route.gain_db is None else f", by {route.gain_db:+.2f} dB"
        return (
            f"Expert {expert} would serve it, but is not predicted to make it better{gain}: the "
            f"image is left as it is, which is {route.confidence:.0%} sure."
        )
    return (
        f"Expert {expert} serves it; the choice is {route.confidence:.0%} sure."
        f"{_runner_up(route.alternatives)}"
    )


def _listed(shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:_NUM_SEEN]
    named = [f"{name} ({share:.0%})" for name, share in ranked if share > 0]
    return ", ".join(named) or "nothing that has a name"


def _runner_up(alternatives: Sequence[Alternative]) -> str:
    if not alternatives:
        return ""
    return f" Next is expert {alternatives[0].expert}, with {alternatives[0].probability:.0%}."


_OTHER_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("image/jpg", "image/pjpeg"), "image/jpeg"),
    **dict.fromkeys(("image/tif", "image/x-tiff"), "image/tiff"),
    **dict.fromkeys(("image/x-bmp", "image/x-ms-bmp"), "image/bmp"),
    "image/x-png": "image/png",
    "image/heif": "image/heic",
    "*": "*/*",
}
"""Names of media types that are not registered, and what callers mean by them."""


def negotiate_media_types(
    accept: str | None, own: PhotoFormat, wanted: PhotoFormat | None
) -> tuple[str, ...]:
    """Rank the media types to answer with (RFC 9110, section 12.5.1).

    Args:
        accept: Value of the header `Accept`.
        own: The photograph's format.
        wanted: The format that an option asks for.

    Returns:
        Media types of images, or JSON's, that the caller takes, the best one first.
    """
    images = [wanted] if wanted is not None else [own, *(k for k in MEDIA_TYPES if k != own)]
    offered = [*(MEDIA_TYPES[kind] for kind in images), JSON]
    ranges = _ranges(accept or "*/*")
    weights = {media: _weight(media, ranges) for media in offered}
    ranked = sorted(offered, key=lambda media: -weights[media])  # of equals the first
    return tuple(media for media in ranked if weights[media] > 0)


def _ranges(accept: str) -> dict[str, float]:
    found = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    weight = 0.0
        found[_OTHER_NAMES.get(media, media)] = weight
    return found


def _weight(media: str, ranges: Mapping[str, float]) -> float:
    """Return the weight of the narrowest range that fits; 0 if none does."""
    for candidate in (media, f"{media.partition('/')[0]}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
