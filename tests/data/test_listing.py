"""Every command that takes a folder of images sees the same files in it, under the same ids."""

import io
import os
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from retroguide_jax.datasets.image_pairs import listing as image_pairs

from retroguide_jax.commands import generate, retrieve_query
from retroguide_jax.data import images, listing
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.folders import match_folders
from retroguide_jax.files import find_inside
from retroguide_jax.retrieval.pictures import list_files


def encode(kind, mode="RGB"):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


PNG = encode("PNG")
STEMS = st.text("ab._ \u00fcu\u0308\u00e5\u6c34", min_size=1, max_size=6)
SUFFIXES = (".png", ".JPG", ".jfif", ".webp", ".tif", ".heic", ".txt", ".npz", "", ".5")
ENTRIES = st.lists(
    st.tuples(
        STEMS,
        st.sampled_from(SUFFIXES),
        st.sampled_from(("image", "text", "link", "folder link", "broken link", "folder")),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def fill(root, entries):
    (root / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("one.png", "deep/two.png"):
        (root / "elsewhere" / name).write_bytes(PNG)
    folder = root / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "always.png").write_bytes(PNG)
    for stem, suffix, kind, is_below in entries:
        path = folder / ("sub" if is_below else ".") / f"{stem}{suffix}"
        if os.path.lexists(path) or not path.name.strip("."):
            continue
        if kind == "folder":
            path.mkdir()
            (path / "inner.png").write_bytes(PNG)
        elif kind in ("image", "text"):
            path.write_bytes(PNG if kind == "image" else b"some words")
        else:
            target = {"link": "one.png", "folder link": "deep", "broken link": "gone.png"}[kind]
            path.symlink_to(root / "elsewhere" / target)
    return folder


def see(list_fn):
    """The files that a command sees, sorted, or its error."""
    try:
        return sorted(list_fn())
    except UserError as error:
        return str(error)


@settings(deadline=None, max_examples=60)
@given(entries=ENTRIES)
def test_commands_agree_on_what_a_folder_holds(tmp_path_factory, entries):
    root = tmp_path_factory.mktemp("any")
    folder = fill(root, entries)
    seen = {
        "the listing": see(lambda: listing.list_images(folder).values()),
        "generate": see(lambda: generate.plan_outputs(folder, root / "out", 1)),
        "retrieve index": see(lambda: [path for _, path in list_files(folder)]),
        "retrieve query": see(lambda: [path for _, path in retrieve_query._list_queries([folder])]),
    }
    # Unreadable files are named with their paths; nothing else is missing.
    shutil.copytree(folder, root / "copy", symlinks=True)
    try:
        scored = sorted(match_folders(folder, root / "copy").paths["generated"])
    except UserError as error:
        scored = str(error)
        if "unreadable images" in scored:
            wanted = [path for path in seen["generate"] if not is_readable(path)]
            assert scored.startswith(f"{2 * len(wanted)} unreadable images")
            scored = seen["generate"]
    seen["evaluate"] = scored
    assert all(files == seen["the listing"] for files in seen.values()), seen

    (root / "pairs").mkdir()
    for view in image_pairs.VIEWS:
        (root / "pairs" / view).symlink_to(folder)
    if isinstance(seen["generate"], str):
        return
    found = image_pairs.list_pairs(root / "pairs")
    taken = {os.path.relpath(pair.aerial, root / "pairs" / "aerial") for pair in found.pairs}
    assert taken == {os.path.relpath(path, folder) for path in seen["generate"]}


def is_readable(path):
    try:
        images.decode_image(path, formats=images.READABLE_FORMATS)
    except images.UnreadableImageError:
        return False
    return True


@pytest.mark.parametrize(
    "name, kind",
    [("a.webp", "WEBP"), ("a.tif", "TIFF"), ("a.bmp", "BMP"), ("a.gif", "GIF"), ("a.jfif", "JPEG"),
     ("a.JPE", "JPEG"), ("a", "JPEG"), ("a.orig", "PNG")],
)  # fmt: skip
def test_images_by_other_names_are_scored(tmp_path, name, kind):
    """Files under such names count, so that no image is left out."""
    for folder in ("generated", "reference"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(encode(kind))
        (tmp_path / folder / "b.png").write_bytes(PNG)
        (tmp_path / folder / "notes.txt").write_text("no image")
    pairs = match_folders(tmp_path / "generated", tmp_path / "reference")
    assert len(pairs) == 2
    (batch,) = pairs.read([[0, 1]])
    assert batch["generated"].shape == (2, 8, 8, 3)


@pytest.mark.parametrize("name", ["a.heic", "a.avif", "a.jp2", "a.svg"])
def test_images_of_other_formats_are_named(tmp_path, name):
    for folder in ("generated", "reference"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
        (tmp_path / folder / "b.png").write_bytes(PNG)
    with pytest.raises(UserError, match=rf"2 unreadable images: .*{name} \(not a JPEG, PNG, WEBP"):
        match_folders(tmp_path / "generated", tmp_path / "reference")


@pytest.mark.parametrize("stem", ["Z\u00fcrich", "\u00c5rhus", "\ud55c\uae00"])
def test_composed_and_decomposed_names_match(tmp_path, stem):
    """Names in the decomposed form of macOS match composed ones."""
    for folder, form in (("generated", "NFC"), ("reference", "NFD")):
        path = tmp_path / folder / unicodedata.normalize(form, f"{stem}/{stem}_1.png")
        path.parent.mkdir(parents=True)
        path.write_bytes(PNG)
    pairs = match_folders(tmp_path / "generated", tmp_path / "reference")
    assert pairs.ids == (unicodedata.normalize("NFC", f"{stem}/{stem}_1"),)
    (tmp_path / "ids.txt").write_text(unicodedata.normalize("NFD", pairs.ids[0]))
    assert (
        match_folders(
            tmp_path / "generated", tmp_path / "reference", manifest=tmp_path / "ids.txt"
        ).ids
        == pairs.ids
    )


def test_two_spellings_of_one_name_are_reported(tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "\u00fc.png")).write_bytes(PNG)
    with pytest.raises(UserError, match="1 images of one name"):
        listing.list_images(tmp_path)


def test_a_list_may_spell_accents_either_way(tmp_path):
    stored = tmp_path / unicodedata.normalize("NFD", "\u00fc.png")
    stored.write_bytes(PNG)
    assert find_inside(tmp_path, "\u00fc.png") == stored
    assert find_inside(tmp_path, "gone.png") == tmp_path / "gone.png"
    assert find_inside(tmp_path, "a/../../x.png") is None


def test_what_other_systems_leave_behind_is_no_image(tmp_path):
    """Thumbnail folders of a network drive would add images to the set."""
    for name in ("a.png", "@eaDir/a.png/THUMB.jpg", "__MACOSX/._a.png", ".cache/a.png", "b/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    assert sorted(listing.list_images(tmp_path)) == ["a", "b/c"]
