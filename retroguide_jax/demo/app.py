"""The page and its routes."""

import asyncio
import base64
import contextlib
import functools
import importlib.resources
import io
import logging
from typing import Any

import jinja2
import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from retroguide_jax.data.images import UnreadableImageError
from retroguide_jax.demo.gallery import Gallery
from retroguide_jax.demo.guard import Guard
from retroguide_jax.demo.studio import NUM_PICTURES, Drawn, Studio
from retroguide_jax.demo.uploads import Limits, Upload, read_upload
from retroguide_jax.demo.worker import BusyError, Worker
from retroguide_jax.errors import UserError
from retroguide_jax.inference import Model

_RETRY_SECONDS = 2
_CLIENT_LEFT = 499  # nginx's status for a closed connection; no client receives it


def make_app(
    model: Model, gallery: Gallery | None, limits: Limits, host: str = "127.0.0.1"
) -> Starlette:
    """Makes the demo's ASGI application; every program that it will run is compiled here.

    GET / is the page. POST /generate takes a form (`read_upload`) and answers with JSON: `source`
    and `pictures` as PNG data URIs, and `found`, null without a gallery. GET /example/N is a source
    image to try. Errors are JSON with one sentence, `error`.

    Args:
      model: with a generator.
      gallery: to search in, made with the model; None for no retrieval.
      limits: on uploads and waiting requests.
      host: the address that the server listens on; it decides which requests `Guard` accepts.

    Raises:
      UserError: the checkpoint holds no generator, or its images are not finite.
    """
    studio, worker = Studio(model, gallery), Worker(limits.num_places)
    studio.warm_up()
    examples = [_to_png(example.picture) for example in gallery.examples] if gallery else []
    page = _render_page(model, gallery, limits)

    async def show_page(request: Request) -> Response:
        return HTMLResponse(page)

    async def show_example(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(examples):
            raise HTTPException(404, "there is no such example")
        return Response(examples[number], media_type="image/png")

    async def generate(request: Request) -> Response:
        with worker.reserve():
            upload = await read_upload(request, limits)
            drawing = worker.submit(_draw, studio, upload)
            if not await _is_awaited(drawing, request):
                return Response(status_code=_CLIENT_LEFT)
            return JSONResponse(drawing.result())

    @contextlib.asynccontextmanager
    async def end_worker(app: Starlette):
        yield
        worker.close()

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/page.js", functools.partial(_show_part, "page.js", "text/javascript")),
            Route("/page.css", functools.partial(_show_part, "page.css", "text/css")),
            Route("/example/{number:int}", show_example),
            Route("/generate", generate, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={  # pyright: ignore[reportArgumentType]
            HTTPException: _answer_http_error,
            BusyError: _answer_busy,
            UnreadableImageError: functools.partial(_answer_error, 400),
            UserError: functools.partial(_answer_error, 500),
        },
        lifespan=end_worker,
    )


def _draw(studio: Studio, upload: Upload) -> dict[str, Any]:
    """Draws and encodes the answer, both in the worker's thread: encoding PNGs takes time too."""
    try:
        return _describe(studio.draw(upload.encoded, upload.seed, upload.name))
    except UserError:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("drawing failed")
        kind = type(error).__name__
        raise UserError(f"the model failed ({kind}); see the terminal for more") from error


async def _is_awaited(drawing: asyncio.Future, request: Request) -> bool:
    """Waits for a drawing; cancels it and returns False when its client leaves first."""
    # After the body, the only message left is http.disconnect.
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({drawing, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    return drawing.done() or not drawing.cancel()


def _describe(drawn: Drawn) -> dict[str, Any]:
    found = drawn.found and [
        item._asdict() | {"picture": None if item.picture is None else _to_uri(item.picture)}
        for item in drawn.found
    ]
    pictures = [_to_uri(picture) for picture in drawn.pictures]
    return {"source": _to_uri(drawn.source), "pictures": pictures, "found": found}


def _to_png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _to_uri(picture: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(_to_png(picture)).decode()}"


def _render_page(model: Model, gallery: Gallery | None, limits: Limits) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read_part("page.html").decode()).render(
        model=model,
        sizes=model.networks.sizes,
        gallery=gallery,
        limits=limits,
        num_pictures=NUM_PICTURES,
    )


async def _show_part(name: str, media_type: str, request: Request) -> Response:
    return Response(_read_part(name), media_type=media_type)


def _read_part(name: str) -> bytes:
    return importlib.resources.files("retroguide_jax.demo").joinpath(name).read_bytes()


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _answer_busy(request: Request, error: BusyError) -> Response:
    return JSONResponse(
        {"error": "others are waiting already; try again in a moment"},
        status_code=503,
        headers={"Retry-After": str(_RETRY_SECONDS)},
    )


async def _answer_error(status: int, request: Request, error: UserError) -> Response:
    return JSONResponse({"error": str(error)}, status)
