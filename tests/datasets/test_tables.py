"""Lists from other programs: CSV in all its forms, and paths that stay inside the folder."""

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retroguide_jax.datasets.common import tables

from retroguide_jax.errors import UserError

in_a_folder = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PARTS = st.sampled_from(["..", ".", "", "sub", "out", "circle", "~", "/", "\\", "C:", "a b,c.png"])


@in_a_folder
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1), max_size=6
    ),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
)
def test_what_was_written_is_read(tmp_path, rows, line_end, mark):
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    path = tmp_path / "list.csv"
    path.write_bytes(text.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    wanted = [(n, row) for n, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    assert tables.read_csv(path) == wanted


@in_a_folder
@given(st.binary(max_size=60))
def test_random_bytes_raise_only_user_errors(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    try:
        rows = tables.read_csv(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert all(any(cell.strip() for cell in row) for _, row in rows)


def test_lists_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match="gone.csv: No such file.*check the path"):
        tables.read_csv(tmp_path / "gone.csv")
    (tmp_path / "odd.csv").write_bytes(b"caf\xe9,1\n")
    with pytest.raises(UserError, match="odd.csv: not text in UTF-8"):
        tables.read_csv(tmp_path / "odd.csv")
    (tmp_path / "odd.csv").write_bytes(b'"a')
    with pytest.raises(UserError, match="odd.csv: not a CSV file"):
        tables.read_csv(tmp_path / "odd.csv")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with links that leave it and links that form a loop."""
    above = tmp_path_factory.mktemp("above").resolve()
    (above / "secret.png").write_text("")
    root = above / "root"
    (root / "sub").mkdir(parents=True)
    (root / "out").symlink_to(above)
    (root / "circle").symlink_to("circle")
    return root


@in_a_folder
@given(st.one_of(st.lists(PARTS, max_size=6).map("/".join), st.text(max_size=20)))
def test_no_name_leads_out(root, name):
    try:
        path = tables.resolve_inside(root, name)
    except tables.BadRowError as error:
        assert error.kind == "row"
    else:
        inside = Path(path).relative_to(root).parts
        assert ".." not in inside  # links belong to the folder and may point anywhere


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "sub/../../secret.png", "..\\secret.png", "/etc/passwd",
     "sub\\..\\..\\secret.png"],
)  # fmt: skip
def test_names_that_lead_out_are_refused(root, name):
    with pytest.raises(tables.BadRowError, match="leaves the folder root"):
        tables.resolve_inside(root, name)
    with pytest.raises(tables.BadRowError, match="leaves the folder root"):
        tables.resolve_inside(root, str(root / "sub"))  # inside, but only on this machine


@pytest.mark.parametrize("name", ["sub/1.png", "sub\\1.png", "./sub//1.png", "out/../sub/1.png"])
def test_names_inside_are_followed(root, name):
    assert tables.resolve_inside(root, name) == str(root / "sub" / "1.png")


def test_empty_and_odd_names_are_refused(root):
    with pytest.raises(tables.BadRowError, match="empty path"):
        tables.resolve_inside(root, "")
    with pytest.raises(tables.BadRowError, match="cannot be followed"):
        tables.resolve_inside(root, "a\0b")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read(number):
    assert tables.parse_number("lat", repr(number)) == number


@given(st.text(max_size=8))
def test_other_cells_are_numbers_or_bad(cell):
    try:
        number = tables.parse_number("lat", cell)
    except tables.BadRowError as error:
        assert "lat is" in str(error)
    else:
        assert math.isfinite(number) if cell else math.isnan(number)


@pytest.mark.parametrize(
    "cell", ["nan", "inf", "-inf", "1e999", "1,5,0", "1.000,5", "north", "52.1N"]
)
def test_no_numbers_are_bad(cell):
    with pytest.raises(tables.BadRowError, match="heading is .*not a number"):
        tables.parse_number("heading", cell)


SAVED_BY_SPREADSHEETS = {
    "semicolons": (";", "utf-8"),
    "semicolons, mark": (";", "utf-8-sig"),
    "tabs": ("\t", "utf-8"),
    "bars": ("|", "utf-8"),
    "Unicode text of Excel": ("\t", "utf-16"),
    "commas, UTF-16": (",", "utf-16"),
}


@pytest.mark.parametrize("name", SAVED_BY_SPREADSHEETS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("stated", [False, True])
def test_what_spreadsheets_save_is_read(name, line_end, stated, tmp_path):
    delimiter, encoding = SAVED_BY_SPREADSHEETS[name]
    rows = [["aerial", "ground", "note"], ["a,1.png", "g;1.png", 'say "x"\nor\ty'], ["é", "b|", ""]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows([*rows, ["", "", ""]])
    head = f"sep={delimiter}\r\n" if stated else ""
    (tmp_path / "list.csv").write_bytes((head + text.getvalue()).encode(encoding))
    assert tables.read_csv(tmp_path / "list.csv") == list(enumerate(rows, start=1 + stated))


def test_what_is_no_text_gets_its_own_remedy(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match="a spreadsheet's own file; export it as CSV"):
        tables.read_csv(path)
    path.write_bytes("aerial;größe\n".encode("cp1252"))
    with pytest.raises(UserError, match="not text in UTF-8 .*spreadsheets: CSV UTF-8"):
        tables.read_csv(path)


@pytest.mark.parametrize("cell, number", [("52,5", 52.5), ("-1,25", -1.25), ("0,5e1", 5.0)])
def test_decimal_commas_are_points(cell, number):
    assert tables.parse_number("lat", cell) == number


@pytest.mark.parametrize("name", ["C:\\data\\1.png", "d:/1.png"])
def test_drives_are_named(root, name):
    with pytest.raises(tables.BadRowError, match="begins with a drive: write it relative"):
        tables.resolve_inside(root, name)


@pytest.mark.parametrize("name", ["a/1.jpg", "a/1.JPG", "a\\1.Jpg"])
def test_a_name_in_another_case_is_found(name, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.JPG").write_text("")
    assert tables.resolve_inside(tmp_path, name) == str(tmp_path / "a" / "1.JPG")
    assert tables.resolve_inside(tmp_path, "a/2.jpg") == str(tmp_path / "a" / "2.jpg")


def test_of_two_cases_only_the_one_that_is_spelt_so_is_meant(tmp_path):
    for name in ("1.JPG", "1.jpg"):
        (tmp_path / name).write_text("")
    assert tables.resolve_inside(tmp_path, "1.jpg") == str(tmp_path / "1.jpg")
    assert tables.resolve_inside(tmp_path, "1.Jpg") == str(tmp_path / "1.Jpg")  # none
