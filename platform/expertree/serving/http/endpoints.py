"""The endpoints that answer at once: restore, route, models, health."""

import dataclasses

from fastapi import Request
from starlette.responses import Response

from expertree.errors import UnavailableError
from expertree.serving.engine import Model
from expertree.serving.http import contract
from expertree.serving.http.middleware import ImageMeasurement, attach_measurement, measurement_of
from expertree.serving.http.operations import Operation
from expertree.serving.http.options import NAMES, ROUTE_NAMES, RequestOptions
from expertree.serving.http.problems import ProblemError
from expertree.serving.http.request import ParsedRequest, RequestReader
from expertree.serving.http.responses import (
    JSON,
    HealthAnswer,
    ModelsAnswer,
    RestoreAnswer,
    RouteAnswer,
    explain,
    file_response,
    json_response,
    negotiate_media_types,
    restore_answer,
    restore_headers,
    server_timing,
)
from expertree.serving.photos import FORMATS


class Endpoints:
    """Handlers of the routes that answer at once."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader

    def operations(self) -> tuple[Operation, ...]:
        """Return the table of these operations."""
        restored = {"model": RestoreAnswer, **contract.images("The image, restored.")}
        routed = {"model": RouteAnswer, "description": "The choice, and why."}
        models = {"model": ModelsAnswer, "description": "The models, the one in use first."}
        return (
            Operation(
                method="POST",
                path="/v1/restore",
                handler=self.restore,
                summary="Restore an image",
                request=contract.takes_image(),
                responses={200: restored, **contract.problems(*contract.IMAGE_ERRORS, 406, 504)},
            ),
            Operation(
                method="POST",
                path="/v1/route",
                handler=self.route,
                summary="Choose the expert for an image, without restoring it",
                request=contract.takes_image(ROUTE_NAMES),
                responses={200: routed, **contract.problems(*contract.IMAGE_ERRORS, 504)},
            ),
            Operation(
                method="GET",
                path="/v1/models",
                handler=self.models,
                summary="What is served: trees, and what each group holds",
                responses={200: models, **contract.problems(401, 403, 429, 503)},
            ),
            Operation(
                method="GET",
                path="/v1/models/{model_id}",
                handler=self.model,
                summary="One model",
                responses={
                    200: {"model": Model, "description": "The model."},
                    **contract.problems(401, 403, 404, 429, 503),
                },
            ),
            *self._health_operations(),
        )

    def _health_operations(self) -> tuple[Operation, ...]:
        alive = {"model": HealthAnswer, "description": "It is."}
        ready = {"model": HealthAnswer, "description": "They are."}
        return (
            Operation(
                method="GET",
                path="/healthz",
                handler=self.healthz,
                summary="Whether the endpoint is alive",
                responses={200: alive, **contract.problems()},
                needs_key=False,
            ),
            Operation(
                method="GET",
                path="/readyz",
                handler=self.readyz,
                summary="Whether experts are loaded",
                responses={200: ready, **contract.problems(503)},
                needs_key=False,
            ),
        )

    async def restore(self, request: Request) -> Response:
        """Restore an image with the one expert that is chosen for it.

        The body is the image's file, a form with the file in the field `image`, or JSON with it in
        base64 under `image`. Options go in the query, the form or the JSON. The answer is the
        restored file; where `Accept` asks for `application/json`, it is JSON with the file in
        base64 and the route. An image that no expert is predicted to make better comes back as it
        is, unless an option asks for an expert.
        """
        parsed = await self._reader.parse(request, NAMES)
        media, options = await self._answer_kind(request, parsed)
        service = self._reader.service
        file = await self._reader.wait_for(
            request, service.restore(parsed.image, options, parsed.share)
        )
        attach_measurement(request, measurement_of(file))
        if media != JSON:
            answer = file_response(file)
        else:
            why = explain(file.route, parsed.model) if options.explain else None
            answer = json_response(restore_answer(file, why), headers=restore_headers(file))
        parsed.share.grow_unchecked(len(answer.body))
        return answer

    async def route(self, request: Request) -> Response:
        """Return the expert that an image would get, if any, and why; nothing is restored.

        The image is sent as for `/v1/restore`. Options that concern the restored file are errors.
        """
        parsed = await self._reader.parse(request, ROUTE_NAMES)
        wish, service = parsed.options.wish, self._reader.service
        routed, decoded = await self._reader.wait_for(
            request, service.route(parsed.image, wish, parsed.share)
        )
        seconds = {"decode": decoded.seconds, **routed.seconds}
        photo = decoded.photo
        attach_measurement(
            request, ImageMeasurement(route=routed, num_pixels=photo.num_pixels, stages=seconds)
        )
        answer = RouteAnswer(
            route=routed,
            width_px=photo.width_px,
            height_px=photo.height_px,
            seconds=seconds,
            explanation=explain(routed, parsed.model) if parsed.options.explain else None,
        )
        return json_response(answer, headers={"Server-Timing": server_timing(seconds)})

    async def models(self) -> Response:
        """Return the models that are served, the one in use first, with their trees and experts.

        The answer also says whether an instruction may be free text.
        """
        await self._reader.service.model()
        models = await self._reader.service.engine.models()
        free_text = self._reader.read_text is not None or models[0].takes_sentences
        return json_response(ModelsAnswer(models=models, free_text=free_text))

    async def model(self, model_id: str) -> Response:
        """Return one model, by its id or its digest."""
        for model in await self._reader.service.engine.models():
            if model_id in {model.id, model.digest}:
                return json_response(model)
        raise ProblemError(
            "not-found", f"There is no model {model_id[:80]!r}; /v1/models lists those there are."
        )

    async def healthz(self) -> Response:
        """Return 200 if the process answers, whether or not a model is loaded."""
        return json_response(HealthAnswer(status="alive"))

    async def readyz(self) -> Response:
        """Return 200 if requests are answered without waiting for a model to load, else 503."""
        if not await self._reader.service.engine.ready():
            raise UnavailableError("the model is still loading; come back in a moment", 5.0)
        return json_response(HealthAnswer(status="ready"))

    async def _answer_kind(
        self, request: Request, parsed: ParsedRequest
    ) -> tuple[str, RequestOptions]:
        """Return the media type of the answer, and the options with the format that it implies."""
        options = parsed.options
        own = (await self._reader.service.checked(parsed.image, options.wish)).format
        accept = ", ".join(request.headers.getlist("accept"))
        taken = negotiate_media_types(accept, own, options.format)
        if not taken:
            raise ProblemError(
                "not-acceptable", "The answer is an image or JSON; Accept allows neither of them."
            )
        media, *others = taken
        if media == JSON:
            return media, options
        if options.explain:
            raise ProblemError(
                "bad-option",
                "An explanation comes in JSON; send Accept: application/json.",
                option="explain",
            )
        others = [other for other in others if other != JSON]
        return media, dataclasses.replace(
            options,
            format=FORMATS[media],
            other_formats=tuple(FORMATS[other] for other in others),
        )
