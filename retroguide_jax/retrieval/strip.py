"""Draws each query beside the entries found for it, as one picture."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retroguide_jax.data import images
from retroguide_jax.retrieval.answers import Answer, show_id
from retroguide_jax.retrieval.entries import Entry

_HEIGHT = 128  # of a picture, in pixels; its width follows from its aspect ratio
_FRAME, _GAP, _LINE = 4, 10, 16
_NEUTRAL, _RIGHT, _WRONG = (190, 190, 190), (46, 139, 60), (200, 50, 40)


def draw_strip(
    answers: Sequence[Answer],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    get_picture: Callable[[Entry], Path | bytes],
) -> np.ndarray:
    """One row per query: the query, then its K entries with similarity and id under each.

    Where the right entry is known (`Answer.is_known`), it is framed green and marked "right", and
    the others are framed red; otherwise all are framed grey.

    Args:
      answers: at least one.
      sizes: (height, width) in pixels of the model's images of the query's and of the index's view,
        which give the aspect ratios.
      get_picture: gives the encoded image of an entry of the index (`pictures.open_pictures`).

    Returns:
      uint8 [H, W, 3].

    Raises:
      UserError: an image cannot be read.
    """
    widths = [round(_HEIGHT * width / height) for height, width in sizes]
    num_found = max(len(answer.found) for answer in answers)
    step_y = _HEIGHT + 2 * _FRAME + 2 * _LINE + _GAP
    step_x = widths[1] + 2 * _FRAME + _GAP
    first_x = widths[0] + 2 * _FRAME + 2 * _GAP
    canvas = Image.new("RGB", (first_x + num_found * step_x, _GAP + len(answers) * step_y), "white")
    for row, answer in enumerate(answers):
        y = _GAP + row * step_y
        texts = ("query", show_id(answer.query))
        _put(canvas, (_GAP, y), Path(answer.query.path), widths[0], _NEUTRAL, texts)  # pyright: ignore[reportArgumentType]
        for column, entry in enumerate(answer.found):
            is_right = answer.is_known and entry.id == answer.query.id
            colour = (_RIGHT if is_right else _WRONG) if answer.is_known else _NEUTRAL
            mark = "  right" if is_right else ""
            texts = (f"{column + 1}.  {answer.similarities[column]:.3f}{mark}", show_id(entry))
            place = (first_x + column * step_x, y)
            _put(canvas, place, get_picture(entry), widths[1], colour, texts)
    return np.asarray(canvas)


def _put(canvas, place, encoded, width, colour, texts) -> None:
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    x, y = place
    corner = (x + width + 2 * _FRAME - 1, y + _HEIGHT + 2 * _FRAME - 1)
    draw.rectangle((place, corner), fill=colour)
    picture = images.decode_image(encoded, (_HEIGHT, width), formats=images.READABLE_FORMATS)
    canvas.paste(Image.fromarray(picture), (x + _FRAME, y + _FRAME))
    for number, text in enumerate(texts):
        shortened = (f"{text[:length]}..." for length in range(len(text) - 1, -1, -1))
        fitting = (
            shown
            for shown in (text, *shortened)
            if draw.textlength(shown, font) <= width + 2 * _FRAME
        )
        line = (x, corner[1] + 1 + number * _LINE)
        draw.text(line, next(fitting, ""), fill=(30, 30, 30), font=font)
