import json
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import About, Index, write_index
from retroguide_jax.retrieval.searching import search

ABOUT = About("ground", "0123", "/runs/city", "latest", 7, images="/images")
KILLED = """
import os, signal, sys
import numpy as np
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import About, write_index
with write_index(sys.argv[1], About("ground", "0", "w", "latest", 7, images="/i")) as append:
    append([Entry("a", path="a.png")], np.ones((1, 1), np.float32))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def make_rows(num, dim=8, seed=0):
    rows = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_entries(num):
    return [Entry(f"sub/{n}", f"sub/{n}.png", coordinates=(n / 7, -n / 7)) for n in range(num)]


def write(path, rows, entries=None, block=4):
    entries = entries or make_entries(len(rows))
    with write_index(path, ABOUT) as append:
        for start in range(0, len(rows), block):
            append(entries[start : start + block], rows[start : start + block])
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "index", make_rows(11))


def test_an_index_gives_back_what_was_written(path):
    index = Index.open(path)
    assert isinstance(index.embeddings, np.memmap)
    np.testing.assert_array_equal(index.embeddings, make_rows(11))
    assert list(index.entries) == make_entries(11) and len(index) == 11
    assert index.about == ABOUT
    assert sorted(file.name for file in path.parent.iterdir()) == ["index"]


def test_rows_grow_in_number_without_moving(tmp_path):
    # The header is written for the first block and again for all: 9 rows, then 1,009.
    rows = make_rows(1009)
    write(tmp_path / "index", rows, block=9)
    np.testing.assert_array_equal(Index.open(tmp_path / "index").embeddings, rows)


def test_writing_and_opening_take_no_memory_for_all_rows(tmp_path):
    rows = make_rows(1000, dim=512)
    tracemalloc.start()
    with write_index(tmp_path / "index", ABOUT) as append:
        for _ in range(20):
            append(make_entries(1000), rows)
    index = Index.open(tmp_path / "index")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(index) == 20_000 and peak < index.embeddings.nbytes / 10


def test_a_position_and_an_odd_id_come_back(tmp_path):
    entries = [Entry('ü "{}\n', position=3), Entry("b", path="b.png", coordinates=(0.1, 2.0))]
    write(tmp_path / "index", make_rows(2), entries)
    assert list(Index.open(tmp_path / "index").entries) == entries


def test_known_ids_are_whole_ones(tmp_path):
    names = ["a", "ab", 'say "a"', "dir/c", "line\n", "back\\", "ü", "a"]
    write(tmp_path / "index", make_rows(8), [Entry(name, position=0) for name in names])
    others = ["b", "c", "dir", "", 'a"', "position", "line", "back", "u"]
    entries = Index.open(tmp_path / "index").entries
    assert entries.find_known(names + others) == set(names)
    assert entries.find_known([]) == set()


@pytest.mark.parametrize("row", [-1, 11])
def test_there_is_no_such_row(path, row):
    with pytest.raises(IndexError):
        Index.open(path).entries[row]


def test_a_build_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), write_index(tmp_path / "index", ABOUT) as append:
        append(make_entries(2), make_rows(2))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_no_index_and_bars_no_other(tmp_path):
    path = tmp_path / "index"
    done = subprocess.run([sys.executable, "-c", KILLED, path])
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="no index"):
        Index.open(path)
    assert len(Index.open(write(path, make_rows(3)))) == 3


def test_an_index_is_not_overwritten(path):
    before = (path / "embeddings.npy").read_bytes()
    with pytest.raises(UserError, match="name a new folder"):
        write(path, make_rows(2))
    assert (path / "embeddings.npy").read_bytes() == before


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "file" / "index", make_rows(2))


def edit_about(path, **fields):
    facts = json.loads((path / "index.json").read_text())
    (path / "index.json").write_text(json.dumps(facts | fields))


DAMAGES = {
    "rows cut off": lambda p: cut(p / "embeddings.npy"),
    "lines cut off": lambda p: cut(p / "entries.jsonl"),
    "no lines": lambda p: (p / "entries.jsonl").write_text(""),
    "no rows": lambda p: (p / "embeddings.npy").unlink(),
    "no numpy file": lambda p: (p / "embeddings.npy").write_text("hello"),
    "an empty file": lambda p: (p / "embeddings.npy").write_bytes(b""),
    "pickled": lambda p: np.save(p / "embeddings.npy", np.array([{}], object), allow_pickle=True),
    "zipped": lambda p: np.savez(open(p / "embeddings.npy", "wb"), a=make_rows(11)),
    "float64": lambda p: np.save(p / "embeddings.npy", np.zeros((11, 8))),
    "fewer rows": lambda p: np.save(p / "embeddings.npy", make_rows(10)),
    "no json": lambda p: (p / "index.json").write_text("{"),
    "a list": lambda p: (p / "index.json").write_text("[]"),
    "a field more": lambda p: edit_about(p, extra=1),
    "two origins": lambda p: edit_about(p, split="test"),
    "no view": lambda p: edit_about(p, view="sky"),
}


def cut(file):
    file.write_bytes(file.read_bytes()[:-5])


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_reported(path, name):
    DAMAGES[name](path)
    with pytest.raises(UserError, match="is damaged: .*make the index again"):
        Index.open(path)


def test_another_version_is_reported(path):
    edit_about(path, format=2)
    with pytest.raises(UserError, match="format 2; this version reads format 1"):
        Index.open(path)


@pytest.mark.parametrize(
    "line",
    ["{}", "[1]", "3", '{"id": 1, "path": "a"}', '{"id": "a"}', '{"id": "a", "path": "b", "x"'],
)
def test_a_damaged_line_is_reported(path, line):
    lines = (path / "entries.jsonl").read_text().splitlines()
    lines[4] = line
    (path / "entries.jsonl").write_text("\n".join(lines) + "\n")
    entries = Index.open(path).entries
    assert entries[3] == make_entries(4)[3]
    with pytest.raises(UserError, match="line 5: is damaged"):
        entries[4]


def test_search_gives_the_most_similar_rows(path):
    queries, rows = make_rows(3, seed=1), make_rows(11)
    found = search(Index.open(path), queries, 4)
    similarity = queries.astype(np.float64) @ rows.T.astype(np.float64)
    np.testing.assert_array_equal(found.indices, np.argsort(-similarity, axis=1)[:, :4])
    np.testing.assert_allclose(found.similarities, -np.sort(-similarity, axis=1)[:, :4], rtol=1e-12)
    assert search(Index.open(path), queries, 99).indices.shape == (3, 11)


def test_equal_entries_come_in_their_order(tmp_path):
    rows = make_rows(9)
    rows[[2, 5, 7]] = rows[0]
    index = Index.open(write(tmp_path / "index", rows))
    assert search(index, rows[:1], 4).indices.tolist() == [[0, 2, 5, 7]]


def test_what_cannot_be_searched_is_reported(path):
    index = Index.open(path)
    with pytest.raises(UserError, match="top=0"):
        search(index, make_rows(1), 0)
    with pytest.raises(UserError, match="embed them with the model that made the index"):
        search(index, make_rows(1, dim=4), 1)
    rows = make_rows(11)
    rows[3] *= 2
    np.save(path / "embeddings.npy", rows)
    with pytest.raises(UserError, match="1 of 11 gallery .* make the index again"):
        search(Index.open(path), make_rows(1), 1)
