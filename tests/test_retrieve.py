"""docs/retrieve.md, block by block, and the user errors of `retroguide retrieve`."""

import contextlib
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_model import save_run
from tiny import make_tiny_config

from retroguide_jax import __main__ as cli
from retroguide_jax.data import catalog
from retroguide_jax.retrieval.index import Index

PAGE = Path(__file__).parents[1] / "docs" / "retrieve.md"
NAMES = [f"place{number}" for number in range(6)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder for the commands, with a run, its data set and photographs of the same places."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _fill(place)
        yield place


def _fill(place):
    rng = np.random.default_rng(0)
    pairs = place / "pairs"
    for folder, size in (("aerial", (20, 20)), ("ground", (8, 32))):
        (pairs / folder).mkdir(parents=True)
        for name in (*NAMES, "trained"):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(pairs / folder / f"{name}.png")
    rows = [f"aerial/{name}.png,ground/{name}.png,test,{n},{-n}" for n, name in enumerate(NAMES)]
    header, trained = "aerial,ground,split,lat,lon", "aerial/trained.png,ground/trained.png,train,,"
    (pairs / "manifest.csv").write_text("\n".join([header, trained, *rows]))
    shutil.copytree(pairs / "aerial", place / "my_tiles")
    shutil.copytree(pairs / "ground", place / "my_panoramas" / "sub")
    config = make_tiny_config(
        **{"data.name": "image_pairs", "data.raw_dir": str(pairs / "manifest.csv")}
    )
    with config.unlocked():
        config.data.config_name = ""
    catalog.open_dataset(config.data, place / "runs/city/data")
    save_run(place / "runs/city", config)


def call(text):
    """(exit status, stdout, stderr) of a command line."""
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        status = cli.main(shlex.split(text)[1:])
    return status, printed.getvalue(), complained.getvalue()


@pytest.fixture(scope="module")
def outputs(place):
    """Every block of the page, run in order: {its text: what it printed}."""
    outputs = {}
    for language, text in re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        printed = io.StringIO()
        if language == "python":
            with contextlib.redirect_stdout(printed):
                exec(text, {})
            outputs[text] = printed.getvalue()
        else:
            for line in text.replace("\\\n", " ").splitlines():
                status, outputs[line], complained = call(line)
                assert status == 0, complained
    return outputs


def find_output(outputs, *parts):
    (found,) = [output for text, output in outputs.items() if all(part in text for part in parts)]
    return found


def test_the_page_is_run_whole(outputs):
    assert len(outputs) == 7


def test_what_is_in_the_indexes(outputs, place):
    assert (
        find_output(outputs, "--output=panoramas.index") == "7 ground images in panoramas.index\n"
    )
    assert find_output(outputs, "--data ") == "6 aerial images in aerials.index\n"
    index = Index.open(place / "aerials.index")
    places = {entry.id: entry.coordinates for entry in index.entries}
    assert places == {name: (n, -n) for n, name in enumerate(NAMES)}
    np.testing.assert_allclose(np.linalg.norm(index.embeddings, axis=1), 1, atol=1e-5)


def test_table_and_json_say_the_same(outputs, place):
    _, _, *lines, _ = find_output(outputs, "--strip").splitlines()
    printed = [line.split() for line in lines]
    found = json.loads((place / "found.json").read_text())
    assert (found["view"], found["index_view"]) == ("aerial", "ground")
    assert [answer["query"] for answer in found["queries"]] == [*NAMES, "trained"]
    rows = [(answer["query"], item) for answer in found["queries"] for item in answer["found"]]
    assert len(rows) == 7 * 5
    for (query, item), cells in zip(rows, printed, strict=True):
        expected = [query, str(item["rank"]), f"{item['similarity']:.4f}", item["id"], "-"]
        assert cells == expected
        assert item["path"] == f"{item['id']}.png" and item["is_right"] is None
    ranked = [item["similarity"] for _, item in rows[:5]]
    assert ranked == sorted(ranked, reverse=True)


def test_the_strip_has_a_row_for_each_query(outputs, place):
    rows = 7 * (128 + 2 * 4 + 2 * 16 + 10) + 10
    assert Image.open(place / "found.png").height == rows


def test_an_image_finds_itself_in_its_own_view(outputs, place):
    status, _, complained = call(
        "retroguide retrieve query --index=aerials.index pairs/aerial/place3.png"
        " my_tiles/trained.png --view=aerial --top=1 --json=self.json"
    )
    assert status == 0, complained
    first, second = json.loads((place / "self.json").read_text())["queries"]
    item = first["found"][0]
    assert item["id"] == "place3" and item["is_right"] and item["coordinates"] == [3, -3]
    assert item["similarity"] == pytest.approx(1, abs=1e-5)
    assert second["found"][0]["is_right"] is None  # the index does not hold this place


@pytest.fixture(scope="module")
def placed(outputs, place):
    """The output of making placed.index, of the same panoramas in smaller batches."""
    (place / "places.csv").write_text("id,latitude,longitude\nsub/place1,47.5,8\nelsewhere,1,2\n")
    status, printed, complained = call(
        "retroguide retrieve index --workdir=runs/city --images=my_panoramas --output=placed.index"
        " --coordinates=places.csv --batch_size=16"
    )
    assert status == 0, complained
    return printed


def test_coordinates_of_files(placed):
    assert "coordinates of 1 of 7 images; 1 rows of places.csv name no image" in placed
    _, printed, _ = call(
        "retroguide retrieve query --index=placed.index my_tiles/place1.png --top=7"
    )
    assert ["sub/place1", "47.5,", "8"] in [line.split()[3:] for line in printed.splitlines()]


def test_embeddings_do_not_depend_on_their_batch(placed, place):
    one, other = (Index.open(place / f"{name}.index") for name in ("panoramas", "placed"))
    np.testing.assert_allclose(one.embeddings, other.embeddings, rtol=0, atol=1e-6)


def test_unreadable_images_are_listed_and_counted(outputs, place):
    shutil.copytree(place / "my_tiles", place / "torn")
    (place / "torn" / "place2.png").write_text("hello")
    (place / "torn" / "place4.png").write_bytes((place / "torn/place5.png").read_bytes()[:80])
    status, printed, complained = call(
        "retroguide retrieve index --workdir=runs/city --images=torn --view=aerial"
        " --output=torn.index --batch_size=3"
    )
    assert status == 1 and printed == "5 aerial images in torn.index\n"
    assert "skipped torn/place2.png: not a" in complained
    assert "skipped torn/place4.png: truncated" in complained
    assert "2 of 7 images could not be read" in complained
    status, printed, complained = call(
        "retroguide retrieve query --index=panoramas.index torn --top=1 --json=torn.json"
    )
    assert status == 1 and "2 of 7 images could not be read" in complained
    found = json.loads((place / "torn.json").read_text())
    assert [problem["path"] for problem in found["unreadable"]] == [
        "torn/place2.png",
        "torn/place4.png",
    ]
    assert len(found["queries"]) == 5


@pytest.mark.parametrize(
    ("fields", "flag", "reason"),
    [
        ({"weights": "0"}, "", "this embedder (step 0) has other weights"),
        ({"weights": "0"}, "--workdir=runs/city", "this embedder (step 0) has other weights"),
        ({"step": 3}, "", "was made by step 3 of "),
        ({"workdir": "/gone"}, "", "/gone, which made panoramas.index, is gone"),
    ],
)
def test_another_embedder_is_refused(outputs, place, fields, flag, reason):
    path = place / "panoramas.index" / "index.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | fields))
    status, _, complained = call(
        f"retroguide retrieve query --index=panoramas.index my_tiles {flag}"
    )
    path.write_text(before)
    assert status == 1 and reason in complained


def test_a_work_directory_that_has_moved(outputs, place):
    shutil.copytree(place / "runs/city", place / "moved")
    status, printed, complained = call(
        "retroguide retrieve query --index=panoramas.index my_tiles --workdir=moved --top=5"
    )
    assert status == 0, complained
    assert printed in find_output(outputs, "--strip")


REFUSED = {
    "query --index=nowhere my_tiles": "no index",
    "query --index=panoramas.index nowhere.png": "nowhere.png: no such file or folder",
    "index --workdir=runs/city --images=nowhere --output=x": "no such folder",
    "index --workdir=runs/city --images=my_tiles --output=panoramas.index": "name a new folder",
    "index --workdir=runs/city --images=my_tiles --data_dir=d --output=x": "belongs to --data",
    "index --workdir=runs/city --data --coordinates=c.csv --output=x": "belong to --images",
    "index --workdir=runs/city --data=some --data_dir=runs/city/data --output=x": "no examples",
    "index --workdir=runs/city --data --data_dir=elsewhere --output=x": "is not built in",
    "index --workdir=runs/city --images=texts --output=x": "1 images cannot be read: texts/a.png",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_mistakes_are_reported(outputs, place, arguments):
    (place / "texts").mkdir(exist_ok=True)
    (place / "texts" / "a.png").write_text("hello")
    status, _, complained = call(f"retroguide retrieve {arguments}")
    assert status == 1 and complained.startswith("error: ")
    assert REFUSED[arguments] in complained and not (place / "x").exists()


def test_a_strip_has_an_end(outputs, place):
    names = " ".join(["my_tiles"] * 15)
    status, _, complained = call(
        f"retroguide retrieve query --index=panoramas.index {names} --strip=s.png"
    )
    assert status == 1 and "--strip: 105 images; give 100 at most" in complained
