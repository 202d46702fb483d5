"""The routes: /predict, /model, /health, /metrics, and the pictures that the page offers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException

from frostbox._version import __version__
from frostbox.draw import class_colour
from frostbox.serve.examples import Example
from frostbox.serve.limits import Refused
from frostbox.serve.metrics import CONTENT_TYPE
from frostbox.serve.service import Service

_PICTURES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff",
             "application/octet-stream")  # fmt: skip
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "format": "binary"}},
    }
}
_REQUEST = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a picture as the body, or as the only file of a form.",
        "content": {**dict.fromkeys(_PICTURES, _BINARY), "multipart/form-data": _FORM},
    }
}


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="One sentence for a person.")


class Detection(BaseModel):
    """One object."""

    box: tuple[float, float, float, float] = Field(
        description="xmin, ymin, xmax, ymax in pixels of the upright picture, from its upper left."
    )
    score: float = Field(ge=0, le=1)
    label: int = Field(ge=0, description="Index into the classes of /model.")
    name: str = Field(description="The class.")


class Found(BaseModel):
    """What was found in one picture, by descending score."""

    width: int = Field(description="Of the upright picture, in pixels.")
    height: int
    detections: list[Detection]


class Model(BaseModel):
    """The detector that is served."""

    name: str
    version: str = Field(description="Of frostbox.")
    classes: list[str] = Field(description="In the order of labels.")
    colours: list[str] = Field(description="Of the classes on pictures, #rrggbb.")
    threshold: float = Field(description="Where classes have none of their own.")
    class_thresholds: list[float] | None = Field(description="Used unless a request gives one.")
    max_body: int = Field(description="Bytes of a request at most.")
    max_pixels: int = Field(description="Of a picture at most.")
    examples: list[str] = Field(description="Names of pictures to try, at /examples/NUMBER.")


class Health(BaseModel):
    """Whether pictures can be predicted."""

    status: str
    queue: int = Field(description="Pictures inside now.")


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No picture, or a broken one."},
    408: {"model": Problem, "description": "The body did not arrive in time."},
    413: {"model": Problem, "description": "Too many bytes or pixels."},
    415: {"model": Problem, "description": "Not a picture."},
    422: {"description": "A parameter out of range."},
    503: {
        "model": Problem,
        "description": "Too many wait: try again after the seconds of Retry-After.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}}},
    },
}


def create_api(service: Service, name: str, examples: Sequence[Example]) -> FastAPI:
    """All routes but the page's.

    Args:
        service: predicts; closed when the application stops.
        name: of the model, for people.
        examples: pictures that the page offers.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's own page of documentation loads its script from another machine.
    app = FastAPI(
        title="frostbox", version=__version__, summary=f"Objects in pictures, found by {name}.",
        docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.add_exception_handler(Refused, _refused)
    detector, limits = service.detector, service.limits

    @app.post("/predict", responses=_REFUSALS, openapi_extra=_REQUEST)
    async def predict(
        request: Request,
        threshold: Annotated[
            float | None, Query(ge=0, le=1, description="Lowest score, of all classes.")
        ] = None,
        max_detections: Annotated[
            int | None, Query(ge=1, le=1000, description="At most so many.")
        ] = None,
    ) -> Found:
        """Find the objects in a picture."""
        wanted = {"threshold": threshold, "max_detections": max_detections}
        selection = detector.settings.selection.changed(
            **{key: value for key, value in wanted.items() if value is not None}
        )
        found = await service.predict(await _picture(request), selection)
        width, height = found.image_size
        return Found(width=width, height=height, detections=found.to_dicts())  # type: ignore[arg-type]

    @app.get("/model")
    def model() -> Model:
        """The detector that is served, and what is taken."""
        settings = detector.settings
        own = settings.selection.class_thresholds
        return Model(
            name=name, version=__version__, classes=list(settings.classes),
            colours=["#" + bytes(class_colour(c)).hex() for c in settings.classes],
            threshold=settings.selection.threshold,
            class_thresholds=None if own is None else list(own),
            max_body=limits.max_body, max_pixels=limits.max_pixels,
            examples=[example.name for example in examples],
        )  # fmt: skip

    @app.get("/health", responses={503: {"model": Health}})
    def health(response: Response) -> Health:
        """Status 200 while pictures can be predicted."""
        if not service.healthy:
            response.status_code = 503
        return Health(status="ok" if service.healthy else "stopped", queue=service.inside)

    @app.get("/metrics", response_class=Response, include_in_schema=False)
    def metrics() -> Response:
        return Response(service.meter.text(), media_type=CONTENT_TYPE)

    @app.get("/examples/{number}", response_class=Response, include_in_schema=False)
    def example(number: int) -> Response:
        if not 0 <= number < len(examples):
            raise HTTPException(404, "There is no such example.")
        return Response(examples[number].body, media_type=examples[number].media_type)

    return app


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    problem = Problem(detail=str(error))
    return Response(
        problem.model_dump_json(), error.status, error.headers, media_type="application/json"
    )


async def _picture(request: Request) -> bytes:
    """The body, or the only file of a form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body()
    try:
        form = await request.form(max_files=1, max_fields=8)
    except AnyHTTPException as error:
        raise Refused(400, f"The form cannot be read ({error.detail}): send one file.") from error
    for part in form.values():
        if isinstance(part, UploadFile):
            return await part.read()
    raise Refused(400, "The form has no file: send a picture, as curl -F image=@photo.jpg does.")
