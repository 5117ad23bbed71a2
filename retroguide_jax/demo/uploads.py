"""Reads a posted image, with limits on its size and on the upload time."""

import asyncio
import dataclasses
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

_LONGEST_NAME = 80
_ENVELOPE = 4096  # bytes of a form around its file


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on uploads and on simultaneous requests.

    Attributes:
      max_bytes: of an image file.
      num_places: requests that may be uploading, waiting or drawn at a time.
      upload_seconds: timeout of an upload; a slower one is refused and frees its place.
    """

    max_bytes: int = 20 * 2**20
    num_places: int = 8
    upload_seconds: float = 30


class Upload(NamedTuple):
    """name: of the file, shown but never used as a path. encoded: its bytes. seed: of the noise."""

    name: str
    encoded: bytes
    seed: int


async def read_upload(request: Request, limits: Limits) -> Upload:
    """Reads a multipart form of `image`, a file, and `seed`, 0 .. 2^31 - 1.

    Raises:
      HTTPException: 400 it is no such form; 408 too slow; 413 too large, raised at the first byte
        above the limit, or before any byte if the declared length is above it.
    """
    most = limits.max_bytes + _ENVELOPE
    too_large = HTTPException(
        413, f"the file is too large; give one of at most {limits.max_bytes / 2**20:g} MB"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    limited = Request(request.scope, _limit(request.receive, most, too_large))
    try:
        async with (
            asyncio.timeout(limits.upload_seconds),
            limited.form(max_files=1, max_fields=1) as form,
        ):
            file, seed = form.get("image"), form.get("seed", "")
            if not isinstance(file, UploadFile):
                raise HTTPException(400, "no image was sent; choose a file")
            name = (file.filename or "the image")[:_LONGEST_NAME]
            return Upload(name, await file.read(), _parse_seed(seed))
    except TimeoutError:
        raise HTTPException(408, "the upload took too long; try a smaller file") from None


def _limit(receive: Receive, most: int, error: HTTPException) -> Receive:
    num_bytes = 0

    async def receive_some() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > most:
            raise error
        return message

    return receive_some


def _parse_seed(text: str | UploadFile) -> int:
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 10:
        seed = int(text)
        if seed < 2**31:
            return seed
    raise HTTPException(400, "the seed must be a whole number from 0 to 2147483647")
