"""Folders of anyone's images: matched by name, complete, and safe to read."""

import hashlib
import os
import threading
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retroguide_jax.data import images, listing
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import folders
from retroguide_jax.evaluation.resizing import parse_resize


def write(path, value=0, size=(8, 16)):
    """Writes a flat image of a level, so that its pixels say which image it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """Twelve pairs with sources and masks, in two sub-folders, references as JPEG too."""
    for number in range(12):
        name = f"{'ab'[number % 2]}/{number:02d}"
        write(tmp_path / "generated" / f"{name}.png", 10 * number)
        suffix = "png" if number % 3 else "JPG"
        write(tmp_path / "reference" / f"{name}.{suffix}", 10 * number + 1)
        write(tmp_path / "source" / f"{name}.png", 10 * number + 2, (16, 16))
        mask = np.zeros((8, 16), np.uint8)
        mask[:, :number] = 255
        (tmp_path / "sky_mask" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "sky_mask" / f"{name}.png")
    return tmp_path


def match(root, *roles, **options):
    paths = {role: root / role for role in ("generated", "reference", *roles)}
    return folders.match_folders(**paths, **options)


IDS = sorted(f"{'ab'[number % 2]}/{number:02d}" for number in range(12))


def test_pairs_are_matched_and_read(root):
    pairs = match(root, "source", "sky_mask")
    assert list(pairs.ids) == IDS and len(pairs) == 12
    assert pairs.size == (8, 16) and pairs.source_size == (16, 16)
    assert pairs.has_source and not match(root).has_source
    assert pairs.protocol == "as stored"
    batches = list(pairs.read([[0, 1], [11, 3, 3]]))
    for indices, batch in zip(([0, 1], [11, 3, 3]), batches, strict=True):
        numbers = np.array([int(IDS[index][2:]) for index in indices])
        for role, offset in (("generated", 0), ("reference", 1), ("source", 2)):
            size = (16, 16) if role == "source" else (8, 16)
            assert batch[role].dtype == np.uint8
            assert batch[role].shape == (len(indices), *size, 3)
            level = (10 * numbers + offset)[:, None, None, None]
            assert np.max(np.abs(batch[role].astype(int) - level)) <= 1  # JPEG
        assert batch["sky_mask"].dtype == bool
        np.testing.assert_array_equal(batch["sky_mask"].sum((1, 2)), 8 * numbers)
    assert set(next(match(root).read([[0]]))) == {"generated", "reference"}


def test_files_are_read_ahead_but_not_far(root, monkeypatch):
    """Two batches beyond the one in hand are decoded; the rest waits."""
    decoded, lock = [], threading.Lock()
    decode = images.read_image

    def count(path, *args, **options):
        with lock:
            decoded.append(path)
        return decode(path, *args, **options)

    monkeypatch.setattr(images, "read_image", count)
    before = threading.active_count()
    batches = match(root).read([[2 * k, 2 * k + 1] for k in range(6)])
    next(batches)
    deadline = time.monotonic() + 10
    while len(decoded) < 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(decoded) == 3 * 2 * 2
    batches.close()
    assert threading.active_count() == before


def test_what_has_no_counterpart_is_listed(root):
    (root / "reference" / "a" / "02.png").unlink()
    (root / "generated" / "b" / "05.png").unlink()
    with pytest.raises(UserError) as caught:
        match(root)
    text = str(caught.value)
    assert "(generated) lacks 1 images: b/05;" in text
    assert "(reference) lacks 1 images: a/02;" in text
    for path in (root / "source").rglob("*.png"):
        path.unlink()
    write(root / "source" / "x.png")
    with pytest.raises(UserError, match=r"lacks 12 images: a/00, .*, \.\.\.; names must agree"):
        match(root, "source", manifest=save(root, IDS))


def test_more_sources_than_pairs_are_no_fault(root):
    write(root / "source" / "more.png", size=(3, 3))
    assert len(match(root, "source")) == 12


def save(root, ids):
    listing.write_manifest(root / "ids.txt", ids)
    return root / "ids.txt"


def test_a_manifest_says_exactly_what_is_scored(root):
    (root / "reference" / "a" / "02.png").unlink()
    pairs = match(root, manifest=save(root, ["b/07", "a/00"]))
    assert pairs.ids == ("a/00", "b/07")
    with pytest.raises(UserError, match=r"\(reference\) lacks 1 images: a/02"):
        match(root, manifest=save(root, ["a/00", "a/02"]))
    with pytest.raises(UserError, match=r"lacks 1 images: \.\./generated/a/00"):
        match(root, manifest=save(root, ["../generated/a/00"]))


def test_folders_that_are_not_are_reported(root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    (tmp_path / "empty" / ".hidden.png").write_bytes(b"")
    for folder, message in (
        (tmp_path / "gone", "no such folder"),
        (tmp_path / "empty" / "notes.txt", "no such folder"),
        (tmp_path / "empty", "no images in it"),
    ):
        with pytest.raises(UserError, match=message):
            folders.match_folders(folder, root / "reference")


def test_two_images_of_one_name_are_reported(root):
    write(root / "generated" / "a" / "00.jpeg")
    with pytest.raises(UserError, match=r"1 images of one name: .*00\.jpeg and 00\.png"):
        match(root)


def test_all_unreadable_images_are_in_one_error(root):
    (root / "generated" / "a" / "00.png").write_bytes(b"")
    (root / "reference" / "a" / "02.png").write_bytes(b"SVG" + b"\0" * 50)
    cut = root / "generated" / "b" / "01.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(UserError, match="3 unreadable images: ") as caught:
        match(root)
    other = "a/02.png (not a JPEG, PNG, WEBP, BMP, GIF or TIFF image)"
    for path in ("a/00.png (", other, "b/01.png (truncated image)"):
        assert path in str(caught.value)


def test_damage_inside_is_found_in_all_when_it_is_met(root):
    """Headers and ends are intact: only decoding finds the damage, and in all files."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    for name in ("generated/a/00", "reference/b/11", "sky_mask/b/03"):
        path = root / f"{name}.png"
        path.unlink(missing_ok=True)
        Image.fromarray(noise).save(path)
        content = bytearray(path.read_bytes())
        place = content.index(b"IDAT") + 4
        content[place : place + 40] = b"\xff" * 40
        path.write_bytes(content)
    pairs = match(root, "sky_mask")
    batches = pairs.read([[1, 2], [0, 3]])
    next(batches)
    with pytest.raises(UserError, match="3 unreadable images: ") as caught:
        next(batches)
    for name in ("generated/a/00.png", "reference/b/11.png", "sky_mask/b/03.png"):
        assert str(root / name) in str(caught.value)


