import numpy as np
import pytest
from pair_files import make_data_config, write_pairs
from PIL import Image

from retroguide_jax.data import catalog, images
from retroguide_jax.errors import UserError
from retroguide_jax.retrieval import pictures
from retroguide_jax.retrieval.answers import Answer
from retroguide_jax.retrieval.coordinates import read_coordinates
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import About, Index, write_index
from retroguide_jax.retrieval.strip import draw_strip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """(builder, data_config, data_dir) of six pairs, whose positions all but one are known."""
    root = tmp_path_factory.mktemp("photographs")
    raw = write_pairs(root / "raw", 6)
    rows = [
        f"aerial/00{n}.png,ground/00{n}.png,test,{'' if n == 4 else n / 8},{'' if n == 4 else -n}"
        for n in range(5)
    ]
    rows.append("aerial/005.png,ground/005.png,train,,")
    text = "\n".join(["aerial,ground,split,lat,lon", *rows])
    (raw / "manifest.csv").write_text(text)
    data_config = make_data_config(raw / "manifest.csv", test_split="test")
    return catalog.open_dataset(data_config, root / "data"), data_config, root / "data"


def make_index(folder, entries, **about):
    facts = {"weights": "0", "workdir": "w", "checkpoint": "latest", "step": 1, "view": "ground"}
    with write_index(folder, About(**facts | about)) as append:
        append(entries, np.eye(len(entries), dtype=np.float32))
    return Index.open(folder)


def test_examples_have_ids_positions_and_coordinates(photographs):
    builder, data_config, _ = photographs
    examples = pictures.Examples(builder, "test", "ground")
    assert len(examples) == 5
    entries = [examples[number][0] for number in range(5)]
    assert [entry.position for entry in entries] == [0, 1, 2, 3, 4]
    for entry, encoded in (examples[number] for number in range(5)):
        number = int(entry.id)  # each image is flat, of the level of its number
        assert np.all(images.decode_image(encoded) == number)
        assert entry.coordinates == (None if number == 4 else (number / 8, -number))


def test_an_index_shows_the_examples_it_was_made_of(photographs, tmp_path):
    builder, data_config, data_dir = photographs
    examples = pictures.Examples(builder, "test", "ground")
    entries = [examples[number][0] for number in (3, 1)]
    index = make_index(tmp_path / "index", entries, split="test", data_dir=str(data_dir))
    get_picture = pictures.open_pictures(index, data_config)
    for entry in index.entries:
        assert np.all(images.decode_image(get_picture(entry)) == int(entry.id))
    for entry in (Entry("a", position=5), Entry("a", path="a.png")):
        with pytest.raises(UserError, match="is not in the data set"):
            get_picture(entry)


def test_no_entry_leads_out_of_the_folder(tmp_path):
    write_pairs(tmp_path / "in", 2)
    (tmp_path / "secret.png").touch()
    entry = Entry("aerial/001", path="aerial/001.png")
    index = make_index(tmp_path / "index", [entry], images=str(tmp_path / "in"))
    get_picture = pictures.open_pictures(index, None)
    assert np.all(images.decode_image(get_picture(entry)) == 1)
    for path in ("../secret.png", str(tmp_path / "secret.png"), "aerial/../../x.png"):
        with pytest.raises(UserError, match="leads out of"):
            get_picture(Entry("x", path=path))
    with pytest.raises(UserError, match="leads out of"):
        get_picture(Entry("x", position=1))


def test_coordinates_are_read_by_id(tmp_path):
    file = tmp_path / "places.csv"
    file.write_text("name,Longitude,id,latitude\nx,7.5,a,47\ny,-180,sub/b,-90\n")
    assert read_coordinates(file) == {"a": (47.0, 7.5), "sub/b": (-90.0, -180.0)}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "must name each of id,latitude,longitude once"),
        ("id,latitude\na,1\n", "must name each"),
        ("id,id,latitude,longitude\n", "must name each"),
        ("id,latitude,longitude\na,1\n", "row 2 has 2 columns"),
        ("id,latitude,longitude\na,1,\n", "row 2 longitude is 'empty'"),
        ("id,latitude,longitude\na,1,nan\n", "row 2 longitude is 'nan'"),
        ("id,latitude,longitude\na,1,2\na,1,2\n", "row 3 has the id 'a' of an earlier row"),
        ("id,latitude,longitude\n,1,2\na,91,2\nb,1,2\n", "2 rows .*: row 2 has no id.*, row 3"),
    ],
)
def test_bad_coordinates_are_listed(tmp_path, text, reason):
    (tmp_path / "places.csv").write_text(text)
    with pytest.raises(UserError, match=reason):
        read_coordinates(tmp_path / "places.csv")


def test_a_strip_frames_right_and_wrong(tmp_path):
    for name, level in (("query", 10), ("a", 60), ("b", 110)):
        Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    found = [Entry("a", path="a.png"), Entry("b" * 300, path="b.png")]
    query = Entry("a", str(tmp_path / "query.png"))
    sizes = ((16, 16), (8, 32))

    def draw(is_known):
        answer = Answer(query, found, [0.9, 0.1], is_known)
        return draw_strip([answer], sizes, lambda entry: tmp_path / entry.path)

    labelled, unlabelled = draw(True), draw(False)
    assert labelled.shape == unlabelled.shape
    # The first row of pixels under the gap: the query's frame and those of what was found.
    colours = {tuple(pixel) for pixel in labelled[10].tolist()} - {(255, 255, 255)}
    assert colours == {(190, 190, 190), (46, 139, 60), (200, 50, 40)}
    assert {tuple(pixel) for pixel in unlabelled[10].tolist()} == {(255, 255, 255), (190, 190, 190)}
    # Panoramas are four times as wide as high, whatever their files are.
    levels = labelled[10 + 4 + 64, :, 0]
    assert [np.count_nonzero(levels == level) for level in (10, 60, 110)] == [128, 512, 512]
