"""Coordinates of files: by ids with or without suffix, and the message where none match."""

import types

import pytest

from retroguide_jax.commands import retrieve_index
from retroguide_jax.errors import UserError


@pytest.fixture
def args(tmp_path):
    for name in ("a/1.png", "a/2.jpg", "b/1.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return types.SimpleNamespace(
        images=str(tmp_path / "images"), coordinates=str(tmp_path / "places.csv")
    )


def write(args, *names):
    with open(args.coordinates, "w") as file:
        file.write("".join(["id,latitude,longitude\n", *(f"{name},1,2\n" for name in names)]))


def test_ids_may_have_the_suffix(args, capsys):
    write(args, "a/1", "a/2.jpg", "c/7.png")
    found = {entry.id: entry.coordinates for entry, _ in retrieve_index._open_folder(args)}
    assert found == {"a/1": (1, 2), "a/2": (1, 2), "b/1": None}
    printed = capsys.readouterr().out
    assert printed.startswith("coordinates of 2 of 3 images; 1 rows of ")
    assert printed.endswith("name no image: 'c/7.png'\n")


@pytest.mark.parametrize("names", [("1", "2"), ("images/a/1.png",), ("x", "y", "z", "w")])
def test_where_none_fits_both_sides_are_shown(args, names):
    write(args, *names)
    with pytest.raises(UserError, match="none of its .* ids is an image's") as caught:
        retrieve_index._open_folder(args)
    shown = str(caught.value)
    assert repr(names[0]) in shown and "the images are 'a/1', 'a/2', 'b/1':" in shown
