import json
from pathlib import Path

import pytest

from retroguide_jax.config import config_to_json, load_config
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.scores import Score
from retroguide_jax.files import relate
from retroguide_jax.report.collect import find_judges, name_apart, open_run


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "config.json").write_text(config_to_json(load_config("city")))
    return tmp_path


def make_row(step, value, protocol="p", **fields):
    row = {"step": step, "split": "test", "time": "2026-01-01", "seconds": 1.0, "seed": 0}
    row |= {"num_noises": 3, "weights": f"of {step}", "protocol_hash": protocol, "absent": []}
    row |= dict.fromkeys(("machine", "protocol", "judges"), {})
    return row | {"metrics": {"psnr": {"value": value, "n": 4}}} | fields


def write_rows(workdir, *rows):
    (workdir / "eval").mkdir()
    (workdir / "eval" / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_a_folder_without_a_config_is_no_work_directory(tmp_path):
    with pytest.raises(UserError, match=r"is no work directory.*retroguide train"):
        open_run(tmp_path)


def test_a_run_that_has_only_begun(workdir):
    run = open_run(workdir)
    assert (run.curves, run.rows, run.scores, run.step, run.problems) == ({}, [], {}, 0, [])
    assert not run.is_finished


def test_damaged_lines_are_counted_and_the_others_kept(workdir):
    lines = ['{"step": 1, "g/l1": 0.5}', "[1, 2]", '{"step": 2, "g/l1": NaN}', "{", '{"g/l1": 1}']
    (workdir / "metrics.jsonl").write_text("\n".join(lines))
    write_rows(workdir, {"step": 1}, make_row(1, 10.0))
    run = open_run(workdir)
    assert run.curves == {"g/l1": ([1, 2], [0.5, None])}
    assert run.problems == [
        "metrics.jsonl: 3 lines are damaged: 2, 4, 5",
        "eval/results.jsonl: 1 lines are no rows",
    ]


def test_newest_rows_are_those_of_the_last_ones_weights_one_a_protocol(workdir):
    layout = {"metrics": {"label_agreement": {"value": 0.5, "n": 4}}}
    write_rows(
        workdir,
        make_row(2, 99.0, "of an older step"),
        make_row(3, 10.0),
        make_row(3, 12.0, "layout", **layout),
        make_row(3, 11.0),
    )
    run = open_run(workdir)
    assert [row["protocol_hash"] for row in run.rows] == ["layout", "p"]
    assert {score.text: entry["value"] for score, entry in run.scores.items()} == {
        "label_agreement": 0.5,
        "psnr": 11.0,
    }
    assert run.evaluated_step == 3


@pytest.mark.parametrize(
    ("older", "expected"), [(make_row(3, 10.0), 10.0), (make_row(2, 10.0), 20.0)]
)
def test_the_test_split_is_shown_where_the_newest_step_has_it(workdir, older, expected):
    write_rows(workdir, older, make_row(3, 20.0, "cross", split="test_cross"))
    assert open_run(workdir).scores[Score("psnr")]["value"] == expected


def test_runs_of_one_name_are_distinguished(tmp_path):
    for folder in ("x/city", "y/city"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text(config_to_json(load_config("city")))
    runs = name_apart([open_run(tmp_path / "x/city"), open_run(tmp_path / "y/city")])
    assert [run.name for run in runs] == [str(tmp_path / "x/city"), str(tmp_path / "y/city")]


def test_judges_are_found_from_any_folder_and_after_a_move(tmp_path, monkeypatch):
    workdir, judge = tmp_path / "runs" / "city", tmp_path / "runs" / "judge"
    for folder in (workdir, judge):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config_to_json(load_config("city")))
    monkeypatch.chdir(tmp_path)
    stored = {
        "near": {"workdir": relate(Path("runs/judge"), Path("runs/city")), "step": 1},
        "gone": {"workdir": "../gone", "step": 1},
        "odd": {"workdir": 3},
    }
    write_rows(workdir, make_row(1, 10.0, judges=stored))
    (tmp_path / "runs").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved" / "city")
    assert find_judges(open_run(".")) == {"near": tmp_path / "moved" / "judge"}
