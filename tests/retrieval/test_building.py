import types

import numpy as np
import pytest
from PIL import Image

from retroguide_jax.errors import UserError
from retroguide_jax.retrieval.building import build_index
from retroguide_jax.retrieval.embedding import embed_pictures
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import About, Index

ABOUT = About("aerial", "0", "w", "latest", 1, images="/i")


class FakeModel:
    """Embeds an image as its mean colour, made a unit row."""

    networks = types.SimpleNamespace(sizes={"aerial": (8, 8)})

    def __init__(self):
        self.batches = []

    def embed(self, pixels, view):
        assert pixels.shape[1:] == (8, 8, 3) and view == "aerial"
        self.batches.append(len(pixels))
        rows = pixels.mean(axis=(1, 2)) + 2
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write(folder, names):
    """One flat image per name, each of another colour and size."""
    pictures = []
    for number, name in enumerate(names):
        path = folder / f"{number}.png"
        colour = np.array([30 * number, 200 - 20 * number, 100], np.uint8)
        Image.fromarray(np.broadcast_to(colour, (9 + number, 12, 3)).copy()).save(path)
        pictures.append((Entry(name, path=path.name), path))
    return pictures


def test_images_of_one_id_are_in_it_once(tmp_path):
    names = ["a", "b", "a", "c", "b", "a"]
    reported = []
    built = build_index(
        tmp_path / "index",
        FakeModel(),
        ABOUT,
        write(tmp_path, names),
        batch_size=2,
        progress_fn=reported.append,
    )
    assert (built.num_entries, built.num_repeated, built.unreadable) == (3, 3, [])
    assert [entry.path for entry in Index.open(tmp_path / "index").entries] == [
        "0.png",
        "1.png",
        "3.png",
    ]
    assert reported == [2, 2, 2]


def test_rows_stay_with_their_images_in_any_batch(tmp_path):
    pictures = write(tmp_path, "abcdefg")
    pictures[2][1].write_text("hello")
    pictures[3][1].write_text("hello")
    found = {}
    for batch_size in (1, 2, 3, 16):
        model = FakeModel()
        batches = list(embed_pictures(model, pictures, "aerial", batch_size))
        assert set(model.batches) == {batch_size}
        assert [error.reason for batch in batches for error in batch.unreadable] == [
            "not a JPEG, PNG, WEBP, BMP, GIF or TIFF image"
        ] * 2
        rows = {e.id: row for b in batches for e, row in zip(b.entries, b.rows, strict=True)}
        assert list(rows) == list("abefg")
        found[batch_size] = np.stack(list(rows.values()))
        np.testing.assert_array_equal(found[batch_size], found[1])
    assert len(np.unique(found[1], axis=0)) == 5


def test_embeddings_that_are_not_finite_are_an_error(tmp_path):
    model = FakeModel()
    model.embed = lambda pixels, view: np.full((len(pixels), 3), np.nan)
    with pytest.raises(UserError, match="not finite; use an earlier checkpoint"):
        list(embed_pictures(model, write(tmp_path, "a"), "aerial", 2))
