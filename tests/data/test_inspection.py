"""What headers and end markers reveal, on real files, truncated, mislabelled or corrupted."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retroguide_jax.data import images, inspection

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
END = b"\xff\xd9"
many_examples = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def encode(image=NOISE, kind="JPEG", **options):
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def make_exif(orientation=1, thumbnail=b""):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if thumbnail:
        exif[0x927C] = thumbnail  # like the previews in cameras' maker notes
    return exif.tobytes()


def make_jpegs():
    """Real JPEGs by name; each contains bytes that could be mistaken for its end."""
    thumbnail = encode(NOISE[:16, :16])
    second = io.BytesIO()
    Image.fromarray(NOISE).save(
        second, "MPO", save_all=True, append_images=[Image.fromarray(NOISE[:8])]
    )
    return {
        "baseline": encode(),
        "progressive": encode(progressive=True),
        "thumbnail": encode(exif=make_exif(1, thumbnail)),
        "progressive with thumbnail": encode(progressive=True, exif=make_exif(1, thumbnail)),
        "two pictures": second.getvalue(),
    }


JPEGS = make_jpegs()
PNG = encode(kind="PNG")


def inspect(content, folder, name="image"):
    path = folder / name
    path.write_bytes(content)
    return inspection.inspect_file(path)


def find_length(name):
    """Bytes up to the end of the picture, or of the first of two pictures."""
    whole = JPEGS[name]
    return whole.index(END) + 2 if name == "two pictures" else len(whole)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("trailer", [b"", bytes(9), b"SEFT" + bytes(5000), b"\xff\xda" * 3000])
def test_whole_jpegs_pass_whatever_follows_them(name, trailer, tmp_path):
    facts = inspect(JPEGS[name] + trailer, tmp_path)
    assert facts == inspection.ImageFacts(40, 56, "JPEG", "RGB", False, True)
    assert images.decode_image(JPEGS[name] + trailer).shape == (40, 56, 3)


@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_cut_off_are_found(name, tmp_path):
    whole = JPEGS[name]
    length = find_length(name)
    ends = [place + 2 for place in range(length - 2) if whole[place : place + 2] == END]
    for cut in [*ends, length - 1, length - 2, length - 3, length // 2, 200, 20, 3]:
        with pytest.raises(images.UnreadableImageError):
            inspect(whole[:cut], tmp_path)
    assert len(ends) == ("thumbnail" in name)


@many_examples
@given(name=st.sampled_from(sorted(JPEGS)), data=st.data(), zeros=st.integers(0, 3))
def test_every_cut_before_the_end_of_a_jpeg_is_found(tmp_path, name, data, zeros):
    whole = JPEGS[name]
    cut = data.draw(st.integers(0, find_length(name) - 1))
    with pytest.raises(images.UnreadableImageError):
        inspect(whole[:cut] + bytes(zeros), tmp_path)


@many_examples
@given(st.integers(0, len(PNG) - 1))
def test_every_cut_of_a_png_is_found(tmp_path, cut):
    with pytest.raises(images.UnreadableImageError):
        inspect(PNG[:cut], tmp_path)


@many_examples
@given(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", PNG[:60], JPEGS["baseline"][:300]]
    ),
)
def test_random_bytes_raise_nothing_else(tmp_path, content, start):
    try:
        inspect(start + content, tmp_path)
    except images.UnreadableImageError as error:
        assert error.reason


@many_examples
@given(
    st.sampled_from([PNG, *JPEGS.values()]),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=8),
)
def test_spoiled_files_raise_nothing_else(tmp_path, whole, place, junk):
    place %= len(whole)
    try:
        inspect(whole[:place] + junk + whole[place + len(junk) :], tmp_path)
    except images.UnreadableImageError as error:
        assert error.reason


def test_whole_pngs_pass_whatever_follows_them(tmp_path):
    for trailer in (b"", b"more", bytes(9000)):
        assert inspect(PNG + trailer, tmp_path) == inspection.ImageFacts(
            40, 56, "PNG", "RGB", False, True
        )


def test_the_content_decides_not_the_name(tmp_path):
    assert inspect(PNG, tmp_path, "image.jpg").format == "PNG"
    assert inspect(JPEGS["baseline"], tmp_path, "image.png").format == "JPEG"


@pytest.mark.parametrize("content", [b"", b"not an image", encode(kind="GIF"), encode(kind="BMP")])
def test_other_files_are_refused(content, tmp_path):
    with pytest.raises(images.UnreadableImageError, match="not a JPEG or PNG image"):
        inspect(content, tmp_path)


def test_missing_files_folders_and_circles_say_so(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for name, reason in (
        ("gone", "no such file"),
        ("", "is a directory"),
        ("circle", "too many levels of symbolic links"),
        ("x" * 300, "file name too long"),
        ("a\0b", "damaged image"),
    ):
        with pytest.raises(images.UnreadableImageError) as caught:
            inspection.inspect_file(f"{tmp_path}/{name}")
        assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    "mode, kind, seen",
    [
        ("L", "JPEG", "L"), ("CMYK", "JPEG", "CMYK"), ("L", "PNG", "L"), ("RGBA", "PNG", "RGBA"),
        ("P", "PNG", "P"), ("1", "PNG", "1"), ("I;16", "PNG", "I;16"),
    ],
)  # fmt: skip
def test_modes_are_reported(mode, kind, seen, tmp_path):
    size = (56, 40)
    facts = inspect(encode(Image.new(mode, size), kind), tmp_path)
    assert (facts.mode, facts.format, facts.height, facts.width) == (seen, kind, 40, 56)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_after_rotation(kind, orientation, tmp_path):
    content = encode(kind=kind, exif=make_exif(orientation))
    facts = inspect(content, tmp_path)
    assert (facts.height, facts.width) == images.decode_image(content).shape[:2]
    assert facts.is_rotated == (orientation != 1)
    assert (facts.height > facts.width) == (orientation >= 5)


def make_chunk(name, content):
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def test_a_flag_behind_the_pixels_of_a_png_counts(tmp_path):
    exif = make_exif(6).removeprefix(b"Exif\0\0")
    content = PNG[:-12] + make_chunk(b"eXIf", exif) + PNG[-12:]
    facts = inspect(content, tmp_path)
    assert images.decode_image(content).shape[:2] == (facts.height, facts.width) == (56, 40)


def test_a_flag_in_xmp_counts(tmp_path):
    content = encode(xmp=b'<x tiff:Orientation="8"/>')
    facts = inspect(content, tmp_path)
    assert images.decode_image(content).shape[:2] == (facts.height, facts.width) == (56, 40)


def test_too_many_pixels_are_refused_and_pixels_stay_undecoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 56)
    inspect(PNG, tmp_path)
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 56 - 1)
    with pytest.raises(images.UnreadableImageError, match="56 x 40 pixels"):
        inspect(PNG, tmp_path)
    monkeypatch.undo()
    with pytest.raises(images.UnreadableImageError, match="pixels"):
        inspect(encode(Image.new("1", (20_000, 20_000)), "PNG"), tmp_path)


@pytest.mark.parametrize("content", [PNG, JPEGS["baseline"], JPEGS["progressive"]])
def test_nothing_is_decoded(content, tmp_path, monkeypatch):
    def load(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert inspect(content, tmp_path).width == 56
