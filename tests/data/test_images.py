"""Readers and writers of image files: every odd kind is decoded, every bad one is a UserError."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retroguide_jax.data import images, inspection
from retroguide_jax.errors import UserError


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_noise(height=48, width=64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_png_is_exact():
    noise = make_noise()
    np.testing.assert_array_equal(images.decode_image(encode(Image.fromarray(noise))), noise)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_every_png_mode_becomes_rgb(mode):
    decoded = images.decode_image(encode(Image.fromarray(make_noise()).convert(mode)))
    assert decoded.shape == (48, 64, 3) and decoded.dtype == np.uint8


def test_cmyk_and_grey_jpeg_become_rgb():
    flat = Image.new("RGB", (64, 48), (200, 100, 50))
    decoded = images.decode_image(encode(flat.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(decoded.astype(int) - (200, 100, 50)).max() < 12
    grey = images.decode_image(encode(flat.convert("L"), "JPEG"))
    assert np.ptp(grey, axis=2).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(orientation):
    upright = Image.fromarray(make_noise())
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Store the image as a rotated camera would: apply the inverse of the reader's transformation.
    inverse = {
        1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4,
    }[orientation]  # fmt: skip
    stored = upright if inverse is None else upright.transpose(Image.Transpose(inverse))
    decoded = images.decode_image(encode(stored, exif=exif))
    np.testing.assert_array_equal(decoded, np.asarray(upright))
    assert images.decode_image(encode(stored, exif=exif), (24, 32)).shape == (24, 32, 3)


def test_large_jpeg_is_resized_well():
    # The fast path (decoding at a fraction of the size) must agree with the plain one.
    ramp = np.linspace(0, 255, 1024, dtype=np.uint8)
    plain = np.stack(np.broadcast_arrays(ramp, ramp[::2, None], 128), -1)
    encoded = encode(Image.fromarray(plain.astype(np.uint8)), "JPEG", quality=95)
    fast = images.decode_image(encoded, (32, 64)).astype(int)
    slow = images.resize_image(images.decode_image(encoded), (32, 64)).astype(int)
    assert fast.shape == (32, 64, 3) and np.abs(fast - slow).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_files_are_found(kind, tmp_path):
    encoded = encode(Image.fromarray(make_noise()), kind)
    for share in (0.02, 0.3, 0.9):
        path = tmp_path / "cut.jpg"
        path.write_bytes(encoded[: int(len(encoded) * share)])
        with pytest.raises(UserError, match="cut.jpg"):
            images.decode_image(path)


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "not a JPEG or PNG"), (b"GIF89a" + bytes(64), "not a JPEG"), (b"\0" * 99, "not a")],
)
def test_other_files_are_refused(content, reason, tmp_path):
    (tmp_path / "other.png").write_bytes(content)
    with pytest.raises(images.UnreadableImageError, match=f"other.png: {reason}"):
        images.decode_image(tmp_path / "other.png")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        images.decode_image(tmp_path / "gone.png")
    with pytest.raises(UserError, match="is a directory"):
        images.decode_image(tmp_path)


def test_large_images_are_refused_with_the_remedy_for_that(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="too large: 64 x 48 pixels; shrink it to fewer than"):
        images.decode_image(encode(Image.fromarray(make_noise())))
    bomb = encode(Image.new("1", (20_000, 20_000)))
    with pytest.raises(UserError, match="too large: 400 million pixels; shrink it"):
        images.decode_image(bomb)


def make_chunk(name, content, checksum=None):
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


FAULTY_CHUNKS = {
    "a text of three megabytes": make_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 3_000_000)),
    "a text with a wrong checksum": make_chunk(b"tEXt", b"a\0b", 0),
    "an empty physical size": make_chunk(b"pHYs", b""),
}


@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize("what", FAULTY_CHUNKS)
def test_a_fault_in_metadata_is_no_fault_of_the_pixels(what, is_behind, tmp_path):
    whole = encode(Image.fromarray(make_noise()))
    place = -12 if is_behind else 33
    (tmp_path / "1.png").write_bytes(whole[:place] + FAULTY_CHUNKS[what] + whole[place:])
    np.testing.assert_array_equal(images.decode_image(tmp_path / "1.png"), make_noise())
    assert inspection.inspect_file(tmp_path / "1.png").width == 64


def test_unreadable_exif_leaves_the_image_as_it_is():
    for exif in (
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01",
    ):
        encoded = encode(Image.fromarray(make_noise()), "JPEG", exif=exif)
        assert images.decode_image(encoded).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "content, what",
    [
        (b"II*\0" + bytes(99), "but a TIFF; convert it to 8-bit PNG"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "but a pointer of Git LFS; .*git lfs pull",
        ),
        (b"<!DOCTYPE html><html>", "but a web page; fetch the file itself"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "but a WebP; convert it"),
        (b"", "the file is empty; give a complete"),
        (bytes(500), "its bytes are zero; give a complete"),
    ],
)
def test_other_kinds_of_files_are_named(content, what):
    with pytest.raises(UserError, match=what):
        images.decode_image(content)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_random_bytes_raise_only_user_errors(content, magic):
    with pytest.raises(UserError):
        images.decode_image(magic + content)


SEEDS = [encode(Image.fromarray(make_noise(16, 16)), kind) for kind in ("JPEG", "PNG")]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0), st.binary(min_size=1, max_size=8))
def test_damaged_files_decode_or_raise_user_errors(encoded, place, junk):
    place %= len(encoded)
    damaged = encoded[:place] + junk + encoded[place + len(junk) :]
    try:
        decoded = images.decode_image(damaged, (8, 8))
    except UserError:
        return
    assert decoded.shape == (8, 8, 3)


def test_float_and_back_is_exact_and_clips():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    floats = images.to_float(every)
    assert floats.dtype == np.float32 and floats.min() == -1 and floats.max() == 1
    np.testing.assert_array_equal(images.to_uint8(floats), every)
    np.testing.assert_array_equal(images.to_uint8(np.array([-3.0, 3.0])), [0, 255])


def test_png_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "out.png"
    images.write_png(path, make_noise())
    np.testing.assert_array_equal(images.decode_image(path), make_noise())
    assert [item.name for item in path.parent.iterdir()] == ["out.png"]
    with pytest.raises(UserError, match="cannot write"):
        images.write_png(tmp_path / "new", make_noise())  # a folder is in the way
    assert sorted(item.name for item in tmp_path.iterdir()) == ["new"]


def test_grid_places_images_where_they_belong():
    red, blue = (np.full((4, width, 3), colour, np.uint8) for width, colour in
                 ((4, (255, 0, 0)), (8, (0, 0, 255))))  # fmt: skip
    grid = images.make_grid([[red, blue], [blue, red], [red]], gap=1, scale=2)
    assert grid.shape == (3 * 8 + 4, 2 * 16 + 3, 3)
    assert (grid[1:9, 1:9] == (255, 0, 0)).all() and (grid[1:9, 18:34] == (0, 0, 255)).all()
    assert (grid[10:18, 1:17] == (0, 0, 255)).all() and (grid[0] == 255).all()
    captioned = images.make_grid([[red, blue]], gap=1, scale=2, captions=["id"])
    assert captioned.shape[0] > 10 and (captioned.min(axis=(1, 2)) < 255).any()
    with pytest.raises(ValueError):
        images.make_grid([])
    with pytest.raises(ValueError):
        images.make_grid([[red]], captions=[])


def test_headings_stand_above_their_columns():
    wide = np.full((4, 60, 3), (255, 0, 0), np.uint8)
    plain = images.make_grid([[wide, wide]], gap=2)
    grid = images.make_grid([[wide, wide]], gap=2, headings=["source", "real " * 20])
    height = grid.shape[0] - plain.shape[0]
    assert height > 8
    np.testing.assert_array_equal(grid[height:], plain)
    dark = (grid[: height + 2].max(axis=-1) < 128).any(axis=0)  # columns of pixels with text
    assert dark[2:62].any() and dark[64:124].any()
    assert not dark[:2].any() and not dark[62:64].any() and not dark[124:].any()
    with pytest.raises(ValueError):
        images.make_grid([[wide, wide]], headings=["source"])


@pytest.mark.parametrize(("orientation", "turn"), [(1, None), (6, Image.Transpose.ROTATE_270)])
def test_a_wide_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, orientation, turn):
    shape, box = ((512, 1024, 3), (512, 128)) if turn is None else ((1024, 512, 3), (128, 512))
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = orientation
    Image.fromarray(noise).save(tmp_path / "wide.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "wide.jpg") as image:
        image.draft("RGB", box)
        half = image.copy() if turn is None else image.transpose(turn)
    assert half.size == (512, 256)
    expected = half.resize((256, 64), Image.Resampling.BICUBIC)
    found = images.decode_image(tmp_path / "wide.jpg", (64, 256))
    np.testing.assert_array_equal(found, np.asarray(expected))