def test_sizes_must_agree_unless_a_resize_is_named(root):
    write(root / "generated" / "a" / "00.png", 5, (24, 32))
    with pytest.raises(UserError, match=r"1 images that are not 8x16 .*00.png \(24x32\); resize"):
        match(root)
    pairs = match(root, "sky_mask", resize=parse_resize("area:4x8"))
    assert pairs.size == (4, 8) and pairs.protocol == pairs.resize.protocol
    (batch,) = pairs.read([range(12)])
    assert batch["generated"].shape == batch["reference"].shape == (12, 4, 8, 3)
    assert batch["sky_mask"].shape == (12, 4, 8)
    assert np.all(batch["generated"][0] == 5)
    with pytest.raises(UserError, match="would enlarge"):
        match(root, resize=parse_resize("area:9x8"))
    assert match(root, resize=parse_resize("bicubic:30x40")).size == (30, 40)


def test_sources_may_be_read_at_another_size(root):
    write(root / "source" / "a" / "00.png", 5, (64, 64))
    with pytest.raises(UserError, match=r"not 64x64 .*; resize the source images"):
        match(root, "source")
    (batch,) = match(root, "source", source_size=(8, 8)).read([range(12)])
    assert batch["source"].shape == (12, 8, 8, 3)


def test_turned_photographs_count_as_they_are_shown(tmp_path):
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    for folder in ("generated", "reference"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((16, 8, 3), np.uint8)).save(tmp_path / "generated/a.jpg", exif=exif)
    write(tmp_path / "reference" / "a.png", size=(8, 16))
    (batch,) = match(tmp_path).read([[0]])
    assert batch["generated"].shape == (1, 8, 16, 3)


def test_links_are_followed_wherever_they_lead(root, tmp_path):
    """Links to files and folders, on another disk too; one to its own parent ends there."""
    outside = write(tmp_path / "outside" / "more.png")
    (root / "generated" / "link.png").symlink_to(outside)
    (root / "generated" / "folder").symlink_to(outside.parent)
    (root / "generated" / "loop").symlink_to(root / "generated")
    (root / "generated" / "a" / "up").symlink_to("..")
    found = listing.list_images(root / "generated")
    assert sorted(found) == sorted([*IDS, "folder/more", "link"])
    whole = tmp_path / "whole"  # the folder itself may be a link
    whole.symlink_to(root / "reference")
    assert sorted(listing.list_images(whole)) == IDS


