"""Samples of every type are read as intended or refused; never as a black image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from retroguide_jax.data import images
from retroguide_jax.errors import UserError

RNG = np.random.default_rng(0)
GREY = np.kron(RNG.integers(30, 256, (8, 8)), np.ones((6, 6)))  # 48 x 48, 8-bit levels
LEFT = np.arange(48) < 24
COLOUR = np.kron(RNG.integers(30, 256, (8, 8, 3)), np.ones((6, 6, 1)))


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def encode_deep(pixels):
    """A 16-bit PNG, which Pillow cannot write: `[H, W, 3 or 4]`."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read(encoded):
    return images.read_image(encoded, formats=images.READABLE_FORMATS)


def with_band(pixels, band):
    return np.dstack([pixels, np.broadcast_to(band, pixels.shape[:2])]).astype(np.uint8)


SAME_PICTURE = {
    "16 bits": (encode((GREY * 257).astype(np.uint16)), GREY, "16-bit samples: the high byte"),
    "16 bits TIFF": (
        encode((GREY * 257).astype(np.uint16), "TIFF"), GREY, "16-bit samples: the high byte",
    ),
    "16 bits RGB": (encode_deep(COLOUR * 257), COLOUR, "16-bit samples: the high byte"),
    "16-bit mask": (
        encode(((GREY > 90) * 65535).astype(np.uint16)), (GREY > 90) * 255.0,
        "16-bit samples: the high byte",
    ),
    "32 bits of 8": (
        encode(GREY.astype(np.int32), "TIFF"), GREY, "32-bit samples: 0..255 as they are",
    ),
    "32 bits of 16": (
        encode((GREY * 257).astype(np.int32), "TIFF"), GREY, "32-bit samples: the high byte",
    ),
    "float 0..1": (
        encode((GREY / 255).astype(np.float32), "TIFF"), GREY,
        "floating-point samples: 0..1 times 255",
    ),
    "float 0..255": (
        encode(GREY.astype(np.float32), "TIFF"), GREY, "floating-point samples: 0..255 rounded",
    ),
    "half transparent": (
        encode(with_band(COLOUR, LEFT * 255)), COLOUR * LEFT[:, None],
        "transparent pixels laid over black",
    ),
    "opaque": (encode(with_band(COLOUR, 255)), COLOUR, None),
    "8 bits": (encode(COLOUR.astype(np.uint8)), COLOUR, None),
    "black": (encode(np.zeros((48, 48, 3), np.uint8)), np.zeros((48, 48)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_PICTURE)
def test_the_same_picture_in_other_containers(name):
    encoded, wanted, conversion = SAME_PICTURE[name]
    picture = read(encoded)
    wanted = wanted if wanted.ndim == 3 else wanted[..., None]
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(wanted, (48, 48, 3)))
    assert picture.conversions == ((conversion,) if conversion else ())


LOST = {
    "11 bits": (encode((GREY * 8).astype(np.uint16)), "from 240 to .* levels are left"),
    "12 bits": (encode((GREY * 16).astype(np.uint16), "TIFF"), "levels are left"),
    "8 bits": (encode(GREY.astype(np.uint16)), "1 of 256 levels are left"),
    "12 bits, no data at the top": (
        encode(np.where(np.arange(48) < 6, 65535, GREY * 16).astype(np.uint16)), "levels are left",
    ),
    "11 bits RGB": (encode_deep(COLOUR * 8), "levels are left"),
    "0/1 mask": (encode((GREY > 90).astype(np.uint16)), "from 0 to 1 of which 1 of 256"),
    "11 bits in 32": (encode((GREY * 8).astype(np.int32), "TIFF"), "levels are left"),
    "beyond 16 bits": (encode((GREY * 999).astype(np.int32), "TIFF"), "32-bit samples from"),
    "negative": (encode((GREY - 128).astype(np.int32), "TIFF"), "32-bit samples from -98 to"),
    "float -1..1": (encode((GREY / 127.5 - 1).astype(np.float32), "TIFF"), "floating-point samp"),
    "float 0..10000": (encode((GREY * 39).astype(np.float32), "TIFF"), "floating-point samples"),
    "float 0..0.03": (encode((GREY / 9000).astype(np.float32), "TIFF"), "levels are left"),
    "NaN": (encode(np.where(GREY > 90, np.nan, GREY).astype(np.float32), "TIFF"), "nan"),
    "near infrared": (encode(with_band(COLOUR, GREY * 0.3), "TIFF"), "0% of the pixels opaque"),
    "bright infrared": (encode(with_band(COLOUR, GREY)), "of the pixels opaque"),
    "transparent": (encode(with_band(COLOUR, 0)), "0% of the pixels opaque"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_what_would_lose_the_picture_is_refused_with_a_remedy(name):
    encoded, reason = LOST[name]
    with pytest.raises(UserError, match=f"{reason}.*; (rescale|save)"):
        read(encoded)


def test_flat_pictures_are_described():
    flat = np.full((8, 8, 3), 7, np.uint8)
    assert images.Picture(flat, ()).describe_flatness() == "one colour"
    flat[0, 0] = 12
    found = images.Picture(flat, ()).describe_flatness()
    assert found == "nearly one colour (levels 7 to 12 of 255)"
    flat[0, 0] = 20
    assert images.Picture(flat, ()).describe_flatness() == ""
    # Every channel is constant.
    assert images.Picture(np.full((8, 8, 3), (0, 90, 200), np.uint8), ()).describe_flatness()
