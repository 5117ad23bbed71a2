import json
import threading

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
    with pytest.raises(UserError, match="cannot be written"):
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


def test_table_shows_floors_and_ceiling():
    values = {
        "r@1_real/embedder": 0.9,
        "r@1_generated/embedder": 0.8,
        "r@1_shuffled/embedder": 0.01,
        "psnr": 15.5,
        "psnr_shuffled": 14.0,
        "psnr_mean_image": 16.25,
        "sharpness_ratio": 1.05,
    }
    row = {
        "metrics": {name: {"value": value, "n": 512} for name, value in values.items()},
        "absent": [{"name": "sky_spread_ratio", "reason": "no sky masks"}],
    }
    lines = results.format_table(row).splitlines()
    assert lines[0].split() == "metric generated shuffled mean image real n".split()
    assert [line.split() for line in lines[2:5]] == [
        ["r@1/embedder", "0.8000", "0.0100", "-", "0.9000", "512"],
        ["psnr", "15.5000", "14.0000", "16.2500", "-", "512"],
        ["sharpness_ratio", "1.0500", "-", "-", "1.0000", "512"],
    ]
    assert lines[5] == "absent: sky_spread_ratio: no sky masks"
    assert len({len(line) for line in lines[:5]}) == 1


def test_table_of_an_embedder_shows_its_recall():
    row = {"metrics": {"r@1_real/embedder": {"value": 0.5, "n": 8}}, "absent": []}
    assert results.format_table(row).splitlines()[-1].split() == [
        "r@1/embedder", "-", "-", "-", "0.5000", "8"
    ]  # fmt: skip