def test_a_broken_link_is_named(root):
    (root / "generated" / "a" / "00.png").unlink()
    (root / "generated" / "a" / "00.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"1 unreadable images: .*a/00\.png \(no such file\)"):
        match(root)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", os.fsdecode(b"a\xffb"), "\ufeffa"])
def test_names_that_no_list_can_hold_are_refused(root, name):
    write(root / "generated" / f"{name}.png")
    with pytest.raises(UserError, match="1 names with line breaks or bytes") as caught:
        match(root)
    assert "\n" not in str(caught.value) and "\r" not in str(caught.value)
    str(caught.value).encode()  # printable
    with pytest.raises(UserError, match="cannot be a line"):
        listing.fingerprint_ids([name])
    with pytest.raises(UserError, match="cannot be a line"):
        listing.write_manifest(root / "ids.txt", [name])
    assert not (root / "ids.txt").exists()


def test_names_with_escapes_do_not_reach_the_terminal(root):
    write(root / "generated" / "a\x1b[31m.png")
    with pytest.raises(UserError) as caught:
        match(root)
    assert "\x1b" not in str(caught.value) and "\\x1b[31m" in str(caught.value)


def test_broken_manifests_are_reported(tmp_path):
    path = tmp_path / "ids.txt"
    for content, message in (
        (b"", "no ids in it"),
        (b"\n\n", "no ids in it"),
        (b"a\nb\r\na\n", "1 ids that stand in it twice: a"),
        (b"\xff\xfe", "not UTF-8 text"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            listing.read_manifest(path)
    with pytest.raises(UserError, match="No such file"):
        listing.read_manifest(tmp_path / "gone")
    with pytest.raises(UserError, match="Is a directory"):
        listing.read_manifest(tmp_path)
    with pytest.raises(UserError, match="cannot write"):
        listing.write_manifest(path / "below", ["a"])


def test_a_manifest_of_windows_is_read(tmp_path):
    (tmp_path / "ids.txt").write_bytes("\ufeffb\r\na\r\n".encode())
    assert listing.read_manifest(tmp_path / "ids.txt") == ["a", "b"]


def test_the_fingerprint_is_the_manifests(tmp_path):
    listing.write_manifest(tmp_path / "new" / "ids.txt", IDS)
    content = (tmp_path / "new" / "ids.txt").read_bytes()
    assert listing.fingerprint_ids(IDS) == hashlib.sha256(content).hexdigest()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["ids.txt"]


NAMES = (
    st.text(min_size=1, max_size=30)
    .map(lambda name: unicodedata.normalize("NFC", name))
    .filter(listing.is_listable)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ids=st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_manifests_keep_every_id(tmp_path, ids):
    listing.write_manifest(tmp_path / "ids.txt", ids)
    assert listing.read_manifest(tmp_path / "ids.txt") == sorted(ids)


@given(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6))
def test_fingerprints_distinguish_lists(first, second):
    same = listing.fingerprint_ids(first) == listing.fingerprint_ids(second)
    assert same == (first == second)


PARTS = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda part: not part.startswith(".") and listing.is_listable(part))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(data=st.data())
def test_ids_are_paths_without_their_suffixes(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("names")
    expected = {}
    for parts in data.draw(
        st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=4)
    ):
        path = root.joinpath(*parts[:-1], parts[-1] + data.draw(st.sampled_from([".png", ".JPG"])))
        name = unicodedata.normalize("NFC", "/".join(parts))
        if name in expected or any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        expected[name] = path
    assert listing.list_images(root) == expected


def test_depth_and_alpha_are_part_of_what_is_said(tmp_path):
    """Conversions of samples are recorded beside the scores, and so are images without content."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 4), dtype=np.uint8)
    for folder in ("generated", "reference"):
        write(tmp_path / folder / "flat.png", 200)
        Image.fromarray(noise[..., :3]).save(tmp_path / folder / "a.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(tmp_path / "generated" / "a.png")
    noise[..., 3] = 255
    noise[:2, :, 3] = 0
    Image.fromarray(noise).save(tmp_path / "reference" / "a.png")
    pairs = match(tmp_path)
    assert pairs.formats["generated"] == "PNG; 16-bit samples: the high byte (1 of 2)"
    assert pairs.formats["reference"] == "PNG; transparent pixels laid over black (1 of 2)"
    assert "generated images are stored as PNG; 16-bit" in pairs.notes[0]
    list(pairs.read([[0, 1]]))
    lines = pairs.remarks.list_lines()
    assert any(line.startswith("one colour: 2 images: ") for line in lines)
    assert f"16-bit samples: the high byte: 1 images: {tmp_path}/generated/a.png" in lines


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(0, 2048, (8, 16)).astype(np.uint16),
        np.linspace(-1, 1, 128, dtype=np.float32).reshape(8, 16),
        np.full((8, 16, 4), [90, 80, 70, 0], np.uint8),
    ],
)
def test_images_that_a_conversion_would_lose_are_named(tmp_path, values):
    suffix = "tif" if values.dtype == np.float32 else "png"
    write(tmp_path / "reference" / "a.png")
    (tmp_path / "generated").mkdir()
    Image.fromarray(values).save(tmp_path / "generated" / f"a.{suffix}")
    with pytest.raises(UserError, match=rf"1 unreadable images: .*generated/a.{suffix} \("):
        match(tmp_path)
