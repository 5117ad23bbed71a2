"""Masks and labels: class codes are never read as brightness."""

import io

import numpy as np
import pytest
from PIL import Image

from retroguide_jax.data import masks
from retroguide_jax.errors import UserError

HALF = np.arange(8)[:, None] < np.array([4] * 8)


def encode(image, kind="PNG", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(codes, palette):
    image = Image.fromarray(codes.astype(np.uint8), "P")
    image.putpalette(palette)
    return image


WHITE = HALF * np.uint8(255)
MASKS = {
    "plain": encode(WHITE),
    "16 bits": encode(WHITE.astype(np.uint16) * 257),
    "1 bit": encode(HALF),
    "RGB": encode(np.dstack([WHITE] * 3)),
    "opaque": encode(np.dstack([WHITE] * 3 + [np.full_like(WHITE, 255)])),
    "JPEG": encode(WHITE, "JPEG"),
    "black and white palette": encode(colour(HALF, [0, 0, 0, 255, 255, 255])),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_stay_masks(name):
    decoded = masks.decode_mask(MASKS[name], (4, 16))
    assert decoded.dtype == bool and decoded[:2].all() and not decoded[2:].any()


def test_a_mask_may_be_empty_or_full():
    assert not masks.decode_mask(encode(np.zeros((8, 8), np.uint8)), (8, 8)).any()
    assert masks.decode_mask(encode(np.full((8, 8), 255, np.uint8)), (8, 8)).all()


OTHER_CODES = {
    "0 and 1": (encode(HALF.astype(np.uint8)), "codes 0, 1, not of 0 and 255"),
    "0 and 1 in 16 bits": (encode(HALF.astype(np.uint16)), "codes 0, 1,"),
    "0 and 100": (encode(HALF * np.uint8(100)), "codes 0, 100,"),
    "labels": (encode(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4), "codes 0, 1, 2, 3,"),
    "a picture": (
        encode(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)), "codes 0, 4, 8, 12, 16, 20 ...",
    ),
    "colours": (encode(colour(HALF, [70, 130, 180, 128, 64, 128])), "colours in place of"),
    "no image": (b"nothing", "mask: not a"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_CODES)
def test_masks_of_other_codes_are_refused(name):
    encoded, reason = OTHER_CODES[name]
    with pytest.raises(UserError, match=reason):
        masks.decode_mask(encoded, (8, 8))


LABELS = np.arange(64, dtype=np.uint8).reshape(8, 8) % 5
SAME_LABELS = {
    "plain": encode(LABELS),
    "16 bits": encode(LABELS.astype(np.uint16)),
    "palette": encode(colour(LABELS, [200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9, 90, 90, 0])),
    "RGB": encode(np.dstack([LABELS] * 3)),
}


@pytest.mark.parametrize("name", SAME_LABELS)
def test_labels_stay_labels(name):
    np.testing.assert_array_equal(masks.decode_labels(SAME_LABELS[name], (8, 8)), LABELS)


def test_what_holds_no_labels_is_refused():
    with pytest.raises(UserError, match="stored at"):
        masks.decode_labels(SAME_LABELS["plain"], (8, 16))
    coloured = colour(LABELS, list(range(0, 240, 16))).convert("RGB")
    with pytest.raises(UserError, match="colours in place"):
        masks.decode_labels(encode(coloured), (8, 8))
    with pytest.raises(UserError, match="codes from 0 to 4000"):
        masks.decode_labels(encode(LABELS.astype(np.uint16) * 1000), (8, 8))
