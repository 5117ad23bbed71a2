import csv
import json
import threading

import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import results


def read_lines(workdir):
    return (workdir / "eval" / "results.jsonl").read_text().splitlines()


def test_rows_are_appended(tmp_path):
    for step in (1, 2):
        path = results.append_row(tmp_path, {"step": step})
    assert path == tmp_path / "eval" / "results.jsonl"
    assert [json.loads(line) for line in read_lines(tmp_path)] == [{"step": 1}, {"step": 2}]


def test_half_a_line_of_a_killed_job_spoils_itself_only(tmp_path):
    results.append_row(tmp_path, {"step": 1})
    with open(tmp_path / "eval" / "results.jsonl", "a") as file:
        file.write('{"step": 2, "met')
    results.append_row(tmp_path, {"step": 3})
    lines = read_lines(tmp_path)
    assert [json.loads(lines[0]), json.loads(lines[2])] == [{"step": 1}, {"step": 3}]


def test_rows_written_side_by_side_do_not_mix(tmp_path):
    def append(step):
        for _ in range(20):
            results.append_row(tmp_path, {"step": step, "text": "x" * 3000})

    threads = [threading.Thread(target=append, args=(step,)) for step in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = [json.loads(line)["step"] for line in read_lines(tmp_path) if line]
    assert sorted(steps) == [0] * 20 + [1] * 20 + [2] * 20 + [3] * 20


def test_row_that_json_cannot_hold_leaves_the_file_alone(tmp_path):
    with pytest.raises(ValueError):
        results.append_row(tmp_path, {"value": float("nan")})
    assert not (tmp_path / "eval").exists()


def test_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "eval").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        results.append_row(tmp_path, {"step": 1})
    with pytest.raises(UserError, match="cannot write"):
        results.write_json(tmp_path / "eval" / "row.json", {"step": 1})


def test_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(results.os, "write", lambda file, data: len(data) // 2)
    with pytest.raises(UserError, match="disk full"):
        results.append_row(tmp_path, {"step": 1})


def test_write_json_replaces(tmp_path):
    for step in (1, 2):
        results.write_json(tmp_path / "new" / "row.json", {"step": step})
    assert json.loads((tmp_path / "new" / "row.json").read_text()) == {"step": 2}
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_rows_are_read_back(tmp_path):
    assert results.read_rows(tmp_path) == []
    results.append_row(tmp_path, {"step": 1})
    path = results.append_row(tmp_path, {"step": 2})
    path.write_bytes(path.read_bytes() + b'{"step": 3, "metr')
    assert results.read_rows(tmp_path) == [{"step": 1}, {"step": 2}]
    results.append_row(tmp_path, {"step": 4})
    assert [row["step"] for row in results.read_rows(tmp_path)] == [1, 2, 4]


def test_per_image_file(tmp_path):
    columns = {
        "id": np.array(["a,b", 'c"d']),
        "psnr": np.array([[20.5, np.inf], [np.nan, 3.25]]),
        "rank_real/j": np.array([[1.0], [2.5]]),
        "diversity": np.array([0.25, 0.5]),
    }
    row = {"protocol": {"seed": 0}, "real_images": "d"}
    results.write_per_image(tmp_path / "new" / "f.csv", columns, row)
    with open(tmp_path / "new" / "f.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines == [
        ["id", "psnr#0", "psnr#1", "rank_real/j#0", "diversity", "protocol"],
        ["a,b", "20.5", "inf", "1.0", "0.25", '{"real_images": "d", "seed": 0}'],
        ['c"d', "", "3.25", "2.5", "0.5", ""],
    ]
