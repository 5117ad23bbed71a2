"""Equal files are found by their content, and only by that."""

from retroguide_jax.data.identity import find_equal_files, name_places


def test_content_decides_not_name_size_or_time(tmp_path):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"longer", "e": b"", "f": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in "abcdefa"]
    found = find_equal_files(paths)
    assert found == [str(tmp_path / name) for name in "abadeea"]


def test_files_that_cannot_be_read_are_equal_to_themselves(tmp_path):
    paths = [tmp_path / "gone", tmp_path / "also gone", tmp_path / "gone", tmp_path, "a\0b"]
    assert find_equal_files(paths) == [
        str(paths[0]),
        str(paths[1]),
        str(paths[0]),
        *map(str, paths[3:]),
    ]


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes(number))
    monkeypatch.setattr("retroguide_jax.data.identity._hash", None)
    paths = [str(tmp_path / str(number)) for number in range(5)]
    assert find_equal_files(paths * 2) == paths * 2


def test_pairs_of_files_are_named_by_what_they_show(tmp_path):
    for name, content in {"t0": b"0", "t1": b"1", "copy": b"0", "g0": b"2", "g1": b"3"}.items():
        (tmp_path / name).write_bytes(content)
    tiles = [tmp_path / name for name in ("t0", "t1", "copy")]
    grounds = [tmp_path / name for name in ("g0", "g1", "g1")]
    names, positives = name_places(["a", "b", "c"], tiles, grounds)
    assert names.tolist() == ["a", "b", "a"]
    assert positives.tolist() == ["a", "b\na", "b\na"]
    names, positives = name_places(["a", "b", "c"], None, grounds)
    assert names.tolist() == positives.tolist() == ["a", "b", "b"]
    names, positives = name_places(["a", "b", "c"], tiles, None)
    assert names.tolist() == positives.tolist() == ["a", "b", "a"]
