"""Answers: which kind a caller takes, what headers tell, and what JSON holds."""

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
"""In place of an expert: the image is left as it is."""

EXPOSED_HEADERS = (
    *("X-Request-Id", "X-Restore-Model", "X-Restore-Route", "X-Restore-Confidence"),
    *("X-Restore-Tiles", "Server-Timing", "Location", "Retry-After"),
)
"""What pages of other sites may read, where their sites may ask at all."""

NO_STORE = {"Cache-Control": "no-store"}

_NUM_SEEN = 3
"""Degradations that an explanation names."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One group on the way through the tree.

    Attributes:
        node: The group.
        expert: The expert that serves it.
        num_samples: Training samples that fell into it.
        probability: What the gates give all leaves below it, in [0, 1].
        holds: Share of its samples that carry a degradation, by name.
    """

    node: int
    expert: int
    num_samples: int
    probability: float
    holds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why an expert was chosen.

    Attributes:
        text: In a few sentences.
        steps: The groups from the root to the chosen one.
    """

    text: str
    steps: tuple[Step, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouteAnswer:
    """What `/v1/route` says.

    Attributes:
        route: The expert that the image would get, if any, and why.
        width_px: Of the image, upright.
        height_px: Of the image, upright.
        seconds: Time by stage.
        explanation: Where it was asked for.
    """

    route: Routed
    width_px: int
    height_px: int
    seconds: Mapping[str, float]
    explanation: Explanation | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RestoreAnswer:
    """What `/v1/restore` says where JSON is asked for.

    Attributes:
        image: The restored file, in base64.
        media_type: Of the file.
        model: Digest of the model.
        route: The expert that restored it, and why.
        num_tiles: Tiles it was restored in; 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Time by stage.
        explanation: Where it was asked for.
    """

    image: str
    media_type: str
    model: str
    route: Routed
    num_tiles: int
    num_retries: int
    seconds: Mapping[str, float]
    explanation: Explanation | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobAnswer:
    """How a job stands.

    Attributes:
        id: Its name.
        state: `queued`, `running`, `done` or `failed`.
        tiles_done: Tiles done; may start again.
        num_tiles: Tiles in all; 0 until that is known.
        created: When it was asked for, in ISO 8601.
        expires: When it is forgotten.
        result: Where its file is, once it is done.
        media_type: Of the file.
        route: The expert that restored it, and why.
        seconds: Time by stage.
        explanation: Where it was asked for.
        problem: Why it failed.
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
    explanation: Explanation | None = None
    problem: Problem | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelsAnswer:
    """What is served.

    Attributes:
        models: The one that answers first.
        free_text: Whether an instruction may be free text.
    """

    models: tuple[Model, ...]
    free_text: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HealthAnswer:
    """How the endpoint is.

    Attributes:
        status: In a word.
    """

    status: str


def json_response(
    answer: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A dataclass as JSON, without members that are None."""
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
    """The restored file, with what was done to it in headers."""
    headers = {**NO_STORE, **restore_headers(file)}
    return Response(file.data, media_type=MEDIA_TYPES[file.format], headers=headers)


def restore_headers(file: RestoredFile) -> dict[str, str]:
    """What was done to an image; the route as a structured field (RFC 9651)."""
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
    """The restored file as JSON has it."""
    return RestoreAnswer(
        image=base64.b64encode(file.data).decode("ascii"),
        media_type=MEDIA_TYPES[file.format],
        model=file.route.model,
        route=file.route,
        num_tiles=file.num_tiles,
        num_retries=file.num_retries,
        seconds=file.seconds,
        explanation=explanation,
    )


def server_timing(seconds: Mapping[str, float]) -> str:
    """Stages as browsers' tools show them, in milliseconds."""
    return ", ".join(f"{name};dur={1000 * value:.2f}" for name, value in seconds.items())


def explain(route: Routed, model: Model) -> Explanation:
    """Say why an expert was chosen, or none.

    Args:
        route: The choice.
        model: Of which the choice was made.
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


def acceptable(accept: str | None, own: PhotoFormat, wanted: PhotoFormat | None) -> str | None:
    """Which media type to answer with (RFC 9110, section 12.5.1).

    Args:
        accept: The header.
        own: The photograph's format.
        wanted: The format that an option asks for.

    Returns:
        An image's media type, or JSON's; None if the caller takes neither.
    """
    images = [wanted] if wanted is not None else [own, *(k for k in MEDIA_TYPES if k != own)]
    offered = [*(MEDIA_TYPES[kind] for kind in images), JSON]
    ranges = _ranges(accept or "*/*")
    weights = {media: _weight(media, ranges) for media in offered}
    best = max(offered, key=lambda media: weights[media])  # of equals the first
    return best if weights[best] > 0 else None


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
        found[media] = weight
    return found


def _weight(media: str, ranges: Mapping[str, float]) -> float:
    """The weight of the narrowest range that fits."""
    for candidate in (media, f"{media.partition('/')[0]}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
