"""Makes the stored examples: the files' own bytes, or images cropped, resized or rotated."""

import dataclasses
import io
import math

import numpy as np
from PIL import Image

from retroguide_jax.data import images
from retroguide_jax.errors import UserError

from .listing import Box, Pair, Problem, Tile

# At this quality and with no chroma subsampling a JPEG differs from its source by less than a grey
# level on average.
_JPEG = {"quality": 95, "subsampling": 0}
_FIX_MISSING = "fetch the file, or take its line out of the list"


@dataclasses.dataclass(frozen=True)
class View:
    """How the images of one view are stored.

    Attributes:
      min_size: (height, width) in pixels below which an image is unusable: enlarging it would teach
        a generator to paint blur.
      size: (height, width) to store; None keeps the file's own size.
      box: the part of every image to keep, unless the pair has its own box.
      aspect: width / height of the published files; None accepts any.
      strips: (config_name, width / height) of the formats that put images side by side in one file,
        the configured one first. Images start at fractions of the width, so it must match exactly.
    """

    min_size: tuple[int, int]
    size: tuple[int, int] | None = None
    box: Box | None = None
    aspect: float | None = None
    strips: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the pairs of one builder config are stored.

    Attributes:
      aerial, ground: the views.
      vertical_fov: vertical field of view of the stored ground image, degrees.
      pads: for a box that leaves its image, whether to repeat the edge (True) or leave the pair out
        (False).
      turns: whether to rotate 360-degree panoramas by their heading, so that their centre looks
        north.
    """

    aerial: View
    ground: View
    vertical_fov: float
    pads: bool = False
    turns: bool = False

    def touches_pixels(self) -> bool:
        """Whether some images must be decoded to be stored."""
        views = (self.aerial, self.ground)
        return any(view.size or view.box for view in views)


def make_example(recipe: Recipe, pair: Pair) -> dict | Problem:
    """The stored features of a pair, or the problem that makes its files unusable."""
    turn = pair.heading if recipe.turns else 0.0
    try:
        stored = {
            "aerial": store_image(pair.aerial, recipe.aerial, pair.aerial_box),
            "ground": store_image(pair.ground, recipe.ground, pair.ground_box, turn=turn),
        }
    except images.UnreadableImageError as error:
        return make_problem(error)
    return stored | {
        "id": pair.id,
        "aerial_id": pair.aerial_id or pair.id,
        "positives": list(pair.positives or (pair.aerial_id or pair.id,)),
        "semi_positives": list(pair.semi_positives),
        "position": np.array(pair.position, np.float64),
        "heading": np.float32(pair.heading - turn),
        "vertical_fov": np.float32(recipe.vertical_fov),
    }


def make_tile(recipe: Recipe, tile: Tile) -> dict | Problem:
    """The stored features of a gallery tile, or the problem that makes its file unusable."""
    try:
        return {"id": tile.id, "aerial": store_image(tile.aerial, recipe.aerial, None)}
    except images.UnreadableImageError as error:
        return make_problem(error)


def make_problem(error: images.UnreadableImageError) -> Problem:
    """The problem of a file that cannot be read or decoded."""
    if error.reason == "no such file":
        return Problem(error.name, error.reason, "missing", _FIX_MISSING)
    fix = f"{error.fix}, or leave it out with allow_bad"
    return Problem(error.name, error.reason, "unreadable", fix)


def store_image(path: str, view: View, box: Box | None, *, turn: float = 0.0) -> bytes:
    """The bytes to store: the file's own, unless it must be cropped, resized, rotated or converted.

    An image that is cropped, resized or rotated is encoded again in the format of its file: JPEG of
    quality 95, or PNG. Files of other formats are stored as PNG.

    Args:
      path: the file.
      view: see `View`.
      box: the part to keep, instead of the view's box.
      turn: heading of the panorama's centre column in degrees; the stored centre looks north.

    Raises:
      UnreadableImageError: the file cannot be read or decoded.
    """
    box = box or view.box
    try:
        with open(path, "rb") as file:
            content = file.read()
    except images.DECODE_ERRORS as error:
        raise images.UnreadableImageError(path, images.describe_error(error)) from None
    is_jpeg = content.startswith(b"\xff\xd8")
    is_stored = is_jpeg or content.startswith(b"\x89PNG")  # already in a format that is stored
    if box is None and view.size is None and is_stored and not turn:
        return content
    whole = view.size if box is None else None  # JPEGs decode faster to a smaller size
    pixels = images.decode_image(content, whole, name=path, formats=images.READABLE_FORMATS)
    if box is not None:
        pixels = crop_image(pixels, box)
    if view.size is not None:
        pixels = images.resize_image(pixels, view.size)
    # With a positive heading north lies heading / 360 of the width left of the centre.
    pixels = np.roll(pixels, round(turn / 360.0 * pixels.shape[1]), axis=1)
    buffer = io.BytesIO()
    if is_jpeg:
        Image.fromarray(pixels).save(buffer, "JPEG", **_JPEG)
    else:
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def find_pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the box in integer pixels, right and bottom excluded.

    The box's size is rounded first, so that equal boxes have equal sizes at any position.
    """
    columns = max(1, math.floor((box.right - box.left) * width + 0.5))
    rows = max(1, math.floor((box.bottom - box.top) * height + 0.5))
    left = math.floor(0.5 * (box.left + box.right) * width - 0.5 * columns + 0.5)
    top = math.floor(0.5 * (box.top + box.bottom) * height - 0.5 * rows + 0.5)
    return left, top, left + columns, top + rows


def crop_image(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Cuts a box out of uint8 [H, W, 3]; beyond the edge, the edge's pixels are repeated.

    Raises:
      UserError: the box and the image do not overlap.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = find_pixels(box, height, width)
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise UserError(f"box {left, top, right, bottom} lies outside of {width} x {height} pixels")
    inside = pixels[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    before, after = (max(0, -top), max(0, -left)), (max(0, bottom - height), max(0, right - width))
    if any(before + after):
        margins = ((before[0], after[0]), (before[1], after[1]), (0, 0))
        inside = np.pad(inside, margins, mode="edge")
    return np.ascontiguousarray(inside)
