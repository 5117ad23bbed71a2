"""image_pairs: both folder layouts, faults by name, stored bytes untouched, folders not mixed."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_files import make_data_config, write_pairs
from PIL import Image
from retroguide_jax.datasets.common import report
from retroguide_jax.datasets.image_pairs import listing

from retroguide_jax.data import catalog, pipeline, reading
from retroguide_jax.errors import UserError


def build(raw_dir, built, **fields):
    return catalog.open_dataset(make_data_config(raw_dir, **fields), built)


def read_ids(builder, split):
    return {p["id"] for p in reading.read_pairs(builder, make_data_config(""), split, 10**6)}


def read_all_ids(builder):
    return {split: read_ids(builder, split) for split in builder.info.splits}


def test_bytes_are_stored_untouched(tmp_path):
    raw_dir = tmp_path / "raw"
    write_pairs(raw_dir, 3)
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    (raw_dir / "aerial" / "001.png").unlink()
    Image.fromarray(noise).save(raw_dir / "aerial" / "001.JPG", "JPEG", quality=71)
    Image.fromarray(noise).convert("CMYK").save(raw_dir / "ground" / "002.jpeg", "JPEG")
    (raw_dir / "ground" / "002.png").unlink()
    builder = build(raw_dir, tmp_path / "built")
    stored = {}
    for split in builder.info.splits:
        source = reading.open_source(builder, split)
        stored |= {source[i]["id"].decode(): source[i] for i in range(len(source))}
    for view, folder in (("aerial", raw_dir / "aerial"), ("ground", raw_dir / "ground")):
        for path in folder.iterdir():
            assert stored[path.stem][view] == path.read_bytes()


def test_a_dozen_pairs_train(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 12)
    data_config = make_data_config(raw_dir)
    builder = catalog.open_dataset(data_config, tmp_path / "built")
    ids = read_all_ids(builder)
    assert set(ids) == {"train", "val", "test"} and all(ids.values())
    assert sorted(set.union(*ids.values())) == [f"{n:03d}" for n in range(12)]
    batches = pipeline.make_train_iterator(builder, data_config, batch_size=32, seed=0)
    assert next(batches)["ground"].shape == (32, 8, 32, 3)


def test_two_pairs_are_too_few(tmp_path):
    with pytest.raises(UserError, match="2 usable pairs"):
        build(write_pairs(tmp_path / "raw", 2), tmp_path / "built")


def spoil(raw_dir):
    """Makes one fault of each kind in a folder of 10 pairs; returns the names of what is wrong."""
    aerial, ground = raw_dir / "aerial", raw_dir / "ground"
    (aerial / "000.png").unlink()
    (ground / "001.png").write_bytes(b"")
    (ground / "002.png").write_bytes((ground / "002.png").read_bytes()[:45])
    (aerial / "003.png").write_text("not an image")
    Image.new("RGB", (15, 16)).save(aerial / "004.png")
    Image.new("RGB", (16, 16)).save(aerial / "005.jpg")
    (aerial / "notes.txt").write_text("")
    (ground / "extra.jpg").symlink_to("extra.jpg")
    (aerial / ".DS_Store").write_text("")
    return {
        "000.png": "no partner",
        "001.png": "not a JPEG, PNG, WEBP, BMP, GIF or TIFF image",
        "002.png": "truncated",
        "003.png": "not a JPEG, PNG, WEBP, BMP, GIF or TIFF image",
        "004.png": "too small: 16 x 15 pixels",
        "005.png": "same stem as 005.jpg",
        "notes.txt": "not an image",
        "extra.jpg": "no partner",
    }


def test_every_unusable_file_is_listed_and_stops_the_build(tmp_path, capsys):
    raw_dir = write_pairs(tmp_path / "raw", 10)
    faults = spoil(raw_dir)
    with pytest.raises(UserError, match="8 unusable in .*raw.*allow_bad"):
        build(raw_dir, tmp_path / "built")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert len(lines) == len(faults)
    for name, reason in faults.items():
        assert any(f"{name}: {reason}" in line for line in lines), name


def test_unusable_files_are_left_out_where_allowed(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 10)
    faults = spoil(raw_dir)
    builder = build(raw_dir, tmp_path / "built", allow_bad=True)
    ids = set.union(*read_all_ids(builder).values())
    assert ids == {f"{n:03d}" for n in range(5, 10)}
    skipped = json.loads((Path(builder.data_path) / "skipped.json").read_text())
    assert {Path(item["path"]).name for item in skipped} == set(faults)


def test_size_rule_follows_the_config_and_exif(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 3)
    with pytest.raises(UserError, match="at least 17 x 16 wanted"):
        build(raw_dir, tmp_path / "built", aerial_size=(17, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 32 rows x 8 columns, shown 8 x 32
    Image.new("RGB", (8, 32)).save(raw_dir / "ground" / "000.png", exif=exif)
    build(raw_dir, tmp_path / "built")


def test_changed_and_other_folders_are_other_data_sets(tmp_path):
    paths = [build(write_pairs(tmp_path / "a" / "Raw, mine!", 3), tmp_path / "built").data_path]
    paths.append(build(write_pairs(tmp_path / "b" / "Raw, mine!", 3), tmp_path / "built").data_path)
    changed = write_pairs(tmp_path / "a" / "Raw, mine!", 4)
    paths.append(build(changed, tmp_path / "built").data_path)
    os.utime(changed / "aerial" / "000.png", ns=(1, 1))
    paths.append(build(changed, tmp_path / "built").data_path)
    paths.append(build(changed, tmp_path / "built", allow_bad=True).data_path)
    assert len(set(map(str, paths))) == 5
    assert all(Path(path).parent.name.startswith("raw_mine_") for path in paths)
    assert build(changed, tmp_path / "built").data_path == paths[3]


@pytest.mark.parametrize("layout", ["nothing", "half", "empty", "file"])
def test_other_layouts_are_refused(layout, tmp_path):
    raw_dir = tmp_path / "raw"
    raw_dir.mkdir()
    if layout == "half":
        (raw_dir / "aerial").mkdir()
    if layout == "empty":
        (raw_dir / "aerial").mkdir()
        (raw_dir / "ground").mkdir()
    if layout == "file":
        raw_dir = raw_dir / "pairs.txt"
        raw_dir.write_text("")
    with pytest.raises(UserError, match="raw"):
        build(raw_dir, tmp_path / "built")


def write_manifest(root, rows, header=("aerial", "ground", "split"), name="manifest.csv"):
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return root / name


def make_rows(num_train, num_val=1, num_test=1):
    splits = ["train"] * num_train + ["val"] * num_val + ["test"] * num_test
    return [(f"aerial/{n:03d}.png", f"ground/{n:03d}.png", s) for n, s in enumerate(splits)]


@pytest.mark.parametrize("as_file", [False, True])
def test_manifest_decides_pairs_and_splits(as_file, tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 6)
    name = "some, pairs.csv" if as_file else "manifest.csv"
    manifest = write_manifest(raw_dir, make_rows(3), name=name)
    builder = build(manifest if as_file else raw_dir, tmp_path / "built")
    assert read_all_ids(builder) == {
        "train": {"000", "001", "002"}, "val": {"003"}, "test": {"004"},
    }  # fmt: skip


def test_manifest_ids_are_unique_where_stems_are_not(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 3)
    rows = [
        ("aerial/000.png", "ground/001.png", "train"),
        ("aerial/000.png", "ground/000.png", "train"),
        ("aerial/000.png", "ground/002.png", "train"),
    ]
    write_manifest(raw_dir, rows)
    builder = build(raw_dir, tmp_path / "built")
    assert read_all_ids(builder) == {
        "train": {"000", "aerial/000.png+ground/001.png", "aerial/000.png+ground/002.png"}
    }


def test_byte_order_mark_line_ends_blank_rows_and_more_columns_are_fine(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 1)
    text = (
        "\ufeffnote, Ground ,SPLIT,aerial\r\n\r\n1, ground/000.png ,train,aerial/000.png\r\n,,,\r\n"
    )
    (raw_dir / "manifest.csv").write_bytes(text.encode())
    pairs, problems, _ = listing.read_manifest(raw_dir / "manifest.csv")
    assert [(p.id, p.split) for p in pairs] == [("000", "train")] and not problems


def test_bad_rows_are_listed_by_number(tmp_path, capsys):
    raw_dir = write_pairs(tmp_path / "raw", 6)
    (tmp_path / "secret.png").write_bytes((raw_dir / "aerial" / "000.png").read_bytes())
    (raw_dir / "aerial" / "link.png").symlink_to(tmp_path / "secret.png")
    (raw_dir / "aerial" / "loop.png").symlink_to("loop.png")
    good = make_rows(3)
    ground = "ground/005.png"
    bad = [
        ("../secret.png", ground, "train"),
        (str(tmp_path / "secret.png"), ground, "train"),
        ("aerial/gone.png", ground, "train"),
        ("aerial/loop.png", ground, "train"),
        ("aerial/a\0b.png", ground, "train"),
        ("x" * 5000, ground, "train"),
        ("aerial/005.png", ground, "Trainee"),
        ("aerial/005.png", ""),
        ("", ground, "train"),
        good[0],
    ]
    write_manifest(raw_dir, good + bad)
    with pytest.raises(UserError, match=f"{len(bad)} unusable"):
        build(raw_dir, tmp_path / "built")
    listed = capsys.readouterr().err
    for number in (7, 8, 11, 13, 14, 15, 16):
        assert f"manifest.csv, row {number}: " in listed
    assert "gone.png: no such file" in listed
    assert "loop.png" in listed and "x" * 5000 in listed
    assert listed.count("leaves the folder raw") == 2
    builder = build(raw_dir, tmp_path / "built", allow_bad=True)
    assert sum(map(len, read_all_ids(builder).values())) == len(good)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "must name each of the columns"),
        (b"aerial,ground\na,b\n", "mend split"),
        (b"aerial,ground,split,aerial\n", "mend aerial"),
        (b"a/1.png,g/1.png,train\n", "must name each"),
        (b"aerial,ground,split\n\xff\xfe,b,train\n", "not text in UTF-8"),
        (b'aerial,ground,split\n"a', "not a CSV file"),
        (b"aerial,ground,split\n", "names no images"),
        (b"aerial,ground,split\n\n,,\n", "names no images"),
    ],
)
def test_odd_manifests_are_refused(content, message, tmp_path):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        build(tmp_path, tmp_path / "built")


def test_a_manifest_without_training_pairs_is_refused(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 3)
    write_manifest(raw_dir, make_rows(0))
    with pytest.raises(UserError, match="no usable pair has split train"):
        build(raw_dir, tmp_path / "built")


CELLS = st.one_of(
    st.sampled_from(["train", "val", "test", "aerial/000.png", "..", "/", "~", "", "a,b", '"']),
    st.text(max_size=12),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.lists(CELLS, max_size=5), max_size=6), header=st.booleans())
def test_random_manifests_give_pairs_inside_the_folder_or_user_errors(tmp_path, rows, header):
    text = io.StringIO()
    first = [["aerial", "ground", "split"]] if header else []
    csv.writer(text).writerows(first + rows)
    path = tmp_path / "manifest.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    check_manifest(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=80))
def test_random_bytes_as_a_manifest_raise_only_user_errors(tmp_path, content):
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"aerial,ground,split\n" + content)
    check_manifest(path)
    path.write_bytes(content)
    check_manifest(path)


def check_manifest(path):
    try:
        found = listing.list_pairs(path)
    except UserError:
        return
    assert len({pair.id for pair in found.pairs}) == len(found.pairs)
    for pair in found.pairs:
        assert pair.split in listing.SPLITS
        for image in (pair.aerial, pair.ground):
            assert Path(image).is_relative_to(path.parent.resolve())


PLACED = ("aerial", "ground", "split", "id", "lat", "lon", "heading")


def read_examples(builder):
    source = {name: builder.as_data_source(name) for name in builder.info.splits}
    return {example["id"].decode(): example for each in source.values() for example in each}


def test_ids_positions_and_headings_are_stored(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 4)
    places = [
        ("Oak St, 5 (north)", "52.5", " -1.25 ", "90"),
        ("", "", "", ""),
        ("snow ☃", "-90", "360", "-90"),
        ("000",),  # the other cells are missing
    ]
    rows = [(*row, *place) for row, place in zip(make_rows(4, 0, 0), places, strict=True)]
    write_manifest(raw_dir, rows, PLACED)
    # The heading of an ordinary photograph is stored; that of a panorama is applied at the build.
    stored = read_examples(build(raw_dir, tmp_path / "built", panorama=False))
    assert set(stored) == {"Oak St, 5 (north)", "001", "snow ☃", "000"}
    for name, position, heading in (
        ("Oak St, 5 (north)", (52.5, -1.25), 90),
        ("001", (np.nan, np.nan), 0),
        ("snow ☃", (-90, 360), 270),
        ("000", (np.nan, np.nan), 0),
    ):
        np.testing.assert_array_equal(stored[name]["position"], position)
        assert stored[name]["heading"] == heading
        assert stored[name]["aerial_id"].decode() == name
        assert [each.decode() for each in stored[name]["positives"]] == [name]
    # A row's own id takes precedence over another row's stem.
    assert stored["000"]["aerial"][0, 0, 0] == 3


@pytest.mark.parametrize(
    "cells, reason",
    [
        (("", "91", "0", ""), "lat is 91, not within -90 to 90"),
        (("", "-90.1", "0", ""), "lat is -90.1, not within"),
        (("", "0", "361", ""), "lon is 361, not within -180 to 360"),
        (("", "0", "-181", ""), "lon is -181, not within"),
        (("", "0", "", ""), "has only one of lat and lon"),
        (("", "", "0"), "has only one of lat and lon"),
        (("", "north", "0", ""), "lat is 'north', not a number"),
        (("", "0", "0", "nan"), "heading is 'nan', not a number"),
        (("", "0", "0", "1e999"), "heading is '1e999', not a number"),
        (("a, b", "", "", ""), "has the id 'a, b' of an earlier row"),
    ],
)
def test_odd_ids_positions_and_headings_are_bad_rows(cells, reason, tmp_path):
    raw_dir = write_pairs(tmp_path, 2)
    rows = [(*make_rows(1)[0], "a, b"), (*make_rows(2)[1], *cells)]
    pairs, problems, _ = listing.read_manifest(write_manifest(raw_dir, rows, PLACED))
    assert [pair.id for pair in pairs] == ["a, b"]
    assert [(p.path, reason in p.reason) for p in problems] == [("manifest.csv, row 3", True)]
    assert problems[0].kind == ("duplicate" if cells[0] else "row")


def test_an_id_that_is_anothers_default_is_a_duplicate(tmp_path):
    raw_dir = write_pairs(tmp_path, 3)
    default = "aerial/000.png+ground/001.png"
    rows = [("aerial/000.png", "ground/001.png", "train"), (*make_rows(3)[2], default)]
    pairs, problems, _ = listing.read_manifest(write_manifest(raw_dir, rows, PLACED))
    assert [pair.id for pair in pairs] == [default]
    assert [problem.kind for problem in problems] == ["duplicate"]


def test_a_column_named_twice_is_refused(tmp_path):
    raw_dir = write_pairs(tmp_path, 3)
    write_manifest(raw_dir, [(*row, "a", "b") for row in make_rows(3)], (*PLACED[:4], "ID"))
    with pytest.raises(UserError, match="mend id"):
        build(raw_dir, tmp_path / "built")


def test_backslashes_stand_between_folders_too(tmp_path):
    raw_dir = write_pairs(tmp_path / "raw", 3)
    write_manifest(raw_dir, [[cell.replace("/", "\\") for cell in row] for row in make_rows(1)])
    assert read_all_ids(build(raw_dir, tmp_path / "built")) == {
        "train": {"000"}, "val": {"001"}, "test": {"002"},
    }  # fmt: skip


@pytest.mark.parametrize("delimiter, comma", [(";", ","), ("\t", ","), (",", ".")])
def test_a_manifest_of_a_spreadsheet_is_read(delimiter, comma, tmp_path):
    raw_dir = write_pairs(tmp_path, 3)
    splits = ["Train", " VALIDATION", "Testing"]
    rows = [("Aerial", "Ground", "Split", "lat", "lon", "Heading")]
    for n, split in enumerate(splits):
        number = f"{n}.5".replace(".", comma)
        rows.append((f"aerial\\00{n}.png", f".\\ground\\00{n}.png", split, number, number, number))
    lines = [delimiter.join(row) for row in rows] + [delimiter * 5, "", ""]
    (raw_dir / "manifest.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    pairs, problems, notes = listing.read_manifest(raw_dir / "manifest.csv")
    assert not problems and not notes
    assert [pair.split for pair in pairs] == ["train", "val", "test"]
    assert [pair.heading for pair in pairs] == [0.5, 1.5, 2.5]
    assert pairs[1].position == (1.5, 1.5) and Path(pairs[1].ground).is_file()


def test_a_header_that_lacks_a_column_is_shown(tmp_path):
    (tmp_path / "manifest.csv").write_text("satellite;street;fold\na;b;train\n")
    with pytest.raises(UserError, match="it has 'satellite, street, fold'.*mend aerial, ground"):
        listing.list_pairs(tmp_path)


@pytest.mark.parametrize("name", ["pairs.csv", "manifest.tsv", "manifest.xlsx"])
def test_a_list_of_another_name_is_pointed_at(name, tmp_path):
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=f"if {name} lists the pairs, save it as manifest.csv"):
        listing.list_pairs(tmp_path)


def write_as_bytes(folder, names):
    """Files whose names are raw bytes, as from a zip file of another system."""
    for view, size in (("aerial", (16, 16)), ("ground", (8, 32))):
        os.makedirs(os.fsencode(folder / view))
        for number, name in enumerate(names):
            noise = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
            with open(os.path.join(os.fsencode(folder / view), name + b".png"), "wb") as file:
                Image.fromarray(noise).save(file, "PNG")
    return folder


@pytest.mark.parametrize("name", ["街景".encode("gbk"), "rué".encode("latin-1"), b"\xff"])
def test_names_that_are_not_utf8_are_refused_by_check_and_build(name, tmp_path, capsys):
    raw_dir = write_as_bytes(tmp_path / "raw", [b"0", b"1", b"2", name])
    data_config = make_data_config(raw_dir)
    found = make_report(data_config)
    assert not found["ok"] and [problem["kind"] for problem in found["problems"]] == ["name"]
    assert "rename it" in found["problems"][0]["fix"]
    with pytest.raises(UserError, match="not UTF-8 text"):
        build(raw_dir, tmp_path / "built")
    assert "\\x" in capsys.readouterr().err  # the name in printable form
    builder = build(raw_dir, tmp_path / "built", allow_bad=True)
    assert set.union(*read_all_ids(builder).values()) == {"0", "1", "2"}


def test_a_folder_that_is_not_utf8_is_no_fault(tmp_path):
    raw_dir = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xbd\xd6"))
    write_as_bytes(raw_dir, [b"0", b"1", b"2"])
    builder = build(raw_dir, tmp_path / "built")
    assert set.union(*read_all_ids(builder).values()) == {"0", "1", "2"}


def make_report(data_config):
    builder_class = catalog.load_builder_class("image_pairs")
    return report.make_report(builder_class, data_config, full=True, num_workers=1)


GREY = np.kron(np.random.default_rng(5).integers(30, 255, (4, 4)), np.ones((4, 4)))
CONTENTS = {
    "good": lambda pixels: Image.fromarray(pixels),
    "flat": lambda pixels: Image.new("RGB", (16, 16), (1, 2, 3)),
    "grey": lambda pixels: Image.fromarray(pixels).convert("L"),
    "11 bits": lambda pixels: Image.fromarray((GREY * 8).astype(np.uint16)),
    "16 bits": lambda pixels: Image.fromarray((GREY * 257).astype(np.uint16)),
    "infrared": lambda pixels: Image.fromarray(np.dstack([pixels, pixels[..., 0] // 3])),
    "cut out": lambda pixels: Image.fromarray(np.dstack([pixels, np.uint8(255) * (GREY > 90)])),
    "small": lambda pixels: Image.fromarray(pixels[:15]),
    "text": None,
    "cut": None,
}  # fmt: skip
LOST = {"11 bits", "infrared", "small", "text", "cut"}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kinds=st.lists(st.sampled_from(sorted(CONTENTS)), min_size=1, max_size=6),
    splits=st.lists(st.sampled_from(["train", "test", "Val"]), min_size=6, max_size=6),
    allow_bad=st.booleans(),
)
def test_check_and_build_agree_on_what_is_good(tmp_path_factory, kinds, splits, allow_bad):
    tmp_path = tmp_path_factory.mktemp("agree")
    raw_dir = write_as_bytes(tmp_path / "raw", [b"%d" % n for n in range(len(kinds))])
    rows = []
    for number, (kind, split) in enumerate(zip(kinds, splits, strict=False)):
        path = raw_dir / "aerial" / f"{number}.png"
        if kind == "text":
            path.write_text("no image")
        elif kind == "cut":
            path.write_bytes(path.read_bytes()[:-20])
        else:
            noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            CONTENTS[kind](noise).save(path)
        rows.append((f"aerial/{number}.png", f"ground/{number}.png", split))
    write_manifest(raw_dir, rows)
    found = make_report(make_data_config(raw_dir, allow_bad=allow_bad))
    good = {str(n) for n, kind in enumerate(kinds) if kind not in LOST}
    try:
        builder = build(raw_dir, tmp_path / "built", allow_bad=allow_bad)
    except UserError:
        assert not found["ok"]
        return
    assert found["ok"] and set.union(*read_all_ids(builder).values()) == good
    assert ("hardly pictures" in "\n".join(found["notes"])) == ("flat" in kinds)


def test_folders_of_other_programs_are_named(tmp_path):
    for name in ("trainA", "trainB", "valA", "valB"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="but holds 4 folders: trainA, trainB, valA, valB; make"):
        listing.list_pairs(tmp_path)


def test_names_that_never_agree_are_one_fault(tmp_path):
    raw_dir = write_pairs(tmp_path, 3)
    for view in ("aerial", "ground"):
        for path in sorted((raw_dir / view).iterdir()):
            path.rename(path.with_stem(f"{path.stem}_{view}"))
    with pytest.raises(UserError, match="such as 000_aerial and 000_ground: give pairs equal"):
        listing.list_pairs(raw_dir)
